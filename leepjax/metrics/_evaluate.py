"""The one road from a user's arrays to the kernels of metrics.

Data flow: shapes and dtypes are checked (always, also while tracing) -> inside one ``jit`` the
values are tested, masked samples are blanked, ``where`` and ``weights`` become one weight vector,
and the kernels run -> a result whose inputs broke a rule is NaN -> with concrete inputs the broken
rule is raised as a ``ValueError``. What kernels may ask for stands in ``_kernel.PARAMETERS``.
"""

from collections.abc import Callable, Hashable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike

from leepjax.metrics._checks import (
    INTEGERS,
    MATRICES,
    as_array,
    check_cells,
    check_count,
    check_shapes,
    included,
    raise_broken,
    refuse_overflow,
    rules_of,
)
from leepjax.metrics._kernel import Kernel, Shared, as_kernel, derived
from leepjax.metrics._moments import blank
from leepjax.metrics._ride import offer
from leepjax.metrics._sums import by_layout, spread

SOME = 15  # samples that say about where the features are


def evaluate(
    kernel: Kernel | Callable[..., Any],
    *,
    labels: ArrayLike | None = None,
    num_classes: int | None = None,
    where: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    probs: ArrayLike | None = None,
    logits: ArrayLike | None = None,
    features: ArrayLike | None = None,
    source_labels: ArrayLike | None = None,
    num_source_classes: int | None = None,
    targets: ArrayLike | None = None,
    given: Mapping[str, Any] | None = None,
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
    return evaluate_all({"": (as_kernel(kernel), options)}, arrays, counts, given or {})[""]


def evaluate_all(
    kernels: Mapping[str, tuple[Kernel, Mapping[str, Hashable]]],
    arguments: Mapping[str, ArrayLike | None],
    counts: Mapping[str, int | None],
    given: Mapping[str, Any],
) -> dict[str, Any]:
    """Values of several kernels, ``{name: (kernel, options)}``, of the same arrays."""
    there = {k: v for k, v in arguments.items() if v is not None}
    needed = {p for kernel, _ in kernels.values() for p in kernel.parameters}
    if {"moments", "spectrum", "solve", "left_out"} & needed:
        needed.add("features")
    if counts.get("num_classes") is not None:
        needed.add("labels")  # of which moments ask, too, where there are classes
    if any(kernel.targets for kernel, _ in kernels.values()):
        needed.add("targets")
    for name in ("labels", *MATRICES, "source_labels", "targets"):
        if name in needed and name not in there.keys() | derived(there):
            raise ValueError(f"{name}: wanted an array, got None")
    arrays = {k: as_array(k, v) for k, v in there.items()}
    sizes = {name: count for name, count in counts.items() if count is not None}
    for name, array in (("num_classes", "labels"), ("num_source_classes", "source_labels")):
        if array in arrays:
            sizes[name] = check_count(name, counts[name])
    check_cells(arrays, sizes)
    check_shapes(arrays)
    static = tuple(
        (name, kernel, tuple(sorted(options.items())))
        for name, (kernel, options) in kernels.items()
    )
    arrays, layout = by_layout(arrays)
    values, broken = _run(static, arrays, dict(given), tuple(sorted(sizes.items())), layout)
    if not isinstance(broken, Tracer):
        if np.asarray(broken).any():
            there = jax.lax.stop_gradient(arrays)  # values also where a gradient is taken
            raise_broken(rules_of(there, sizes, _may_be_empty(static)), there)
            # Another order of sums found a row on the other side of a tolerance.
            raise ValueError(f"{', '.join(there)}: values at the very limit of what is allowed")
        for name, (kernel, _) in kernels.items():
            kernel.refuse_undefined(values[name], name)
            refuse_overflow(values[name], arrays, name)
    return values


@partial(jax.jit, static_argnames=("kernels", "sizes", "layout"))
def _run(kernels, arrays, given, sizes, layout):
    with spread(layout), offer(arrays) as ride:
        asked = {name for _, kernel, _ in kernels for name in kernel.parameters}
        shared = Shared(dict(sizes) | given | _clean(arrays), asked)
        values = {name: shared.call(kernel, dict(options)) for name, kernel, options in kernels}
    broken = []
    if ride is not None and ride.broken is not None:
        arrays = {name: x for name, x in arrays.items() if name != "probs"}
        broken = [ride.broken > 0]
    rules = rules_of(arrays, dict(sizes), _may_be_empty(kernels))
    broken = jnp.stack([*broken, *(rule.broken.any() for rule in rules)])
    return jax.tree.map(lambda v: jnp.where(broken.any(), jnp.nan, v), values), broken


def _may_be_empty(kernels):
    return all(kernel.adds for _, kernel, _ in kernels)


def _clean(arrays: Mapping[str, jax.Array]) -> dict[str, Any]:
    counted, dtype = included(arrays), jnp.result_type(float)  # float32; float64 under x64
    clean: dict[str, Any] = {"weights": counted.astype(dtype)}
    for name, x in arrays.items():
        if name not in ("features", "where"):  # which are blanked when, and where, they are needed
            x = x.astype(jnp.int32) if name in INTEGERS else x
            if name == "probs" and x.dtype.itemsize < 4:
                x = x.astype(dtype)
                x = x / x.sum(1, keepdims=True)  # half precision sums to 1 in its own way
            x = blank(x, arrays.get("where"))
        clean[name] = x
    # A few of the samples that count, from first to last; computed only where not known before.
    n = counted.shape[0]
    clean["some"] = np.arange(SOME) * (n - 1) // (SOME - 1)
    if {"where", "weights"} & arrays.keys():
        position = jnp.cumsum(clean["weights"] > 0)
        rank = jnp.arange(SOME) * (position[-1] - 1) // (SOME - 1)
        clean["some"] = jnp.minimum(jnp.searchsorted(position, rank + 1), n - 1)
    return clean
