"""Gradients of LEEP in its parameters, and what they choose."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.hyperparameters.gradient import (
    FAMILIES,
    OBJECTIVES,
    WAYS,
    choose,
    class_weighted,
    climb,
    mixed,
    tempered,
)
from leepjax.metrics import leep
from leepjax.tasks import Split, Tasks

CLASSES = 3


def problem(seed=0, n=24, sizes=(4, 2, 3), informative=1):
    """Logits of several sources, of which one knows the labels rather well."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % CLASSES
    logits = [rng.normal(size=(n, s)) for s in sizes]
    logits[informative] = logits[informative] + 2 * (labels[:, None] % sizes[informative] == 1)
    return logits, labels


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("probs_of", [tempered, class_weighted, mixed])
def test_gradient_is_that_of_differences(probs_of, name, x64):
    logits, labels = problem()
    start = {tempered: 0.3, class_weighted: [0.1, -0.4, 0.7, 0.2], mixed: [0.5, -0.2, 0.1]}
    at = np.array(start[probs_of])

    @jax.jit
    def objective(params):
        return OBJECTIVES[name](probs_of(params, logits), labels, num_classes=CLASSES)

    found = np.asarray(jax.jit(jax.grad(objective))(jnp.asarray(at))).ravel()
    for i in range(at.size):
        away = np.zeros(at.size)
        away[i] = 1e-5
        away = away.reshape(at.shape)
        difference = (objective(at + away) - objective(at - away)) / 2e-5
        assert found[i] == pytest.approx(float(difference), rel=1e-6, abs=1e-9)


def test_leep_of_a_mixture_is_that_of_mixed_predictions():
    logits, labels = problem()
    weights = np.array([0.2, 0.5, 0.3])
    likelihood = np.zeros(len(labels))
    for w, x in zip(weights, logits, strict=True):
        theta = np.exp(x) / np.exp(x).sum(1, keepdims=True)
        joint = np.stack([theta[labels == y].sum(0) for y in range(CLASSES)])
        likelihood += w * (theta @ (joint / joint.sum(0)).T)[np.arange(len(labels)), labels]
    probs = mixed(jnp.log(jnp.asarray(weights)), logits)
    found = leep(probs, labels, num_classes=CLASSES)
    assert float(found) == pytest.approx(np.log(likelihood).mean(), abs=1e-5)


def test_climbing_never_ends_below_its_start_and_finds_the_best_mixture():
    logits, labels = problem(sizes=(4, 2))

    def objective(params):
        probs = mixed(params, logits)
        return OBJECTIVES["cross_fitted_leep"](probs, labels, num_classes=CLASSES)

    line = jnp.linspace(-8, 8, 401)
    best = jax.jit(lambda z: jax.lax.map(lambda x: objective(jnp.stack([x, -x])), z))(line).max()
    value, climbed = jax.jit(objective), jax.jit(lambda start: climb(objective, start))
    for start in (jnp.zeros(2), jnp.array([2.0, -2.0])):
        assert value(climbed(start)) >= value(start)
        assert float(value(climbed(start))) == pytest.approx(float(best), abs=2e-4)
    top = line[jnp.argmax(jax.lax.map(lambda x: value(jnp.stack([x, -x])), line))]
    there = jnp.stack([top, -top])
    assert value(climbed(there)) >= value(there)  # Adam's first steps lead away from it


def tasks(n=24, count=2):
    """Tasks that all draw every image of two banks of ``n``."""
    index = np.tile(np.arange(n, dtype=np.int32), (count, 1))
    split = Split(index, index % CLASSES, np.ones((count, n), bool))
    classes = np.tile(np.arange(CLASSES, dtype=np.int32), (count, 1))
    return Tasks(classes, np.full(count, -1), split, split)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_chosen_does_not_depend_on_test_images(family):
    train, _ = problem()
    test, _ = problem(seed=1)
    found = choose(train, test, tasks(), family)
    other = choose(train, [-3 * x for x in test], tasks(), family)
    np.testing.assert_array_equal(found.params, other.params)
    assert np.abs(found.held_out - other.held_out).max() > 1e-3
    for name in OBJECTIVES:  # start is the first way
        values = getattr(found, name)
        assert (values[:, WAYS[family].index(name)] > values[:, 0]).all()
