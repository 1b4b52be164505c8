"""The rows of all sources: from a journal, else scored, in this process or over a cluster."""

import os
from collections.abc import Iterator, Mapping
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from leepjax._store import Journal
from leepjax.cluster import Failed, run_pieces
from leepjax.ranking._score_one import Judged, Row, row_key, score_one
from leepjax.ranking.cost import PARTS
from leepjax.ranking.scored import reason_of


def all_rows(
    judged: Judged,
    sources: Mapping[str, Any],
    cluster: str | None,
    journal: str | os.PathLike[str] | None,
) -> Iterator[tuple[str, Row | Failed]]:
    """The row of each source by its name: from the journal, else scored, and then written there."""
    record, keys = None, dict.fromkeys(sources)
    if journal is not None:
        identity = {"rows": "leepjax.rank", "leepjax": version("leepjax")}
        record = Journal(Path(journal), identity)
        keys = {name: row_key(judged, source) for name, source in sources.items()}
    done = {} if record is None else {row["key"]: row["row"] for row in record.rows}
    none = {"took": [0.0] * len(PARTS)}
    yield from ((name, {**done[key], **none}) for name, key in keys.items() if key in done)
    missing = [name for name, key in keys.items() if key not in done]
    pieces = [_absolute(sources[name]) if cluster else sources[name] for name in missing]
    for i, row in run_pieces(partial(score_one, judged), pieces, cluster=cluster):
        key = keys[missing[i]]
        kept: dict[str, Any] = {}
        if not isinstance(row, Failed) and all(lacking for _, _, lacking in row["unscored"]):
            kept = {part: x for part, x in row.items() if part != "took"}  # another time's seconds
        if record is not None and key is not None and kept:
            record.append([{"key": key, "row": kept}])
        yield missing[i], row


def _absolute(source: Any) -> Any:
    """What a worker in another folder can open."""
    return os.path.abspath(source) if isinstance(source, str | os.PathLike) else source


def why_not(source: Any, error: Exception) -> str:
    """Why a source has no row; of a file, whether a worker does not see what is here."""
    reason = reason_of(error)
    if not isinstance(source, str | os.PathLike):
        return reason.removeprefix(f"{source}: ")
    reason = reason.removeprefix(f"{source}: ").removeprefix(f"{_absolute(source)}: ")
    if "No such file" in reason and os.path.exists(source):
        reason += "; it is on this machine: a worker has to see it too, as on a shared file system"
    return reason
