"""Work that need not be done twice: where it is kept, under which key, whole or not at all."""

import atexit
import contextlib
import dataclasses
import functools
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from leepjax._progress import say

try:
    import fcntl
except ImportError:  # not on Windows, where nothing is held
    fcntl = None


def cache_dir(kind: str) -> Path:
    """Folder for one kind of cached thing: ``$LEEPJAX_CACHE/kind`` or ``~/.cache/leepjax/kind``.

    Where it cannot be written a folder of this process alone takes its place, with links to what
    the other holds, and one line says so: a cache saves time and changes no result.
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


def digest(*parts: Any) -> str:
    """Content key (16 hex digits) of arrays, dataclasses and plain values, in order.

    Arrays count by dtype, shape and bytes; anything else by its JSON text, so that the key is
    the same in another process and on another machine.
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
def whole(path: Path) -> Iterator[Path]:
    """A temporary file that takes ``path``'s name only if nothing went wrong."""
    part = path.with_name(f".{digest(path.name)}.{os.getpid()}")  # the name itself may be longest
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


@contextlib.contextmanager
def optional(path: Path) -> Iterator[None]:
    """Write to a cache: where that fails one line says so, and what was computed is used."""
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
    """A JSON Lines file: what determines the results first, then one object for each result.

    A process that is killed leaves whole lines and at most one torn one, which is cut off when the
    file is opened again. The file is held until this object is gone: two processes do not write it.

    Args:
      path: the file; it is made with its first line, if it is not there.
      identity: what determines the results; plain values.

    Raises:
      ValueError: the file holds results of another identity (it says what differs), or other
        things, is in use by another process, or cannot be written. It is then left as it was.
    """

    def __init__(self, path: Path, identity: Mapping[str, Any]):
        wanted = json.loads(json.dumps(identity, default=str))
        first = json.dumps({"identity": wanted}) + "\n"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(path, "a+")  # noqa: SIM115 (held as long as the journal is)
            hold(self._file)
            text = path.read_bytes()
            kept = text[: text.rfind(b"\n") + 1]  # a torn line is not
            lines = [json.loads(line) for line in kept.splitlines()]
            if not lines and not first.encode().startswith(text):
                raise ValueError("its first line is another")
            there = lines[0]["identity"] if lines else wanted
            dict(there)  # or it is no identity
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise ValueError(
                f"journal: wanted a file of earlier results, or none, at {path}: {error}"
            ) from None
        differs = differing(there, wanted)
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
        self._write("".join(json.dumps(row) + "\n" for row in rows))
        self.rows.extend(dict(row) for row in rows)

    def _write(self, text: str) -> None:
        self._file.write(text)
        self._file.flush()
        os.fsync(self._file.fileno())
