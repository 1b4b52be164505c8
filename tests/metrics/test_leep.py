"""LEEP, its gain over knowing class frequencies, and the expected empirical predictor."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from leepjax.metrics import ExpectedEmpiricalPredictor, leep, leep_gain, nce, neg_label_entropy

from . import oracles
from .support import C, N, S, assert_agrees, make_case, select, softmax

few = settings(max_examples=25, deadline=None, derandomize=True, database=None)


@st.composite
def predictions(draw, n=8, s=4, c=3):
    """Labels and softmax outputs of one shape (one program), from uniform to almost one-hot."""
    labels = draw(hnp.arrays(np.int32, n, elements=st.integers(0, c - 1)))
    logits = draw(hnp.arrays(np.float64, (n, s), elements=st.integers(-5, 5)))
    return softmax(logits * draw(st.sampled_from([0.0, 0.3, 1.0, 20.0]))), labels


# ------------------------------------------------------------------------------ by hand


# z:         0    1
THETA = [[0.5, 0.5], [1.0, 0.0], [0.0, 1.0], [0.5, 0.5]]
LABELS = [0, 0, 1, 1]


def test_four_samples_by_hand():
    # 4 P(y, z) = [[.5 + 1, .5 + 0], [0 + .5, 1 + .5]], 4 P(z) = [2, 2],
    # P(y | z) = [[3/4, 1/4], [1/4, 3/4]].
    # The right labels get 1/2 (3/4 + 1/4) = 1/2, 1 * 3/4, 1 * 3/4 and 1/2:
    # LEEP = (log 1/2 + log 3/4 + log 3/4 + log 1/2) / 4 = 1/2 log 3/8.
    probs, labels = np.float32(THETA), np.array(LABELS)
    assert_agrees(leep(probs, labels, num_classes=2), np.log(3 / 8) / 2, 1e-6)
    # H(Y) = log 2: the gain is 1/2 log(3/8 * 4).
    assert_agrees(leep_gain(probs, labels, num_classes=2), np.log(3 / 2) / 2, 1e-6)


def test_weights_by_hand():
    # The first and last sample count twice: 6 P(y, z) = [[1 + 1, 1], [1, 1 + 1]], 6 P(z) = [3, 3],
    # P(y | z) = [[2/3, 1/3], [1/3, 2/3]]: 1/2 twice, 2/3, 2/3, 1/2 twice.
    value = leep(
        np.float32(THETA), np.array(LABELS), num_classes=2, weights=np.array([2.0, 1, 1, 2])
    )
    assert_agrees(value, (4 * np.log(1 / 2) + 2 * np.log(2 / 3)) / 6, 1e-6)


def test_lists_are_read_as_arrays():
    expected = leep(np.array(THETA), np.array(LABELS), num_classes=2)
    np.testing.assert_array_equal(leep(THETA, LABELS, num_classes=2), expected)


def test_predictor_by_hand():
    fitted = ExpectedEmpiricalPredictor.fit(np.float32(THETA), np.array(LABELS), num_classes=2)
    np.testing.assert_allclose(fitted.conditional, [[3 / 4, 1 / 4], [1 / 4, 3 / 4]], rtol=1e-6)
    # 3/4 * .2 + 1/4 * .8 = .35
    np.testing.assert_allclose(fitted.predict(np.float32([[0.2, 0.8]])), [[0.35, 0.65]], rtol=1e-6)
    # One sample more of each (y, z): 4 P = [[2.5, 1.5], [1.5, 2.5]], P(y | z) = 5/8 and 3/8; the
    # third class, which nobody has, gets 1 / (2 + 3) when there are three.
    smooth = ExpectedEmpiricalPredictor.fit(
        np.float32(THETA), np.array(LABELS), num_classes=2, smoothing=1.0
    )
    np.testing.assert_allclose(smooth.conditional, [[5 / 8, 3 / 8], [3 / 8, 5 / 8]], rtol=1e-6)
    third = ExpectedEmpiricalPredictor.fit(
        np.float32(THETA), np.array(LABELS), num_classes=3, smoothing=1.0
    )
    np.testing.assert_allclose(third.conditional[2], [1 / 5, 1 / 5], rtol=1e-6)


# ------------------------------------------------------------------------------ what the paper says


@few
@given(predictions())
def test_bounds(case):
    probs, labels = case
    probs = np.float32(probs)
    value = float(leep(probs, labels, num_classes=3))
    null = float(neg_label_entropy(labels, num_classes=3))
    assert null - 1e-5 <= value <= 1e-6
    gain = float(leep_gain(probs, labels, num_classes=3))
    assert gain >= -1e-6
    assert gain == pytest.approx(value - null, abs=1e-5)
    assert_agrees(value, oracles.leep(probs, labels, num_classes=3))


def test_bounds_over_ten_thousand_cases(x64):
    """From almost uniform to almost one-hot predictions, skewed classes, some absent."""
    rng = np.random.default_rng(0)
    cases, n, s, c = 10_000, 9, 5, 4
    sharpness = 10 ** rng.uniform(-2, 2, (cases, 1, 1))
    logits = sharpness * rng.normal(size=(cases, n, s))
    labels = (c * rng.random((cases, n)) ** rng.uniform(1, 4, (cases, 1))).astype(int)
    values = jax.vmap(lambda p, y: leep(p, y, num_classes=c))(softmax(logits), labels)
    nulls = jax.vmap(lambda y: neg_label_entropy(y, num_classes=c))(labels)
    assert (nulls <= values + 1e-12).all()
    assert (values <= 1e-12).all()
    assert (nulls < -0.1).mean() > 0.9


@few
@given(predictions(), st.integers(0, 2**32 - 1))
def test_at_least_the_likelihood_through_any_source_labels(case, seed):
    probs, labels = case
    soft = oracles.conditional(probs, labels, num_classes=3)
    z = np.random.default_rng(seed).integers(0, probs.shape[1], len(labels))
    through = np.mean(np.log(soft[labels, z] * probs[np.arange(len(labels)), z] + 1e-300))
    assert leep(np.float32(probs), labels, num_classes=3) >= through - 1e-5


@few
@given(predictions())
def test_one_hot_predictions_give_nce(case):
    probs, labels = case
    z = probs.argmax(1)
    one_hot = np.eye(4, dtype=np.float32)[z]
    hard = nce(z, labels, num_source_classes=4, num_classes=3)
    assert_agrees(leep(one_hot, labels, num_classes=3), float(hard), 1e-5)


@few
@given(predictions(), st.permutations(range(4)))
def test_names_of_source_classes_do_not_matter(case, order):
    probs, labels = np.float32(case[0]), case[1]
    renamed = leep(probs[:, order], labels, num_classes=3)
    assert_agrees(renamed, float(leep(probs, labels, num_classes=3)), 1e-5)


@pytest.mark.parametrize("theta", [[1 / 3, 1 / 3, 1 / 3], [0.7, 0.3, 0.0], [0.0, 1.0, 0.0]])
def test_constant_predictions_give_minus_the_label_entropy(theta, x64):
    labels = np.array([0, 0, 0, 1, 1, 2])
    probs = np.tile(theta, (6, 1))
    # -H(Y) = 1/2 log 1/2 + 1/3 log 1/3 + 1/6 log 1/6
    null = np.log(1 / 2) / 2 + np.log(1 / 3) / 3 + np.log(1 / 6) / 6
    assert_agrees(leep(probs, labels, num_classes=3), null, 1e-14)
    assert_agrees(leep_gain(probs, labels, num_classes=3), 0.0, 1e-14)


def test_perfect_predictions_give_zero():
    labels = np.array([0, 1, 2, 1, 0])
    probs = np.eye(5, dtype=np.float32)[labels + 1]
    assert leep(probs, labels, num_classes=3) == 0


# ------------------------------------------------------------------------------ corners


@pytest.mark.parametrize("where", [None, np.arange(N) % 4 > 0])
def test_source_class_without_mass_contributes_nothing(where):
    case = make_case()
    probs = np.float32(np.insert(case["probs"], [0, 3, S], 0, axis=1))
    if where is not None:  # the mass that there is lies in masked-out rows
        probs[~where] = np.eye(S + 3)[0]
    kept = case if where is None else select(case, where)
    expected = oracles.leep(kept["probs"], kept["labels"], num_classes=C)
    assert_agrees(leep(probs, case["labels"], num_classes=C, where=where), expected, 1e-5)


@pytest.mark.parametrize("tiny", [1e-30, 1e-37, 1e-44])
def test_tiny_probabilities_do_not_underflow(tiny):
    case = make_case()
    probs = np.float32(np.hstack([case["probs"], np.full((N, 2), tiny)]))
    probs[3] = [1] + [tiny] * (S + 1)
    expected = oracles.leep(probs, case["labels"], num_classes=C)
    value, gradient = jax.value_and_grad(leep)(jnp.asarray(probs), case["labels"], num_classes=C)
    assert_agrees(value, expected, 1e-5)
    assert jnp.isfinite(gradient).all()


def test_many_source_classes_in_half_precision():
    # 1/1000 is no bfloat16: a row of them sums to 0.999.
    labels = np.arange(50) % 5
    probs = jnp.full((50, 1000), 1 / 1000, jnp.bfloat16)
    assert_agrees(leep(probs, labels, num_classes=5), -np.log(5), 1e-2)


def test_many_samples():
    # Adding 0.1 to a float32 sum of 60,000 rounds the same way every time.
    labels = np.arange(800_000) % 4 // 3
    probs = np.tile(np.float32([0.1, 0.2, 0.7]), (len(labels), 1))
    null = 3 / 4 * np.log(3 / 4) + np.log(1 / 4) / 4
    assert_agrees(leep(probs, labels, num_classes=2), null)


def test_many_classes():
    case = make_case(n=2000, c=100, s=300)
    probs = np.float32(case["probs"])
    expected = oracles.leep(probs, case["labels"], num_classes=100)
    assert_agrees(leep(probs, case["labels"], num_classes=100), expected)


# ------------------------------------------------------------------------------ the predictor


def fit(case, **options):
    return ExpectedEmpiricalPredictor.fit(
        case["probs"], case["labels"], **({"num_classes": C} | options)
    )


@pytest.mark.parametrize("smoothing", [0.0, 0.5])
def test_predictor_equals_the_oracle(smoothing, x64):
    case = make_case()
    weights = case["weights"] + 0.25
    fitted = fit(case, weights=weights, where=case["where"], smoothing=smoothing)
    kept = select(case | {"weights": weights}, case["where"])
    expected = oracles.conditional(
        kept["probs"], kept["labels"], num_classes=C, weights=kept["weights"], smoothing=smoothing
    )
    np.testing.assert_allclose(fitted.conditional, expected, rtol=1e-12)
    np.testing.assert_allclose(fitted.conditional.sum(0), 1, rtol=1e-12)
    held_out = make_case(seed=1)["probs"]
    np.testing.assert_allclose(fitted.predict(held_out), held_out @ expected.T, rtol=1e-12)


def test_predictor_on_its_own_sample_gives_leep(x64):
    case = make_case()
    right = fit(case).predict(case["probs"])[np.arange(N), case["labels"]]
    value = leep(case["probs"], case["labels"], num_classes=C)
    np.testing.assert_allclose(jnp.log(right).mean(), value, rtol=1e-12)


def test_predictor_ignores_masked_out_garbage():
    case = make_case()
    garbage = case["probs"].copy(), case["labels"].copy()
    garbage[0][~case["where"]], garbage[1][~case["where"]] = np.nan, -1
    masked = fit({"probs": garbage[0], "labels": garbage[1]}, where=case["where"])
    filtered = fit(select(case, case["where"]))
    np.testing.assert_allclose(masked.conditional, filtered.conditional, rtol=1e-5)


def test_predictor_weight_is_repetition_also_when_smoothed(x64):
    case = make_case()
    repeated = select(case, np.repeat(np.arange(N), case["weights"].astype(int)))
    weighted = fit(case, weights=case["weights"], smoothing=2.0)
    np.testing.assert_allclose(
        weighted.conditional, fit(repeated, smoothing=2.0).conditional, rtol=1e-12
    )


def test_predictor_of_classes_that_nobody_has(x64):
    probs = np.array([[0.5, 0.5, 0], [0.25, 0.75, 0]])
    plain = ExpectedEmpiricalPredictor.fit(probs, np.array([0, 1]), num_classes=3)
    np.testing.assert_array_equal(plain.conditional[:, 2], 0)  # a source class without mass
    np.testing.assert_array_equal(plain.conditional[2], 0)  # an absent class
    smooth = ExpectedEmpiricalPredictor.fit(probs, np.array([0, 1]), num_classes=3, smoothing=0.1)
    np.testing.assert_allclose(smooth.conditional[:, 2], 1 / 3, rtol=1e-12)
    assert (smooth.predict(probs)[:, 2] > 0).all()


def test_predictor_travels_through_transformations(x64):
    cases = [make_case(seed) for seed in range(2)]
    probs, labels = (np.stack([case[name] for case in cases]) for name in ("probs", "labels"))

    def fit_one(probs, labels):
        return ExpectedEmpiricalPredictor.fit(probs, labels, num_classes=C)

    batch = jax.jit(jax.vmap(fit_one))(probs, labels)
    predicted = jax.vmap(lambda fitted, x: fitted.predict(x))(batch, probs[::-1])
    for i, case in enumerate(cases):
        one = fit(case)
        np.testing.assert_allclose(batch.conditional[i], one.conditional, rtol=1e-12)
        np.testing.assert_allclose(predicted[i], one.predict(probs[1 - i]), rtol=1e-12)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("labels", {"num_classes": 3}),
        ("num_classes", {"num_classes": 0}),
        ("weights", {"weights": np.full(N, -1.0)}),
        ("where", {"where": np.zeros(N, bool)}),
        ("smoothing", {"smoothing": -1.0}),
    ],
)
def test_predictor_refuses_bad_input(name, options):
    with pytest.raises(ValueError, match=name):
        fit(make_case(), **options)


def test_predictor_refuses_predictions_of_another_source():
    fitted = fit(make_case())
    with pytest.raises(ValueError, match="probs"):
        fitted.predict(np.full((2, S + 1), 1 / (S + 1), np.float32))


# ------------------------------------------------------------------------------ golden values


@pytest.mark.parametrize("name", ["medium", "imbalanced"])
def test_golden(golden, name):
    values, inputs = golden
    labels = inputs[f"{name}/labels"]
    value = leep(inputs[f"{name}/predictions"], labels, num_classes=labels.max() + 1)
    assert_agrees(value, values[name]["leep/ref"])


@pytest.mark.parametrize("bad", [[[3.0, -1.0]], [[0.5, 0.4]], [[np.nan, 1.0]], [[1.0, 0.0, 0.0]]])
def test_predict_wants_probabilities(bad):
    probs = np.array([[0.9, 0.1], [0.2, 0.8]], np.float32)
    eep = ExpectedEmpiricalPredictor.fit(probs, np.array([0, 1]), num_classes=2)
    with pytest.raises(ValueError, match="probs: wanted"):
        eep.predict(np.array(bad, np.float32))
