"""The head solver against scikit-learn and against float64 algebra."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression

from leepjax.transfer import certify, softmax_regression

L2 = 1e-3


def problems(tasks=6, n=80, d=12, c=4, spread=1.0, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.permuted(np.tile(np.arange(n) % c, (tasks, 1)), axis=1)
    centres = spread * rng.normal(size=(tasks, c, d))
    x = centres[np.arange(tasks)[:, None], labels] + rng.normal(size=(tasks, n, d))
    x = (x - x.mean(1, keepdims=True)) / x.std(1, keepdims=True)
    return x.astype(np.float32), labels.astype(np.int32)


def objective(kernel, bias, x, labels):
    """Float64, from the definition."""
    logits = x.astype(np.float64) @ np.asarray(kernel, float) + np.asarray(bias, float)
    logits -= logits.max(1, keepdims=True)
    log_probs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    loss = -log_probs[np.arange(len(labels)), labels].mean()
    return loss + L2 / 2 * np.sum(np.asarray(kernel, float) ** 2)


def minimum(x, labels):
    """scikit-learn's optimum, taken further where its solver gave up early."""
    # Its binary model has one logit w: softmax of (-w/2, w/2), whose penalty is half of w's.
    binary = labels.max() == 1
    model = LogisticRegression(C=(1 + binary) / (L2 * len(x)), tol=1e-6, max_iter=10_000)
    model.fit(x.astype(np.float64), labels)
    kernel, bias = model.coef_.T, model.intercept_
    if binary:
        kernel, bias = np.hstack([-kernel, kernel]) / 2, np.hstack([-bias, bias]) / 2
    shape, target = kernel.shape, np.eye(labels.max() + 1)[labels]

    def value_and_grad(flat):
        w, b = flat[: -shape[1]].reshape(shape), flat[-shape[1] :]
        residual = (softmax(x @ w + b, 1) - target) / len(x)
        grad = np.concatenate([(x.T @ residual + L2 * w).ravel(), residual.sum(0)])
        return objective(w, b, x, labels), grad

    start = np.concatenate([kernel.ravel(), bias])
    options = {"gtol": 1e-9, "ftol": 0, "maxiter": 10_000, "maxcor": 30}
    end = minimize(value_and_grad, start, jac=True, method="L-BFGS-B", options=options)
    return min(end.fun, objective(kernel, bias, x, labels))


@pytest.mark.parametrize("c", [2, 4])
@pytest.mark.parametrize("spread", [0.0, 0.5, 3.0, 100.0])  # noise to separable to collapsed
def test_objective_is_within_1e_5_of_scikit_learn(spread, c):
    x, labels = problems(spread=spread, c=c)
    heads, info = softmax_regression(x, labels, np.ones(labels.shape, bool), num_classes=c)
    for i in range(len(x)):
        value = objective(heads.kernel[i], heads.bias[i], x[i], labels[i])
        assert abs(value - info.objective[i]) < 1e-6
        assert value - minimum(x[i], labels[i]) < 1e-5
    assert (np.asarray(info.gap) <= 5.1e-6).all()


def test_a_task_alone_is_the_same_task_in_a_batch_and_padding_changes_nothing():
    x, labels = problems()
    ones = np.ones(labels.shape, bool)
    together, info = softmax_regression(x, labels, ones, num_classes=4)
    # Both at once, for one program: the third task alone, padded.
    padded_x = np.concatenate([x[2:3], np.full((1, 30, 12), np.nan, np.float32)], 1)
    padded = [np.pad(a[2:3], ((0, 0), (0, 30))) for a in (labels, ones)]
    alone, alone_info = softmax_regression(padded_x, *padded, num_classes=4)
    np.testing.assert_allclose(together.kernel[2], alone.kernel[0], atol=2e-3)
    assert abs(info.objective[2] - alone_info.objective[0]) < 1e-6


def test_certificate_bounds_the_gap():
    x, labels = problems(spread=0.5)
    ones = np.ones(labels.shape, bool)
    heads, info = softmax_regression(x, labels, ones, num_classes=4, tolerance=1e-2)
    gaps = [
        objective(heads.kernel[i], heads.bias[i], x[i], labels[i]) - minimum(x[i], labels[i])
        for i in range(len(x))
    ]
    assert max(gaps) > 1e-4  # loose enough to say something
    assert (gaps <= np.asarray(info.gap)).all()
    again = jax.jit(certify)(heads, x, labels, ones, L2, info.iterations)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-2), info, again)


def test_finished_lanes_stand_still():
    easy, hard = problems(spread=0.0, tasks=3), problems(spread=0.5, tasks=3, seed=1)
    x, labels = (np.concatenate(pair) for pair in zip(easy, hard, strict=True))
    _, info = softmax_regression(x, labels, np.ones(labels.shape, bool), num_classes=4)
    assert info.iterations[:3].max() < info.iterations[3:].min()


def test_iterations_are_bounded():
    x, labels = problems(spread=3.0)
    ones = np.ones(labels.shape, bool)
    _, info = softmax_regression(x, labels, ones, num_classes=4, max_iterations=3)
    assert (np.asarray(info.iterations) == 3).all()
    assert (np.asarray(info.gap) > 1e-4).any()


def test_penalty_is_an_array_leaf_and_does_not_compile_again():
    x, labels = problems()
    ones = np.ones(labels.shape, bool)
    softmax_regression(x, labels, ones, num_classes=4, l2=jnp.float32(1e-3))
    compiled = softmax_regression._cache_size()  # pyright: ignore
    _, strong = softmax_regression(x, labels, ones, num_classes=4, l2=jnp.float32(1.0))
    assert softmax_regression._cache_size() == compiled  # pyright: ignore
    sweep = jax.jit(
        jax.vmap(lambda l2: softmax_regression(x, labels, ones, num_classes=4, l2=l2)[1])
    )
    np.testing.assert_allclose(
        sweep(jnp.array([1e-3, 1.0])).objective[1], strong.objective, atol=1e-6
    )
