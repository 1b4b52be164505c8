"""What a ranking says in words: which source to fine-tune, how sure that is, and who disagrees."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from leepjax._text import probability
from leepjax.metrics import METRICS

if TYPE_CHECKING:
    from leepjax.ranking.result import Ranking

# What the best source has, and the probability is about.
MEANING = {
    "predictive_r2": "the linear head that predicts new {} best",
    "cross_fitted_leep": "the class probabilities that predict new {} best",
}


def decision(r: Ranking) -> str:
    """The verdict, whether other scores agree with it, and what it is not about."""
    quantity = "The error" if r.kind == "regression" else "Accuracy"
    unmeasured = f"{quantity} after fine-tuning was not measured."
    parts = (_warning(r), _verdict(r), _in_units(r), _agreement(r), unmeasured)
    return " ".join(filter(None, parts))


def _in_units(r: Ranking) -> str:
    """What the R² of one number means in its units."""
    if r.by != "predictive_r2" or not r.choice or math.isnan(r.baseline) or r.kind != "regression":
        return ""
    error = r.baseline * math.sqrt(1 - r.scores[r.by][r.names.index(r.choice[0])])
    nothing = f"the mean of the labels by {r.baseline:.3g}"
    return f"The head of {r.choice[0]} misses by {error:.3g} (root mean square), {nothing}."


def _warning(r: Ranking) -> str:
    """Why what decides should not; empty if it may."""
    if r.by in MEANING or not r.misleading(r.by):
        return ""
    return (
        f"Do not decide by {r.by} here: shuffled labels have {_range(r)} of it, and the labels add "
        f"no more than {_added(r):.2g}."
    )


def _verdict(r: Ranking) -> str:
    if r.informative is False:
        return (
            "No source carries information about these labels: with shuffled labels "
            f"{r.by} is as good."
        )
    chosen, p = r.choice, r.probability_best()
    if len(r.best) == 1:
        carries = ", which carries information about these labels" if r.informative else ""
        return f"One source has a score, {chosen[0]}{carries}: there is nothing to choose from."
    if math.isnan(p[r.names.index(chosen[0])]):
        return f"Highest {r.by}: {chosen[0]}. It has no interval, so how sure that is is not known."
    unit = "samples" if r.num_groups is None else "groups"
    has = MEANING.get(r.by, f"the highest {r.by} on other {{}}").format(unit)
    says = probability(float(sum(p[r.names.index(name)] for name in chosen)))
    if len(chosen) == 1:
        return f"Fine-tune {chosen[0]}: with probability {says} it has {has}."
    if len(chosen) == len(r.best):
        return f"No clear winner among {_listed(chosen)}: these samples do not tell them apart."
    return f"No clear winner: try {_listed(chosen)}. With probability {says} one of them has {has}."


def _agreement(r: Ranking) -> str:
    """Whether the first by each transferability score is among the choice."""
    if len(r.best) < 2 or not r.choice:
        return ""
    scores = [name for name in r.metrics if name not in MEANING and name != r.by]
    usable = [name for name in scores if not r.misleading(name)]
    first = {name: r.names[int(np.nanargmax(r.scores[name]))] for name in usable}
    other = {name: source for name, source in first.items() if source not in r.choice}
    said = []
    if usable and not other:
        said.append(
            "The transferability score agrees."
            if len(usable) == 1
            else f"The {len(usable)} transferability scores agree."
        )
    for source in dict.fromkeys(other.values()):
        names = [name for name in other if other[name] == source]
        puts = "puts" if len(names) == 1 else "put"
        said.append(f"{_listed(names)} {puts} {source} first: {_reason(names[0])}.")
    said += _by_accuracy(r)
    blind = [name for name in scores if name not in usable]
    if blind:
        said.append(
            f"{_listed(blind)} {'says' if len(blind) == 1 else 'say'} nothing here: "
            f"{'it is' if len(blind) == 1 else 'they are'} as good with shuffled labels"
            + (
                f" ({r.dimensions.max()} dimensions for {r.num_samples:,} samples)."
                if _wide(r)
                else "."
            )
        )
    return " ".join(said)


def _by_accuracy(r: Ranking) -> list[str]:
    """Where the same head, judged by the share of right answers, prefers another."""
    right = r.scores.get("linear_probe")
    if r.by != "predictive_r2" or right is None or not np.isfinite(right).any():
        return []
    first = r.names[int(np.nanargmax(right))]
    if first in r.choice:
        return []
    shares = f"{np.nanmax(right):.3f}, {r.choice[0]} {right[r.names.index(r.choice[0])]:.3f}"
    what = "labels" if r.kind == "multilabel" else "samples"
    return [f"By the share of left-out {what} that it gets right {first} is ahead ({shares})."]


def _reason(metric: str) -> str:
    """Why a score may see it otherwise."""
    if "features" not in METRICS[metric].inputs:
        return "of a source it sees the predicted classes alone, and their calibration"
    return "it judges features by the samples that it was fitted to"


def _wide(r: Ranking) -> bool:
    return r.num_samples < 10 * r.dimensions.max(initial=0)


def _range(r: Ranking) -> str:
    values = r.shuffled[r.by][np.isfinite(r.shuffled[r.by])]
    low, high = f"{values.min():.3g}", f"{values.max():.3g}"
    return low if low == high else f"{low} to {high}"


def _added(r: Ranking) -> float:
    return float(np.nanmax(r.scores[r.by] - r.shuffled[r.by]))


def _listed(names: list[str] | tuple[str, ...]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
