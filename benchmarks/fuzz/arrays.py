"""Arrays that nobody would think of, made of a few choices and a seed.

Hypothesis draws the choices, NumPy makes the arrays: a failing case is a line, and shrinks in a few
steps.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import ml_dtypes
import numpy as np

Arrays = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Layout:
    """Shapes and a dtype: what is compiled, so there are few."""

    n: int
    d: int
    classes: int
    source_classes: int
    dtype: str = "float32"
    optional: tuple[str, ...] = ("where", "weights")


LAYOUTS = {
    "tall": Layout(30, 5, 4, 6),
    "wide": Layout(9, 12, 4, 6, optional=()),
    "double": Layout(30, 5, 4, 6, "float64"),
    "half": Layout(30, 5, 4, 6, "float16", ("where",)),
    "bfloat16": Layout(9, 12, 4, 6, "bfloat16", ("weights",)),
    "two": Layout(2, 3, 2, 1, optional=("where",)),
    "one": Layout(1, 1, 1, 1, optional=()),
}

FEATURES: dict[str, Callable[[np.random.Generator, np.ndarray, int], np.ndarray]] = {
    "normal": lambda rng, y, d: rng.normal(size=(len(y), d)),
    "zero": lambda rng, y, d: np.zeros((len(y), d)),
    "constant": lambda rng, y, d: np.broadcast_to(rng.normal(size=d), (len(y), d)),
    "classes": lambda rng, y, d: rng.normal(size=(99, d))[y],  # no spread within
    "near classes": lambda rng, y, d: (
        rng.normal(size=(99, d))[y] + 1e-4 * rng.normal(size=(len(y), d))
    ),
    "few rows": lambda rng, y, d: rng.normal(size=(3, d))[rng.integers(0, 3, len(y))],
    "rank one": lambda rng, y, d: np.outer(rng.normal(size=len(y)), rng.normal(size=d)),
    "equal columns": lambda rng, y, d: np.repeat(rng.normal(size=(len(y), 1)), d, 1),
    "dead columns": lambda rng, y, d: rng.normal(size=(len(y), d)) * (np.arange(d) % 2),
    "one row": lambda rng, y, d: np.eye(1, len(y)).T * rng.normal(size=d),
    "one-hot": lambda rng, y, d: np.eye(d)[rng.integers(0, d, len(y))],
    "whole": lambda rng, y, d: rng.integers(-2, 3, size=(len(y), d)).astype(float),
    "heavy tails": lambda rng, y, d: rng.standard_cauchy(size=(len(y), d)),
    "scales of columns": lambda rng, y, d: (
        rng.normal(size=(len(y), d)) * 10.0 ** rng.uniform(-9, 9, d)
    ),
    "scales of rows": lambda rng, y, d: (
        rng.normal(size=(len(y), d)) * 10.0 ** rng.uniform(-9, 9, len(y))[:, None]
    ),
    "signed zeros": lambda rng, y, d: rng.choice([-0.0, 0.0, 1.0], size=(len(y), d)),
}
LABELS: dict[str, Callable[[np.random.Generator, int, int], np.ndarray]] = {
    "balanced": lambda rng, n, c: rng.permutation(np.arange(n) % c),
    "random": lambda rng, n, c: rng.integers(0, c, n),
    "one class": lambda rng, n, c: np.full(n, rng.integers(0, c)),
    "an absent class": lambda rng, n, c: rng.permutation(np.arange(n) % max(c - 1, 1)),
    "one sample apart": lambda rng, n, c: np.minimum(np.eye(1, n, dtype=int)[0], c - 1),
    "sorted": lambda rng, n, c: np.sort(np.arange(n) % c),
}
PROBS: dict[str, Callable[[np.random.Generator, np.ndarray, int], np.ndarray]] = {
    "even": lambda rng, y, s: rng.dirichlet(np.ones(s), len(y)),
    "sparse": lambda rng, y, s: rng.dirichlet(np.full(s, 0.02), len(y)),
    "one-hot": lambda rng, y, s: np.eye(s)[rng.integers(0, s, len(y))],
    "of labels": lambda rng, y, s: np.eye(s)[y % s],
    "nearly one-hot": lambda rng, y, s: _softened(np.eye(s)[y % s], 1e-7),
    "tiny": lambda rng, y, s: _softened(np.eye(s)[rng.integers(0, s, len(y))], 1e-38),
    "uniform": lambda rng, y, s: np.full((len(y), s), 1 / s),
    "one column": lambda rng, y, s: np.eye(s)[np.zeros(len(y), int)],
}
WEIGHTS: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "ones": lambda rng, n: np.ones(n),
    "counts": lambda rng, n: rng.integers(0, 4, n).astype(float),
    "fractions": lambda rng, n: rng.uniform(size=n),
    "one": lambda rng, n: np.eye(1, n)[0],
    "scales": lambda rng, n: 10.0 ** rng.uniform(-20, 20, n),
    "zero": lambda rng, n: np.zeros(n),
}
WHERE: dict[str, Callable[[np.random.Generator, np.ndarray], np.ndarray]] = {
    "all": lambda rng, y: np.ones(len(y), bool),
    "some": lambda rng, y: rng.integers(0, 2, len(y)).astype(bool),
    "one": lambda rng, y: np.eye(1, len(y), dtype=bool)[0],
    "two": lambda rng, y: np.arange(len(y)) < 2,
    "one class": lambda rng, y: y == y[0],
    "none": lambda rng, y: np.zeros(len(y), bool),
}
# How an array lies in memory, and by which dtype it comes; all of them mean the same numbers.
FORMS: dict[str, Callable[[np.ndarray], Any]] = {
    "array": lambda x: x,
    "columns first": np.asfortranarray,
    "every other": lambda x: np.repeat(x, 2, 0)[::2],
    "backwards": lambda x: x[::-1].copy()[::-1],
    "read only": lambda x: np.frombuffer(x.tobytes(), x.dtype).reshape(x.shape),
    "other byte order": lambda x: (
        x.astype(x.dtype.newbyteorder(">")) if x.dtype.kind in "iuf" else x
    ),
    "double": lambda x: x.astype(float) if x.dtype == np.float32 else x,
    "long double": lambda x: x.astype(np.longdouble) if x.dtype == np.float32 else x,
    "list": lambda x: x.tolist() if x.dtype in (np.float32, np.int64) else x,
    "on the device": lambda x: _on_device(x),
}
# What makes an array something that no metric takes.
OTHERS: dict[str, Callable[[np.ndarray], Any]] = {
    "None": lambda x: None,
    "text": lambda x: "abc",
    "texts": lambda x: np.full(x.shape, "1"),
    "bytes": lambda x: np.full(x.shape, b"1"),
    "objects": lambda x: x.astype(object),
    "nothings": lambda x: np.full(x.shape, None),
    "complex": lambda x: x.astype(complex),
    "dates": lambda x: np.zeros(x.shape, "M8[s]"),
    "durations": lambda x: np.zeros(x.shape, "m8[s]"),
    "records": lambda x: np.zeros(x.shape, [("a", "f4")]),
    "raw": lambda x: np.zeros(x.shape, "V3"),
    "scalar": lambda x: 1,
    "ragged": lambda x: [[1.0], [1.0, 2.0]],
    "mapping": lambda x: {"a": 1},
    "set": lambda x: {1, 2},
    "generator": lambda x: iter(()),
    "function": lambda x: len,
    "rank 3": lambda x: x[..., None, None],
    "no rows": lambda x: x[:0],
    "no columns": lambda x: x[:, :0] if x.ndim > 1 else x[:0],
    "one row more": lambda x: np.concatenate([x, x[:1]]),
}
# Values that are wrong where a sample counts.
SPOILS = ("nan", "inf", "-inf", "negative", "large")
THROUGH = ("function", "function", "score")
COUNTS = (0, -1, True, 4.0, "4", None, float("nan"), (4,), 2**31, 2**70)


@dataclasses.dataclass(frozen=True)
class Case:
    """Choices that arrays are made of; ``seed`` says the rest."""

    layout: str
    seed: int
    labels: str
    features: str = "normal"
    probs: str = "even"
    weights: str = "ones"
    where: str = "all"
    scale: int = 0
    offset: int | None = None
    weight_scale: int = 0
    form: str = "array"
    through: str = "function"
    spoil: tuple[str, str] = ("", "")  # array, value of one row
    other: tuple[str, str] = ("", "")  # array, what stands in its place
    count: tuple[str, Any] = ("", 0)


def arrays_of(case: Case) -> Arrays:
    """All arrays that a metric may ask for, before their form."""
    at, rng = LAYOUTS[case.layout], np.random.default_rng(case.seed)
    y = LABELS[case.labels](rng, at.n, at.classes)

    def scaled(x: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore"):
            moved = x * 10.0**case.scale
            moved = moved + (0 if case.offset is None else rng.normal() * 10.0**case.offset)
            return moved.astype(_dtype(at.dtype))

    probs = PROBS[case.probs](rng, y, at.source_classes).astype(_dtype(at.dtype))
    with np.errstate(over="ignore"):
        weights = WEIGHTS[case.weights](rng, at.n) * 10.0**case.weight_scale
        weights = weights.astype("float64" if at.dtype == "float64" else "float32")
    return {
        "labels": y,
        "features": scaled(FEATURES[case.features](rng, y, at.d)),
        "targets": scaled(FEATURES[case.features](rng, y, min(at.d, 2))),
        "logits": scaled(FEATURES[case.features](rng, y, at.source_classes)),
        "probs": probs,
        "source_labels": probs.astype(np.float64).argmax(1),
        "weights": weights,
        "where": WHERE[case.where](rng, y),
    }


def spoiled(case: Case, arrays: Arrays) -> Arrays:
    """The arrays with one value of one row wrong."""
    name, what = case.spoil
    if not name:
        return arrays
    x = arrays[name].copy()
    row = case.seed % len(x)
    whole = {"nan": -(2**40), "inf": 2**40, "-inf": -(2**31), "negative": -1, "large": 7}
    real = {"nan": np.nan, "inf": np.inf, "-inf": -np.inf, "negative": -1, "large": 7}
    if x.dtype.kind == "b":
        x[:] = False
    else:
        x[row] = (whole if x.dtype.kind == "i" else real)[what]
    return arrays | {name: x}


def _dtype(name: str) -> np.dtype[Any]:
    return np.dtype(ml_dtypes.bfloat16 if name == "bfloat16" else name)


def _on_device(x: np.ndarray) -> Any:
    """As JAX's own, if it has these numbers."""
    with np.errstate(over="ignore"):
        there = jax.numpy.asarray(x)
    return there if np.array_equal(x, there, equal_nan=x.dtype.kind == "f") else x


def _softened(p: np.ndarray, least: float) -> np.ndarray:
    p = np.maximum(p, least)
    return p / p.sum(1, keepdims=True)
