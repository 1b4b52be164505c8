"""Raw values of label columns to targets: classes, several labels at once, or numbers."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from leepjax._names import listed

KINDS = ("class", "multilabel", "regression")
FEW = 20  # so many different values may be classes, whatever they are


class Targets(NamedTuple):
    """Targets of ``n`` samples.

    Attributes:
      values: ``[n]`` int32 of classes; ``[n, t]`` uint8, 0 or 1, of several labels; float32 ``[n]``
        or ``[n, t]`` of numbers.
      names: of the classes, or of the ``t`` labels or numbers.
      wrong: what is wrong with a sample's labels; its values mean nothing.
    """

    values: np.ndarray
    names: tuple[str, ...]
    wrong: dict[int, str]

    @property
    def of_classes(self) -> bool:
        """Whether each sample has one class."""
        return self.values.dtype == np.int32


def read_targets(
    columns: Mapping[str, Sequence[Any]], kind: str, class_names: tuple[str, ...] | None = None
) -> Targets:
    """Targets from raw values; of classes those of ``class_names``, if given, come in that order.

    Raises:
      ValueError: another kind, or columns that are not of this kind.
    """
    if kind not in KINDS:
        raise ValueError(f"target: wanted one of {', '.join(KINDS)}, got {kind!r}")
    if kind == "regression":
        return _numbers(columns)
    if kind == "multilabel":
        return _several(columns, class_names)
    if len(columns) > 1:
        raise ValueError(
            f"label_column: wanted one column of classes, got {listed(columns)}; several columns "
            "are target='multilabel' (0 or 1) or target='regression' (numbers)"
        )
    ((column, values),) = columns.items()
    wrong = {i: "no label" for i, value in enumerate(values) if missing(value)}
    name, names = _classes(column, [v for v in values if not missing(v)], class_names)
    index = {class_name: i for i, class_name in enumerate(names)}
    ids = [0 if i in wrong else index[name[str(v).strip()]] for i, v in enumerate(values)]
    return Targets(np.array(ids, np.int32), names, wrong)


def missing(value: Any) -> bool:
    """Whether a cell holds nothing."""
    if isinstance(value, str):
        return not value.strip()
    return value is None or (isinstance(value, float) and math.isnan(value))


def _classes(
    column: str, values: Sequence[Any], known: tuple[str, ...] | None
) -> tuple[dict[str, str], tuple[str, ...]]:
    """The class's name for each value as text, and the names of all classes, in order."""
    if any(isinstance(value, list | tuple | dict) for value in values):
        raise ValueError(
            f"label_column: {column!r} holds lists, wanted one class a sample; several at once are "
            "target='multilabel'"
        )
    distinct = {str(value).strip() for value in values}
    if known is not None:
        return {text: text for text in distinct}, tuple(name for name in known if name in distinct)
    numbers = {text: _exact(text) for text in distinct}
    fractions = False
    if all(math.isfinite(x) for x in numbers.values()):
        # "7", "7.0" and "007" are one class, which has the shortest of its names
        shortest = {numbers[text]: text for text in sorted(distinct, key=lambda t: (-len(t), t))}
        fractions = any(x != round(x) for x in shortest)
        name = {text: shortest[x].removesuffix(".0") for text, x in numbers.items()}
        names = tuple(shortest[x].removesuffix(".0") for x in sorted(shortest))
    else:
        name, names = {text: text for text in distinct}, tuple(sorted(distinct))
    many = len(names) > FEW and (fractions or len(names) > len(values) / 2)
    if many or len(names) == len(values) > 1:
        raise ValueError(
            f"label_column: {column!r} has {len(names):,} different values in {len(values):,} "
            f"samples ({listed(names, limit=3)}), wanted classes; if they are numbers to be "
            "predicted, target='regression' (--target regression)"
        )
    return name, names


def _exact(text: str) -> int | float:
    """The number that a label is, whole ones with all their digits; NaN of other text."""
    return int(text) if re.fullmatch("[+-]?[0-9]{1,300}", text) else number(text)


def number(value: Any) -> float:
    """The number that a cell holds; NaN of anything else, also of ``1_000``."""
    try:
        return math.nan if isinstance(value, str) and "_" in value else float(value)
    except (TypeError, ValueError):
        return math.nan


def _numbers(columns: Mapping[str, Sequence[Any]]) -> Targets:
    wrong: dict[int, str] = {}
    found = []
    for column, values in columns.items():
        found.append([number(value) for value in values])
        for i, x in enumerate(found[-1]):
            if not math.isfinite(x):
                got = "nothing" if missing(values[i]) else repr(values[i])
                wrong[i] = f"{column} is {got:.30}, wanted a finite number"
                found[-1][i] = 0.0
    array = np.array(found, np.float32).T
    return Targets(array[:, 0] if len(columns) == 1 else array, tuple(columns), wrong)


def _several(columns: Mapping[str, Sequence[Any]], known: tuple[str, ...] | None) -> Targets:
    if len(columns) == 1:
        return _lists(*next(iter(columns.items())), known)
    wrong: dict[int, str] = {}
    array = np.zeros((len(next(iter(columns.values()))), len(columns)), np.uint8)
    for j, (column, values) in enumerate(columns.items()):
        for i, value in enumerate(values):
            x = number(value)
            if x in (0, 1):
                array[i, j] = x
            else:
                got = "nothing" if missing(value) else repr(value)
                wrong[i] = f"{column} is {got:.30}, wanted 0 or 1"
    return Targets(array, tuple(columns), wrong)


def _lists(column: str, values: Sequence[Any], known: tuple[str, ...] | None) -> Targets:
    """One column whose cells are lists of classes."""
    wrong = {i: "no list of labels" for i, v in enumerate(values) if not isinstance(v, list)}
    if len(wrong) == len(values):
        raise ValueError(
            f"label_column: wanted several columns of 0 and 1, or one of lists, for "
            f"target='multilabel', got {column!r}, which holds {values[0]!r:.30}"
        )
    cells = [[str(x) for x in v] if isinstance(v, list) else [] for v in values]
    present = {name for cell in cells for name in cell}
    names = sorted(present) if known is None else [name for name in known if name in present]
    index = {name: j for j, name in enumerate(names)}
    array = np.zeros((len(values), len(names)), np.uint8)
    for i, cell in enumerate(cells):
        array[i, [index[name] for name in cell]] = 1
    return Targets(array, tuple(names), wrong)
