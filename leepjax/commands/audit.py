r"""``leepjax audit``: recompute a published table of transferability scores.

    leepjax audit TABLE.csv --summary SUMMARY.csv

recomputes the correlations of every score with accuracy, target by target and over all of them,
under every convention of the weighted tau, with clustered confidence intervals and beside nulls. It
compares the printed values with those that the columns give, and reports the cost of choosing by
each score. TABLE has one row for each model and target, or for each task, with scores and
accuracies as columns (``leepjax.audit.read_pool`` says how they are found,
``leepjax.audit.recompute`` how SUMMARY is laid out). ``results.csv`` of a study is such a table.

    leepjax audit tllib_model_ranking.csv \
        --summary tllib_model_ranking_summary.csv --models docs/results/torchvision_models.csv

The results for that table are in docs/results.
"""

import dataclasses
from pathlib import Path

from rich.console import Console
from rich.text import Text
from tyro.conf import Positional

from leepjax._text import printable
from leepjax.audit import read_csv, read_pool, recompute


@dataclasses.dataclass(frozen=True)
class Audit:
    """Recompute a published table: conventions, intervals, nulls, and the printed values."""

    table: Positional[Path]
    """CSV, one row for each model and target or for each task, scores and accuracies as columns."""
    summary: Path | None = None
    """CSV of the correlations that were printed for it."""
    models: Path | None = None
    """CSV of facts that become nulls: model, spelt as in the table, parameters, source_accuracy."""
    accuracy: str | None = None
    """Column of accuracies; default accuracy, else the only one with that word in its name."""
    part: str | None = None
    """Column within whose values rows are compared; default dataset, target or setting."""
    cluster: str | None = None
    """Column that names what rows of a part share; default group, else classes, else nothing."""
    scores: tuple[str, ...] = ()
    """Columns of scores; default all that hold numbers, except those known not to be scores."""
    output_dir: Path | None = None
    """Where results go; default runs/audit/KEY, KEY computed from configuration and files."""
    overwrite: bool = False
    """Start again if the same command has already run."""


def audit_table(config: Audit, console: Console) -> None:
    """Audit the table, or show the saved audit."""
    # These two import drawing; the other commands start without it.
    from leepjax import report
    from leepjax.commands.audit_sections import sections

    console.width = max(console.width, 126)  # tables here are wide
    table = read_csv(config.table)
    summary = None if config.summary is None else read_csv(config.summary)
    pool = read_pool(
        table,
        accuracy=config.accuracy,
        part=config.part,
        cluster=config.cluster,
        scores=config.scores,
        models=None if config.models is None else read_csv(config.models),
    )
    with report.open_run(
        "audit", config, output_dir=config.output_dir, overwrite=config.overwrite
    ) as study:
        if not study.finished:
            for name, rows in recompute(pool, summary).items():
                study.write_table(name, rows)
            title = f"{config.table.name}, audited"
            report.write_page(study.path / "page.html", title, list(sections(study.path)))
    for section in sections(study.final):
        report.print_section(section, console)
    text = f"* null; ... out: range of r with one left out. Tables, page: {study.final}"
    console.print(Text(printable(text)))
