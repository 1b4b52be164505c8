"""Gradients of LEEP in parameters of source predictions, and what climbing them finds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from leepjax.choosing import class_weight_probs, maximise, mixture_probs, temperature_probs
from leepjax.metrics import cross_fitted_leep, leep

CLASSES = 3


def problem(seed=0, n=24, sizes=(4, 2, 3), informative=1):
    """Logits of several sources, of which one knows the labels rather well."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % CLASSES
    logits = [rng.normal(size=(n, s)) for s in sizes]
    logits[informative] = logits[informative] + 2 * (labels[:, None] % sizes[informative] == 1)
    return logits, labels


@pytest.mark.parametrize("metric", [leep, cross_fitted_leep])
@pytest.mark.parametrize(
    ("probs_of", "at"),
    [
        (temperature_probs, 0.3),
        (class_weight_probs, [0.1, -0.4, 0.7, 0.2]),
        (mixture_probs, [0.5, -0.2, 0.1]),
    ],
)
def test_gradient_is_that_of_differences(probs_of, at, metric, x64):
    logits, labels = problem()
    of = logits if probs_of is mixture_probs else logits[0]
    at = np.array(at)

    @jax.jit
    def objective(params):
        return metric(probs_of(params, of), labels, num_classes=CLASSES)

    found = np.asarray(jax.jit(jax.grad(objective))(jnp.asarray(at))).ravel()
    for i in range(at.size):
        away = np.zeros(at.size)
        away[i] = 1e-5
        away = away.reshape(at.shape)
        difference = (objective(at + away) - objective(at - away)) / 2e-5
        assert found[i] == pytest.approx(float(difference), rel=1e-6, abs=1e-9)


def test_what_changes_nothing_is_the_softmax():
    (logits, *_), _ = problem()
    softmax = jax.nn.softmax(logits, axis=1)
    np.testing.assert_allclose(temperature_probs(jnp.zeros(()), logits), softmax, rtol=1e-6)
    np.testing.assert_allclose(class_weight_probs(jnp.zeros(4), logits), softmax, rtol=1e-6)
    np.testing.assert_allclose(mixture_probs(jnp.zeros(1), [logits]), softmax, rtol=1e-6)
    sharp = temperature_probs(jnp.log(1e-4), logits)  # T to 0: the largest logit
    np.testing.assert_allclose(sharp, logits == logits.max(1, keepdims=True), atol=1e-6)


def test_leep_of_a_mixture_is_that_of_mixed_predictions():
    logits, labels = problem()
    weights = np.array([0.2, 0.5, 0.3])
    likelihood = np.zeros(len(labels))
    for w, x in zip(weights, logits, strict=True):
        theta = np.exp(x) / np.exp(x).sum(1, keepdims=True)
        joint = np.stack([theta[labels == y].sum(0) for y in range(CLASSES)])
        likelihood += w * (theta @ (joint / joint.sum(0)).T)[np.arange(len(labels)), labels]
    probs = mixture_probs(jnp.log(jnp.asarray(weights)), logits)
    found = leep(probs, labels, num_classes=CLASSES)
    assert float(found) == pytest.approx(np.log(likelihood).mean(), abs=1e-5)


def test_climbing_never_ends_below_its_start_and_finds_the_best_mixture():
    logits, labels = problem(sizes=(4, 2))

    def objective(params):
        return cross_fitted_leep(mixture_probs(params, logits), labels, num_classes=CLASSES)

    line = jnp.linspace(-8, 8, 401)
    values = jax.jit(lambda z: jax.lax.map(lambda x: objective(jnp.stack([x, -x])), z))(line)
    value, climbed = jax.jit(objective), jax.jit(lambda start: maximise(objective, start))
    for start in (jnp.zeros(2), jnp.array([2.0, -2.0])):
        assert value(climbed(start)) >= value(start)
        assert float(value(climbed(start))) == pytest.approx(float(values.max()), abs=2e-4)
    top = line[jnp.argmax(values)]
    there = jnp.stack([top, -top])
    assert value(climbed(there)) >= value(there)  # Adam's first steps lead away from it


def test_parameters_may_be_any_tree_and_no_step_leaves_the_start():
    def objective(tree):
        return -((tree["a"] - 1) ** 2) - jnp.sum((tree["b"] + 1) ** 2)

    start = {"a": jnp.zeros(()), "b": jnp.zeros(3)}
    found = maximise(objective, start)
    np.testing.assert_allclose(found["a"], 1, atol=0.02)
    np.testing.assert_allclose(found["b"], -1, atol=0.02)
    unmoved = maximise(objective, start, steps=0)
    np.testing.assert_array_equal(unmoved["b"], start["b"])


def test_an_objective_that_is_undefined_leaves_the_start():
    found = maximise(lambda x: jnp.where(x == 0, 0 * x, jnp.nan * x), jnp.zeros(()))
    assert float(found) == 0
