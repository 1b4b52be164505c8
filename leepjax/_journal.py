"""What a long run has finished, line by line, so that the next one need not do it again."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from leepjax._cache import hold


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
            whole = text[: text.rfind(b"\n") + 1]
            lines = [json.loads(line) for line in whole.splitlines()]
            if not lines and not first.encode().startswith(text):
                raise ValueError("its first line is another")
            there = lines[0]["identity"] if lines else wanted
            names = {*there, *wanted}
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise ValueError(
                f"journal: wanted a file of earlier results, or none, at {path}: {error}"
            ) from None
        differs = [
            f"{name}: there {there.get(name)!r}, asked for {wanted.get(name)!r}"
            for name in sorted(names)
            if there.get(name) != wanted.get(name)
        ]
        if differs:
            raise ValueError(
                f"journal: {path} holds results of another configuration ({'; '.join(differs)}); "
                "name another file, or delete this one"
            )
        os.truncate(path, len(whole))
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
