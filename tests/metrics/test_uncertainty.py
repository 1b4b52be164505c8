"""Standard errors against the bootstrap, covariances, the null, and LEEP on held-out samples."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from leepjax import metrics
from leepjax.metrics import METRICS, uncertainty

from . import oracles
from .support import Compilations, softmax

KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def case():
    """Many samples for few dimensions, as the linear approximation wants them."""
    rng = np.random.default_rng(0)
    n, c, d, s = 2000, 3, 4, 5
    labels = rng.choice(c, n, p=[0.5, 0.3, 0.2])
    features = rng.normal(size=(n, d)) + rng.normal(size=(c, d))[labels]
    logits = rng.normal(size=(n, s)) + rng.normal(size=(c, s))[labels]
    arrays = {
        "features": features,
        "targets": features @ rng.normal(size=(d, 2)) + rng.normal(size=(n, 2)),
        "logits": logits,
        "probs": softmax(logits),
        "source_labels": logits.argmax(1),
        "labels": labels,
    }
    return {k: v.astype("f4") if v.dtype.kind == "f" else v for k, v in arrays.items()}


def call(metric, case):
    options = {}
    if "labels" in metric.inputs:
        options["num_classes"] = 3
    if "source_labels" in metric.inputs:
        options["num_source_classes"] = 5
    return [case[name] for name in metric.inputs], options


@pytest.mark.slow
@pytest.mark.parametrize("name", [m.name for m in METRICS.values() if m.weights])
def test_standard_error_is_that_of_the_bootstrap(name, case):
    arrays, options = call(METRICS[name], case)
    fn = METRICS[name].fn
    error = uncertainty.influence(fn, *arrays, **options).standard_error
    replicates = uncertainty.bootstrap(KEY, fn, *arrays, num_replicates=2000, **options)
    assert float(error) == pytest.approx(float(replicates.std()), rel=0.1)


@pytest.mark.parametrize("name", ["leep", "nce", "h_score"])
def test_influence_is_what_a_copy_of_the_sample_does(name, case, x64):
    arrays, options = call(METRICS[name], case)
    fn = METRICS[name].fn
    got = uncertainty.influence(fn, *arrays, **options)
    assert float(got.per_sample.sum()) == pytest.approx(0, abs=1e-6)
    for i in (0, 7):
        weights = np.ones(len(case["labels"]))
        weights[i] += 1
        change = float(fn(*arrays, weights=weights, **options) - got.score)
        assert float(got.per_sample[i]) == pytest.approx(change, rel=5e-2)


def of_leep(probs, labels, where=None):
    """With a mask always: one program."""
    where = np.ones(len(labels), bool) if where is None else where
    return uncertainty.influence(metrics.leep, probs, labels, where=where, num_classes=3)


def test_masked_samples_have_no_influence(case):
    where = np.arange(len(case["labels"])) % 3 > 0
    got = of_leep(case["probs"], case["labels"], where)
    assert (got.per_sample[~where] == 0).all()
    alone = of_leep(case["probs"][where], case["labels"][where])
    np.testing.assert_allclose(got.standard_error, alone.standard_error, rtol=1e-4)


def test_two_sources_on_the_same_samples(case):
    """The difference of two nearly equal sources has a small standard error."""
    near = softmax(case["logits"] * 1.05).astype("f4")
    a, b = (of_leep(p, case["labels"]) for p in (case["probs"], near))
    c = uncertainty.covariance([a, b])
    np.testing.assert_allclose(np.sqrt(c[0, 0]), a.standard_error, rtol=1e-5)
    paired = np.sqrt(c[0, 0] + c[1, 1] - 2 * c[0, 1])
    counts = np.random.default_rng(0).multinomial(2000, np.full(2000, 1 / 2000), 300)

    @jax.jit
    def difference(weights):
        of_a, of_b = (
            metrics.leep(p, case["labels"], num_classes=3, weights=weights)
            for p in (case["probs"], near)
        )
        return of_a - of_b

    differences = [difference(weights.astype("f4")) for weights in counts]
    assert float(paired) == pytest.approx(np.std(differences), rel=0.15)
    assert float(paired) < 0.2 * float(a.standard_error)


def test_halves_say_what_the_bootstrap_says(case):
    arrays, options = call(METRICS["h_score"], case)
    halves = uncertainty.subsample(KEY, metrics.h_score, *arrays, **options)
    error = uncertainty.influence(metrics.h_score, *arrays, **options).standard_error
    assert float(halves.std()) == pytest.approx(float(error), rel=0.2)
    # Metrics without weights too.
    few = case["features"][:200]
    halves = uncertainty.subsample(KEY, metrics.energy, few, num_replicates=50)
    assert halves.shape == (50,)
    assert halves.std() > 0


def test_null_of_a_model_with_many_source_classes(case):
    """LEEP of shuffled labels is not -H(Y): its gain is chance's."""
    options = {"num_classes": 3, "num_replicates": 50}
    null = uncertainty.permutation_null(
        KEY, metrics.leep_gain, case["probs"], case["labels"], **options
    )
    score = metrics.leep_gain(case["probs"], case["labels"], num_classes=3)
    assert 0 < null.mean() < 0.1 * score
    where = np.arange(2000) < 100
    masked = uncertainty.permutation_null(
        KEY, metrics.neg_label_entropy, case["labels"], where=where, **options
    )
    alone = metrics.neg_label_entropy(case["labels"][:100], num_classes=3)
    np.testing.assert_allclose(masked, alone, rtol=1e-5)


@pytest.mark.parametrize("function", ["bootstrap", "subsample", "permutation_null"])
def test_second_call_compiles_nothing(function, case):
    draw = getattr(uncertainty, function)
    first, second = ({k: jnp.asarray(v[i:][:50]) for k, v in case.items()} for i in (0, 50))

    def replicates(case):
        arrays = case["features"], case["labels"]
        return draw(KEY, metrics.h_score, *arrays, num_classes=3, num_replicates=3)

    one = replicates(first)
    with Compilations() as compiled:
        other = replicates(second)
    assert compiled == []
    assert not jnp.allclose(one, other)


def test_arrays_among_the_options_and_lists(case):
    """Weights are shuffled with nothing, and stay; labels and masks may be lists."""
    arrays = case["source_labels"][:60].tolist(), case["labels"][:60].tolist()
    options = {"num_source_classes": 5, "num_classes": 3, "num_replicates": 4}
    where = (np.arange(60) < 50).tolist()
    null = uncertainty.permutation_null(
        KEY, metrics.nce, *arrays, where=where, weights=[2.0] * 60, **options
    )
    alone = uncertainty.permutation_null(KEY, metrics.nce, *arrays, where=where, **options)
    np.testing.assert_allclose(null, alone, rtol=1e-5)


@pytest.mark.parametrize(
    ("fn", "blame"),
    [
        (lambda c: uncertainty.influence(metrics.knn, c["features"], c["labels"]), "metric"),
        (lambda c: uncertainty.bootstrap(KEY, metrics.knn, c["features"], c["labels"]), "metric"),
        (
            lambda c: uncertainty.bootstrap(
                KEY, metrics.nce, c["source_labels"], c["labels"], weights=c["labels"]
            ),
            "weights",
        ),
        (lambda c: uncertainty.permutation_null(KEY, metrics.energy, c["features"]), "metric"),
        (lambda c: uncertainty.subsample(3.0, metrics.energy, c["features"]), "key"),
        (
            lambda c: uncertainty.subsample(KEY, metrics.energy, c["features"], num_replicates=0),
            "num_replicates",
        ),
        (lambda c: uncertainty.covariance([]), "influences"),
    ],
)
def test_bad_input(fn, blame, case):
    with pytest.raises(ValueError, match=f"^{blame}: wanted"):
        fn(case)


# ------------------------------------------------------------------------ cross-fitted LEEP


@pytest.mark.parametrize("smoothing", [0.1, None])
def test_cross_fitted_leep_is_leave_one_out(smoothing, x64):
    rng = np.random.default_rng(0)
    probs, labels = softmax(2 * rng.normal(size=(60, 7))), rng.integers(0, 4, 60)
    where = rng.random(60) > 0.3
    got = metrics.cross_fitted_leep(probs, labels, num_classes=5, where=where, smoothing=smoothing)
    by_hand = oracles.cross_fitted_leep(
        probs[where], labels[where], num_classes=5, smoothing=smoothing
    )
    np.testing.assert_allclose(got, by_hand, rtol=1e-12)


def test_cross_fitting_takes_away_what_many_source_classes_feign():
    """Random predictions over 500 source classes: LEEP rises above -H(Y), held out it does not."""
    rng = np.random.default_rng(0)
    probs = softmax(6 * rng.normal(size=(200, 500))).astype("f4")
    labels = rng.integers(0, 5, 200)
    null = metrics.neg_label_entropy(labels, num_classes=5)
    assert metrics.leep(probs, labels, num_classes=5) > null + 0.3
    assert metrics.cross_fitted_leep(probs, labels, num_classes=5) < null


def test_cross_fitting_refuses_no_smoothing():
    with pytest.raises(ValueError, match=r"^smoothing: wanted"):
        metrics.cross_fitted_leep(np.eye(2), np.arange(2), num_classes=2, smoothing=0.0)
