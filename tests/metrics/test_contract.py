"""What every registered metric keeps to; a new one gets all of it from its registry entry."""

import contextlib
import inspect
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import leepjax.metrics
from leepjax.metrics import METRICS

from .oracles import ORACLES, WITHOUT_ORACLE
from .support import (
    ACCURACIES,
    FLOATS,
    C,
    Compilations,
    D,
    N,
    S,
    assert_agrees,
    assert_metric_agrees,
    cast,
    class_options,
    each,
    each_differentiable,
    each_labelled,
    each_random,
    each_weighted,
    each_with_oracle,
    eager,
    evaluate,
    gradient_of,
    hard_cases,
    jit_vmap,
    make_case,
    optional,
    oracle_of,
    over,
    parameters,
    select,
    taking,
)


def named(*names):
    return [METRICS[name] for name in names if name in METRICS]


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
# The start of the mixture's fit is drawn, so the order of the samples is seen.
ORDER_SEEN = {"nleep"}
# No gradient: counts, ranks, votes, and fits by iteration.
NO_GRADIENT = {
    "nce", "neg_label_entropy", "nleep", "parc", "lda_score", "energy", "sfda",
    "pactran_gaussian", "knn", "linear_probe",
}  # fmt: skip


def close(value, expected):
    """Equality in float64, up to the order of summation."""
    np.testing.assert_allclose(value, expected, rtol=1e-9, atol=1e-11)


def fill(case, rows, garbage):
    """Overwrite the rows of every array except the mask itself."""
    filled = {}
    for name, array in case.items():
        filled[name] = array = array.copy()
        if name != "where":
            bad = np.nan if np.issubdtype(array.dtype, np.floating) else -1
            array[rows] = bad if garbage else 0
    return filled


# ------------------------------------------------------------------------------ registry


def test_every_metric_has_an_oracle():
    assert set(METRICS) <= set(ORACLES) | WITHOUT_ORACLE


def test_metrics_without_gradient():
    assert {m.name for m in METRICS.values() if not m.differentiable} == NO_GRADIENT & set(METRICS)


@each
def test_registry_entry(metric):
    assert METRICS[metric.name] is metric
    assert getattr(leepjax.metrics, metric.name) is metric.fn
    assert callable(metric.kernel)
    assert isinstance(metric.inputs, tuple)
    assert set(metric.inputs) <= {*FLOATS, "source_labels", "labels"}


@each
def test_signature(metric):
    given = parameters(metric)
    positional = [p.name for p in given.values() if p.kind is not p.KEYWORD_ONLY]
    assert tuple(positional) == (*(("key",) if metric.key else ()), *metric.inputs)
    assert ("num_classes" in given) == ("labels" in metric.inputs)
    for name in class_options(metric):
        assert given[name].default is inspect.Parameter.empty
    assert given["where"].default is None
    assert ("weights" in given) == metric.weights
    if metric.weights:
        assert given["weights"].default is None


def test_import_needs_jax_alone():
    heavy = {"flax", "optax", "tensorflow_datasets", "matplotlib", "scipy", "sklearn", "orbax"}
    code = "import sys, leepjax.metrics; print(*{name.split('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not heavy & set(done.stdout.split())


# ------------------------------------------------------------------------------ values


@each
@pytest.mark.parametrize(("n", "d"), [(N, D), (9, 12)])
@pytest.mark.parametrize("use_optional", [False, True], ids=["plain", "where+weights"])
def test_equals_the_oracle_in_float64(metric, n, d, use_optional, x64):
    case = make_case(n=n, d=d)
    use = optional(metric) if use_optional else ()
    value = evaluate(metric, case, use)
    assert value.shape == ()
    assert value.dtype == jnp.float64
    if metric.name in WITHOUT_ORACLE:
        assert jnp.isfinite(value)
    else:
        close(value, oracle_of(metric, case, use))


@each_with_oracle
def test_random_cases_equal_the_oracle(metric, x64):
    # Of one shape: uneven classes, some absent, some of one sample, and uneven scales.
    use = optional(metric)
    for seed in range(10):
        case = make_case(seed)
        rng = np.random.default_rng(seed)
        case["labels"] = rng.choice(C, size=N, p=rng.dirichlet(np.full(C, 0.7)))
        case["features"] = case["features"] * 10.0 ** rng.uniform(-1, 1, D) + rng.normal(size=D)
        case["logits"] = case["logits"] * 10.0 ** rng.uniform(-1, 0.5)
        case["probs"] = np.array(jax.nn.softmax(case["logits"]))
        try:
            value = oracle_of(metric, case, use)
        except ValueError:
            with pytest.raises(ValueError, match=r"labels: wanted\b"):
                evaluate(metric, case, use)
        else:
            close(evaluate(metric, case, use), value)


OPTIONS = [
    ("lfc", {"centering": "double"}),
    ("gbc", {"num_components": None}),
    ("gbc", {"num_components": 3}),
    ("gbc", {"covariance": "spherical"}),
    ("transrate", {"class_weights": "proportional"}),
    ("parc", {"num_components": 32}),
    ("parc", {"num_components": 3}),
    ("knn", {"k": 3}),
]


@pytest.mark.parametrize(
    ("metric", "options"),
    [
        pytest.param(METRICS[name], options, id=f"{name}-{'-'.join(map(str, options.values()))}")
        for name, options in OPTIONS
        if name in METRICS
    ],
)
@pytest.mark.parametrize(("n", "d"), [(N, D), (9, 12)])
def test_options_equal_the_oracle_in_float64(metric, options, n, d, x64):
    case = make_case(n=n, d=d)
    close(evaluate(metric, case, **options), oracle_of(metric, case, **options))


def accuracy_cases():
    """Every metric once; those of features also where float32 has a hard time."""
    hard = hard_cases()
    for metric in METRICS.values():
        for name in hard if "features" in metric.inputs else ["plain"]:
            yield pytest.param(metric, hard[name], id=f"{metric.name}-{name}")


@pytest.mark.parametrize(("metric", "build"), list(accuracy_cases()))
def test_float32_agrees_with_the_float64_oracle(metric, build):
    case = cast(build(), np.float32)
    for use in ((), optional(metric)):
        value = evaluate(metric, case, use)
        assert value.dtype == jnp.float32
        assert_metric_agrees(metric, value, case, use)


@each
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_is_read_and_float32_computed(metric, dtype):
    case = cast(make_case(n=200, d=16), dtype)
    value = evaluate(metric, case)
    assert value.dtype == jnp.float32
    # Rounded features are data like any other. Rounded probabilities do not sum to one.
    assert_metric_agrees(metric, value, case, (), 1e-2 if "probs" in metric.inputs else 1e-4)


@each_labelled
@pytest.mark.parametrize("dtype", ["uint8", "int8"])
def test_labels_of_any_integer_dtype(metric, dtype):
    case = cast(make_case(), np.float32)
    narrow = case | {name: case[name].astype(dtype) for name in ("labels", "source_labels")}
    # 300 does not fit into a byte, and wraps to 44.
    options = class_options(metric, num_classes=300, num_source_classes=300)
    value = evaluate(metric, narrow, **options)
    np.testing.assert_allclose(value, evaluate(metric, case), rtol=1e-5, atol=1e-5)


@over(m for m in taking("labels") if m.name not in WITHOUT_ORACLE)
@pytest.mark.parametrize("n", [1, N])
def test_one_class(metric, n):
    """The limit, where there is one, and an error where not."""
    case = cast(make_case(n=n), np.float32)
    case["labels"] = np.full(n, 2)
    try:
        limit = oracle_of(metric, case)
    except ValueError:
        with pytest.raises(ValueError, match=r"labels: wanted\b"):
            evaluate(metric, case)
    else:
        assert_agrees(evaluate(metric, case), limit, 1e-5)


def one_per_class(case):
    return {
        "where": np.isin(np.arange(N), [np.flatnonzero(case["labels"] == y)[0] for y in range(C)])
    }


def first_samples(count):
    return lambda case: {"where": np.arange(N) < count}


def doubled(case):
    return {name: np.concatenate([a[: N // 2]] * 2) for name, a in case.items() if name != "where"}


DEGENERATE = {
    "features-zero": lambda case: {"features": np.zeros((N, D))},
    "features-constant": lambda case: {"features": np.full((N, D), 1000.1)},
    "features-of-one-direction": lambda case: {"features": case["features"][:, :1] * np.ones(D)},
    "features-constant-within-classes": lambda case: {"features": np.eye(D)[case["labels"]]},
    "features-of-size-1e-20": lambda case: {"features": case["features"] * 1e-20},
    "features-of-size-1e15": lambda case: {"features": case["features"] * 1e15},
    "samples-doubled": doubled,
    "samples-alike-in-features": lambda case: {"features": np.ones((N, 1)) * case["features"][:1]},
    "one-sample": first_samples(1),
    "two-samples": first_samples(2),
    "one-sample-per-class": one_per_class,
    "probs-of-one-class": lambda case: {"probs": np.eye(S)[np.zeros(N, int)]},
    "probs-0-or-1": lambda case: {"probs": np.eye(S)[case["source_labels"]]},
    "probs-uniform": lambda case: {"probs": np.full((N, S), 1 / S)},
    "logits-equal": lambda case: {"logits": np.zeros((N, S))},
    "logits-of-size-1e4": lambda case: {"logits": case["logits"] * 1e4},
    "targets-zero": lambda case: {"targets": np.zeros((N, 2))},
    "targets-constant": lambda case: {"targets": np.ones((N, 2))},
    "targets-with-a-zero-column": lambda case: {"targets": case["targets"] * np.array([1.0, 0.0])},
    "targets-in-the-span": lambda case: {"targets": case["features"][:, :2]},
}


def huge(case):
    return np.abs(case["features"]).max() > 1e10


def degenerate_cases():
    for metric in METRICS.values():
        for name, change in DEGENERATE.items():
            if name.split("-")[0] in {*metric.inputs, "samples", "one", "two"}:
                yield pytest.param(metric, change, id=f"{metric.name}-{name}")


@pytest.mark.parametrize(("metric", "change"), list(degenerate_cases()))
def test_degenerate_input(metric, change):
    """As the oracle has it, or an error that says what is wrong: never NaN."""
    case = make_case()
    changed = change(case)
    case = cast(case | changed, np.float32)
    use = ("where",) if "where" in changed else ()
    try:
        value = evaluate(metric, case, use)
    except ValueError as e:
        error = str(e)
    else:
        assert jnp.isfinite(value)
        # Neighbours equally near: any of them may vote. A loss without a minimum in reach of
        # rounding: its curvature is what is left of it.
        unsure = metric.name in ACCURACIES or (metric.name == "pactran_gaussian" and huge(case))
        if not unsure:
            # Singular covariances are past the condition number of which 1e-4 is promised.
            with contextlib.suppress(ValueError):  # the oracle knows no limit
                assert_metric_agrees(metric, value, case, use, 1e-3)
        return
    assert re.match(r"(labels|features|targets): wanted\b.* got", error)


@over(taking("features"))
@pytest.mark.parametrize(("n", "d"), [(5, 3), (7, 1)])
def test_inputs_smaller_than_any_fixed_size(metric, n, d):
    case = cast(make_case(n=n, d=d, c=2), np.float32)
    assert_metric_agrees(metric, evaluate(metric, case), case)


@over([*taking("probs"), *taking("logits")])
def test_source_class_without_mass(metric, x64):
    case = make_case()
    case["logits"][:, 2] = -1e6
    case["probs"] = np.array(jax.nn.softmax(case["logits"]))
    assert (case["probs"][:, 2] == 0).all()
    close(evaluate(metric, case), oracle_of(metric, case))


@each_with_oracle
def test_class_without_samples(metric, x64):
    case = make_case()
    case["labels"][case["labels"] == 1] = 3
    for use in ((), optional(metric)):
        close(evaluate(metric, case, use), oracle_of(metric, case, use))


# ------------------------------------------------------------------------------ invariances


@each
@pytest.mark.parametrize("garbage", [False, True], ids=["zeros", "garbage"])
@pytest.mark.parametrize("layout", ["interleaved", "padded"])
def test_masked_equals_filtered(metric, garbage, layout, x64):
    case = make_case()
    if layout == "padded":
        case["where"] = np.arange(N) < case["where"].sum()
    kept = select(case, case["where"])
    filled = fill(case, ~case["where"], garbage)
    weights = [name for name in optional(metric) if name != "where"]
    for use in ([], weights):
        expected = evaluate(metric, kept, use)
        for transform in (eager, jax.jit):
            close(evaluate(metric, filled, [*use, "where"], transform), expected)


@each
def test_full_mask_and_unit_weights_change_nothing(metric, x64):
    case = make_case() | {"where": np.ones(N, bool), "weights": np.ones(N)}
    close(evaluate(metric, case, optional(metric)), evaluate(metric, case))


@over(m for m in METRICS.values() if m.name not in ORDER_SEEN)
def test_order_of_samples_does_not_matter(metric, x64):
    case = make_case()
    shuffled = select(case, np.random.default_rng(1).permutation(N))
    for use in ((), optional(metric)):
        close(evaluate(metric, shuffled, use), evaluate(metric, case, use))


@each_labelled
def test_names_of_classes_do_not_matter(metric, x64):
    case = make_case()
    renamed = case | {"labels": np.array([2, 0, 3, 1])[case["labels"]]}
    close(evaluate(metric, renamed), evaluate(metric, case))


@each_labelled
def test_absent_classes_change_nothing(metric, x64):
    case = make_case()
    options = class_options(metric, num_classes=2 * C + 3, num_source_classes=S + 5)
    value = evaluate(metric, case)
    close(evaluate(metric, case, **options), value)
    close(evaluate(metric, case | {"labels": 2 * case["labels"] + 1}, **options), value)


@over(PER_SAMPLE)
def test_repeating_the_data_changes_nothing(metric, x64):
    case = make_case(n=9, d=12)
    thrice = select(case, np.repeat(np.arange(9), 3))
    close(evaluate(metric, thrice), evaluate(metric, case))


@over(UNIT_FREE)
@pytest.mark.parametrize("unit", [1e-20, 1e20])
def test_unit_of_the_features_does_not_matter(metric, unit):
    case = cast(make_case(), np.float32)
    scaled = case | {"features": case["features"] * np.float32(unit)}
    assert_agrees(evaluate(metric, scaled), oracle_of(metric, case))


@over(SHIFT_FREE)
def test_origin_of_the_features_does_not_matter(metric, x64):
    case = make_case()
    moved = case | {"features": case["features"] + np.arange(D)}
    np.testing.assert_allclose(evaluate(metric, moved), evaluate(metric, case), rtol=1e-7)


@over(ROTATION_FREE)
def test_axes_of_the_features_do_not_matter(metric, x64):
    case = make_case()
    rotation = np.linalg.qr(np.random.default_rng(1).normal(size=(D, D)))[0]
    turned = case | {"features": case["features"] @ rotation}
    np.testing.assert_allclose(evaluate(metric, turned), evaluate(metric, case), rtol=1e-7)


@over(named("nleep"))
def test_bounds_of_leep_hold(metric, x64):
    # The mixture knows no labels: its responsibilities are probabilities like any other.
    for seed in range(5):
        case = make_case(seed)
        null = oracle_of(METRICS["neg_label_entropy"], case)
        assert null - 1e-9 <= evaluate(metric, case) <= 1e-9


@each_random
def test_key_of_either_form(metric):
    case = cast(make_case(), np.float32)
    arrays = [case[name] for name in metric.inputs]
    old = metric.fn(jax.random.PRNGKey(0), *arrays, **class_options(metric))
    assert old == evaluate(metric, case)


@over(named("parc"))
def test_key_decides_nothing_where_all_samples_are_used(metric, x64):
    case = make_case()
    arrays = [case[name] for name in metric.inputs]
    values = [metric.fn(jax.random.key(i), *arrays, **class_options(metric)) for i in range(3)]
    close(values[1:], values[0])


@over(m for m in PER_SAMPLE if m.weights)
def test_unit_of_the_weights_does_not_matter(metric, x64):
    case = make_case()
    halved = case | {"weights": case["weights"] * 0.37}
    close(evaluate(metric, halved, ["weights"]), evaluate(metric, case, ["weights"]))


@each_weighted
@pytest.mark.parametrize(("n", "d"), [(N, D), (9, 12)])
def test_integer_weight_is_repetition(metric, n, d, x64):
    case = make_case(n=n, d=d)
    # n samples again, and a class that only weightless samples have.
    weighty = np.where(case["labels"] == 1, 0.0, 1.0)
    case["weights"] = np.random.default_rng(1).multinomial(n, weighty / weighty.sum()) * 1.0
    repeated = select(case, np.repeat(np.arange(n), case["weights"].astype(int)))
    close(evaluate(metric, case, ["weights"]), evaluate(metric, repeated))


@each_weighted
def test_masked_out_rows_may_have_any_weight(metric, x64):
    case = make_case()
    wild = np.resize([np.nan, -1.0, np.inf, 1e300], N)
    masked = case | {"weights": np.where(case["where"], case["weights"], wild)}
    expected = evaluate(metric, case, ["where", "weights"])
    close(evaluate(metric, masked, ["where", "weights"]), expected)


@each
def test_inputs_are_not_modified(metric):
    case = cast(make_case(), np.float32)
    before = {name: array.copy() for name, array in case.items()}
    evaluate(metric, case, optional(metric))
    for name, array in case.items():
        np.testing.assert_array_equal(array, before[name])


@each
def test_nothing_is_printed(metric, capfd):
    evaluate(metric, cast(make_case(), np.float32), optional(metric)).block_until_ready()
    assert capfd.readouterr() == ("", "")


# ------------------------------------------------------------------------------ transformations


@each
def test_jit_equals_no_jit(metric, x64):
    case = make_case()
    use = optional(metric)
    close(evaluate(metric, case, use, jax.jit), evaluate(metric, case, use))


@each
def test_vmap_equals_a_loop(metric, x64):
    cases = [make_case(seed) for seed in range(3)]
    batch = {name: np.stack([case[name] for case in cases]) for name in cases[0]}
    use = optional(metric)
    loop = [evaluate(metric, case, use) for case in cases]
    close(evaluate(metric, batch, use, jax.vmap), loop)
    close(evaluate(metric, batch, use, jit_vmap), loop)


def test_compilations_are_counted():
    ones = jnp.ones(3)
    with Compilations() as compiled:
        jax.jit(lambda x: 3 * x)(ones)
    assert len(compiled) == 1


@each
@pytest.mark.parametrize("use_optional", [False, True], ids=["plain", "where+weights"])
def test_second_call_compiles_nothing(metric, use_optional):
    use = optional(metric) if use_optional else ()
    first, second = (jax.tree.map(jnp.asarray, make_case(seed)) for seed in range(2))
    evaluate(metric, first, use)
    with Compilations() as compiled:
        evaluate(metric, second, use)
    assert compiled == []


# ------------------------------------------------------------------------------ gradients


def differentiable_arguments(metric):
    weights = ["weights"] if metric.weights else []
    return [name for name in metric.inputs if name in FLOATS] + weights


@each_differentiable
def test_gradient_equals_finite_differences(metric, x64):
    case = make_case() | {"weights": np.random.default_rng(1).uniform(0.5, 2, N)}
    use = optional(metric)
    for name in differentiable_arguments(metric):
        start = case["logits"] if name == "probs" else case[name]
        direction = np.random.default_rng(2).normal(size=start.shape)

        def at(t, name=name, start=start, direction=direction):
            moved = start + t * direction
            return jax.nn.softmax(moved) if name == "probs" else moved

        step = 1e-5
        high, low = (evaluate(metric, case | {name: at(t)}, use) for t in (step, -step))
        numeric = (high - low) / (2 * step)
        assert abs(numeric) > 1e-4
        _, tangent = jax.jvp(at, (0.0,), (1.0,))
        gradient = gradient_of(metric, name, case | {name: at(0.0)}, use)
        np.testing.assert_allclose((gradient * tangent).sum(), numeric, rtol=1e-6, atol=1e-9)


@each_differentiable
@pytest.mark.parametrize("garbage", [False, True], ids=["zeros", "garbage"])
def test_masked_rows_have_no_gradient(metric, garbage, x64):
    case = make_case()
    rows = case["where"]
    case = fill(case, ~rows, garbage)
    kept = select(case, rows)
    for name in set(metric.inputs) & set(FLOATS):
        gradient = gradient_of(metric, name, case, ["where"])
        assert (gradient[~rows] == 0).all()
        close(gradient[rows], gradient_of(metric, name, kept))


@over(m for m in taking("features") if m.differentiable)
def test_gradient_where_eigenvalues_coincide(metric, x64):
    # Centred and uncentred covariance are multiples of I: eigenvectors are not smooth here.
    case = make_case()
    features = case["features"] - case["features"].mean(0)
    features = np.linalg.qr(features)[0] * N**0.5
    direction = np.random.default_rng(2).normal(size=features.shape)
    gradient = gradient_of(metric, "features", case | {"features": features})
    assert np.isfinite(gradient).all()
    if metric.name != "gbc":  # principal axes are part of its definition
        high, low = (
            evaluate(metric, case | {"features": features + t * direction}) for t in (1e-5, -1e-5)
        )
        numeric = (high - low) / 2e-5
        np.testing.assert_allclose((gradient * direction).sum(), numeric, rtol=1e-5, atol=1e-8)


EXTREME = {
    "0-or-1": lambda case: {"probs": np.eye(S)[case["source_labels"]]},  # classes without mass
    "zero-column": lambda case: {"features": case["features"] * (np.arange(12) > 0)},
    "zero": lambda case: {"features": 0 * case["features"], "logits": 0 * case["logits"]},
    "alike": lambda case: {"features": np.ones((9, 1)) * case["features"][:1]},
    "one-class": lambda case: {"labels": np.full(9, 2)},
}


@each_differentiable
@pytest.mark.parametrize("change", EXTREME.values(), ids=EXTREME)
def test_gradient_is_finite_on_extreme_inputs(metric, change):
    case = make_case(n=9, d=12)
    case = cast(case | change(case), np.float32)
    case["weights"][:2] = 0
    use = optional(metric)
    try:
        evaluate(metric, case, use)
    except ValueError:
        return  # no value, no gradient
    for name in differentiable_arguments(metric):
        # From a weight of nothing on, a score may rise steeply.
        weights = np.maximum(case["weights"], 1) if name == "weights" else case["weights"]
        gradient = gradient_of(metric, name, case | {"weights": weights}, use)
        assert jnp.isfinite(gradient).all()


@each_differentiable
def test_absent_classes_leave_the_gradient_alone(metric, x64):
    case = make_case()
    case["weights"][:] = 1
    use = optional(metric)
    more = class_options(metric, num_classes=2 * C + 3)
    for name in differentiable_arguments(metric):
        expected = gradient_of(metric, name, case, use)
        assert jnp.isfinite(expected).all()
        close(gradient_of(metric, name, case, use, **more), expected)


# ------------------------------------------------------------------------------ bad inputs


@dataclass(frozen=True)
class Bad:
    """One wrong input.

    `blame` is a pattern for the argument that the message must name, and `change` gives the arrays
    or options to put in the place of good ones. `when` tells what a trace can see of it: shapes and
    dtypes are "static" and raise there too, a "value" becomes NaN, "host" is lost on the way in.
    """

    id: str
    blame: str
    change: Callable[[dict], dict]
    when: str = "value"


def put(name, *rows):
    """Replace the first rows of an array."""

    def change(case):
        array = case[name].copy()
        array[: len(rows)] = rows
        return {name: array}

    return change


def map_array(name, fn):
    return lambda case: {name: fn(case[name])}


def bad_labels(name, count):
    return [
        Bad(f"{name}-too-large", name, put(name, count)),
        Bad(f"{name}-negative", name, put(name, -1)),
        Bad(f"{name}-shifted-by-100", name, map_array(name, lambda a: a + 100)),
        Bad(f"{name}-past-int32", name, put(name, 2**32), "host"),
        Bad(f"{name}-float", name, map_array(name, lambda a: a.astype(np.float32)), "static"),
        Bad(f"{name}-column", name, map_array(name, lambda a: a[:, None]), "static"),
        Bad(f"{name}-scalar", name, map_array(name, lambda a: a[0]), "static"),
        Bad(f"{name}-short", name, map_array(name, lambda a: a[:-1]), "static"),
    ]


def bad_matrix(name, columns=True):
    """`columns`: it must have them, so a vector is refused."""
    vector = Bad(f"{name}-vector", name, map_array(name, lambda a: a[:, 0]), "static")
    return [
        *([vector] if columns else []),
        Bad(f"{name}-nan", name, put(name, np.nan)),
        Bad(f"{name}-inf", name, put(name, np.inf)),
        Bad(f"{name}-rank-3", name, map_array(name, lambda a: a[..., None]), "static"),
        Bad(f"{name}-no-columns", name, map_array(name, lambda a: a[:, :0]), "static"),
        Bad(f"{name}-short", name, map_array(name, lambda a: a[:-1]), "static"),
    ]


BAD = [
    *bad_labels("labels", C),
    *bad_labels("source_labels", S),
    *bad_matrix("probs"),
    *bad_matrix("logits"),
    *bad_matrix("features"),
    *bad_matrix("targets", columns=False),
    Bad("probs-are-logits", "probs", lambda case: {"probs": case["logits"]}),
    Bad("probs-sum-to-two", "probs", map_array("probs", lambda a: 2 * a)),
    Bad("probs-sum-to-0.95", "probs", map_array("probs", lambda a: 0.95 * a)),
    Bad("probs-negative", "probs", put("probs", [1.5, -0.5] + [0.0] * (S - 2))),
    Bad("probs-integer", "probs", map_array("probs", lambda a: a.round().astype(int)), "static"),
    Bad("where-nothing", "where", map_array("where", np.zeros_like)),
    Bad("where-integer", "where", map_array("where", lambda a: a.astype(np.int32)), "static"),
    Bad("where-float", "where", map_array("where", lambda a: a.astype(np.float32)), "static"),
    Bad("where-column", "where", map_array("where", lambda a: a[:, None]), "static"),
    Bad("where-short", "where", map_array("where", lambda a: a[:-1]), "static"),
    Bad("weights-negative", "weights", put("weights", -1.0)),
    Bad("weights-nan", "weights", put("weights", np.nan)),
    Bad("weights-inf", "weights", put("weights", np.inf)),
    Bad("weights-all-zero", "weights", map_array("weights", np.zeros_like)),
    Bad(
        "weights-zero-where-true",
        "weights|where",
        lambda case: {"where": case["where"], "weights": np.where(case["where"], 0.0, 1.0)},
    ),
    Bad("weights-column", "weights", map_array("weights", lambda a: a[:, None]), "static"),
    Bad("weights-short", "weights", map_array("weights", lambda a: a[:-1]), "static"),
    Bad(
        "empty",
        "labels|probs|logits|source_labels|features|targets",
        lambda case: {k: v[:0] for k, v in case.items() if k not in ("where", "weights")},
        "static",
    ),
    Bad("num_classes-zero", "num_classes", lambda case: {"num_classes": 0}, "static"),
    Bad("num_classes-negative", "num_classes", lambda case: {"num_classes": -2}, "static"),
    Bad("num_classes-float", "num_classes", lambda case: {"num_classes": 4.0}, "static"),
]


def bad_inputs(*when):
    """Each metric with each wrong input that it can be given."""
    for metric in METRICS.values():
        taken = parameters(metric)
        for bad in BAD:
            needed = bad.change(make_case()) if bad.id != "empty" else ()
            # One array alone has no other length to differ from.
            lone = bad.id.endswith("-short") and {bad.blame} == set(metric.inputs)
            if bad.when in when and set(needed) <= set(taken) and not lone:
                yield pytest.param(metric, bad, id=f"{metric.name}-{bad.id}")


def spoil(metric, bad):
    """The case made bad, the optional arrays that it needs, and options."""
    case = cast(make_case(), np.float32)
    if bad.id != "weights-zero-where-true":
        case["where"][:], case["weights"][:] = True, 1
    change = bad.change(case)
    options = {k: v for k, v in change.items() if not isinstance(v, np.ndarray | np.generic)}
    arrays = {k: v for k, v in change.items() if k not in options}
    use = [name for name in optional(metric) if name in arrays]
    return case | arrays, use, options


def refuses(bad):
    """Expect a ValueError that names the argument and says what was got."""
    return pytest.raises(ValueError, match=rf"(?is)(?=.*\b({bad.blame})\b)(?=.*\bgot\b)")


@pytest.mark.parametrize(("metric", "bad"), list(bad_inputs("value", "static", "host")))
def test_bad_input_is_refused(metric, bad):
    case, use, options = spoil(metric, bad)
    with refuses(bad):
        evaluate(metric, case, use, **options)


@pytest.mark.parametrize(("metric", "bad"), list(bad_inputs("static")))
def test_bad_shape_or_dtype_is_refused_while_tracing(metric, bad):
    case, use, options = spoil(metric, bad)
    batch = {name: np.stack([array, array]) for name, array in case.items()}
    with refuses(bad):
        evaluate(metric, case, use, jax.jit, **options)
    with refuses(bad):
        evaluate(metric, batch, use, jax.vmap, **options)


@pytest.mark.parametrize(("metric", "bad"), list(bad_inputs("value")))
def test_bad_value_gives_nan_in_a_trace(metric, bad):
    case, _, options = spoil(metric, bad)
    use = optional(metric)  # one program for all of them
    assert np.isnan(evaluate(metric, case, use, jax.jit, **options))
    good = cast(make_case(), np.float32)
    batch = {name: np.stack([good[name], case[name], good[name]]) for name in case}
    values = evaluate(metric, batch, use, jit_vmap, **options)
    np.testing.assert_array_equal(np.isnan(values), [False, True, False])


@each_labelled
def test_message_says_what_was_got(metric):
    case = make_case() | {"labels": np.full(N, 4711)}
    with pytest.raises(ValueError, match="4711"):
        evaluate(metric, case)
    with pytest.raises(ValueError, match=rf"\b{N}, 1\b"):
        evaluate(metric, case | {"labels": np.zeros((N, 1), int)})
