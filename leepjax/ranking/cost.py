"""What a ranking cost, in measured seconds, and what fine-tuning would cost, as an estimate."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from leepjax._text import Sheet, duration

if TYPE_CHECKING:
    from leepjax.ranking.result import Ranking

# Of a training step: one is the forward pass, the backward pass computes about twice as much (J.
# Kaplan et al., Scaling Laws for Neural Language Models, 2020, section 2.1). Batches are smaller
# than those that the forward pass was timed in, so that it is no less.
PASSES = 3
PARTS = {"load": "loading", "forward": "forward passes", "scores": "scores"}


def epochs() -> int:
    """Passes over the samples that fine-tuning makes by default; 0 where nothing can be trained."""
    try:
        from leepjax.transfer import Recipe  # late: whoever ranks arrays does not train
    except ImportError:  # the extra that brings it is not installed
        return 0
    return Recipe().epochs


def fine_tune_seconds(ranking: Ranking) -> np.ndarray:
    """``[m]`` estimates; NaN where the forward pass was not timed."""
    none = np.full(len(ranking.names), np.nan)
    return PASSES * ranking.facts.get("seconds", none) * ranking.num_samples * epochs()


def words(ranking: Ranking) -> str:
    """What was taken, and what fine-tuning those chosen would take; empty where nothing is known.

    A choice of more than three is too many for a sentence: it gives their range.
    """
    r, said = ranking, []
    if not math.isnan(r.elapsed):
        sums = {name: float(np.sum(r.took[part])) for part, name in PARTS.items() if part in r.took}
        parts = ", ".join(f"{name} {duration(x)}" for name, x in sums.items() if x >= 0.005)
        said.append(f"The ranking took {duration(r.elapsed)}{f' ({parts})' if parts else ''}.")
    chosen = dict(zip(r.names, fine_tune_seconds(r), strict=True))
    chosen = {name: chosen[name] for name in r.choice if chosen[name] > 0}  # NaN is not
    if chosen:
        each = [f"{duration(x)} for {name}" for name, x in chosen.items()]
        low, high = duration(min(chosen.values())), duration(max(chosen.values()))
        listed = ", ".join(each) if len(each) < 4 else f"{low} to {high} for each of those chosen"
        said.append(
            f"Fine-tuning would take at least {listed}: an estimate, {PASSES} forward passes for "
            f"each of {r.num_samples:,} samples in each of {epochs()} epochs."
        )
    return " ".join(said)


def sheet(ranking: Ranking) -> Sheet:
    """Seconds of each source, those that took longest first."""
    r, none = ranking, np.full(len(ranking.names), np.nan)
    columns = {f"{part} (s)": r.took.get(part, none) for part in PARTS}
    columns["total (s)"] = np.sum([*columns.values()], axis=0)
    columns["ms a sample"] = 1000 * r.facts.get("seconds", none)
    columns["fine-tune (s)"] = fine_tune_seconds(r)
    columns = {name: x for name, x in columns.items() if np.nanmax(x, initial=0) >= 0.005}
    order = np.argsort(-columns.get("total (s)", none), kind="stable")
    rows = [[r.names[i], *(_number(float(x[i])) for x in columns.values())] for i in order]
    return Sheet(["source", *columns], rows)


def _number(x: float) -> str:
    if math.isnan(x):
        return ""
    return f"{x:,.0f}" if x >= 99.5 else f"{x:.3g}" if x >= 0.995 else f"{x:.2f}"
