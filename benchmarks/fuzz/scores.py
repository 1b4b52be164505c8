"""Metrics on such arrays: a finite value where they are valid, a ``ValueError`` where not.

What a case must come to is said by :func:`expected`, in NumPy, not by the checks of the library.
"""

import contextlib
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from hypothesis import strategies as st

from benchmarks.fuzz.arrays import (
    COUNTS,
    FEATURES,
    FORMS,
    LABELS,
    LAYOUTS,
    OTHERS,
    PROBS,
    SPOILS,
    THROUGH,
    WEIGHTS,
    WHERE,
    Arrays,
    Case,
    Layout,
    arrays_of,
    spoiled,
)
from benchmarks.fuzz.target import Target, refusal
from leepjax.metrics import METRICS, Metric, score
from leepjax.metrics._kernel import as_kernel

enable_x64: Any = getattr(jax, "enable_x64", None)
if enable_x64 is None:  # jax < 0.8
    from jax.experimental import enable_x64  # pyright: ignore[reportAttributeAccessIssue]

ROW_SUMS = {2: 2e-2, 4: 1e-4, 8: 1e-6}  # documented, by bytes of the dtype
LEAST = 1e-6  # of the largest weight: beside it a sample is no more than rounding


def cases_of(
    metric: Metric, layouts: Sequence[str] = (*LAYOUTS,), through: Sequence[str] = THROUGH
) -> st.SearchStrategy[Case]:
    """Descriptions of calls of a metric: about half of them valid."""
    names = [*metric.inputs, "where", *(["weights"] if metric.weights else [])]
    counts = [name for name in ("num_classes", "num_source_classes") if name in _parameters(metric)]
    half = [""] * 5  # hypothesis prefers what comes first, and shrinks to it
    rarely = st.sampled_from([*half, *names]).flatmap(
        lambda name: st.tuples(st.just(name), st.sampled_from(SPOILS if name else [""]))
    )
    seldom = st.sampled_from([*half * 3, *names]).flatmap(
        lambda name: st.tuples(st.just(name), st.sampled_from([*OTHERS] if name else [""]))
    )
    count = st.sampled_from([*half * 8, *counts]).flatmap(
        lambda name: st.tuples(st.just(name), st.sampled_from(COUNTS if name else [0]))
    )
    return st.builds(
        Case,
        layout=st.sampled_from(layouts),
        seed=st.integers(0, 2**32 - 1),
        labels=st.sampled_from([*LABELS]),
        features=st.sampled_from([*FEATURES]),
        probs=st.sampled_from([*PROBS]),
        weights=st.sampled_from([*WEIGHTS]),
        where=st.sampled_from([*WHERE]),
        scale=st.sampled_from([0, 0, 1, -1, 4, -4, 9, -9, 18, -18, 30, -30, 37, -44, 200]),
        offset=st.sampled_from([None, None, 0, 2, 4, 8, 30]),
        weight_scale=st.sampled_from([0, 0, 0, 3, -3, 20, -20, 37, -37]),
        form=st.sampled_from([*FORMS]),
        through=st.sampled_from(through),
        spoil=rarely,
        other=seldom,
        count=count,
    )


def expected(metric: Metric, case: Case, arrays: Arrays) -> str:
    """``value``, ``refusal``, or ``either`` where rounding or the form decides."""
    used = _used(metric, case)
    at = LAYOUTS[case.layout]
    if case.count[0] in _counts(metric, case, at):
        return "refusal"
    if case.other[0] in used:
        lone = case.other[1] == "one row more" and len(used) == 1
        left_out = case.other[1] == "None" and case.other[0] not in metric.inputs
        return "either" if lone or left_out else "refusal"
    counted = arrays["where"] if "where" in used else np.ones(at.n, bool)
    adds = as_kernel(metric.kernel).adds
    said = "value"
    if not counted.any() and not adds:
        return "refusal"
    for name, bound in (("labels", at.classes), ("source_labels", at.source_classes)):
        x = arrays[name][counted]
        if name in used and ((x < 0) | (x >= bound)).any():
            return "refusal"
    for name in ("features", "logits", "probs", "targets"):
        if name in used and not np.isfinite(arrays[name][counted].astype(float)).all():
            return "refusal"
    if "probs" in used:
        x = arrays["probs"][counted].astype(np.float64)
        off, limit = np.abs(x.sum(1) - 1).max(initial=0), ROW_SUMS[arrays["probs"].dtype.itemsize]
        if (x < 0).any() or off > 2 * limit:
            return "refusal"
        said = "either" if off > limit / 2 else said
    if "weights" in used:
        w = arrays["weights"][counted]
        if not (np.isfinite(w) & (w >= 0)).all():
            return "refusal"
        if not (w > 0).any():
            return "value" if adds else "refusal"
        positive = w[w > 0]
        sane = positive.min() >= 1e-9 and LEAST * positive.max() <= min(1e3, positive.min())
        said = said if sane else "either"
    # Squares of what is larger or smaller may not be numbers, and then it is refused.
    most = 1e120 if at.dtype == "float64" else 1e15
    for name in ("features", "logits", "targets"):
        if name in used:
            x = np.abs(arrays[name][counted].astype(float))
            sane = 1 / most <= x.max(initial=0) <= most or not x.any()
            said = said if sane else "either"
    return said


def call(metric: Metric, case: Case, arrays: Arrays) -> Any:
    """The metric's value, through its function or through ``score``."""
    at = LAYOUTS[case.layout]
    counts = _counts(metric, case, at)
    if case.count[0] in counts:
        counts[case.count[0]] = case.count[1]
    key = jax.random.key(case.seed % 3) if metric.key else None
    used = {name: arrays[name] for name in _used(metric, case)}
    if _through(metric, case) == "score":
        counts.setdefault("num_classes", at.classes)
        used.setdefault("labels", arrays["labels"])
        return score(**used, **counts, key=key, metrics=[metric.name])[metric.name]
    inputs = [used.pop(name) for name in metric.inputs]
    return metric.fn(*([key] if metric.key else []), *inputs, **used, **counts)


def check(metric: Metric, case: Case) -> str:
    """A finite value where it is valid, a ``ValueError`` where not, and all arguments as before."""
    arrays = spoiled(case, arrays_of(case))
    wanted = expected(metric, case, arrays)
    x64 = LAYOUTS[case.layout].dtype == "float64"
    with enable_x64(True) if x64 else contextlib.nullcontext():
        given = {name: FORMS[case.form](x) for name, x in arrays.items()}
        if case.other[0]:
            given[case.other[0]] = OTHERS[case.other[1]](arrays[case.other[0]])
        before = {name: _bytes(x) for name, x in given.items()}
        value, said = refusal(lambda: call(metric, case, given))
    for name, x in given.items():
        assert _bytes(x) == before[name], f"{name} was changed"
    if said:
        undefined = as_kernel(metric.kernel).undefined
        about = wanted != "value" or (undefined and undefined in said)
        assert about, f"valid input refused: {said}"
        return "refused"
    assert wanted != "refusal", f"accepted, as {value}"
    assert np.shape(value) == (), f"wanted a scalar, got shape {np.shape(value)}"
    assert np.isfinite(value), f"wanted a finite value, got {value}"
    return "value"


def _parameters(metric: Metric) -> Mapping[str, Any]:
    return inspect.signature(metric.fn).parameters


def _through(metric: Metric, case: Case) -> str:
    """``score`` takes neither weights nor targets; two layouts are enough to compile for it."""
    here = case.layout in ("tall", "wide") and "targets" not in metric.inputs
    return case.through if here else "function"


def _used(metric: Metric, case: Case) -> list[str]:
    """Names of the arrays of a call."""
    asked = LAYOUTS[case.layout].optional
    has = {"where", "weights"} if metric.weights else {"where"}
    has -= {"weights"} if _through(metric, case) == "score" else set()
    return [*metric.inputs, *(name for name in asked if name in has)]


def _counts(metric: Metric, case: Case, at: Layout) -> dict[str, Any]:
    counts = {"num_classes": at.classes, "num_source_classes": at.source_classes}
    return {name: count for name, count in counts.items() if name in _parameters(metric)}


def _bytes(x: Any) -> Any:
    """What would tell that an argument was changed."""
    if isinstance(x, np.ndarray) and x.dtype != object:
        return x.dtype, x.shape, x.tobytes()
    return repr(x)


def targets(layouts: Sequence[str] = (*LAYOUTS,), through: Sequence[str] = THROUGH) -> list[Target]:
    """One for each metric."""

    def target(metric: Metric) -> Target:
        cases = cases_of(metric, layouts, through)
        return Target("metric", metric.name, cases, lambda case: check(metric, case))

    return [target(metric) for metric in METRICS.values()]
