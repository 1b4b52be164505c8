"""What is particular to LEEP at its best temperature; the rest is in test_contract_*.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from leepjax.metrics._leep import leep
from leepjax.metrics._leep_calibrated import leep_calibrated, leep_temperature

from . import oracles
from .support import C, assert_agrees, make_case, softmax

LABELS = make_case()["labels"]


@pytest.mark.parametrize("scale", [0.05, 1.0, 20.0])
def test_at_least_leep_at_any_temperature(scale):
    logits = np.float32(make_case()["logits"] * scale)
    best = float(leep_calibrated(logits, LABELS, num_classes=C))
    for t in (0.05, 0.3, 1.0, 2.7, 20.0):
        at_t = oracles.leep(softmax(np.float64(logits) / t), LABELS, num_classes=C)
        assert best >= at_t - 1e-6


def test_rescaled_logits_change_the_temperature_alone(x64):
    logits = make_case()["logits"] + np.random.default_rng(0).normal(size=(30, 6))
    value = leep_calibrated(logits, LABELS, num_classes=C)
    t = leep_temperature(logits, LABELS, num_classes=C)
    assert_agrees(leep(softmax(logits / t), LABELS, num_classes=C), float(value), 1e-12)
    for scale in (0.25, 3.0):
        rescaled = scale * logits + np.arange(30)[:, None]  # and a constant to each row
        assert_agrees(leep_calibrated(rescaled, LABELS, num_classes=C), float(value), 1e-12)
        assert_agrees(leep_temperature(rescaled, LABELS, num_classes=C) / t, scale, 1e-6)
    plain = leep(softmax(logits), LABELS, num_classes=C)
    assert abs(plain - leep(softmax(3 * logits), LABELS, num_classes=C)) > 0.05


@pytest.mark.parametrize("seed", [4, 11, 31, 38])
def test_best_of_several_maxima(seed, x64):
    # Some source classes are far more frequent than others: a maximum where only their confident
    # rivals are heard, one where all are.
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, 30)
    logits = 5 * (rng.normal(size=(30, 6)) + rng.normal(size=(4, 6))[labels])
    logits = logits + 30 * rng.normal(size=(1, 6))
    temperatures = np.geomspace(0.05, 20, 300)
    profile = np.array(
        [oracles.leep(softmax(logits / t), labels, num_classes=4) for t in temperatures]
    )
    inner = profile[1:-1]
    tops = np.flatnonzero((inner > profile[:-2]) & (inner > profile[2:])) + 1
    assert len(tops) == 2
    value = leep_calibrated(logits, labels, num_classes=4)
    assert profile.max() <= value <= profile.max() + 1e-4
    t = leep_temperature(logits, labels, num_classes=4)
    assert_agrees(t / temperatures[profile.argmax()], 1, 0.03)


def test_slope_is_zero_at_the_temperature_found():
    rng = np.random.default_rng(1)
    logits = jnp.asarray(make_case()["logits"] + rng.normal(size=(30, 6)), jnp.float32)
    t = leep_temperature(logits, LABELS, num_classes=C)
    assert 0.06 < t < 15
    at = jax.jit(jax.grad(lambda t: leep(jax.nn.softmax(logits / t), LABELS, num_classes=C)))
    slope = at(t)
    assert abs(slope * t) < 1e-5


def test_flat_profiles_have_temperature_one():
    constant = np.full((30, 6), 3.3, np.float32)
    assert leep_temperature(constant, LABELS, num_classes=C) == 1
    null = np.bincount(LABELS) / 30
    expected = float((null * np.log(null)).sum())
    assert_agrees(leep_calibrated(constant, LABELS, num_classes=C), expected, 1e-6)
    logits = np.float32(make_case()["logits"])
    assert leep_temperature(logits, np.zeros(30, int), num_classes=C) == 1
    assert_agrees(leep_calibrated(logits, np.zeros(30, int), num_classes=C), 0, 1e-6)


@jax.jit
@jax.value_and_grad
def value_and_gradient(logits):
    return leep_calibrated(logits, LABELS, num_classes=C)


@pytest.mark.parametrize("unit", [1e-30, 1e10, 1e37])
def test_logits_of_any_size(unit):
    logits = jnp.asarray(make_case()["logits"] * unit, jnp.float32)
    value, gradient = value_and_gradient(logits)
    assert -np.log(C) - 1e-5 <= value <= 0
    assert jnp.isfinite(gradient).all()


def test_memory_does_not_grow_with_temperatures_or_classes():
    n, s, c = 10_000, 200, 50
    fn = jax.jit(lambda x, y: leep_calibrated(x, y, num_classes=c))
    memory = fn.lower(jnp.zeros((n, s)), jnp.zeros(n, int)).compile().memory_analysis()
    assert memory.temp_size_in_bytes < 10 * n * s * 4
