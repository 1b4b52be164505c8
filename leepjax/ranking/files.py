"""What a source model said about the target's samples, from files that are safe to open.

``.npz``, ``.safetensors`` and Parquet hold named arrays and nothing else. A pickle (``.pt``,
``.pkl``, an array of objects) can run any code when it is opened: it is refused, and the error says
how to convert it.
"""

import os
import re
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

ARRAYS = ("features", "logits", "probs")
FACTS = ("parameters", "source_accuracy", "seconds")
LABELS = ("labels", "label")
_PICKLES = (".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle", ".joblib")
_SAVE = "np.savez(path, features=..., logits=...)"
_CONVERT = (
    f"a pickle can run any code, so it is not opened; where it was made, save arrays alone: {_SAVE}"
    ", of PyTorch's tensors with .numpy(), or safetensors.torch.save_file"
)


def read_source(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """The arrays of a source model from one file.

    Args:
      path: ``.npz``, ``.safetensors`` or ``.parquet`` (which needs ``leepjax[parquet]``) with one
        or more of ``features [n, d]``, ``logits [n, s]`` and ``probs [n, s]`` by name (in Parquet
        columns of lists), and, where there are any, ``labels [n]`` and numbers ``parameters``,
        ``source_accuracy``, ``seconds``.

    Returns:
      ``{name: array}`` of these names; what else the file holds is not read. Where one of several
      arrays cannot be read, a ``ValueError`` stands in its place.

    Raises:
      ValueError: the file is of another kind, a pickle, damaged, or holds none of the arrays that
        can be read; or its labels or numbers cannot be.
    """
    arrays = _read(Path(path), (*ARRAYS, *LABELS, *FACTS))
    sound = any(not isinstance(x, ValueError) for name, x in arrays.items() if name in ARRAYS)
    for name, x in arrays.items():
        if isinstance(x, ValueError) and not (sound and name in ARRAYS):
            raise ValueError(f"{path}: {x}")
    if not arrays.keys() & set(ARRAYS):
        known = ", ".join(map(repr, _names(Path(path)))) or "nothing"
        raise ValueError(f"{path}: wanted arrays named {_or(ARRAYS)}, got {known}")
    return _with_labels(arrays)


def read_labels(path: str | os.PathLike[str]) -> np.ndarray | None:
    """Labels ``[n]`` from ``.npy``, or by the name ``labels`` or ``label`` from the other kinds.

    Returns None where the file is sound but has no such name.

    Raises:
      ValueError: as :func:`read_source`.
    """
    if Path(path).suffix == ".npy":
        return read_array(path)
    if Path(path).suffix not in (*READERS, *_PICKLES):
        kinds = _or((".npy", *READERS))
        raise ValueError(f"{path}: wanted labels in a file {kinds}, got {Path(path).suffix!r}")
    found = _with_labels(_read(Path(path), LABELS)).get("labels")
    if isinstance(found, ValueError):
        raise ValueError(f"{path}: {found}")
    return found


def read_array(path: str | os.PathLike[str]) -> np.ndarray:
    """The array of a ``.npy`` file.

    Raises:
      ValueError: the file is of another kind, a pickle, or damaged.
    """
    _check_start(Path(path), b"\x93NUMPY", "an .npy file, as of np.save(path, array)")
    try:
        return np.load(path, allow_pickle=False)
    except Exception as error:  # whatever the parsers of headers raise
        raise ValueError(f"{path}: {_numpy_said(error)}") from None


def _read(path: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    if path.suffix in READERS:
        return READERS[path.suffix](path, names)
    if path.suffix in _PICKLES:
        raise ValueError(f"{path}: {_CONVERT}")
    hint = f"; an array has a name there: {_SAVE}" if path.suffix == ".npy" else ""
    raise ValueError(f"{path}: wanted a file {_or([*READERS])}, got {path.suffix!r}{hint}")


def _names(path: Path) -> list[str]:
    if path.suffix == ".npz":
        with zipfile.ZipFile(path) as file:
            return [name.removesuffix(".npy") for name in file.namelist()]
    if path.suffix == ".safetensors":
        with safe_open(path, framework="numpy") as file:
            return list(file.keys())
    return _pyarrow(path).read_schema(path).names


def _npz(path: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    _check_start(path, b"PK\x03\x04", f"an .npz file, as of {_SAVE}")
    try:
        with np.load(path, allow_pickle=False) as file:
            if any(name.endswith(".pkl") for name in file.files):
                raise ValueError(f"PyTorch's format under another name: {_CONVERT}")
            return _each([n for n in names if n in file.files], file.__getitem__, _numpy_said)
    except Exception as error:  # whatever the parsers of headers and decompressors raise
        raise ValueError(f"{path}: {_numpy_said(error)}") from None


def _safetensors(path: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    _check_start(path, b"", "a safetensors file")
    try:
        with safe_open(path, framework="numpy") as file:
            there = set(file.keys())
            # What fails now is a number format that NumPy has not.
            return _each(
                [name for name in names if name in there],
                file.get_tensor,
                lambda error: f"wanted numbers as float32 or float16 ({_line(error)})",
            )
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{path}: damaged, or no safetensors file ({error})") from None


def _parquet(path: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    pq = _pyarrow(path)
    _check_start(path, b"PAR1", "a Parquet file")
    try:
        there = set(pq.read_schema(path).names)
        table = pq.read_table(path, columns=[name for name in names if name in there])
    except (OSError, ValueError) as error:  # pyarrow's own errors are these
        raise ValueError(f"{path}: damaged, or no Parquet file ({_line(error)})") from None
    return _each(table.column_names, lambda name: _column(name, table[name]), _line)


def _each(
    names: Sequence[str], read: Callable[[str], np.ndarray], said: Callable[[Exception], str]
) -> dict[str, Any]:
    """Arrays by name; in the place of one that holds something else, what is wrong with it.

    Other errors are of a damaged file, of which nothing is taken.
    """
    arrays: dict[str, Any] = {}
    for name in names:
        try:
            arrays[name] = read(name)
        except (ValueError, TypeError, AttributeError, NotImplementedError) as error:
            arrays[name] = ValueError(f"{name}: {said(error).removeprefix(f'{name}: ')}")
    return arrays


READERS = {".npz": _npz, ".safetensors": _safetensors, ".parquet": _parquet}


def _pyarrow(path: Path) -> Any:
    try:
        import pyarrow.parquet as pq
    except ImportError:
        raise ValueError(
            f"{path}: reading Parquet needs pyarrow: pip install 'leepjax[parquet]'"
        ) from None
    return pq


def _column(name: str, column: Any) -> np.ndarray:
    if column.null_count:
        raise ValueError(f"wanted a value in every row, got {column.null_count} nulls")
    column = column.combine_chunks()
    if name not in ARRAYS:
        values = column.to_numpy(zero_copy_only=False)
        return np.unique(values) if name in FACTS else values  # the same in every row
    of_lists = hasattr(column, "flatten") and hasattr(column.type, "value_type")
    if not of_lists or not re.match(r"u?int|halffloat|float|double", str(column.type.value_type)):
        raise ValueError(f"wanted a column of lists of numbers, got {column.type}")
    values = column.flatten()  # of the rows that are there
    columns = len(values) // max(len(column), 1)
    lengths = set(column.value_lengths().to_pylist()) if len(column) else {0}
    if lengths != {columns} or values.null_count:
        raise ValueError(
            f"wanted lists of one length without nulls, got lengths "
            f"{min(lengths)} to {max(lengths)} and {values.null_count} nulls"
        )
    return values.to_numpy(zero_copy_only=False).reshape(len(column), columns)


def _check_start(path: Path, magic: bytes, wanted: str) -> None:
    """Open a file for its first bytes: what is not there, or a pickle, has its own message."""
    try:
        with open(path, "rb") as file:
            start = file.read(8)
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from None
    if start[:1] == b"\x80" and start[1:2] in {bytes([i]) for i in range(2, 6)} and magic:
        raise ValueError(f"{path}: {_CONVERT}")
    if not start.startswith(magic) or not start:
        raise ValueError(f"{path}: wanted {wanted}; this is damaged or another kind of file")


def _numpy_said(error: Exception) -> str:
    if "allow_pickle" in str(error):
        return (
            "holds an array of objects, which is a pickle and is not opened; save numbers, rows "
            "of one length: np.stack(rows)"
        )
    if isinstance(error, MemoryError):
        return f"does not fit in memory, or is damaged ({_line(error)})"
    return str(error) if "not opened" in str(error) else f"damaged ({_line(error)})"


def _with_labels(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """With ``labels`` from its alias where the documented name is not there."""
    labels = [arrays[name] for name in LABELS if name in arrays]
    others = {name: x for name, x in arrays.items() if name not in LABELS}
    return others | ({"labels": labels[0]} if labels else {})


def _or(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
