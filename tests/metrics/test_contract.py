"""What every registered metric keeps to; a new one gets all of it from its registry entry."""

import inspect
import logging
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

from .oracles import ORACLES
from .support import (
    C,
    D,
    N,
    S,
    assert_agrees,
    cast,
    class_options,
    conditioned_features,
    each,
    each_differentiable,
    each_weighted,
    eager,
    evaluate,
    jit_vmap,
    make_case,
    optional,
    oracle_of,
    over,
    parameters,
    select,
)

# Means over the data: repeating every sample changes nothing.
PER_SAMPLE = ("leep", "leep_gain", "nce", "neg_label_entropy", "h_score")
# Features have no unit.
UNIT_FREE = ("h_score", "knn")


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
    assert set(METRICS) == set(ORACLES)


@each
def test_registry_entry(metric):
    assert METRICS[metric.name] is metric
    assert getattr(leepjax.metrics, metric.name) is metric.fn
    assert isinstance(metric.inputs, tuple)
    assert set(metric.inputs) <= {"probs", "source_labels", "features"}


@each
def test_signature(metric):
    given = parameters(metric)
    positional = [p.name for p in given.values() if p.kind is not p.KEYWORD_ONLY]
    assert tuple(positional) == (*metric.inputs, "labels")
    assert given["num_classes"].default is inspect.Parameter.empty
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
    close(value, oracle_of(metric, case, use))


def accuracy_cases():
    """Every metric once; those continuous in features also where float32 has a hard time."""
    for metric in METRICS.values():
        if "features" in metric.inputs and metric.differentiable:
            for condition in (1e1, 1e4):
                for offset in (0.0, 100.0):
                    name = f"{metric.name}-{condition:g}-{offset:g}"
                    yield pytest.param(metric, condition, offset, id=name)
        else:
            yield pytest.param(metric, None, 0.0, id=metric.name)


@pytest.mark.parametrize(("metric", "condition", "offset"), list(accuracy_cases()))
def test_float32_agrees_with_the_float64_oracle(metric, condition, offset):
    case = make_case(n=500, d=48)
    if condition is not None:
        case["features"] = conditioned_features(case["labels"], 48, condition, offset)
    case = cast(case, np.float32)
    for use in ((), optional(metric)):
        value = evaluate(metric, case, use)
        assert value.dtype == jnp.float32
        assert_agrees(value, oracle_of(metric, case, use))


@each
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_is_read_and_float32_computed(metric, dtype):
    case = cast(make_case(n=200, d=16), dtype)
    value = evaluate(metric, case)
    assert value.dtype == jnp.float32
    # Rounded features are data like any other. Rounded probabilities do not sum to one.
    assert_agrees(value, oracle_of(metric, case), 1e-2 if "probs" in metric.inputs else 1e-4)


@each
@pytest.mark.parametrize("dtype", ["uint8", "int8"])
def test_labels_of_any_integer_dtype(metric, dtype):
    case = cast(make_case(), np.float32)
    narrow = case | {name: case[name].astype(dtype) for name in ("labels", "source_labels")}
    # 300 does not fit into a byte, and wraps to 44.
    options = class_options(metric, num_classes=300, num_source_classes=300)
    assert_agrees(evaluate(metric, narrow, **options), oracle_of(metric, case), 1e-5)


@each
@pytest.mark.parametrize("n", [1, N])
def test_one_class(metric, n):
    case = cast(make_case(n=n), np.float32)
    case["labels"] = np.full(n, 2)
    assert_agrees(evaluate(metric, case), oracle_of(metric, case), 1e-6)


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


@each
def test_order_of_samples_does_not_matter(metric, x64):
    case = make_case()
    shuffled = select(case, np.random.default_rng(1).permutation(N))
    for use in ((), optional(metric)):
        close(evaluate(metric, shuffled, use), evaluate(metric, case, use))


@each
def test_names_of_classes_do_not_matter(metric, x64):
    case = make_case()
    renamed = case | {"labels": np.array([2, 0, 3, 1])[case["labels"]]}
    close(evaluate(metric, renamed), evaluate(metric, case))


@each
def test_absent_classes_change_nothing(metric, x64):
    case = make_case()
    options = class_options(metric, num_classes=2 * C + 3, num_source_classes=S + 5)
    value = evaluate(metric, case)
    close(evaluate(metric, case, **options), value)
    close(evaluate(metric, case | {"labels": 2 * case["labels"] + 1}, **options), value)


@over(METRICS[name] for name in PER_SAMPLE)
def test_repeating_the_data_changes_nothing(metric, x64):
    case = make_case(n=9, d=12)
    thrice = select(case, np.repeat(np.arange(9), 3))
    close(evaluate(metric, thrice), evaluate(metric, case))


@over(METRICS[name] for name in UNIT_FREE)
@pytest.mark.parametrize("unit", [1e-20, 1e20])
def test_unit_of_the_features_does_not_matter(metric, unit):
    case = cast(make_case(), np.float32)
    scaled = case | {"features": case["features"] * np.float32(unit)}
    assert_agrees(evaluate(metric, scaled), oracle_of(metric, case))


@each_weighted
@pytest.mark.parametrize(("n", "d"), [(N, D), (9, 12)])
def test_integer_weight_is_repetition(metric, n, d, x64):
    case = make_case(n=n, d=d)
    case["weights"][case["labels"] == 1] = 0  # a class that only weightless samples have
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


class Compilations(logging.Handler):
    """Names of the programs that JAX compiles while this handler listens."""

    def __init__(self):
        super().__init__()
        self.names = []

    def emit(self, record):
        if record.getMessage().startswith("Compiling "):
            self.names.append(record.getMessage().split(" with ")[0])

    def __enter__(self):
        self._log = jax.log_compiles()
        self._log.__enter__()
        logging.getLogger("jax").addHandler(self)
        return self.names

    def __exit__(self, *exception):
        logging.getLogger("jax").removeHandler(self)
        self._log.__exit__(*exception)


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
    return [name for name in metric.inputs if name in ("probs", "features")] + weights


@each_differentiable
def test_gradient_equals_finite_differences(metric, x64):
    case = make_case() | {"weights": np.random.default_rng(1).uniform(0.5, 2, N)}
    use = optional(metric)
    for name in differentiable_arguments(metric):
        start = case["logits"] if name == "probs" else case[name]
        to_argument = jax.nn.softmax if name == "probs" else lambda x: x
        direction = np.random.default_rng(2).normal(size=start.shape)

        def along(t, name=name, start=start, to_argument=to_argument, direction=direction):
            moved = {name: to_argument(start + t * direction)}
            return evaluate(metric, case | moved, use)

        step = 1e-5
        numeric = (along(step) - along(-step)) / (2 * step)
        assert abs(numeric) > 1e-4
        np.testing.assert_allclose(jax.grad(along)(0.0), numeric, rtol=1e-6, atol=1e-9)


@each_differentiable
@pytest.mark.parametrize("garbage", [False, True], ids=["zeros", "garbage"])
def test_masked_rows_have_no_gradient(metric, garbage, x64):
    case = make_case()
    rows = case["where"]
    case = fill(case, ~rows, garbage)
    kept = select(case, rows)
    for name in metric.inputs:

        def at(array, case, use, name=name):
            return evaluate(metric, case | {name: array}, use)

        gradient = jax.grad(at)(jnp.asarray(case[name]), case, ["where"])
        assert (gradient[~rows] == 0).all()
        close(gradient[rows], jax.grad(at)(jnp.asarray(kept[name]), kept, []))


@each_differentiable
def test_gradient_is_finite_on_extreme_inputs(metric):
    case = cast(make_case(n=9, d=12), np.float32)
    case["probs"] = np.eye(S, dtype=np.float32)[case["source_labels"]]  # classes without mass
    case["features"][:, 0] = 0
    case["weights"][:2] = 0
    for use in ((), optional(metric)):
        for name in metric.inputs:
            gradient = jax.grad(
                lambda array, use=use, name=name: evaluate(metric, case | {name: array}, use)
            )(jnp.asarray(case[name]))
            assert jnp.isfinite(gradient).all()


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
        Bad(f"{name}-past-int32", name, put(name, 2**32), "host"),
        Bad(f"{name}-float", name, map_array(name, lambda a: a.astype(np.float32)), "static"),
        Bad(f"{name}-column", name, map_array(name, lambda a: a[:, None]), "static"),
        Bad(f"{name}-scalar", name, map_array(name, lambda a: a[0]), "static"),
        Bad(f"{name}-short", name, map_array(name, lambda a: a[:-1]), "static"),
    ]


def bad_matrix(name):
    return [
        Bad(f"{name}-nan", name, put(name, np.nan)),
        Bad(f"{name}-inf", name, put(name, np.inf)),
        Bad(f"{name}-vector", name, map_array(name, lambda a: a[:, 0]), "static"),
        Bad(f"{name}-rank-3", name, map_array(name, lambda a: a[..., None]), "static"),
        Bad(f"{name}-no-columns", name, map_array(name, lambda a: a[:, :0]), "static"),
        Bad(f"{name}-short", name, map_array(name, lambda a: a[:-1]), "static"),
    ]


BAD = [
    *bad_labels("labels", C),
    *bad_labels("source_labels", S),
    *bad_matrix("probs"),
    *bad_matrix("features"),
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
        "labels|probs|source_labels|features",
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
            needed = bad.change(make_case()) if bad.id != "empty" else {"labels"}
            # Labels alone have no other length to differ from.
            lone = bad.id == "labels-short" and not metric.inputs
            if bad.when in when and set(needed) <= set(taken) and not lone:
                yield pytest.param(metric, bad, id=f"{metric.name}-{bad.id}")


def spoil(metric, bad):
    """The case made bad, the optional arrays that it needs, and options."""
    case = cast(make_case(), np.float32)
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
    case, use, options = spoil(metric, bad)
    assert np.isnan(evaluate(metric, case, use, jax.jit, **options))
    good = cast(make_case(), np.float32)
    batch = {name: np.stack([good[name], case[name], good[name]]) for name in case}
    values = evaluate(metric, batch, use, jit_vmap, **options)
    np.testing.assert_array_equal(np.isnan(values), [False, True, False])


@each
def test_message_says_what_was_got(metric):
    case = make_case() | {"labels": np.full(N, 4711)}
    with pytest.raises(ValueError, match="4711"):
        evaluate(metric, case)
    with pytest.raises(ValueError, match=rf"\b{N}, 1\b"):
        evaluate(metric, case | {"labels": np.zeros((N, 1), int)})
