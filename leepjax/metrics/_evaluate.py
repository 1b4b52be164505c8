"""The one road from a user's arrays to the kernels of metrics.

Data flow: shapes and dtypes are checked (always, also while tracing) -> inside one ``jit`` the
values are tested, masked samples are blanked, ``where`` and ``weights`` become one weight vector,
and the kernels run -> a result whose inputs broke a rule is NaN -> with concrete inputs the broken
rule is raised as a ``ValueError``.

A kernel holds nothing but the formula: its parameters name what it needs, clean arrays (``probs``,
``features``, ``labels``, ``weights``, ...) or what all kernels share and is computed once
(``moments``, ``spectrum``); its keyword options are static.
"""

import inspect
from collections.abc import Callable, Container, Hashable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from leepjax.metrics._moments import Moments, blank, measure, spectrum_of
from leepjax.metrics._sums import by_layout, spread

ROW_SUM_TOLERANCE = {2: 2e-2, 4: 1e-4, 8: 1e-6}  # by bytes of the dtype: half, single, double
MOST_CELLS = 2**27  # of a table of class pairs: 512 MiB of floats
SOME = 15  # samples that say about where the features are
MATRICES = ("probs", "logits", "features")
INTEGERS = ("labels", "source_labels")


class _Rule(NamedTuple):
    argument: str
    wanted: str
    broken: jax.Array  # [n] or scalar


def undefined(message: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Mark a kernel that returns NaN where its formula has no limit; ``message`` is then raised."""

    def mark(kernel):
        kernel.undefined = message
        return kernel

    return mark


def refuse_undefined(kernel: Callable[..., Any], value: Any, name: str = "") -> None:
    """Raise what an :func:`undefined` kernel means by NaN."""
    message = getattr(kernel, "undefined", None)
    if message and not isinstance(value, Tracer) and np.isnan(value):
        raise ValueError(f"{name}: {message}".removeprefix(": "))


def adds(kernel: Any) -> Any:
    """Mark a kernel that is a sum: of no samples at all, or of no weight, it is zero."""
    kernel.adds = True
    return kernel


def evaluate(
    kernel: Callable[..., Any],
    *,
    labels: Any = None,
    num_classes: int | None = None,
    where: Any = None,
    weights: Any = None,
    probs: Any = None,
    logits: Any = None,
    features: Any = None,
    source_labels: Any = None,
    num_source_classes: int | None = None,
    targets: Any = None,
    given: dict[str, Any] | None = None,
    **options: Hashable,
) -> Any:
    """Check the inputs and return what the kernel says of them.

    ``given`` are pytrees that the kernel gets as they are, such as a key; ``options`` are static.
    """
    counts = {"num_classes": num_classes, "num_source_classes": num_source_classes}
    arrays = {
        "labels": labels,
        "probs": probs,
        "logits": logits,
        "features": features,
        "source_labels": source_labels,
        "targets": targets,
        "weights": weights,
        "where": where,
    }
    return evaluate_all({"": (kernel, options)}, arrays, counts, given or {})[""]


def evaluate_all(
    kernels: dict[str, tuple[Callable[..., Any], dict[str, Hashable]]],
    arrays: dict[str, Any],
    counts: dict[str, Any],
    given: dict[str, Any],
) -> dict[str, Any]:
    """Values of several kernels, ``{name: (kernel, options)}``, of the same arrays.

    A kernel gets labels in range, floats of at least single precision, and weights ``[n]`` that are
    zero where masked and have a positive sum.
    """
    parameters = {p for kernel, _ in kernels.values() for p in _parameters(kernel)}
    arrays = {k: v for k, v in arrays.items() if v is not None}
    for name in ("labels", *MATRICES, "source_labels", "targets"):
        if name in parameters and name not in arrays.keys() | derived(arrays):
            raise ValueError(f"{name}: wanted an array, got None")
    arrays = {k: _as_array(k, v) for k, v in arrays.items()}
    for name, array in (("num_classes", "labels"), ("num_source_classes", "source_labels")):
        if array in arrays:
            counts = counts | {name: check_count(name, counts[name])}
    _check_cells(arrays, counts)
    _check_shapes(arrays)
    static = tuple(
        (name, kernel, tuple(sorted(options.items())))
        for name, (kernel, options) in kernels.items()
    )
    arrays, layout = by_layout(arrays)
    values, broken = _run(static, arrays, given, tuple(sorted(counts.items())), layout)
    if not isinstance(broken, Tracer):
        if np.asarray(broken).any():
            _raise(_rules(arrays, counts, _may_be_empty(static)), arrays)
        for name, (kernel, _) in kernels.items():
            refuse_undefined(kernel, values[name], name)
    return values


@partial(jax.jit, static_argnames=("kernels", "counts", "layout"))
def _run(kernels, arrays, given, counts, layout):
    with spread(layout):
        broken = jnp.stack(
            [rule.broken.any() for rule in _rules(arrays, dict(counts), _may_be_empty(kernels))]
        )
        shared = Shared(_clean(arrays), dict(counts), given)
        values = {name: shared.call(kernel, dict(options)) for name, kernel, options in kernels}
    return jax.tree.map(lambda v: jnp.where(broken.any(), jnp.nan, v), values), broken


def _may_be_empty(kernels):
    return all(hasattr(kernel, "adds") for _, kernel, _ in kernels)


def derived(given: Container[str]) -> set[str]:
    """Names of the arrays that can be had from those given."""
    names = {"probs", "source_labels"} if "logits" in given else set()
    return names | ({"source_labels"} if "probs" in given else set())


class Shared:
    """What kernels ask for by name; what is derived is computed once, when first asked for."""

    def __init__(self, arrays: dict[str, jax.Array], counts: dict[str, Any], given: dict[str, Any]):
        self.known: dict[str, Any] = {**counts, **given, **arrays}
        # Moments blank them by blocks of rows: no second array of the features' size.
        self.raw_features = self.known.pop("features", None), self.known.pop("where", None)
        self.outputs: Any = arrays.get("probs", arrays.get("logits"))

    def call(self, kernel: Callable[..., Any], options: dict[str, Any]) -> Any:
        needed = _parameters(kernel) - options.keys()
        return kernel(**{name: self.get(name) for name in needed}, **options)

    def get(self, name: str) -> Any:
        if self.known.get(name) is None:
            make = {
                "probs": lambda: jax.nn.softmax(self.get("logits"), axis=1),
                "source_labels": self._argmax,
                "features": lambda: blank(*self.raw_features),
                "moments": self._measure,
                "spectrum": lambda: spectrum_of(self.get("moments")),
            }
            self.known[name] = make[name]()
        return self.known[name]

    def _argmax(self) -> jax.Array:
        return jnp.argmax(self.outputs, 1).astype(jnp.int32)

    def _measure(self) -> Moments:
        known, (features, where) = self.known, self.raw_features
        labels, targets = known.get("labels"), known.get("targets")
        if labels is None:
            labels = jnp.zeros(known["weights"].shape, jnp.int32)
        return measure(
            features,
            labels,
            known["weights"],
            where=where,
            some=known["some"],
            num_classes=known["num_classes"] or 1,
            targets=None if targets is None else targets.reshape(len(labels), -1),
        )


def _parameters(kernel: Callable[..., Any]) -> set[str]:
    return set(inspect.signature(kernel).parameters)


def _included(arrays):
    first = arrays.get("labels", next(iter(arrays.values())))
    return arrays.get("where", jnp.ones(first.shape[:1], bool))


def _clean(arrays: dict[str, jax.Array]) -> dict[str, Any]:
    included, dtype = _included(arrays), jnp.result_type(float)  # float32; float64 under x64
    clean: dict[str, Any] = {"weights": included.astype(dtype)}
    for name, x in arrays.items():
        if name not in ("features", "where"):  # which are blanked when, and where, they are needed
            x = x.astype(jnp.int32) if name in INTEGERS else x
            if name == "probs" and x.dtype.itemsize < 4:
                x = x.astype(dtype)
                x = x / x.sum(1, keepdims=True)  # half precision sums to 1 in its own way
            x = blank(x, arrays.get("where"))
        clean[name] = x
    # A few of the samples that count, from first to last; computed only where not known before.
    n = included.shape[0]
    clean["some"] = np.arange(SOME) * (n - 1) // (SOME - 1)
    if {"where", "weights"} & arrays.keys():
        position = jnp.cumsum(clean["weights"] > 0)
        rank = jnp.arange(SOME) * (position[-1] - 1) // (SOME - 1)
        clean["some"] = jnp.minimum(jnp.searchsorted(position, rank + 1), n - 1)
    return clean


def _rules(arrays, counts, may_be_empty) -> list[_Rule]:
    """What values must satisfy, sample by sample; masked samples satisfy everything.

    Written as reductions that a CPU does in one pass without intermediate arrays.
    """
    included = _included(arrays)
    rules = []
    if "where" in arrays and not may_be_empty:
        rules.append(_Rule("where", "at least one sample that is True", ~included.any()))
    for name, bound in (("labels", "num_classes"), ("source_labels", "num_source_classes")):
        if name in arrays:
            x, count = arrays[name], counts[bound]
            outside = included & ((x < 0) | (x >= count))
            rules.append(_Rule(name, f"integers in [0, {count})", outside))
    for name in ("probs", "logits", "features", "targets"):
        if name in arrays:
            x = arrays[name].reshape(included.shape[0], -1)
            finite = jnp.isfinite(jnp.abs(x).max(1))  # the largest of a row with a NaN is NaN
            rules.append(_Rule(name, "finite numbers", included & ~finite))
    if "probs" in arrays:
        x = arrays["probs"]
        total = x.astype(jnp.promote_types(x.dtype, jnp.float32)).sum(1)
        off = jnp.abs(total - 1) > ROW_SUM_TOLERANCE[x.dtype.itemsize]
        wanted = "probabilities: rows >= 0 that sum to 1 (of logits, pass jax.nn.softmax(logits))"
        rules.append(_Rule("probs", wanted, included & ((x.min(1) < 0) | off)))
    if "weights" in arrays:
        w = arrays["weights"]
        rules.append(
            _Rule("weights", "finite numbers >= 0", included & ~((w >= 0) & (w < jnp.inf)))
        )
        if not may_be_empty:
            rules.append(_Rule("weights", "a positive sum", ~jnp.any(included & (w > 0))))
    return rules


def _raise(rules, arrays):
    for rule in rules:
        broken = np.atleast_1d(np.asarray(rule.broken))
        if broken.any():
            if broken.size == 1 and len(_included(arrays)) != 1:
                got = "none"
            else:
                row = int(broken.argmax())
                shown = np.array2string(np.asarray(arrays[rule.argument][row]), threshold=6)
                got = f"{shown} at sample {row} ({int(broken.sum())} such samples)"
            raise ValueError(f"{rule.argument}: wanted {rule.wanted}; got {got}")


def _as_array(name: str, x: Any) -> jax.Array:
    try:
        if name in INTEGERS and not isinstance(x, jax.Array):
            x = np.asarray(x)
            if x.dtype.kind not in "iub":
                raise ValueError(f"{name}: wanted integers, got dtype {x.dtype}")
            if x.dtype.kind in "iu":  # what int32 cannot hold must not wrap into range
                x = np.clip(x, -1, np.iinfo(np.int32).max).astype(np.int32)
        x = jnp.asarray(x)
    except (TypeError, OverflowError) as error:
        raise ValueError(f"{name}: wanted an array, got {type(x).__name__} ({error})") from None
    if name in INTEGERS:
        kind, wanted = jnp.integer, "integers"
        if jnp.issubdtype(x.dtype, kind) and x.dtype.itemsize < 4:
            x = x.astype(jnp.int32)  # a count that is compared with them may not fit into a byte
    elif name == "where":
        kind, wanted = jnp.bool_, "booleans"
    elif name == "weights":
        return x.astype(jnp.result_type(float))
    else:
        kind, wanted = jnp.floating, "floating-point numbers"
    if not jnp.issubdtype(x.dtype, kind):
        raise ValueError(f"{name}: wanted {wanted}, got dtype {x.dtype}")
    return x


def check_count(name: str, value: Any) -> int:
    """A static count >= 1 (``num_classes``, ``k``, ...)."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise ValueError(f"{name}: wanted a Python int >= 1, got {value!r}")
    return int(value)


def check_choice(name: str, value: Any, choices: tuple[str, ...]) -> str:
    """One of a few named choices."""
    if value not in choices:
        raise ValueError(f"{name}: wanted one of {list(choices)}, got {value!r}")
    return value


def check_key(key: Any) -> jax.Array:
    """One random key, typed or of raw words."""
    try:
        typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
        key = key if typed else jax.random.wrap_key_data(jnp.asarray(key))
    except (AttributeError, TypeError, ValueError):
        key = None
    if key is None or key.shape != ():
        raise ValueError("key: wanted one JAX random key, as of jax.random.key(0)")
    return key


def _check_cells(arrays, counts):
    """Counts of pairs of classes must fit: an absurd label is a mistake, not a large table."""
    if "source_labels" in arrays and "labels" in arrays:
        s, c = counts["num_source_classes"], counts["num_classes"]
        if s * c > MOST_CELLS:
            wanted = f"at most {MOST_CELLS:,} pairs of source and target classes"
            raise ValueError(f"source_labels: wanted {wanted}, got {s:,} times {c:,}")


def _check_shapes(arrays: dict[str, jax.Array]) -> None:
    first = "labels" if "labels" in arrays else next(iter(arrays))
    x = arrays[first]
    if first == "labels" and x.ndim != 1:
        raise ValueError(f"labels: wanted shape [n] with n >= 1, got {list(x.shape)}")
    if x.ndim == 0 or x.shape[0] == 0:
        raise ValueError(f"{first}: wanted at least one sample, got shape {list(x.shape)}")
    n = x.shape[0]
    for name, x in arrays.items():
        if name in MATRICES or (name == "targets" and x.ndim != 1):
            if x.ndim != 2 or x.shape[1] == 0:
                raise ValueError(f"{name}: wanted shape [n, columns], got {list(x.shape)}")
            if x.shape[0] != n:
                raise ValueError(
                    f"{name}: wanted one row for each of the {n} samples of {first}, "
                    f"got {x.shape[0]}"
                )
        elif x.shape != (n,):
            raise ValueError(f"{name}: wanted shape [{n}] like {first}, got {list(x.shape)}")
