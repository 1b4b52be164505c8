"""The one road from a user's arrays to a metric's kernel.

Data flow: shapes and dtypes are checked (always, also while tracing) -> inside one ``jit`` the
values are tested, masked samples are blanked, ``where`` and ``weights`` become one weight vector,
and the kernel runs -> a result whose inputs broke a rule is NaN -> with concrete inputs the broken
rule is raised as a ``ValueError``. A kernel therefore only ever sees clean arrays, and holds
nothing but the formula.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

ROW_SUM_TOLERANCE = {2: 2e-2, 4: 1e-4, 8: 1e-6}  # by bytes of the dtype: half, single, double


class _Rule(NamedTuple):
    argument: str
    wanted: str
    broken: jax.Array  # [n] or scalar


def evaluate(
    kernel: Callable[..., Any],
    *,
    labels: Any,
    num_classes: int,
    where: Any = None,
    weights: Any = None,
    probs: Any = None,
    features: Any = None,
    source_labels: Any = None,
    num_source_classes: int | None = None,
    **static: Any,
) -> Any:
    """Check the inputs and return ``kernel(array, labels, weights, num_classes=..., **static)``.

    ``array`` is whichever of ``probs``, ``features``, ``source_labels`` was given, if any. The
    kernel gets labels in range, floats of at least single precision, and weights ``[n]`` that are
    zero where masked and have a positive sum.
    """
    named = {
        "labels": labels,
        "probs": probs,
        "features": features,
        "source_labels": source_labels,
        "weights": weights,
        "where": where,
    }
    arrays = {k: _as_array(k, v) for k, v in named.items() if v is not None}
    if labels is None:
        raise ValueError("labels: wanted an array of integers, got None")
    static["num_classes"] = check_count("num_classes", num_classes)
    if source_labels is not None:
        static["num_source_classes"] = check_count("num_source_classes", num_source_classes)
    _check_shapes(arrays)
    options = tuple(sorted(static.items()))
    value, broken = _run(kernel, arrays, options)
    if not isinstance(broken, Tracer) and np.asarray(broken).any():
        _raise(arrays, dict(options))
    return value


@partial(jax.jit, static_argnames=("kernel", "options"))
def _run(kernel, arrays, options):
    static = dict(options)
    broken = jnp.stack([rule.broken.any() for rule in _rules(arrays, static)])
    included = _included(arrays)
    dtype = jnp.result_type(float)  # float32, or float64 under enable_x64
    weights = included.astype(dtype)
    if "weights" in arrays:
        weights = jnp.where(included, arrays["weights"].astype(dtype), 0)
    labels = jnp.where(included, arrays["labels"], 0).astype(jnp.int32)
    inputs = []
    if "source_labels" in arrays:
        inputs.append(jnp.where(included, arrays["source_labels"], 0).astype(jnp.int32))
    for name in ("probs", "features"):
        if name in arrays:
            x = arrays[name]
            x = x.astype(jnp.promote_types(x.dtype, dtype))
            inputs.append(jnp.where(included[:, None], x, 0))
    value = kernel(*inputs, labels, weights, **static)
    return jax.tree.map(lambda v: jnp.where(broken.any(), jnp.nan, v), value), broken


def _included(arrays):
    return arrays.get("where", jnp.ones(arrays["labels"].shape, bool))


def _rules(arrays, static) -> list[_Rule]:
    """What values must satisfy, sample by sample; masked samples satisfy everything."""
    included = _included(arrays)

    def integers(name, bound):
        x = arrays[name]
        return _Rule(name, f"integers in [0, {bound})", included & ((x < 0) | (x >= bound)))

    rules = [
        _Rule("where", "at least one sample that is True", ~included.any()),
        integers("labels", static["num_classes"]),
    ]
    if "source_labels" in arrays:
        rules.append(integers("source_labels", static["num_source_classes"]))
    for name in ("probs", "features"):
        if name in arrays:
            finite = jnp.isfinite(arrays[name]).all(1)
            rules.append(_Rule(name, "finite numbers", included & ~finite))
    if "probs" in arrays:
        x = arrays["probs"]
        total = x.astype(jnp.promote_types(x.dtype, jnp.float32)).sum(1)
        off = jnp.abs(total - 1) > ROW_SUM_TOLERANCE[x.dtype.itemsize]
        wanted = "probabilities: rows >= 0 that sum to 1 (of logits, pass jax.nn.softmax(logits))"
        rules.append(_Rule("probs", wanted, included & ((x < 0).any(1) | off)))
    if "weights" in arrays:
        w = arrays["weights"]
        rules.append(
            _Rule("weights", "finite numbers >= 0", included & ~((w >= 0) & (w < jnp.inf)))
        )
        rules.append(_Rule("weights", "a positive sum", ~jnp.any(included & (w > 0))))
    return rules


def _raise(arrays, static):
    for rule in _rules(arrays, static):
        broken = np.atleast_1d(np.asarray(rule.broken))
        if broken.any():
            if broken.size == 1 and arrays["labels"].shape[0] != 1:
                got = "none"
            else:
                row = int(broken.argmax())
                shown = np.array2string(np.asarray(arrays[rule.argument][row]), threshold=6)
                got = f"{shown} at sample {row} ({int(broken.sum())} such samples)"
            raise ValueError(f"{rule.argument}: wanted {rule.wanted}; got {got}")


def _as_array(name: str, x: Any) -> jax.Array:
    try:
        if name in ("labels", "source_labels") and not isinstance(x, jax.Array):
            x = np.asarray(x)
            if x.dtype.kind not in "iub":
                raise ValueError(f"{name}: wanted integers, got dtype {x.dtype}")
            if x.dtype.kind in "iu":  # what int32 cannot hold must not wrap into range
                x = np.clip(x, -1, np.iinfo(np.int32).max).astype(np.int32)
        x = jnp.asarray(x)
    except (TypeError, OverflowError) as error:
        raise ValueError(f"{name}: wanted an array, got {type(x).__name__} ({error})") from None
    kinds = {
        "labels": (jnp.integer, "integers"),
        "source_labels": (jnp.integer, "integers"),
        "where": (jnp.bool_, "booleans"),
        "probs": (jnp.floating, "floating-point numbers"),
        "features": (jnp.floating, "floating-point numbers"),
    }
    if name in kinds and not jnp.issubdtype(x.dtype, kinds[name][0]):
        raise ValueError(f"{name}: wanted {kinds[name][1]}, got dtype {x.dtype}")
    return x.astype(jnp.result_type(float)) if name == "weights" else x


def check_count(name: str, value: Any) -> int:
    """A static count >= 1 (``num_classes``, ``k``, ...)."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise ValueError(f"{name}: wanted a Python int >= 1, got {value!r}")
    return int(value)


def _check_shapes(arrays: dict[str, jax.Array]) -> None:
    labels = arrays["labels"]
    if labels.ndim != 1 or labels.shape[0] == 0:
        raise ValueError(f"labels: wanted shape [n] with n >= 1, got {list(labels.shape)}")
    n = labels.shape[0]
    for name, x in arrays.items():
        if name in ("probs", "features"):
            if x.ndim != 2 or x.shape[1] == 0:
                raise ValueError(f"{name}: wanted shape [n, columns], got {list(x.shape)}")
            if x.shape[0] != n:
                raise ValueError(
                    f"{name}: wanted one row for each of the {n} labels, got {x.shape[0]}"
                )
        elif x.shape != (n,):
            raise ValueError(f"{name}: wanted shape [{n}] like labels, got {list(x.shape)}")
