"""The head solver against scikit-learn and against float64 algebra."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression

from leepjax.transfer import Heads, certify, softmax_regression
from leepjax.transfer._softmax_regression import _line_search

L2 = 1e-3


def solve(x, labels, where=None, *, l2=L2, tolerance=5e-6):
    """6 tasks of 4 classes: every test has these shapes and options, so that one program is all."""
    where = np.ones(labels.shape, bool) if where is None else where
    l2, tolerance = jnp.float32(l2), jnp.float32(tolerance)
    return softmax_regression(x, labels, where, num_classes=4, l2=l2, tolerance=tolerance)


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
    if c == 4:
        heads, info = solve(x, labels)
    else:  # with the defaults, which are the same
        heads, info = softmax_regression(x, labels, np.ones(labels.shape, bool), num_classes=c)
    for i in range(len(x)):
        value = objective(heads.kernel[i], heads.bias[i], x[i], labels[i])
        assert abs(value - info.objective[i]) < 1e-6
        assert value - minimum(x[i], labels[i]) < 1e-5
    assert (np.asarray(info.gap) <= 5.1e-6).all()


def test_a_line_search_ends_where_the_slope_is_small():
    x, labels = problems(spread=0.0)
    target = np.eye(4, dtype=np.float32)[labels].transpose(0, 2, 1)
    share = np.full((6, 1, 80), 1 / 80, np.float32)
    ones = np.concatenate([x, np.ones((6, 80, 1), np.float32)], 2)
    grad = np.einsum("tcn,tnd->tcd", (0.25 - target) * share, ones)
    direction = -grad * np.float32([0.25, 0.5, 1, 2, 4, 2])[:, None, None]
    along = np.einsum("tcd,tnd->tcn", direction, ones)
    live = np.arange(6) < 5
    state = SimpleNamespace(params=0 * grad, logits=0 * along, grad=grad)
    length, p = _line_search(state, direction, along, live, target, share, np.float32(L2))
    np.testing.assert_allclose(p, softmax(length * along, 1), atol=1e-6)

    def slope(a):
        loss = share * (softmax(a * along, 1) - target) * along
        return loss.sum((1, 2)) + (a * L2 * direction**2).sum((1, 2))

    assert (np.abs(slope(length))[live] <= 0.3 * np.abs(slope(0.0))[live]).all()
    assert length[5] == 0


def test_the_gap_is_that_of_its_definition():
    x, labels = problems(spread=0.5)
    rng, l2 = np.random.default_rng(0), 10.0  # so large that the bias has most of it
    heads = Heads(*(0.1 * rng.normal(size=(6, *shape)).astype("f4") for shape in ((12, 4), (4,))))
    gap = certify(heads, x, labels, np.ones(labels.shape, bool), l2, np.zeros(6, int)).gap
    for i in range(6):
        p = softmax(x[i] @ heads.kernel[i] + heads.bias[i], 1)
        residual = (p - np.eye(4)[labels[i]]) / 80
        of_bias, of_kernel = residual.sum(0), x[i].T @ residual + l2 * heads.kernel[i]
        hessian = np.diag(p.mean(0)) - p.T @ p / 80
        newton = of_bias @ np.linalg.pinv(hessian, rcond=1e-6) @ of_bias
        expected = np.sum(of_kernel**2) / (2 * l2) + newton / 2
        assert gap[i] == pytest.approx(expected, rel=1e-4)


def test_a_task_is_the_same_whatever_the_others_are():
    x, labels = problems()
    heads, info = solve(x, labels)
    others, other_labels = problems(spread=0.5, seed=1)
    others[4], other_labels[4] = x[2], labels[2]
    among, among_info = solve(others, other_labels)
    np.testing.assert_allclose(among.kernel[4], heads.kernel[2], atol=2e-3)
    assert abs(among_info.objective[4] - info.objective[2]) < 1e-6


def test_padding_counts_for_nothing():
    x, labels = problems()
    padded, where = x.copy(), np.ones(labels.shape, bool)
    padded[:, 50:], where[:, 50:] = np.nan, False
    heads, info = solve(padded, labels, where)
    for i in range(len(x)):
        value = objective(heads.kernel[i], heads.bias[i], x[i, :50], labels[i, :50])
        assert abs(value - info.objective[i]) < 1e-6
        assert value - minimum(x[i, :50], labels[i, :50]) < 1e-5
    assert (np.asarray(info.gap) <= 5.1e-6).all()


def test_certificate_bounds_the_gap():
    x, labels = problems(spread=0.5)
    heads, info = solve(x, labels, tolerance=1e-2)
    gaps = [
        objective(heads.kernel[i], heads.bias[i], x[i], labels[i]) - minimum(x[i], labels[i])
        for i in range(len(x))
    ]
    assert max(gaps) > 1e-4  # loose enough to say something
    assert (gaps <= np.asarray(info.gap)).all()
    ones = np.ones(labels.shape, bool)
    again = jax.jit(certify)(heads, x, labels, ones, L2, info.iterations)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-2), info, again)


def test_finished_lanes_stand_still():
    easy, hard = problems(spread=0.0, tasks=3), problems(spread=0.5, tasks=3, seed=1)
    x, labels = (np.concatenate(pair) for pair in zip(easy, hard, strict=True))
    _, info = solve(x, labels)
    assert max(info.iterations[:3]) < min(info.iterations[3:])


def test_iterations_are_bounded():
    x, labels = problems(spread=3.0)
    ones = np.ones(labels.shape, bool)
    _, info = softmax_regression(x, labels, ones, num_classes=4, max_iterations=3)
    assert (np.asarray(info.iterations) == 3).all()
    assert (np.asarray(info.gap) > 1e-4).any()


def test_penalty_is_an_array_leaf_and_does_not_compile_again():
    x, labels = problems()
    solve(x, labels)
    compiled = softmax_regression._cache_size()  # pyright: ignore
    solve(x, labels, l2=1.0)
    assert softmax_regression._cache_size() == compiled  # pyright: ignore


@pytest.mark.slow  # a second solver, of two penalties at once
def test_penalties_can_be_mapped_over():
    x, labels = problems()
    sweep = jax.vmap(lambda l2: solve(x, labels, l2=l2)[1])(jnp.array([1e-3, 1.0]))
    for i, l2 in enumerate((1e-3, 1.0)):
        _, info = solve(x, labels, l2=l2)
        np.testing.assert_allclose(sweep.objective[i], info.objective, atol=1e-6)
