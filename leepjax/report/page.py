"""The page of a study, from the files of its run: tables, figures, what they say in words."""

from collections.abc import Sequence
from pathlib import Path

from leepjax._page import Section, write_page
from leepjax.evaluation import NULLS, Correlation
from leepjax.report.run import read_table
from leepjax.report.study import read_correlations
from leepjax.report.tables import by_correlation, correlation_sheet, format_estimate, verdict


def write_study_page(path: Path, title: str) -> None:
    """Write ``page.html`` and ``page.md`` of a study's run directory, from its files."""
    results = read_table(path / "results.csv")
    sections = []
    for setting, table in read_correlations(path).items():
        tasks = sum(row["setting"] == setting for row in results)
        figure = path / f"{setting}.svg"
        sections.append(
            Section(
                f"{setting}: {tasks} tasks",
                [correlation_sheet(table)],
                in_words(table),
                [figure] if figure.exists() else [],
            )
        )
    write_page(path / "page.html", title, sections)


def in_words(table: Sequence[Correlation]) -> str:
    """The verdict, and what of the best score's correlation is not the number of classes."""
    scores = [row for row in sorted(table, key=by_correlation) if row.score not in NULLS]
    text = verdict(table)
    if scores and "pearson|num_classes" in scores[0].estimates:
        remains = format_estimate(scores[0].estimates["pearson|num_classes"])
        text += f" Given the number of classes, {remains} of {scores[0].score}'s r remains."
    return text
