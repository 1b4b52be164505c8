"""Cache folders, content-addressed keys, checksums, and files that are written whole or not at all.

A JSON record carries its own checksum. A record of files, written after them, holds their
checksums. Files without a record count as missing. A damaged cache file is made again, and a
damaged result is refused. The checksum is CRC-32, the fastest that Python has. It guards against
faulty disks and interruptions, not against people.
"""

import atexit
import base64
import contextlib
import dataclasses
import functools
import hashlib
import json
import os
import platform
import tempfile
import warnings
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from leepjax._progress import say

try:
    import fcntl
except ImportError:  # not on Windows, where nothing is held
    fcntl = None


_CRC = "crc32"


def cache_dir(kind: str) -> Path:
    """Folder for one kind of cached thing: ``$LEEPJAX_CACHE/kind`` or ``~/.cache/leepjax/kind``.

    If it cannot be written, a folder of this process alone replaces it, with links to the files of
    the other, and one line says so. A cache saves time and changes no result.
    """
    root = os.environ.get("LEEPJAX_CACHE") or "~/.cache/leepjax"
    try:
        path = Path(root).expanduser() / kind
        path.mkdir(parents=True, exist_ok=True)
        if os.access(path, os.W_OK):
            return path
        reason = "it is read-only"
    except (OSError, RuntimeError) as error:  # RuntimeError: nobody's home
        path, reason = Path(root) / kind, str(error)
    return _stand_in(path, reason)


@functools.cache
def _stand_in(path: Path, reason: str) -> Path:
    own = _own_root() / path.name
    own.mkdir(exist_ok=True)
    with contextlib.suppress(OSError):
        for entry in path.iterdir():
            (own / entry.name).symlink_to(entry.absolute())
    say(f"LEEPJAX_CACHE: {path} cannot be written ({reason}); it goes without")
    return own


@functools.cache
def _own_root() -> Path:
    root = tempfile.TemporaryDirectory(prefix="leepjax-")
    atexit.register(root.cleanup)
    return Path(root.name)


def keep_programs() -> None:
    """Let JAX cache compiled programs, unless the user has set a folder."""
    if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        import jax  # late, so that whoever needs digests alone can set JAX's environment after

        folder = cache_dir("xla")
        for file in folder.iterdir():  # a full disk leaves empty ones, which JAX does not replace
            if file.name.endswith("-cache") and file.stat().st_size == 0:
                file.unlink(missing_ok=True)
        jax.config.update("jax_compilation_cache_dir", str(folder))


def digest(*parts: Any) -> str:
    """Content key (16 hex digits) of arrays, dataclasses and plain values, in order.

    Arrays count by dtype, shape and bytes, anything else by its JSON text. So the key is the same
    in another process and on another machine.
    """
    state = hashlib.blake2b(digest_size=8)
    for part in parts:
        if hasattr(part, "__array__"):
            array = np.ascontiguousarray(part)
            state.update(f"{array.dtype}{array.shape}".encode())
            state.update(array.data)
        else:
            if dataclasses.is_dataclass(part) and not isinstance(part, type):
                part = dataclasses.asdict(part)
            state.update(json.dumps(part, sort_keys=True, default=str).encode())
        state.update(b"\0")
    return state.hexdigest()


def pack(array: np.ndarray) -> str:
    """An array ``[n]`` of numbers as text for a journal, to the last digit.

    >>> unpack(pack(np.array([0.1, np.nan])))
    array([0.1, nan])
    """
    return f"{array.dtype.str} {base64.b64encode(array.tobytes()).decode()}"


def unpack(text: str) -> np.ndarray:
    """The array of :func:`pack`."""
    dtype, data = text.split(" ")
    return np.frombuffer(base64.b64decode(data), np.dtype(dtype))


def hold(file: IO[Any]) -> None:
    """Hold an open file for this process, until it is closed.

    Raises:
      ValueError: another process holds it.
    """
    if fcntl is not None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ValueError("another process is using it") from None


@contextlib.contextmanager
def writing(path: Path, kind: type[Exception] = OSError) -> Iterator[None]:
    """Name in one line what cannot be written, as on a full disk; raise ``kind`` then.

    Raises:
      OSError: it cannot be written.
    """
    try:
        yield
    except kind as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:300]
        raise OSError(f"cannot write {path}: {reason}") from error


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A temporary file that takes ``path``'s name only if nothing went wrong."""
    # The name itself may be the longest there can be; hosts that share a folder share numbers.
    part = path.with_name(f".{digest(path.name, platform.node())}.{os.getpid()}")
    try:
        with writing(path):
            yield part
            os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_record(path: Path, record: Mapping[str, Any]) -> None:
    """Write a JSON object with its checksum."""
    with whole(path) as part:
        part.write_text(json.dumps(_signed(record), indent=2) + "\n")


def read_record(path: Path, *, old: bool = False) -> dict[str, Any]:
    """The JSON object that :func:`write_record` wrote; ``old``: also one without a checksum.

    Raises:
      ValueError: it has changed; the message names the file.
    """
    try:
        record = json.loads(path.read_bytes())
        return (
            record if old and isinstance(record, dict) and _CRC not in record else _checked(record)
        )
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged ({error})") from None


def seal(record: Path, files: Iterable[Path]) -> None:
    """Write, after the files in a record's folder or below, the record of their checksums."""
    held = {file.relative_to(record.parent).as_posix(): _checksum(file) for file in files}
    write_record(record, {"files": held})


def check_seal(record: Path, only: str | None = None) -> None:
    """Check that files, or ``only`` the one of that name, have not changed since they were sealed.

    Raises:
      ValueError: the record, or a file, is lost or damaged; the message names it.
    """
    held = read_record(record)["files"]
    for name in held if only is None else held.keys() & {only}:
        file = record.parent / name
        if not file.is_file():
            raise ValueError(f"{file} is lost")
        if _checksum(file) != held[name]:
            raise ValueError(f"{file} is damaged (its checksum is another)")


def intact(record: Path) -> bool:
    """Whether cached files exist as they were sealed; warns if they are damaged."""
    if not record.exists():
        return False
    try:
        check_seal(record)
    except (OSError, ValueError) as error:
        warnings.warn(f"{error}; it is made again", stacklevel=3)
        return False
    return True


def _checksum(path: Path) -> str:
    value = 0
    with open(path, "rb") as file:
        while block := file.read(2**20):
            value = zlib.crc32(block, value)
    return f"{value:08x}"


def _signed(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record as it will be read, with the checksum of its one-line JSON text."""
    plain = json.loads(json.dumps(record, default=str))
    return plain | {_CRC: f"{zlib.crc32(json.dumps(plain).encode()):08x}"}


def _checked(signed: Any) -> dict[str, Any]:
    if not isinstance(signed, dict) or _CRC not in signed:
        raise ValueError("it is no record with a checksum")
    plain = {name: value for name, value in signed.items() if name != _CRC}
    if _signed(plain)[_CRC] != signed[_CRC]:
        raise ValueError("its checksum is another")
    return plain


@contextlib.contextmanager
def optional(path: Path) -> Iterator[None]:
    """Write to a cache; if that fails one line says so, and the computed value is used."""
    try:
        yield
    except Exception as error:  # whatever the libraries that write pass on
        say(f"LEEPJAX_CACHE: {path} is not kept ({error})")


def differing(there: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """Where two configurations differ: ``seed: there 0, asked for 1; ...``; empty if nowhere."""
    return "; ".join(
        f"{name}: there {there.get(name)!r}, asked for {wanted.get(name)!r}"
        for name in sorted({*there, *wanted})
        if there.get(name) != wanted.get(name)
    )


class Journal:
    """Append-only JSON Lines journal, to resume a run.

    The first line holds what determines the results, every further line one result. Every line
    carries its checksum. A process that is killed leaves complete lines and at most one incomplete
    line, which is cut off when the file is opened again. Lines of an earlier version, without
    checksums, are read if the first line has none either. The file is locked until this object is
    deleted, so two processes cannot write it.

    Args:
      path: the file; it is created with its first line if it does not exist.
      identity: what determines the results; plain values.

    Attributes:
      rows: the results, as they are read back.

    Raises:
      ValueError: the file holds results of another identity (it says what differs), or other
        things, is damaged, in use by another process, or cannot be written. It is then left as it
        was.
    """

    def __init__(self, path: Path, identity: Mapping[str, Any]):
        wanted = _signed({"identity": identity})
        first = json.dumps(wanted) + "\n"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(path, "a+")  # noqa: SIM115 (held as long as the journal is)
            hold(self._file)
            text = path.read_bytes()
            kept = text[: text.rfind(b"\n") + 1]  # a torn line is not
            lines = _lines(kept)
            if not lines and not first.encode().startswith(text):
                raise ValueError("its first line is another")
            there = lines[0]["identity"] if lines else wanted["identity"]
            dict(there)  # or it is no identity
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise ValueError(
                f"journal: wanted a file of earlier results, or none, at {path}: {error}"
            ) from None
        differs = differing(there, wanted["identity"])
        if differs:
            raise ValueError(
                f"journal: {path} holds results of another configuration ({differs}); "
                "name another file, or delete this one"
            )
        os.truncate(path, len(kept))
        if not lines:
            self._write(first)
        self.rows: list[dict[str, Any]] = lines[1:]

    def append(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Add results; they are on the disk when this returns."""
        text = "".join(json.dumps(_signed(row)) + "\n" for row in rows)
        self._write(text)
        self.rows.extend(_lines(text.encode()))

    def _write(self, text: str) -> None:
        with writing(Path(self._file.name)):
            self._file.write(text)
            self._file.flush()
            os.fsync(self._file.fileno())


def _lines(text: bytes) -> list[dict[str, Any]]:
    """The objects of a journal's lines, each checked; not checked if the first has no checksum."""
    lines, old = [], False
    for number, line in enumerate(text.splitlines(), start=1):
        try:
            row = json.loads(line)
            old |= number == 1 and list(row) == ["identity"]
            lines.append(row if old and _CRC not in row else _checked(row))
        except (ValueError, TypeError, RecursionError) as error:
            advice = "; delete that line, and what it held is computed again" if lines else ""
            raise ValueError(f"line {number} is damaged ({error}){advice}") from None
    return lines
