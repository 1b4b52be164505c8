"""Content damaged at random, and readers kept within memory."""

import struct
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from hypothesis import strategies as st

from benchmarks.memory import peak_within

ROOM = 64 * 2**20  # bytes that a reader may need beside twenty times its file
TIMES = 20


def _flip(content: bytearray, rng: np.random.Generator) -> bytes | bytearray:
    content[rng.integers(len(content))] ^= 1 << rng.integers(8)
    return content


def _scribble(content: bytearray, rng: np.random.Generator) -> bytes | bytearray:
    start = rng.integers(len(content))
    size = min(int(rng.integers(1, 20)), len(content) - int(start))
    content[start : start + size] = rng.bytes(size)
    return content


def _near_an_end(content: bytearray, rng: np.random.Generator) -> bytes | bytearray:
    """Where formats have their headers and footers."""
    reach = min(64, len(content))
    place = rng.integers(reach)
    content[place if rng.integers(2) else -1 - place] = rng.integers(256)
    return content


def _move(content: bytearray, rng: np.random.Generator) -> bytes | bytearray:
    a, b, c = sorted(rng.integers(len(content) + 1, size=3))
    return content[:a] + content[b:c] + content[a:b] + content[c:]


def _integer(content: bytearray, rng: np.random.Generator) -> bytes | bytearray:
    """Four or eight bytes that may be a length or an offset."""
    values = [0, 1, 2**31 - 1, 2**32 - 1, 2**40, 2**62, 2**63, 2**64 - 1]
    packed = struct.pack("<Q", values[rng.integers(len(values))])[: rng.choice([4, 8])]
    place = rng.integers(len(content))
    content[place : place + len(packed)] = packed
    return content


def _number(content: bytearray, rng: np.random.Generator) -> bytes | bytearray:
    """Another number in the place of one that is written in digits, as in a header."""
    places = [i for i, byte in enumerate(content[:2000]) if 48 <= byte < 58]
    if places:
        place = rng.choice(places)
        choices = [b"0", b"-1", b"1e9", b"9" * 12, b"9" * 30, b"9" * 5000, b"NaN", b"null", b"()"]
        content[place : place + 1] = choices[rng.integers(len(choices))]
    return content


def _token(content: bytearray, rng: np.random.Generator) -> bytes | bytearray:
    """Another word in the place of one of a header."""
    words = [
        b"F32",
        b"f4",
        b"shape",
        b"False",
        b"fortran_order",
        b"descr",
        b"features",
        b"data_offsets",
    ]
    others = [
        b"O",
        b"F8_E5M2",
        b"U9",
        b"True",
        b"\xff",
        b"",
        b"[" * 5000,
        b"(" * 300,
        b"V999999999",
    ]
    held = [word for word in words if word in content]
    if held:
        word = held[rng.integers(len(held))]
        return bytes(content).replace(word, others[rng.integers(len(others))], 1)
    return content


CORRUPTIONS: dict[str, Callable[[bytearray, np.random.Generator], bytes | bytearray]] = {
    "flip": _flip,
    "scribble": _scribble,
    "near an end": _near_an_end,
    "cut": lambda content, rng: content[: rng.integers(len(content))],
    "cut the start": lambda content, rng: content[rng.integers(len(content)) :],
    "move": _move,
    "twice": lambda content, rng: content + content,
    "zero the end": lambda content, rng: content[: rng.integers(len(content))].ljust(
        len(content), b"\0"
    ),
    "integer": _integer,
    "number": _number,
    "token": _token,
    "append": lambda content, rng: content + rng.bytes(9),
}


def corrupt(content: bytes, corruptions: tuple[tuple[str, int], ...]) -> bytes:
    """The content after each of them."""
    for what, number in corruptions:
        if content:
            content = bytes(CORRUPTIONS[what](bytearray(content), np.random.default_rng(number)))
    return content


corruptions = st.lists(
    st.tuples(st.sampled_from([*CORRUPTIONS]), st.integers(0, 2**32 - 1)), max_size=3
).map(tuple)


@contextmanager
def written(content: bytes, name: str) -> Iterator[Path]:
    """A file of this content for the time of the block."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        yield path


@contextmanager
def bounded(size: int) -> Iterator[None]:
    """Fail if what runs in it needs far more memory than a file of this size."""
    with peak_within() as growth:
        yield
    assert growth() <= TIMES * size + ROOM, f"{growth():,} bytes for a file of {size:,}"
