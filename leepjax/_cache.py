"""Where work that need not be done twice is kept, and the content keys it is kept under."""

import dataclasses
import hashlib
import json
import os
from pathlib import Path
from typing import IO, Any

import numpy as np

try:
    import fcntl
except ImportError:  # not on Windows, where nothing is held
    fcntl = None


def cache_dir(kind: str) -> Path:
    """Folder for one kind of cached thing: ``$LEEPJAX_CACHE/kind`` or ``~/.cache/leepjax/kind``.

    Raises:
      ValueError: it cannot be made.
    """
    root = os.environ.get("LEEPJAX_CACHE") or Path.home() / ".cache" / "leepjax"
    path = Path(root).expanduser() / kind
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"LEEPJAX_CACHE: wanted a folder that can be written, got {path} ({error})"
        ) from None
    return path


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
