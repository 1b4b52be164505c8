"""What samples are labelled with, in one form: a class, several labels, numbers; tokens, pixels."""

from typing import Any, NamedTuple

import numpy as np

from leepjax.metrics import METRICS
from leepjax.metrics._kinds import NOT_SEVERAL

KINDS = ("class", "multilabel", "regression")
MOST = 50_000  # tokens or pixels, drawn where there are more: neighbours say nearly the same


class Labels(NamedTuple):
    """Labels of m samples.

    Attributes:
      kind: one of ``KINDS``.
      values: ``[m]`` integers; ``[m, t]`` int32 of 0 and 1; or ``[m, t]`` standardised numbers.
      groups: ``[m]`` from 0, ascending: the sentence or image of each; None: all on their own.
      where: for each dimension of the labels as given, ``[m]`` indices; None: as given.
      given: the labels as given.
      constant: columns as given that do not vary, and are not in ``values``.
      scale: ``[t]`` standard deviations of the numbers, in their units.
    """

    kind: str
    values: np.ndarray
    groups: np.ndarray | None
    where: tuple[np.ndarray, ...] | None
    given: np.ndarray
    constant: tuple[int, ...] = ()
    scale: np.ndarray = np.ones(1)

    def rows(self, name: str, x: Any) -> Any:
        """The samples' rows of an array of one source, ``[m, d]``, or ``[n, ..., d]`` of tokens.

        Of pixels it may be coarser: each has the row of the cell that it lies in.
        """
        shape = self.given.shape if self.kind == "class" or self.given.ndim > 2 else (len(x),)
        if self.where is None or isinstance(x, Exception):
            return x
        have = np.shape(x)
        if len(have) != len(shape) + 1 or have[0] != shape[0] or not _covers(have[1:-1], shape[1:]):
            wanted = ", ".join(map(str, shape))
            raise ValueError(
                f"{name}: wanted [{wanted}, columns], as labels have [{wanted}], got {[*have]}"
            )
        cells = [i * h // s for i, h, s in zip(self.where, have, shape, strict=False)]
        return x[tuple(cells)]


def _covers(have: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    """Whether there is a cell for each token; only pixels share one."""
    if len(shape) < 2:
        return have == shape
    return all(1 <= h <= s for h, s in zip(have, shape, strict=True))


def read_target(labels: Any, groups: Any = None, target: str = "auto", seed: int = 0) -> Labels:
    """Labels in one form.

    Args:
      labels: ``[n]`` or, of tokens or pixels, ``[n, ...]`` integers, -1 for those without;
        ``[n, t]`` 0, 1 or booleans; numbers ``[n]``, ``[n, t]``, or ``[n, h, w]`` of pixels.
      groups: of the n samples, anything that can be compared.
      target: one of ``KINDS``; ``"auto"``: by dtype and shape.
      seed: of the draw of tokens and pixels.

    Raises:
      ValueError: they are of no kind, or there is nothing to tell apart.
    """
    if target not in ("auto", *KINDS):
        raise ValueError(f"target: wanted auto, {', '.join(KINDS)}; got {target!r}")
    given = as_labels(labels)
    kind = _kind(given) if target == "auto" else target
    values = _checked(given, kind)
    where = None
    groups = None if groups is None else _groups(groups, len(given))
    if values.ndim > 2 or (kind == "class" and (values.ndim == 2 or groups is not None)):
        known = values >= 0 if kind == "class" else np.ones(values.shape, bool)
        if not known.any():
            raise ValueError("labels: wanted some, got -1 throughout, which stands for none")
        where = np.nonzero(known)
        if values.ndim > 1 and len(where[0]) > MOST:
            drawn = np.random.default_rng(seed).choice(len(where[0]), MOST, replace=False)
            where = tuple(i[np.sort(drawn)] for i in where)
        values = values[where]
        groups = where[0] if groups is None else groups[where[0]]
    if kind == "class" and values.min() < 0:
        at = int(values.argmin())
        raise ValueError(
            f"labels: wanted integers >= 0, got {values[at]} at sample {at}"
            + ("; -1 stands for none only beside groups" if values[at] == -1 else "")
        )
    if groups is not None:
        groups = np.unique(groups, return_inverse=True)[1]
        if groups.max() < 2:
            raise ValueError(
                f"groups: wanted at least three with labels, got {groups.max() + 1}: each is left "
                "out in turn"
            )
        if (np.diff(groups) < 0).any():
            order = np.argsort(groups, kind="stable")
            where = (order,) if where is None else tuple(i[order] for i in where)
            values, groups = values[order], groups[order]
    return _varying(Labels(kind, values, groups, where, given))


def unfit(metric: str, kind: str) -> str:
    """Why labels of this kind have no such score; empty where they have."""
    inputs = METRICS[metric].inputs
    if kind == "class":
        return "it is of numbers; labels are classes" if "targets" in inputs else ""
    if kind == "multilabel":
        return NOT_SEVERAL.get(metric, "")
    if metric == "linear_probe":
        return "it counts right answers; of numbers predictive_r2 is that head"
    fit = "labels" not in inputs or metric in ("predictive_r2", "knn")
    return "" if fit else "it is of classes; labels are numbers"


def baseline(labels: Labels) -> float:
    """What a constant has: the share of the largest class, of several labels the mean over them.

    Of one column of numbers the root mean squared error of the mean, in their units; else NaN.
    """
    if labels.kind == "class":
        return float(np.unique(labels.values, return_counts=True)[1].max() / len(labels.values))
    if labels.kind == "multilabel":
        share = labels.values.mean(0)
        return float(np.maximum(share, 1 - share).mean())
    return float(labels.scale[0]) if len(labels.scale) == 1 else np.nan


def as_labels(labels: Any) -> np.ndarray:
    """Labels as one array of finite numbers."""
    try:
        given = np.asarray(labels)
    except ValueError as error:
        raise ValueError(f"labels: wanted one array, got {error}") from None
    if given.dtype.kind not in "biuf":
        wanted = "integers (classes), 0 and 1 (several labels) or floats (numbers)"
        raise ValueError(f"labels: wanted {wanted}, got dtype {given.dtype}")
    if given.ndim == 0 or given.size == 0:
        raise ValueError(f"labels: wanted shape [n, ...] with n >= 1, got {[*given.shape]}")
    if given.dtype.kind == "f" and not np.isfinite(given).all():
        at = np.argwhere(~np.isfinite(given))[0]
        raise ValueError(
            f"labels: wanted finite numbers, got {given[tuple(at)]} at sample "
            f"{', '.join(map(str, at))}; leave such samples out"
        )
    return given


def _kind(x: np.ndarray) -> str:
    if x.ndim == 2 and _binary(x):
        return "multilabel"
    if x.dtype.kind != "f":
        return "class"
    if (x == np.round(x)).all():
        ask = "numbers, ask for target='regression'; if classes, give integers"
        raise ValueError(
            f"labels: wanted classes or numbers, got dtype {x.dtype} of whole numbers: if they are "
            f"{ask} or ask for target='class'"
        )
    return "regression"


def _binary(x: np.ndarray) -> bool:
    return bool(((x == 0) | (x == 1)).all())


def _checked(x: np.ndarray, kind: str) -> np.ndarray:
    """Of the dtype and shape of the kind."""
    if kind == "regression":
        return x.astype(float)[:, None] if x.ndim == 1 else x.astype(float)
    if kind == "multilabel":
        if x.ndim != 2 or not _binary(x):
            got = f"{x.dtype} of shape {[*x.shape]}, {x.min()} to {x.max()}"
            raise ValueError(f"labels: wanted [n, labels] of 0 and 1, got {got}")
        return x.astype(np.int32)
    if x.dtype.kind == "f" and (x != np.round(x)).any():
        at = tuple(np.argwhere(x != np.round(x))[0])
        raise ValueError(f"labels: wanted integers (classes), got {x[at]}")
    if x.ndim == 2 and x.shape[1] == 1:
        raise ValueError(f"labels: wanted shape [n] of one class a sample, got {[*x.shape]}")
    return x if x.dtype.kind in "iu" else x.astype(np.int64)


def _groups(groups: Any, n: int) -> np.ndarray:
    groups = np.asarray(groups)
    if groups.shape != (n,) or groups.dtype.kind not in "biuUS":
        got = f"dtype {groups.dtype} of shape {[*groups.shape]}"
        raise ValueError(f"groups: wanted {n} integers or names, one a sample, got {got}")
    return groups


def _varying(labels: Labels) -> Labels:
    """With numbers standardised, and without columns that do not vary."""
    values = labels.values
    if labels.kind == "class":
        classes = len(np.unique(values))
        if classes < 2 or len(values) < 3:
            raise ValueError(
                "labels: wanted at least two classes and three samples, got "
                f"{classes} of {len(values)}: there is nothing to tell apart"
            )
        return labels
    values = values.reshape(len(values), -1)
    centred = values - values.mean(0)
    varies = np.ptp(values, 0) > 1e-12 * np.abs(values).max(0)
    if not varies.any() or len(values) < 3:
        got = f"{varies.sum()} of {len(values)}"
        raise ValueError(
            f"labels: wanted a column that varies, and at least three samples, got {got}: there is "
            "nothing to tell apart"
        )
    constant, values = tuple(map(int, np.flatnonzero(~varies))), values[:, varies]
    if labels.kind == "multilabel":
        return labels._replace(values=values, constant=constant)
    scale = centred[:, varies].std(0)
    return labels._replace(values=centred[:, varies] / scale, constant=constant, scale=scale)
