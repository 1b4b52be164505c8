"""What every registered metric computes; a new one gets all of it from its registry entry.

The contract goes on in the other files of this name. All of them call a metric on arrays of a few
shapes, with no optional array or with all of them: compiling takes the time, not computing.
"""

import contextlib
import inspect
import re
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import leepjax.metrics
from leepjax.metrics import METRICS
from leepjax.metrics._kernel import PARAMETERS, as_kernel

from .oracles import ORACLES, WITHOUT_ORACLE
from .support import (
    ACCURACIES,
    FLOATS,
    NO_GRADIENT,
    REPRESENTATIVES,
    TALL,
    WIDE,
    C,
    D,
    N,
    S,
    assert_agrees,
    assert_metric_agrees,
    cast,
    class_options,
    close,
    counted,
    each,
    each_labelled,
    each_with_oracle,
    evaluate,
    hard_cases,
    make_case,
    named,
    optional,
    oracle_of,
    over,
    parameters,
    skip_unless_compiled,
    taking,
)

# ------------------------------------------------------------------------------ registry


def test_every_metric_has_an_oracle():
    assert set(METRICS) <= set(ORACLES) | WITHOUT_ORACLE


def test_metrics_without_gradient():
    assert {m.name for m in METRICS.values() if not m.differentiable} == NO_GRADIENT & set(METRICS)


@each
def test_registry_entry(metric):
    assert METRICS[metric.name] is metric
    assert getattr(leepjax.metrics, metric.name) is metric.fn
    given = {*PARAMETERS, *parameters(metric)}  # its own options, beside what every kernel may have
    assert set(as_kernel(metric.kernel).parameters) <= given
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


# ------------------------------------------------------------------------------ values


@each
def test_equals_the_oracle_in_float64(metric, x64):
    for case in (make_case(), counted(make_case())):
        value = evaluate(metric, case, optional(metric))
        assert value.shape == ()
        assert value.dtype == jnp.float64
        if metric.name in WITHOUT_ORACLE:
            assert jnp.isfinite(value)
        else:
            close(value, oracle_of(metric, case, optional(metric)))


@each_with_oracle
def test_more_dimensions_than_samples_and_more_classes_than_present(metric, x64):
    more = class_options(metric, num_classes=2 * C + 3, num_source_classes=S + 5)
    for case in (make_case(**WIDE), counted(make_case(**WIDE))):
        gaps = case | {"labels": 2 * case["labels"] + 1}
        expected = oracle_of(metric, case, optional(metric))
        close(evaluate(metric, case, optional(metric), **more), expected)
        close(evaluate(metric, gaps, optional(metric), **more), expected)


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


OPTIONS = [  # and in which of the two shapes they are quick
    ("lfc", {"centering": "double"}, TALL),
    ("gbc", {"num_components": None}, TALL),
    ("gbc", {"num_components": 3}, WIDE),
    ("gbc", {"covariance": "spherical"}, TALL),
    ("transrate", {"class_weights": "proportional"}, TALL),
    ("parc", {"num_components": 32}, WIDE),
    ("parc", {"num_components": 3}, TALL),
    ("knn", {"k": 3}, TALL),
]


@pytest.mark.parametrize(
    ("metric", "options", "shape"),
    [
        pytest.param(
            METRICS[name],
            options,
            shape,
            id=f"{name}-{'-'.join(map(str, options.values()))}-{shape['n']}",
            marks=[pytest.mark.slow] * (shape is not quick),
        )
        for name, options, quick in OPTIONS
        for shape in (TALL, WIDE)
    ],
)
def test_options_equal_the_oracle_in_float64(metric, options, shape, x64):
    case = make_case(**shape)
    close(evaluate(metric, case, **options), oracle_of(metric, case, **options))


@pytest.mark.parametrize("build", hard_cases().values(), ids=hard_cases())
@over(taking("features"))
def test_float32_agrees_where_it_has_a_hard_time(metric, build):
    case = cast(build(), np.float32)
    for each_case in (case, counted(case)):
        value = evaluate(metric, each_case, optional(metric))
        assert value.dtype == jnp.float32
        assert_metric_agrees(metric, value, each_case, optional(metric))


# Quick are those that do something else where there are fewer samples than dimensions.
@over(taking("features"), ("transrate", "linear_probe", "logme"))
@pytest.mark.parametrize("offset", [0, 100])
def test_float32_agrees_with_many_more_dimensions_than_samples(metric, offset):
    case = make_case(n=40, d=100)
    case["features"] += offset
    case = cast(case, np.float32)
    value = evaluate(metric, case, optional(metric))
    assert_metric_agrees(metric, value, case, optional(metric))


@each
def test_float32_agrees_with_the_float64_oracle(metric):
    case = cast(make_case(), np.float32)
    for use in ((), optional(metric)):
        value = evaluate(metric, case, use)
        assert value.dtype == jnp.float32
        assert_metric_agrees(metric, value, case, use)


@over(METRICS.values(), (*REPRESENTATIVES, "leep_calibrated"))
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_is_read_and_float32_computed(metric, dtype):
    skip_unless_compiled(dtype)
    case = cast(make_case(n=200, d=16), dtype)
    value = evaluate(metric, case)
    assert value.dtype == jnp.float32
    # Rounded arrays are data like any other; only, rounded probabilities do not sum to one.
    probs = case["probs"].astype(np.float64)
    read = case | {"probs": probs / probs.sum(1, keepdims=True)}
    assert_metric_agrees(metric, value, read, tolerance=2e-5)


@over(named(*REPRESENTATIVES))  # kernels get int32, whatever came
def test_labels_of_any_integer_dtype(metric):
    case = cast(make_case(), np.float32)
    # 258 does not fit into a byte, and wraps to 2.
    options = class_options(metric, num_classes=258, num_source_classes=258)
    for asarray, dtype in product((np.asarray, jnp.asarray), ("uint8", "int8")):
        narrow = case | {name: asarray(case[name], dtype) for name in ("labels", "source_labels")}
        value = evaluate(metric, narrow, **options)
        np.testing.assert_allclose(value, evaluate(metric, case), rtol=1e-5, atol=1e-5)


def check_one_class(metric, n):
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


@over(m for m in taking("labels") if m.name not in WITHOUT_ORACLE)
def test_one_class(metric):
    check_one_class(metric, N)


@over((m for m in taking("labels") if m.name not in WITHOUT_ORACLE), REPRESENTATIVES)
def test_one_sample(metric):
    check_one_class(metric, 1)


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
    case = cast(counted(case) | changed, np.float32)
    use = optional(metric) if "where" in changed else ()
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


@over(taking("features"), ("knn", "parc", "gbc", "nleep", "lda_score"))  # whose options are sizes
@pytest.mark.parametrize(
    ("n", "d"),
    [
        (5, 1),
        pytest.param(5, 3, marks=pytest.mark.slow),
        pytest.param(7, 1, marks=pytest.mark.slow),
    ],
)
def test_inputs_smaller_than_any_fixed_size(metric, n, d):
    case = cast(make_case(n=n, d=d, c=2), np.float32)
    assert_metric_agrees(metric, evaluate(metric, case), case)


@over([*taking("probs"), *taking("logits")])
def test_source_class_without_mass(metric, x64):
    case = make_case()
    case["logits"][:, 2] = -1e6
    case["probs"] = np.array(jax.nn.softmax(case["logits"]))
    assert (case["probs"][:, 2] == 0).all()
    use = optional(metric)
    close(evaluate(metric, case, use), oracle_of(metric, case, use))


@each_with_oracle
def test_class_without_samples(metric, x64):
    case = make_case()
    case["labels"][case["labels"] == 1] = 3
    for each_case in (case, counted(case)):
        use = optional(metric)
        close(evaluate(metric, each_case, use), oracle_of(metric, each_case, use))


@each_labelled
def test_message_says_what_was_got(metric):
    case = make_case() | {"labels": np.full(N, 4711)}
    with pytest.raises(ValueError, match="4711"):
        evaluate(metric, case)
    with pytest.raises(ValueError, match=rf"\b{N}, 1\b"):
        evaluate(metric, case | {"labels": np.zeros((N, 1), int)})
