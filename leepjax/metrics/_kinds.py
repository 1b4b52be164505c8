"""Labels that are not one class a sample: several at once, numbers, classes of tokens or pixels."""

from collections.abc import Hashable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike

from leepjax.metrics._checks import MATRICES, as_array, refuse_overflow
from leepjax.metrics._evaluate import evaluate_all
from leepjax.metrics._kernel import Kernel
from leepjax.metrics._neg_label_entropy import neg_entropy

COLUMNS = 8  # of several labels, scored at once: what they share is computed once for these
_TOKENS = "it leaves single tokens out, whose neighbours stay; leepjax.rank leaves out whole groups"
SINGLE_OUT = dict.fromkeys(("knn", "linear_probe", "predictive_r2", "cross_fitted_leep"), _TOKENS)
NOT_SEVERAL = {"logme": "it is of one class a sample; of several labels take logme_regression"}


def kind_of(arrays: Mapping[str, ArrayLike]) -> str:
    """``class``, ``multilabel``, ``regression`` or ``tokens``, by dtype and shape alone."""
    labels = arrays["labels"]
    labels = labels if isinstance(labels, jax.Array) else np.asarray(labels)
    if jnp.issubdtype(labels.dtype, jnp.floating):
        return "regression"
    others = [np.ndim(arrays[name]) for name in MATRICES if name in arrays]
    if labels.ndim > 1 and labels.ndim + 1 in others:
        return "tokens"
    return "multilabel" if labels.ndim == 2 and labels.shape[1] else "class"


def as_samples(arrays: Mapping[str, ArrayLike]) -> dict[str, Any]:
    """Tokens and pixels as samples, those without a label left out by ``where``."""
    labels = jnp.asarray(arrays["labels"])
    shape, rows = labels.shape, {}
    for name, x in arrays.items():
        have = np.shape(x)
        if have[: len(shape)] != shape or len(have) != len(shape) + (name in MATRICES):
            wanted = "".join(f"{s}, " for s in shape) + ("columns" if name in MATRICES else "")
            got = f"got {[*have]}"
            raise ValueError(f"{name}: wanted shape [{wanted.rstrip(', ')}] like labels, {got}")
        rows[name] = jnp.reshape(jnp.asarray(x), (labels.size, *have[len(shape) :]))
    known = rows["labels"] != -1
    rows["where"] = known & rows["where"] if "where" in rows else known
    return rows


def over_columns(
    kernels: Mapping[str, tuple[Kernel, Mapping[str, Hashable]]],
    arrays: Mapping[str, Any],
    counts: Mapping[str, int | None],
    given: Mapping[str, Any],
) -> dict[str, Any]:
    """As ``evaluate_all``, of several labels ``[n, t]``: means over them, each as two classes.

    Kernels of targets get the columns as they are.
    """
    labels = jnp.asarray(arrays["labels"])
    labels = labels.astype(jnp.int32) if labels.dtype == bool else labels
    shared = {k: x for k, x in arrays.items() if k not in ("labels", "targets")}
    counts = {**counts, "num_classes": 2}
    _check(labels, shared, counts)
    of_columns = {k: v for k, v in kernels.items() if not v[0].targets}
    values: dict[str, Any] = {}
    if of_columns:
        static = tuple((k, v[0], tuple(sorted(v[1].items()))) for k, v in of_columns.items())
        columns, sizes = labels.T.astype(jnp.int32), tuple(sorted(counts.items()))
        values = dict(_means(static, columns, _on_device(shared), dict(given), sizes))
        for name, (kernel, _) in of_columns.items():
            kernel.refuse_undefined(values[name], name)
            refuse_overflow(values[name], {"labels": columns[0], **shared}, name)
    of_targets = {k: v for k, v in kernels.items() if v[0].targets}
    if of_targets:
        targets = {"targets": labels.astype(jnp.result_type(float)), **shared}
        only = {**counts, "num_classes": None}
        values |= evaluate_all(of_targets, targets, only, given)
    return values


@partial(jax.jit, static_argnames=("kernels", "sizes"))
def _means(kernels, columns, shared, given, sizes):
    named = {name: (kernel, dict(options)) for name, kernel, options in kernels}

    def one(column):
        return evaluate_all(named, {"labels": column, **shared}, dict(sizes), given)

    found = jax.lax.map(one, columns, batch_size=min(COLUMNS, len(columns)))
    return {name: x.mean() for name, x in found.items()}


def _on_device(arrays: Mapping[str, Any]) -> dict[str, jax.Array]:
    """As ``evaluate_all`` takes them, which asks for dtypes."""
    return {name: as_array(name, x) for name, x in arrays.items()}


def _check(labels: jax.Array, shared: Mapping[str, Any], counts: Mapping[str, int | None]) -> None:
    """What is wrong with concrete arrays, which is NaN only where they are mapped over."""
    if not isinstance(labels, Tracer):
        odd = ~((labels == 0) | (labels == 1)).all(1)
        if "where" in shared and np.shape(shared["where"]) == odd.shape:
            odd = odd & jnp.asarray(shared["where"])
        if odd.any():
            at = int(odd.argmax())
            got = f"{np.asarray(labels[at])} at sample {at}"
            got = f"got {[*labels.shape]} with {got}" if labels.shape[1] == 1 else f"got {got}"
            raise ValueError(f"labels: wanted 0 and 1 in [n, labels], {got}")
    first = {"labels": labels[:, 0], **shared}
    evaluate_all({"": (Kernel(neg_entropy), {})}, first, counts, {})
