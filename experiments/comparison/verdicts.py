"""Which score is best in every setting, and whether significantly, from studies' results alone.

A setting is judged by Pearson's r with accuracy, as in the LEEP article. Intervals of r and of
differences on the same tasks are clustered on groups if tasks come from several groups, else on
classes. A score is significantly the best if it beats every other defined score with a p below 5 %
after Holm's correction over all pairs in all settings. The correction accounts for choosing the
best score after the fact. Scores are also compared with the best null of the setting, which was
chosen to be hard to beat, with Holm's correction over all scores in all settings.
"""

from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from leepjax.audit import Pool, read_csv, read_pool
from leepjax.evaluation import (
    NULLS,
    Estimate,
    difference,
    holm,
    jackknife,
    partial_pearson,
    pearson,
)
from leepjax.evaluation.correlation import Statistic
from leepjax.metrics import METRICS

THREE = {"leep": "LEEP", "nce": "NCE", "h_score": "H-score"}
LEVEL = 0.05
Rows = list[dict[str, Any]]


class Compared(NamedTuple):
    """The tables of a comparison.

    Attributes:
      correlations: one row for each setting, score and statistic (``pearson`` and, where it varies,
        ``pearson|num_classes``).
      differences: one row for each pair of compared scores, ``family`` "three" or "null".
      verdicts: one row for each setting.
    """

    correlations: Rows
    differences: Rows
    verdicts: Rows


def compare(results: Mapping[str, Path]) -> Compared:
    """Compare the scores in each setting.

    A study with several settings gives several rows, named ``NAME, PART``. The retrained heads of a
    meta-transfer study are its baseline, not a setting.

    Args:
      results: ``results.csv`` of a study, by name. Columns that are names of metrics are scores.

    Raises:
      ValueError: a table cannot be read.
    """
    found = Compared([], [], [])
    estimates: dict[str, dict[str, Estimate]] = {}
    for name, path in results.items():
        table = read_csv(path)
        pool = read_pool(table, scores=[c for c in table.columns if c in METRICS])
        parts = [(part, rows) for part, rows in pool.parts() if not part.startswith("head-")]
        for part, rows in parts:
            setting = name if len(parts) == 1 else f"{name}, {_short(part)}"
            correlations, estimates[setting] = _correlate(pool, rows)
            compared = _differences(pool, rows, estimates[setting])
            found.correlations.extend({"setting": setting} | row for row in correlations)
            found.differences.extend({"setting": setting} | row for row in compared)
            facts: dict[str, Any] = {"tasks": len(rows), "left_out": pool.left_out[part]}
            facts["accuracy"] = float(pool.accuracy[rows].mean())
            found.verdicts.append({"setting": setting} | facts)
    for family in ("three", "null"):
        of_family = [row for row in found.differences if row["family"] == family]
        adjusted = holm(np.array([row["p"] for row in of_family], float))
        for row, p in zip(of_family, adjusted, strict=True):
            row["p_holm"] = float(p)
    for row in found.verdicts:
        here = [d for d in found.differences if d["setting"] == row["setting"]]
        row |= _verdict(estimates[row["setting"]], here)
    return found


def _short(part: str) -> str:
    for kind in ("within", "across"):
        if part.endswith(f"-{kind}"):
            return kind
    return part


def _correlate(pool: Pool, rows: np.ndarray) -> tuple[Rows, dict[str, Estimate]]:
    """Rows of ``comparison.csv``, and Pearson's r of every score."""
    statistics: dict[str, Statistic] = {"pearson": pearson}
    counts = pool.factors.get("num_classes", np.zeros(len(pool.part)))[rows]
    if len(set(counts)) > 1:
        statistics["pearson|num_classes"] = partial_pearson(counts)
    table, estimates = [], {}
    for score, values in pool.scores.items():
        for name, statistic in statistics.items():
            found, _ = jackknife(
                statistic, values[rows], pool.accuracy[rows], pool.membership(rows)
            )
            key = {"score": score, "null": score in NULLS, "statistic": name}
            table.append(key | found._asdict())
            if name == "pearson":
                estimates[score] = found
    return table, estimates


def _differences(pool: Pool, rows: np.ndarray, estimates: dict[str, Estimate]) -> Rows:
    """The three scores in pairs, and every score with the best null, if both are defined."""
    defined = [s for s, e in estimates.items() if np.isfinite(e.value)]
    pairs = [("three", a, b) for a, b in combinations([s for s in THREE if s in defined], 2)]
    null = best([s for s in defined if s in NULLS], estimates)
    pairs += [("null", s, null) for s in defined if null and s not in NULLS]
    found = []
    for family, a, b in pairs:
        x, other = pool.scores[a][rows], pool.scores[b][rows]
        ahead = difference(pearson, x, other, pool.accuracy[rows], pool.membership(rows))
        found.append({"family": family, "score": a, "other": b} | ahead._asdict())
    return found


def best(scores: list[str], estimates: Mapping[str, Estimate]) -> str:
    """The score with the highest r, the first if several tie; "" if none is defined."""
    r = {s: round(estimates[s].value, 6) for s in scores if s in estimates}
    r = {s: value for s, value in r.items() if np.isfinite(value)}
    return max(r, key=lambda s: r[s]) if r else ""


def _verdict(estimates: dict[str, Estimate], differences: Rows) -> dict[str, Any]:
    """The columns of a setting in ``verdicts.csv``."""
    winner = best(list(THREE), estimates)
    second = best([s for s in THREE if s != winner], estimates)
    score = best([s for s in estimates if s not in NULLS], estimates)
    null = best([s for s in estimates if s in NULLS], estimates)
    duels = [_ahead(differences, "three", winner, s) for s in THREE if s != winner]
    p, p_holm = (
        float(np.max([duel[k] for duel in duels if duel] or [np.nan]))  # NaN stays NaN
        for k in ("p", "p_holm")
    )
    row = {"best_of_three": winner, "second": second}
    row |= _columns("ahead", _ahead(differences, "three", winner, second))
    row |= {"p": p, "p_holm": p_holm, "significant": bool(p_holm < LEVEL)}
    row |= {"undefined": " ".join(s for s in THREE if not _defined(s, estimates))}
    row |= {"best_score": score, "best_null": null}
    for name, of in (("score", score), ("leep", "leep")):
        ahead = _ahead(differences, "null", of, null)
        row |= _columns(f"{name}_ahead_of_null", ahead)
        row[f"{name}_above_null"] = ahead.get("value", np.nan) > 0
        p = ahead.get("p_holm", np.nan)
        row |= {f"{name}_null_p_holm": p}
        row[f"{name}_beats_null"] = bool(row[f"{name}_above_null"] and p < LEVEL)
    return row


def _defined(score: str, estimates: Mapping[str, Estimate]) -> bool:
    return score in estimates and bool(np.isfinite(estimates[score].value))


def _ahead(differences: Rows, family: str, score: str, other: str) -> dict[str, Any]:
    """The lead of a score over another, in whichever order they were compared."""
    for row in differences:
        if row["family"] != family or {row["score"], row["other"]} != {score, other}:
            continue
        if row["score"] == score:
            return row
        turned = {"value": -row["value"], "low": -row["high"], "high": -row["low"]}
        return row | turned
    return {}


def _columns(name: str, ahead: Mapping[str, Any]) -> dict[str, float]:
    ends = {"value": name, "low": f"{name}_low", "high": f"{name}_high"}
    return {column: ahead.get(end, np.nan) for end, column in ends.items()}
