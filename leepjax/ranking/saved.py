"""A ranking on the disk: a page for a browser, CSV and JSON, in a folder of their own."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from leepjax._page import GENERATOR, Section, page
from leepjax._store import writing
from leepjax._text import Sheet, decimal, starred, table_text
from leepjax.evaluation.study import NULLS
from leepjax.ranking import cells, cost, figure

if TYPE_CHECKING:
    from leepjax.ranking.result import Ranking

PAGE = "index.html"
FILES = (PAGE, "ranking.csv", "ranking.json")
REFRESH = 10  # seconds after which a browser reads a page again that is not yet whole


def save(ranking: Ranking, output: str | os.PathLike[str]) -> None:
    """Write the three files, none of them before all are on the disk."""
    check_folder(output)
    texts = (as_page(ranking), as_csv(ranking), as_json(ranking))
    try:
        folder = Path(output)
        with writing(folder):
            folder.mkdir(exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".", dir=folder) as parts:
                for name, text in zip(FILES, texts, strict=True):
                    (Path(parts) / name).write_bytes(text.encode("utf-8", "backslashreplace"))
                for name in FILES:
                    os.replace(Path(parts) / name, folder / name)
    except OSError as error:
        raise ValueError(f"output: {error}") from None


def check_folder(output: str | os.PathLike[str]) -> None:
    """Find out, before any work, whether a ranking can be saved there.

    Raises:
      ValueError: it holds something else than an earlier ranking, or cannot be written.
    """
    folder = Path(output)
    try:
        if folder.exists() and not folder.is_dir():
            raise ValueError(f"output: wanted a folder, got {output}, which is a file")
        held = {entry.name for entry in folder.iterdir()} if folder.exists() else set()
        held = {name for name in held if not name.startswith(".")}
        if held and not (PAGE in held <= {*FILES} and _is_ours(folder / PAGE)):
            some = ", ".join(sorted(held - {*FILES})[:3]) or f"an {PAGE} of something else"
            raise ValueError(
                "output: wanted a new folder, an empty one or one of an earlier ranking, got "
                f"{output}, which holds {some}"
            )
        place = folder if folder.exists() else folder.resolve().parent
        if not place.is_dir():
            raise ValueError(f"output: wanted a folder in one that exists, got {output}")
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        reason = error.strerror or error
        raise ValueError(f"output: cannot write {output} ({reason})") from None


def _is_ours(page: Path) -> bool:
    return GENERATOR in page.read_text("utf-8", "replace")


def as_json(ranking: Ranking) -> str:
    """Everything, as ``to_dict``."""
    return json.dumps(ranking.to_dict(), indent=2, default=str) + "\n"


def as_csv(ranking: Ranking) -> str:
    """A row for each source, those that failed last."""
    everything = ranking.to_dict()
    rows = []
    for source in everything["sources"]:
        scores, shuffled = source.pop("scores"), source.pop("shuffled")
        took = {f"{part}_seconds": value for part, value in source.pop("took").items()}
        row = {"rank": source.pop("rank"), "source": source.pop("source")}
        chosen = {"chosen": row["source"] in everything["choice"]}
        of_labels = {f"{name}_shuffled": value for name, value in shuffled.items()}
        rows.append(row | chosen | scores | source | took | of_labels)
    for failure in everything["failures"]:
        about = ", ".join(failure["metrics"])
        said = f"{about}: {failure['reason']}" if about else failure["reason"]
        held = [row for row in rows if row["source"] == failure["source"]]
        row = held[0] if held else {"source": failure["source"]}
        row["failure"] = "; ".join(filter(None, (row.get("failure"), said)))
        rows += [] if held else [row]
    return table_text(rows)


def as_page(ranking: Ranking) -> str:
    """The HTML page: what to do, in words; what that rests on; what it cost; how it was made."""
    r = ranking
    title, decision = cells.headlines(r)
    waiting = f"Still to come: {', '.join(r.waiting)}." if r.waiting else ""
    text = "\n".join(filter(None, (decision, waiting)))
    return page(title, [*_sections(r)], text, refresh=REFRESH if r.waiting else 0)


def _sections(r: Ranking) -> Iterator[Section]:
    first, *others = cells.tables(r, wide=len(r.scores) + len(r.facts))
    if others:
        standing = Sheet(first.headings[1:], [row[1:] for row in first.rows], first.words)
        yield Section("Which is best", [standing], STANDING, drawing=figure.svg(r))
    yield Section("All scores", others or [first], " ".join(cells.reading(r)))
    agreement = r.agreement()
    tau = [[starred(n, NULLS), decimal(t)] for n, t in agreement.items() if t == t]  # NaN is not
    if tau:
        yield Section("Agreement", [Sheet(["score", "tau"], tau)], AGREEMENT)
    if r.failures:
        rows = [[f.source, ", ".join(f.metrics) or "all", f.reason] for f in r.failures]
        headings = ["source", "scores", "reason"]
        yield Section("Not scored", [Sheet(headings, rows, words=headings)])
    if r.took:
        yield Section("What it cost", [cost.sheet(r)], f"{cost.words(r)} {COMPILING}")
    made = {k: v for k, v in r.made.items() if k != "commits"}
    made |= {f"commit of {name}": commit for name, commit in r.made.get("commits", {}).items()}
    if made:
        rows = [[name, str(value)] for name, value in made.items()]
        yield Section(
            "How it was made", [Sheet(["entry", "value"], rows, words=("entry", "value"))]
        )


STANDING = (
    "Behind the best: the difference on the same samples, ± one standard error. P(best): the "
    "probability that a source has the highest score over other samples."
)
COMPILING = "The first source of a shape pays for what is compiled for all of that shape."
AGREEMENT = (
    "Kendall's tau over the sources, from -1 (the opposite order) to 1 (the same): how far other "
    "scores put them in the order of the one that decides."
)
