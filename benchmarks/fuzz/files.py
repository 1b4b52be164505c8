"""Files of arrays, sound and damaged: their content, or a ``ValueError``, within memory.

A case says what a file holds and how it is then corrupted; without corruption it must be read as it
was written. Nothing may need more memory than a multiple of the file's size, whatever its header
claims.
"""

import dataclasses
import io
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from hypothesis import strategies as st
from safetensors.numpy import save

from benchmarks.fuzz.damage import bounded, corrupt, corruptions, written
from benchmarks.fuzz.target import Target, refusal
from leepjax._numbers import as_numbers
from leepjax.models.tensors import read_tensors
from leepjax.ranking.files import ARRAYS, FACTS, read_array, read_labels, read_source

NAMES = (*ARRAYS, "labels", "label", "parameters", "source_accuracy", "seconds", "other", "")
DTYPES = (
    "f4",
    ">f4",
    "f8",
    "f2",
    "bfloat16",
    "i1",
    "i8",
    "u4",
    ">i2",
    "?",
    "c8",
    "U3",
    "M8[s]",
    "V3",
)
SHAPES = ((6, 4), (6,), (), (0,), (0, 4), (6, 0), (1, 1), (2, 3, 4), (6, 1))


@dataclasses.dataclass(frozen=True)
class File:
    """Arrays ``(name, dtype, shape)`` of a file, and its corruptions ``(what, seed)`` in turn."""

    arrays: tuple[tuple[str, str, tuple[int, ...]], ...]
    corruptions: tuple[tuple[str, int], ...] = ()


def array_of(dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    """Small numbers, negative and not, of any dtype."""
    x = (np.arange(np.prod(shape, dtype=int)) % 5).reshape(shape)
    if dtype == "V3":
        return np.zeros(shape, dtype)
    return x.astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)


def _npz(arrays: dict[str, np.ndarray]) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)  # pyright: ignore[reportArgumentType]
    return file.getvalue()


def _compressed(arrays: dict[str, np.ndarray]) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)  # pyright: ignore[reportArgumentType]
    return file.getvalue()


def _odd_npz(arrays: dict[str, np.ndarray]) -> bytes:
    """An archive as no NumPy writes it: other methods, a folder, a name twice, one not an array."""
    file = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(file, "w", zipfile.ZIP_BZIP2) as archive:
        warnings.simplefilter("ignore")
        for name, x in arrays.items():
            archive.writestr(f"{name}.npy", _npy({"": x}))
            archive.writestr(f"{name}.npy", _npy({"": x[:1] if x.ndim else x}))
            archive.writestr(f"../{name}", b"text")
            archive.writestr(f"{name}/", b"")
        archive.writestr("probs", b"[[0.5, 0.5]]")
    return file.getvalue()


def _npy(arrays: dict[str, np.ndarray]) -> bytes:
    file = io.BytesIO()
    np.save(file, next(iter(arrays.values())))
    return file.getvalue()


def _safetensors(arrays: dict[str, np.ndarray]) -> bytes:
    return save(arrays)


def _parquet(arrays: dict[str, np.ndarray]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = io.BytesIO()
    pq.write_table(pa.table({name: pa.array(x.tolist()) for name, x in arrays.items()}), file)
    return file.getvalue()


OF_SAFETENSORS = ("f4", "f8", "f2", "bfloat16", "i1", "i8", "u4", "?")
OF_PARQUET = ("f4", "i8", "?", "U3")


@dataclasses.dataclass(frozen=True)
class Format:
    """How arrays become a file, which of them it can hold, and what reads it."""

    suffix: str
    write: Callable[[dict[str, np.ndarray]], bytes]
    dtypes: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    readers: tuple[Callable[[Path], Any], ...] = (read_source, read_labels)


FORMATS = {
    "npz": Format(".npz", _npz, DTYPES, SHAPES),
    "compressed npz": Format(".npz", _compressed, DTYPES, SHAPES),
    "odd npz": Format(".npz", _odd_npz, DTYPES, SHAPES),
    "npy": Format(".npy", _npy, DTYPES, SHAPES, (read_array, read_labels)),
    "safetensors": Format(
        ".safetensors",
        _safetensors,
        OF_SAFETENSORS,
        SHAPES,
        (read_source, read_labels, read_tensors),
    ),
    "parquet": Format(
        ".parquet", _parquet, OF_PARQUET, ((6, 4), (6,), (0,), (1, 1), (6, 1), (6, 0))
    ),
}


def files_of(form: Format) -> st.SearchStrategy[File]:
    """Files of a format; half of them are sound."""
    array = st.tuples(
        st.sampled_from(NAMES if form.suffix != ".npy" else ("array",)),
        st.sampled_from(form.dtypes),
        st.sampled_from(form.shapes),
    )
    arrays = st.lists(array, min_size=1, max_size=3, unique_by=lambda array: array[0]).map(tuple)
    if form.suffix == ".parquet":  # whose columns have the rows of the first
        arrays = arrays.map(lambda held: tuple(a for a in held if a[2][0] == held[0][2][0]))
    return st.builds(File, arrays=arrays, corruptions=corruptions)


def check_file(form: Format, case: File) -> str:
    """Read it by everything that reads it."""
    arrays = {name: array_of(dtype, shape) for name, dtype, shape in case.arrays}
    content = corrupt(form.write(arrays), case.corruptions)
    became = "refused"
    with written(content, f"net{form.suffix}") as path:
        for reader in form.readers:
            with bounded(len(content)):
                value, _ = refusal(lambda reader=reader: reader(path))
            if value is None:
                continue
            became = "value"
            held = value if isinstance(value, dict) else {_label_of(arrays): value}
            for name, x in held.items():
                numbers, _ = refusal(lambda name=name, x=x: _numbers(name, x))
                assert numbers is None or numbers.shape == np.shape(x)
            if not case.corruptions and form.write is not _odd_npz:
                _check_same(arrays, held)
    return became


def _label_of(arrays: dict[str, np.ndarray]) -> str:
    """The name that labels are read by."""
    return next(name for name in ("labels", "label", "array") if name in arrays)


def _numbers(name: str, x: Any) -> Any:
    if isinstance(x, ValueError):  # what stands in the place of an array that cannot be read
        raise x
    return as_numbers(name, x)


def _check_same(written: dict[str, np.ndarray], read: dict[str, Any]) -> None:
    """What was written under a name was read under it, but for Parquet's repeated facts."""
    for name, x in read.items():
        before = written[name if name in written else _label_of(written)]
        if isinstance(x, ValueError) or x.dtype == object:
            continue  # which have their own messages
        if name in FACTS and x.size != before.size:
            continue
        alike = x.dtype.itemsize == before.dtype.itemsize  # bfloat16 comes back without its name
        same = x.tobytes() == before.tobytes() if alike else x.tolist() == before.tolist()
        same &= x.shape == before.shape
        assert same, f"{name}: wrote {before}, read {x}"


def targets() -> list[Target]:
    """One for each format."""

    def target(name: str, form: Format) -> Target:
        return Target("reader", name, files_of(form), lambda case: check_file(form, case))

    return [target(name, form) for name, form in FORMATS.items()]
