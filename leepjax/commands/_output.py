"""The file that a command writes its result to: checked before the work, then written whole."""

import os
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from leepjax._store import whole


def check_output(
    path: Path, suffixes: Sequence[str], inputs: Iterable[Path], argument: str = "output"
) -> None:
    """Find out, before any work, whether a result can be written.

    Args:
      path: the file. What is there already stays until the new one is whole.
      suffixes: what it may end in.
      inputs: what the command reads: files, and folders that belong to somebody else.
      argument: which names it.

    Raises:
      ValueError: another suffix, no such folder, no plain file, one of the inputs, or a place that
        cannot be written.
    """
    if path.suffix not in suffixes:
        raise ValueError(f"{argument}: wanted a {' or '.join(suffixes)}, got {path.suffix!r}")
    try:
        target = path.resolve()
        if not target.parent.is_dir():
            raise ValueError(f"{argument}: wanted a file in a folder that exists, got {path}")
        if target.exists() and not target.is_file():
            kind = "folder" if target.is_dir() else "device"
            raise ValueError(f"{argument}: wanted a file, got {path}, which is a {kind}")
        if {target, target.parent} & {entry.resolve() for entry in inputs}:
            raise ValueError(f"{argument}: wanted a file that is not read from, got {path}")
        with tempfile.TemporaryFile(dir=target.parent):
            pass
        if target.exists() and not os.access(target, os.W_OK):
            raise PermissionError(0, "the file there is read-only")
    except OSError as error:
        raise ValueError(f"{argument}: cannot write {path} ({error.strerror or error})") from None


def write_output(path: Path, text: str) -> None:
    """Write a result as UTF-8, whole or not at all; what is no text in names becomes ``\\udcXX``.

    Raises:
      ValueError: it cannot be written; an existing file is still there.
    """
    try:
        with whole(path.resolve()) as part:
            part.write_bytes(text.encode("utf-8", "backslashreplace"))
    except OSError as error:
        raise ValueError(f"output: {error}") from None
