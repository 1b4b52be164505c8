"""The file that a command writes its result to: checked before the work, then written whole."""

import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from leepjax._store import whole
from leepjax._text import write_table


def check_output(path: Path, suffixes: Sequence[str], inputs: Iterable[Path]) -> None:
    """Find out, before any work, whether a result can be written.

    Args:
      path: the file. What is there already stays until the new one is whole.
      suffixes: what it may end in.
      inputs: what the command reads: files, and folders that belong to somebody else.

    Raises:
      ValueError: another suffix, no such folder, no plain file, one of the inputs, or a place that
        cannot be written.
    """
    if path.suffix not in suffixes:
        raise ValueError(f"output: wanted a {' or '.join(suffixes)}, got {path.suffix!r}")
    try:
        target = path.resolve()
        if not target.parent.is_dir():
            raise ValueError(f"output: wanted a file in a folder that exists, got {path}")
        if target.exists() and not target.is_file():
            kind = "folder" if target.is_dir() else "device"
            raise ValueError(f"output: wanted a file, got {path}, which is a {kind}")
        if {target, target.parent} & {entry.resolve() for entry in inputs}:
            raise ValueError(f"output: wanted a file that is not read from, got {path}")
        with tempfile.TemporaryFile(dir=target.parent):
            pass
        if target.exists() and not os.access(target, os.W_OK):
            raise PermissionError(0, "the file there is read-only")
    except OSError as error:
        raise ValueError(_refused(path, error)) from None


def write_output(path: Path, content: str | Sequence[Mapping[str, Any]]) -> None:
    """Write a text, or rows as CSV, whole or not at all.

    Raises:
      ValueError: it cannot be written; what was there is still there.
    """
    try:
        with whole(path.resolve()) as part:
            if isinstance(content, str):
                part.write_bytes(content.encode("utf-8"))
            else:
                write_table(part, content)
    except OSError as error:
        raise ValueError(_refused(path, error)) from None


def _refused(path: Path, error: OSError) -> str:
    cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
    return f"output: cannot write {path} ({cause.strerror or cause})"
