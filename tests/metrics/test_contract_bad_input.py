"""What a registered metric refuses, and what its message says."""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import numpy as np
import pytest

from leepjax.metrics import METRICS, cross_fitted_leep, leep, neg_label_entropy

from .support import (
    REPRESENTATIVES,
    C,
    S,
    cast,
    counted,
    each,
    evaluate,
    jit_vmap,
    make_case,
    optional,
    parameters,
    stack,
)


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
    Bad("weights-complex", "weights", map_array("weights", lambda a: a * (1 + 1j)), "static"),
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
    Bad("num_classes-past-int32", "num_classes", lambda case: {"num_classes": 2**31}, "static"),
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


def spoil(metric, bad, case):
    """The case made bad, the optional arrays if it needs any of them, and options."""
    if bad.id != "weights-zero-where-true":
        case = counted(case)
    change = bad.change(case)
    options = {k: v for k, v in change.items() if not isinstance(v, np.ndarray | np.generic)}
    arrays = {k: v for k, v in change.items() if k not in options}
    use = optional(metric) if set(optional(metric)) & set(arrays) else ()
    return case | arrays, use, options


def refuses(bad):
    """Expect a ValueError that names the argument and says what was got."""
    return pytest.raises(ValueError, match=rf"(?is)(?=.*\b({bad.blame})\b)(?=.*\bgot\b)")


@pytest.mark.parametrize(("metric", "bad"), list(bad_inputs("value", "static", "host")))
def test_bad_input_is_refused(metric, bad):
    case, use, options = spoil(metric, bad, cast(make_case(), np.float32))
    with refuses(bad):
        evaluate(metric, case, use, **options)


@each
def test_an_array_that_is_left_out_is_named(metric):
    case = make_case()
    for name in metric.inputs:
        with pytest.raises(ValueError, match=f"^{name}: wanted an array, got None$"):
            evaluate(metric, case | {name: None})


@pytest.mark.parametrize(
    ("metric", "bad"),
    # The check comes before the kernel, and is one for all.
    [case for case in bad_inputs("static") if case.values[0].name in REPRESENTATIVES],
)
def test_bad_shape_or_dtype_is_refused_while_tracing(metric, bad):
    case, use, options = spoil(metric, bad, make_case())
    batch = {name: np.stack([array, array]) for name, array in case.items()}
    with refuses(bad):
        evaluate(metric, case, use, jax.jit, **options)
    with refuses(bad):
        evaluate(metric, batch, use, jax.vmap, **options)


@pytest.mark.parametrize(("metric", "bad"), list(bad_inputs("value")))
def test_bad_value_gives_nan_in_a_trace(metric, bad, x64):
    good = make_case()
    case, _, options = spoil(metric, bad, good)
    use = optional(metric)
    values = evaluate(metric, stack([good, case, good]), use, jit_vmap, **options)
    np.testing.assert_array_equal(np.isnan(values), [False, True, False])
    if metric.name in REPRESENTATIVES:
        assert np.isnan(evaluate(metric, case, use, jax.jit, **options))


def test_weights_whose_sum_leaves_the_range():
    weights = np.full(6, 3e38, np.float32)
    with pytest.raises(ValueError, match="weights: wanted a finite sum"):
        neg_label_entropy(np.arange(6) % 2, num_classes=2, weights=weights)


def test_bad_values_are_named_where_a_gradient_is_taken():
    bad = np.full((4, 2), 0.7, np.float32)
    with pytest.raises(ValueError, match="probs: wanted probabilities"):
        jax.grad(lambda probs: leep(probs, np.arange(4) % 2, num_classes=2))(bad)


def test_an_option_that_leaves_the_range_blames_no_array():
    probs = np.full((4, 2), 0.5, np.float32)
    with pytest.raises(ValueError, match="nan in float32; take a less extreme option"):
        cross_fitted_leep(probs, np.arange(4) % 2, num_classes=2, smoothing=1e39)
