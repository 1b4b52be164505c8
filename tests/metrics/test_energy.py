"""What is particular to energy; the rest is in test_contract_*.py."""

import jax
import numpy as np
import pytest

from leepjax.metrics._energy import energy

from .support import assert_agrees


@pytest.mark.parametrize("name", ["medium", "imbalanced"])
@pytest.mark.parametrize("of", ["features", "logits"])
def test_golden(golden, name, of):
    values, inputs = golden
    value = energy(inputs[f"{name}/{of}"].astype(np.float32))
    assert_agrees(value, values[name][f"energy/etran(0.5,bot,on {of})"], 1e-6)


@pytest.mark.parametrize(("n", "m"), [(1, 1), (199, 1), (200, 1), (399, 1), (400, 2), (1000, 5)])
def test_mean_of_the_lowest_half_percent(n, m):
    features = np.random.default_rng(0).permutation(n).astype(np.float32)[:, None]
    assert energy(features) == (m - 1) / 2


def test_the_number_is_of_the_included_also_under_jit():
    features = np.arange(600, dtype=np.float32)[:, None]
    where = np.arange(600) % 2 == 1  # 300: the lowest one, 1
    assert energy(features) == 1  # 600: the lowest three, 0, 1, 2
    assert energy(features, where=where) == 1
    assert jax.jit(lambda f, w: energy(f, where=w))(features, np.arange(600) > 99) == 100.5


def test_zero_features_give_log_d():
    np.testing.assert_allclose(energy(np.zeros((3, 8), np.float32)), np.log(8), rtol=1e-6)
