"""What a long run has finished, line by line, so that the next one need not do it again."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


class Journal:
    """A JSON Lines file: what determines the results first, then one object for each result.

    A process that is killed leaves whole lines and at most one torn one, which is cut off when the
    file is opened again.

    Args:
      path: the file; it is made with its first line, if it is not there.
      identity: what determines the results; plain values.

    Raises:
      ValueError: the file holds results of another identity (it says what differs), or other
        things, or cannot be written.
    """

    def __init__(self, path: Path, identity: Mapping[str, Any]):
        self.path = Path(path)
        wanted = json.loads(json.dumps(identity, default=str))
        try:
            text = self.path.read_bytes() if self.path.exists() else b""
            whole = text[: text.rfind(b"\n") + 1]
            lines = [json.loads(line) for line in whole.splitlines()]
            if not lines:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self.path.write_text(json.dumps({"identity": wanted}) + "\n")
            elif whole != text:
                os.truncate(self.path, len(whole))
            there = lines[0]["identity"] if lines else wanted
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise ValueError(
                f"journal: wanted a file of earlier results, or none, at {path} ({error!r})"
            ) from None
        differs = [
            f"{name}: there {there.get(name)!r}, asked for {wanted.get(name)!r}"
            for name in sorted({*there, *wanted})
            if there.get(name) != wanted.get(name)
        ]
        if differs:
            raise ValueError(
                f"journal: {path} holds results of another configuration ({'; '.join(differs)}); "
                "name another file, or delete this one"
            )
        self.rows: list[dict[str, Any]] = lines[1:]

    def append(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Add results; they are on the disk when this returns."""
        with open(self.path, "a") as file:
            file.write("".join(json.dumps(row) + "\n" for row in rows))
            file.flush()
            os.fsync(file.fileno())
        self.rows.extend(dict(row) for row in rows)
