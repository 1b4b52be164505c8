"""The plan of a comparison, and its results in tables and words, from its CSV files."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from experiments.comparison.grid import Problem, Setting, command
from experiments.comparison.verdicts import LEVEL, THREE
from leepjax.evaluation import NULLS, Estimate
from leepjax.report import Section, Sheet, format_estimate, read_estimate, read_table

Rows = list[dict[str, str]]


def plan(
    settings: Sequence[Setting], lacking: Mapping[str, Sequence[Problem]], done: Collection[str]
) -> Iterator[str]:
    """Lines that list the settings of a comparison, what is finished, and what is missing."""
    for i, setting in enumerate(settings, start=1):
        what = ", ".join(problem.what for problem in lacking[setting.name])
        state = "finished" if setting.name in done else f"missing: {what}" if what else "can run"
        yield f"setting {i} of {len(settings)}: {setting.name} ({state})"
        yield f"    {command(setting)}"
    able = sum(not lacking[s.name] for s in settings if s.name not in done)
    finished = sum(setting.name in done for setting in settings)
    yield f"{len(settings)} settings: {finished} finished, {able} can run"
    reasons = dict.fromkeys(
        problem for s in settings if s.name not in done for problem in lacking[s.name]
    )
    for problem in reasons:
        yield f"missing: {problem.what}: {problem.why}"


def sections(path: Path, *, whole: bool = False, note: str = "") -> Iterator[Section]:
    """The results of a comparison.

    Args:
      path: its run directory.
      whole: with every score's r and every setting's command, which are too wide for a terminal.
      note: a note on the grid.
    """
    verdicts, scores = read_table(path / "verdicts.csv"), read_table(path / "comparison.csv")
    r: dict[str, dict[str, Estimate]] = {row["setting"]: {} for row in verdicts}
    given: dict[str, dict[str, Estimate]] = {}
    for row in scores:
        of = r if row["statistic"] == "pearson" else given
        estimate = read_estimate(row)
        of.setdefault(row["setting"], {})[row["score"]] = estimate
    yield Section("The three scores of the article", [_three(verdicts, r)], in_words(verdicts))
    yield Section("All scores beside nulls", [_nulls(verdicts, r)], nulls_in_words(verdicts))
    if given:
        text = "Partial r given the number of classes, in settings where that number varies from "
        text += "task to task."
        sheet = _every(given if whole else {k: _of_three(v) for k, v in given.items()})
        yield Section("Given the number of classes", [sheet], text)
    settings = read_table(path / "settings.csv")
    if whole:
        text = "Pearson's r with accuracy and its 95 % interval. Scores with a star are nulls."
        yield Section("Every score", [_every(r)], text)
        sheet = Sheet(
            ["setting", "command"], [[row["setting"], row["command"]] for row in settings]
        )
        yield Section("Settings", [sheet], note)
    absent = [row for row in settings if row["state"] != "finished"]
    if absent:
        sheet = Sheet(["setting", "why"], [[row["setting"], row["state"]] for row in absent])
        yield Section(f"Not in these tables: {len(absent)} of {len(settings)} settings", [sheet])


def in_words(verdicts: Rows) -> str:
    """In how many settings each of the three is best, and significantly best."""
    n = len(verdicts)
    won = {s: [row for row in verdicts if row["best_of_three"] == s] for s in THREE}
    sure = {s: sum(row["significant"] == "True" for row in won[s]) for s in THREE}
    above = sum(row["leep_above_null"] == "True" for row in verdicts)
    nulls = sum(bool(row["best_null"]) for row in verdicts)
    of = "" if nulls == n else f" of the {nulls} where a null is defined"
    text = (
        f"LEEP is the best of LEEP, NCE and H-score in {len(won['leep'])} of {n} settings, "
        f"significantly in {sure['leep']}. Its r is higher than the best null's in {above}{of}. "
        f"NCE is best in {len(won['nce'])}, significantly in {sure['nce']}, and the H-score in "
        f"{len(won['h_score'])}, significantly in {sure['h_score']}. "
    )
    alone = [sum(float(row["p"]) < LEVEL for row in won[s]) for s in THREE]
    close = sum(float(row["ahead"]) < 0.01 for row in verdicts)
    if close:
        text += f"The best leads the second by less than .01 in {close}. "
    undefined = sum(bool(row["undefined"]) for row in verdicts)
    if undefined:
        text += (
            f"One of the three is constant, therefore undefined, in {undefined}; it cannot be the "
            "best there. "
        )
    return (
        f"{text}A score is significantly the best if it beats both others with p < 5 % after "
        f"Holm's correction over all pairs in all settings. Without the correction LEEP would be "
        f"in {alone[0]}, NCE in {alone[1]}, the H-score in {alone[2]}. Settings share sources and "
        "target classes, so they are not independent."
    )


def nulls_in_words(verdicts: Rows) -> str:
    """In how many settings the best score, and LEEP, beats the best null."""
    ahead, sure = (
        {
            who: sum(row[f"{who}_{what}_null"] == "True" for row in verdicts)
            for who in ("score", "leep")
        }
        for what in ("above", "beats")
    )
    nulls = sum(bool(row["best_null"]) for row in verdicts)
    return (
        f"The best of all scores has a higher r than the best null in {ahead['score']} of "
        f"{nulls} settings where one is defined, significantly in {sure['score']}. LEEP has in "
        f"{ahead['leep']}, significantly in {sure['leep']} (Holm's correction over all scores in "
        "all settings)."
    )


def _three(verdicts: Rows, r: Mapping[str, Mapping[str, Estimate]]) -> Sheet:
    lines = []
    for row in verdicts:
        cells = [_r(r[row["setting"]], score) for score in THREE]
        lines.append([row["setting"], row["tasks"], f"{float(row['accuracy']):.3f}", *cells])
        lines[-1] += [THREE.get(row["best_of_three"], "none"), _ahead(row, "ahead")]
        lines[-1].append(_p(row["p_holm"]))
    headings = ["setting", "tasks", "accuracy", *(f"{name}: r [95 %]" for name in THREE.values())]
    return Sheet([*headings, "best", "ahead of second", "p (Holm)"], lines)


def _nulls(verdicts: Rows, r: Mapping[str, Mapping[str, Estimate]]) -> Sheet:
    lines = []
    for row in verdicts:
        of = r[row["setting"]]
        lines.append([row["setting"]])
        for who in (row["best_score"], row["best_null"]):
            lines[-1] += [who or "none", _r(of, who)]
        lines[-1] += [_ahead(row, "score_ahead_of_null"), _p(row["score_null_p_holm"])]
        lines[-1].append(_ahead(row, "leep_ahead_of_null"))
    headings = ["setting", "best score", "r [95 %]", "best null", "its r [95 %]"]
    return Sheet([*headings, "score ahead by", "p (Holm)", "LEEP ahead by"], lines)


def _of_three(of: Mapping[str, Estimate]) -> dict[str, Estimate]:
    return {score: of[score] for score in THREE if score in of}


def _every(r: Mapping[str, Mapping[str, Estimate]]) -> Sheet:
    """A column for each score, nulls last and marked."""
    scores = list(dict.fromkeys(score for of in r.values() for score in of))
    scores.sort(key=lambda score: score in NULLS)
    headings = [f"{score} *" if score in NULLS else score for score in scores]
    lines = [
        [setting, *(_r(of, score) if score in of else "" for score in scores)]
        for setting, of in r.items()
    ]
    return Sheet(["setting", *headings], lines)


def _r(of: Mapping[str, Estimate], score: str) -> str:
    return format_estimate(of[score]) if score in of else "undefined"


def _ahead(row: Mapping[str, str], name: str) -> str:
    values = (float(row[f"{name}{end}"]) for end in ("", "_low", "_high"))
    return format_estimate(Estimate(*values))


def _p(cell: str) -> str:
    p = float(cell)
    return "undefined" if np.isnan(p) else "<.001" if p < 0.001 else f"{p:.3f}".lstrip("0")
