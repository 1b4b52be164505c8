"""What is particular to TransRate; the rest is in test_contract_*.py."""

import numpy as np
import pytest

from leepjax.metrics import moments, transrate, transrate_from_moments

from .oracles import ORACLES
from .support import assert_agrees


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("scale", [1, 100])
def test_features_of_low_rank_in_float32(scale, seed):
    """Beside eigenvalues of 1e7 those that are zero are rounding, which factors would count."""
    rng = np.random.default_rng(seed)
    labels = np.arange(200) % 4
    z = rng.normal(size=(200, 3)) + rng.normal(size=(4, 3))[labels]
    f = (z @ rng.normal(size=(3, 20)) * scale).astype(np.float32)
    assert_agrees(
        transrate(f, labels, num_classes=4), ORACLES["transrate"](f, labels, num_classes=4)
    )


def test_classes_of_few_and_of_many_rows_with_weights():
    """So many features that each class gathers its own rows: all at once, or by blocks."""
    rng = np.random.default_rng(0)
    labels, weights = np.repeat([0, 1, 2], [900, 460, 40]), np.float32(rng.integers(1, 4, 1400))
    features = rng.normal(size=(1400, 96)) + rng.normal(size=(3, 96))[labels]
    features = features.astype(np.float32)
    expected = ORACLES["transrate"](features, labels, num_classes=3, weights=weights)
    assert_agrees(transrate(features, labels, num_classes=3, weights=weights), expected)
    state = moments.init(features, num_classes=3, by_class=True)
    state = moments.update(state, features, labels, weights=weights)
    assert_agrees(transrate_from_moments(state), expected)
