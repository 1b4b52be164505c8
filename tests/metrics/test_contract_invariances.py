"""What may change in the arrays of a registered metric without changing its value."""

import jax
import numpy as np
import pytest

from leepjax.metrics import METRICS

from .oracles import WITHOUT_ORACLE
from .support import (
    REPRESENTATIVES,
    C,
    D,
    N,
    S,
    assert_agrees,
    cast,
    class_options,
    close,
    counted,
    each,
    each_labelled,
    each_random,
    each_weighted,
    evaluate,
    jit_vmap,
    make_case,
    named,
    optional,
    oracle_of,
    over,
    select,
    stack,
)

# Means over the data: repeating every sample changes nothing.
PER_SAMPLE = named(
    "leep", "leep_gain", "leep_calibrated", "nce", "neg_label_entropy", "h_score", "lfc", "gbc",
    "transrate", "lda_score", "sfda",
)  # fmt: skip
# Features have no unit.
UNIT_FREE = named(
    "h_score", "regularized_h_score", "logme", "logme_regression", "lfc", "parc", "knn"
)
# Features have no origin.
SHIFT_FREE = named(
    "h_score", "regularized_h_score", "gbc", "transrate", "parc", "lda_score", "sfda",
    "pactran_gaussian", "nleep",
)  # fmt: skip
# Features have no axes. (PCA brings gbc to axes of its own.)
ROTATION_FREE = named(
    "h_score", "regularized_h_score", "logme", "logme_regression", "lfc", "gbc", "transrate",
    "lda_score", "sfda", "knn",
)  # fmt: skip


def fill(case, rows, garbage):
    """Overwrite the rows of every array except the mask itself."""
    filled = {}
    for name, array in case.items():
        filled[name] = array = array.copy()
        if name != "where":
            bad = np.nan if np.issubdtype(array.dtype, np.floating) else -1
            array[rows] = bad if garbage else 0
    return filled


# ------------------------------------------------------------------------------ masks and weights


def masked_case(layout):
    case = make_case()
    if layout == "padded":
        case["where"] = np.arange(N) < case["where"].sum()
    return case


@each
@pytest.mark.parametrize("layout", ["interleaved", "padded"])
def test_masked_equals_filtered(metric, layout, x64):
    case, use = masked_case(layout), optional(metric)
    zeros, garbage = (fill(case, ~case["where"], bad) for bad in (False, True))
    if metric.name in WITHOUT_ORACLE:
        rest = [name for name in use if name != "where"]
        expected = evaluate(metric, select(case, case["where"]), rest)
    else:
        expected = oracle_of(metric, case, use)
    for filled in (zeros, garbage):
        close(evaluate(metric, filled, use), expected)
    close(evaluate(metric, stack([case, zeros, garbage]), use, jit_vmap), [expected] * 3)


@over(METRICS.values(), REPRESENTATIVES)
def test_each_optional_array_alone(metric, x64):
    case = masked_case("interleaved")
    expected = evaluate(metric, counted(case) | {"where": case["where"]}, optional(metric))
    for garbage in (False, True):
        close(evaluate(metric, fill(case, ~case["where"], garbage), ["where"]), expected)
    if metric.weights:
        included = case | {"where": np.ones(N, bool)}
        close(evaluate(metric, case, ["weights"]), evaluate(metric, included, ["where", "weights"]))


@each
def test_full_mask_and_unit_weights_change_nothing(metric):
    case = cast(make_case(), np.float32)
    value = evaluate(metric, counted(case), optional(metric))
    assert_agrees(value, float(evaluate(metric, case)), 1e-5)


@over(m for m in PER_SAMPLE if m.weights)
def test_unit_of_the_weights_does_not_matter(metric, x64):
    case = make_case() | {"where": np.ones(N, bool)}
    halved = case | {"weights": case["weights"] * 0.37}
    close(evaluate(metric, halved, optional(metric)), evaluate(metric, case, optional(metric)))


@each_weighted
@pytest.mark.parametrize("rows", [N, 9, 5], ids=["all", "some", "fewer-than-dimensions"])
def test_integer_weight_is_repetition(metric, rows, x64):
    case = counted(make_case())
    # n samples again, of the first rows, and a class that only weightless samples have.
    weighty = np.where((case["labels"] == 1) | (np.arange(N) >= rows), 0.0, 1.0)
    weights = np.random.default_rng(1).multinomial(N, weighty / weighty.sum())
    repeated = select(case, np.repeat(np.arange(N), weights))
    weighted = case | {"weights": weights * 1.0}
    close(
        evaluate(metric, weighted, optional(metric)), evaluate(metric, repeated, optional(metric))
    )


@each_weighted
def test_masked_out_rows_may_have_any_weight(metric, x64):
    case = make_case()
    wild = np.resize([np.nan, -1.0, np.inf, 1e300], N)
    masked = case | {"weights": np.where(case["where"], case["weights"], wild)}
    close(evaluate(metric, masked, optional(metric)), evaluate(metric, case, optional(metric)))


# ------------------------------------------------------------------------------ samples and classes


@each
def test_order_of_samples_does_not_matter(metric, x64):
    case = make_case()
    shuffled = select(case, np.random.default_rng(1).permutation(N))
    close(evaluate(metric, shuffled, optional(metric)), evaluate(metric, case, optional(metric)))


@each_labelled
def test_names_of_classes_do_not_matter(metric, x64):
    case = make_case()
    renamed = case | {"labels": np.array([2, 0, 3, 1])[case["labels"]]}
    close(evaluate(metric, renamed, optional(metric)), evaluate(metric, case, optional(metric)))


@over(m for m in METRICS.values() if m.name in WITHOUT_ORACLE)  # of the others, by the oracle
def test_absent_classes_change_nothing(metric, x64):
    case = make_case()
    options = class_options(metric, num_classes=2 * C + 3, num_source_classes=S + 5)
    value = evaluate(metric, case, optional(metric))
    gaps = case | {"labels": 2 * case["labels"] + 1}
    for each_case in (case, gaps):
        close(evaluate(metric, each_case, optional(metric), **options), value)


@over(PER_SAMPLE)
def test_repeating_the_data_changes_nothing(metric, x64):
    case = counted(make_case())
    few = 5  # samples for as many features, so that they are of lower rank
    once = case | {"where": np.arange(N) < few}
    repeated = select(case, np.resize(np.arange(few), N))
    close(evaluate(metric, repeated, optional(metric)), evaluate(metric, once, optional(metric)))


# ------------------------------------------------------------------------------ features


@over(UNIT_FREE)
@pytest.mark.parametrize("unit", [1e-20, 1e20])
def test_unit_of_the_features_does_not_matter(metric, unit):
    case = cast(make_case(), np.float32)
    scaled = case | {"features": case["features"] * np.float32(unit)}
    assert_agrees(evaluate(metric, scaled), oracle_of(metric, case))


@over(SHIFT_FREE)
def test_origin_of_the_features_does_not_matter(metric, x64):
    case, use = make_case(), optional(metric)
    moved = case | {"features": case["features"] + np.arange(D)}
    np.testing.assert_allclose(evaluate(metric, moved, use), evaluate(metric, case, use), rtol=1e-7)


@over(ROTATION_FREE)
def test_axes_of_the_features_do_not_matter(metric, x64):
    case, use = make_case(), optional(metric)
    rotation = np.linalg.qr(np.random.default_rng(1).normal(size=(D, D)))[0]
    turned = case | {"features": case["features"] @ rotation}
    np.testing.assert_allclose(
        evaluate(metric, turned, use), evaluate(metric, case, use), rtol=1e-7
    )


@over(named("nleep"))
def test_bounds_of_leep_hold(metric, x64):
    # The mixture knows no labels: its responsibilities are probabilities like any other.
    for seed in range(5):
        case = counted(make_case(seed))
        null = oracle_of(METRICS["neg_label_entropy"], case)
        assert null - 1e-9 <= evaluate(metric, case, optional(metric)) <= 1e-9


# ------------------------------------------------------------------------------ keys, side effects


@each_random
def test_key_of_either_form(metric):
    case = cast(make_case(), np.float32)
    arrays = [case[name] for name in metric.inputs]
    old = metric.fn(jax.random.PRNGKey(0), *arrays, **class_options(metric))
    assert old == evaluate(metric, case)


@over(named("parc"))
def test_key_decides_nothing_where_all_samples_are_used(metric):
    case = cast(make_case(), np.float32)
    arrays = [case[name] for name in metric.inputs]
    values = [metric.fn(jax.random.key(i), *arrays, **class_options(metric)) for i in range(3)]
    np.testing.assert_allclose(values[1:], [values[0]] * 2, rtol=1e-5)


@each
def test_inputs_stay_and_nothing_is_printed(metric, capfd):
    case = cast(make_case(), np.float32)
    before = {name: array.copy() for name, array in case.items()}
    evaluate(metric, case, optional(metric)).block_until_ready()
    for name, array in case.items():
        np.testing.assert_array_equal(array, before[name])
    assert capfd.readouterr() == ("", "")
