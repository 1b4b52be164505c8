"""What other packages get wrong, a test for each: ours is right there, or says what is wrong.

Most hold for every metric and are tested one by one in test_contract_*.py; here all of them go at
once, through ``score``.
"""

import jax
import numpy as np
import pytest
from scipy import stats

from leepjax import metrics
from leepjax.metrics import METRICS, contrib, score

from .oracles import ORACLES
from .support import C, N, assert_agrees, cast, make_case

KEY = jax.random.key(0)


@pytest.fixture
def case():
    return cast(make_case(), np.float32)


def everything(case, **options):
    """All metrics of labels at once."""
    arrays = {name: case[name] for name in ("features", "logits")}
    return score(case["labels"], **{"num_classes": C, "key": KEY, **arrays, **options})


def test_everything_is_every_metric_of_labels(case):
    assert everything(case).keys() == {m.name for m in METRICS.values() if "labels" in m.inputs} | {
        "energy"
    }


# ------------------------------------------------------------------------------ LEEP


def test_leep_of_a_source_class_without_mass(case):
    """NaN in tllib, thuml and PARC."""
    probs = case["probs"].copy()
    probs[:, 2] = 0
    probs /= probs.sum(1, keepdims=True)
    without = metrics.leep(np.delete(probs, 2, 1), case["labels"], num_classes=C)
    assert_agrees(metrics.leep(probs, case["labels"], num_classes=C), float(without), 1e-6)


def test_leep_is_a_mean_of_logarithms():
    """SFDA, ETran, NCTI and EMMS leave the logarithm out."""
    probs, labels = np.float32([[0.5, 0.5], [1, 0], [0, 1], [0.5, 0.5]]), np.array([0, 0, 1, 1])
    given = np.array([1 / 2, 3 / 4, 3 / 4, 1 / 2])  # to the right labels
    assert_agrees(metrics.leep(probs, labels, num_classes=2), np.log(given).mean(), 1e-6)


def test_leep_of_logits(case):
    """NaN or a wrong score elsewhere."""
    with pytest.raises(ValueError, match=r"^probs: wanted probabilities.*jax\.nn\.softmax"):
        metrics.leep(case["logits"], case["labels"], num_classes=C)


def test_nce_has_no_epsilon():
    """PARC adds 1e-5 to the joint and to the marginal: -4.41 for -0.64."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 100, 2000)
    source_labels = 10 * labels + rng.integers(0, 2, 2000)
    noise = rng.random(2000) < 0.1
    source_labels[noise] = rng.integers(0, 1000, noise.sum())
    options = {"num_source_classes": 1000, "num_classes": 100}
    value = metrics.nce(source_labels, labels, **options)
    assert_agrees(value, ORACLES["nce"](source_labels, labels, **options), 1e-5)


# ------------------------------------------------------------------------------ labels


@pytest.mark.slow  # a program of all metrics; one by one in the contract
def test_absent_classes(case):
    """ZeroDivisionError, IndexError, or a silently wrong score."""
    gaps = case | {"labels": np.array([0, 2, 5, 6])[case["labels"]]}
    assert_all_agree(everything(gaps, num_classes=8), everything(case))


def test_class_order(case):
    """It changes transformer-ranker's LogME."""
    renamed = case | {"labels": np.array([2, 0, 3, 1])[case["labels"]]}
    assert_all_agree(everything(renamed), everything(case))


def assert_all_agree(scores, expected):
    assert scores.keys() == expected.keys()
    for name in scores:
        assert_agrees(scores[name], float(expected[name]))


@pytest.mark.parametrize(
    ("change", "got"),
    [
        (lambda y: np.where(y == 3, -1, y), r"got -1 at sample"),  # silently the last class
        (lambda y: y[:, None], rf"got \[{N}, 1\]"),  # broadcasts to n x n
        (lambda y: y + 100, r"got 10\d at sample"),  # silently scored
    ],
    ids=["minus-one", "column", "shifted-by-100"],
)
def test_bad_labels(change, got, case):
    with pytest.raises(ValueError, match=rf"^labels: wanted .*{got}"):
        everything(case | {"labels": change(case["labels"])})


# ------------------------------------------------------------------------------ side effects


def test_inputs_stay_and_nothing_is_printed(case, capfd):
    """SFDA and PACTran overwrite their inputs; many metric functions print."""
    before = {name: array.copy() for name, array in case.items()}
    jax.block_until_ready(everything(case))
    for name, array in case.items():
        np.testing.assert_array_equal(array, before[name])
    assert capfd.readouterr() == ("", "")


# ------------------------------------------------------------------------------ features


@pytest.mark.parametrize(("n", "d"), [pytest.param(7, 1, marks=pytest.mark.slow), (5, 3)])
def test_fewer_samples_and_dimensions_than_any_pca_asks_for(n, d):
    """A fixed number of components raises."""
    case = cast(make_case(n=n, d=d, c=2), np.float32)
    names = ["gbc", "nleep", "parc"]
    arrays = case["features"], case["labels"]
    scores = score(case["labels"], num_classes=2, features=arrays[0], key=KEY, metrics=names)
    scores["parc-32"] = metrics.parc(KEY, *arrays, num_classes=2, num_components=32)
    scores["ncti"] = contrib.ncti_compactness(*arrays, num_classes=2)
    assert all(np.isfinite(value) for value in scores.values()), scores


def test_h_score_is_a_product_of_matrices(case):
    """stable_transfer multiplies element by element: 10.8 for 4.9."""
    f, labels = case["features"], case["labels"]
    between = np.cov(np.stack([f[labels == y].mean(0) for y in labels]).T)
    inverse = np.linalg.pinv(np.cov(f.T))
    value = metrics.h_score(f, labels, num_classes=C)
    assert_agrees(value, np.trace(inverse @ between), 1e-5)
    assert abs(value - np.trace(inverse * between)) > 0.1


def test_h_score_of_nearly_singular_features_stays_in_bounds():
    """A float32 pseudo-inverse that keeps all directions gives 175 for a bound of 4."""
    rng = np.random.default_rng(0)
    labels = np.arange(200) % 5
    f = (rng.normal(size=(200, 10)) + rng.normal(size=(5, 10))[labels]) @ rng.normal(size=(10, 64))
    f = f.astype(np.float32)
    value = metrics.h_score(f, labels, num_classes=5)
    assert 0 <= value <= 4
    assert_agrees(value, ORACLES["h_score"](f, labels, num_classes=5))


def test_gbc_of_many_dimensions_does_not_underflow():
    """Without principal components every pair of classes is infinitely far apart at d = 512."""
    rng = np.random.default_rng(0)
    labels = np.arange(4000) % 4
    f = rng.normal(size=(4000, 512)).astype(np.float32)
    f *= 1.5 ** labels[:, None].astype(np.float32)
    assert metrics.gbc(f, labels, num_classes=4, num_components=None) > -1e-6
    assert -12 < metrics.gbc(f, labels, num_classes=4) < -0.01


def test_lda_is_no_nearest_mean():
    """ETran gives a solver of symmetric matrices one that is not, and gets nearest class mean."""
    rng = np.random.default_rng(0)
    labels = np.arange(300) % 3
    along = rng.normal(size=(300, 1)) * [20, 20]  # a nuisance that both features share
    f = along + rng.normal(size=(300, 2)) + np.array([[0, 0], [6, 0], [0, 6]])[labels]
    means = np.stack([f[labels == y].mean(0) for y in range(3)])
    nearest = ((f[:, None] - means) ** 2).sum(2).argmin(1)
    assert (nearest == labels).mean() < 0.6
    assert metrics.lda_score(f.astype(np.float32), labels, num_classes=3) > 0.9


def test_transrate_of_skewed_classes_has_both_readings():
    """Uniform or proportional class weights are far apart; peers have one and do not say which."""
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], [280, 15, 5])
    f = (3 * rng.normal(size=(300, 8))).astype(np.float32)
    for kind in ("uniform", "proportional"):
        value = metrics.transrate(f, labels, num_classes=3, class_weights=kind)
        assert_agrees(value, ORACLES["transrate"](f, labels, num_classes=3, class_weights=kind))


def test_energy_is_of_the_lowest_half_percent():
    f = np.random.default_rng(0).normal(size=(1000, 6)).astype(np.float32)
    lowest = np.sort(np.log(np.exp(f.astype(float)).sum(1)))[:5]
    assert_agrees(metrics.energy(f), lowest.mean(), 1e-5)


def test_parc_ranks_ties_alike(case):
    labels = case["labels"]
    z = (case["features"] - case["features"].mean(0)) / case["features"].std(0)
    upper = np.triu_indices(N, 1)
    apart = (1 - np.corrcoef(z.astype(float)))[upper]
    differ = (labels[:, None] != labels)[upper]
    value = metrics.parc(KEY, case["features"], labels, num_classes=C)
    assert_agrees(value, 100 * stats.spearmanr(apart, differ).statistic)


@pytest.mark.slow
def test_nleep_in_float32_at_ten_thousand_samples():
    """Both references raise ValueError: a covariance that rounding leaves indefinite."""
    rng = np.random.default_rng(0)
    n, d, c = 10_000, 512, 100
    labels = np.arange(n) % c
    f = rng.normal(size=(n, d)) + rng.normal(size=(c, d))[labels] / 2
    value = metrics.nleep(KEY, f.astype(np.float32), labels, num_classes=c)
    assert -np.log(c) <= value <= 0
