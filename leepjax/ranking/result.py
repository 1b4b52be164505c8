"""What is known of the order of source models for one target: scores, and how sure it is."""

import dataclasses
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from leepjax._text import probability
from leepjax.evaluation.correlation import kendall
from leepjax.ranking import cells
from leepjax.ranking.top_k import Paired, best_among, in_top, paired

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.table import Table
    from rich.text import Text


class Failure(NamedTuple):
    """A source that could not be scored by some metrics, all where ``metrics`` is empty."""

    source: str
    metrics: tuple[str, ...]
    reason: str


@dataclasses.dataclass(frozen=True)
class Ranking:
    """Source models ranked by their scores on one target, as of :func:`leepjax.rank`.

    ``print(ranking)`` and a notebook show it as tables. Larger scores are better; a source that
    has no score of a metric has NaN, and so has a metric without intervals in its covariances.

    Attributes:
      names: the m sources that were scored, in the order in which they were given.
      scores: ``{metric: [m]}``, the nulls among them.
      covariance: ``{metric: [m, m]}`` of the scores, in their units squared: what another draw of
        as many samples would do to them. By the infinitesimal jackknife where the metric takes
        weights, else by half-samples if those were asked for.
      facts: ``{fact: [m]}``: ``parameters``, ``source_accuracy`` and forward ``seconds``, of those
        that any source has.
      metrics: names of the scores, the one that decides first.
      nulls: names of what a score must beat; ``parameters`` and ``source_accuracy`` are nulls too.
      top: how many sources the decision names.
      dimensions: ``[m]`` columns of the features, 0 without.
      num_samples: n.
      num_classes: number of classes among the labels.
      null_samples: how many of the samples nearest neighbours and the linear probe saw.
      failures: what could not be scored, and why.
    """

    names: tuple[str, ...]
    scores: dict[str, np.ndarray]
    covariance: dict[str, np.ndarray]
    facts: dict[str, np.ndarray]
    metrics: tuple[str, ...]
    nulls: tuple[str, ...]
    top: int
    dimensions: np.ndarray
    num_samples: int
    num_classes: int
    null_samples: int
    failures: tuple[Failure, ...]

    @property
    def by(self) -> str:
        """The metric that decides: the first."""
        return self.metrics[0]

    @property
    def order(self) -> np.ndarray:
        """``[m]`` indices of the sources, best first, those without a score last."""
        return np.argsort(-self.scores[self.by], kind="stable")

    @property
    def best(self) -> tuple[str, ...]:
        """Names of the sources that have a score, best first."""
        scores = self.scores[self.by]
        return tuple(self.names[i] for i in self.order if np.isfinite(scores[i]))

    def standard_error(self, metric: str | None = None) -> np.ndarray:
        """``[m]`` of each score; default of the metric that decides."""
        return np.sqrt(np.diag(self.covariance[metric or self.by]))

    def difference(self, a: str, b: str, metric: str | None = None) -> Paired:
        """Score of source a less that of b, with its standard error on the same samples.

        It is far smaller than two separate standard errors say, as samples are hard for both.
        """
        metric = metric or self.by
        i, j = self.names.index(a), self.names.index(b)
        return paired(self.scores[metric], self.covariance[metric], i, j)

    def behind(self, metric: str | None = None) -> list[Paired]:
        """Each source, in the order of ``names``, less the best by this metric: values <= 0."""
        metric = metric or self.by
        scores, covariance = self.scores[metric], self.covariance[metric]
        best = int(np.nanargmax(scores))
        return [paired(scores, covariance, i, best) for i in range(len(scores))]

    def probability_in_top(self, k: int, metric: str | None = None) -> np.ndarray:
        """``[m]`` probability that each is among the k best scores over other samples.

        Scores are taken for jointly normal (20,000 draws with a fixed seed); equals are all in. It
        is about the order of the *scores*, not of accuracies after fine-tuning.
        """
        metric = metric or self.by
        here = self._with_intervals(metric)
        p = np.full(len(self.names), np.nan)
        if here is not None:
            p[here] = in_top(*self._joint(metric, here), k)
        return p

    def probability_best_among(self, *names: str, metric: str | None = None) -> float:
        """Probability that the best score over other samples is that of one of these sources."""
        metric = metric or self.by
        here = self._with_intervals(metric)
        if here is None:
            return math.nan
        chosen = np.array([self.names[i] in names for i in np.flatnonzero(here)])
        return best_among(*self._joint(metric, here), chosen)

    def agreement(self) -> dict[str, float]:
        """Kendall's tau-b of every other column with the metric that decides, over the sources.

        NaN for fewer than three sources, or where a column does not vary.
        """
        columns = self.scores | {k: v for k, v in self.facts.items() if k != "seconds"}
        return {other: self._kendall(self.by, other) for other in columns if other != self.by}

    def agreement_table(self) -> dict[str, dict[str, float]]:
        """Kendall's tau-b of every two columns: scores, nulls and facts but ``seconds``."""
        columns = [*self.scores, *(fact for fact in self.facts if fact != "seconds")]
        return {a: {b: self._kendall(a, b) for b in columns} for a in columns}

    @property
    def decision(self) -> str:
        """What to do, in words, and how sure the order of scores makes it."""
        chosen = self.best[: self.top]
        if len(self.best) == 1:
            return f"One source has a score, {chosen[0]}: there is nothing to choose from."
        text = f"Fine-tune {'this one' if len(chosen) == 1 else f'these {len(chosen)}'}: "
        text += ", ".join(chosen)
        if len(chosen) == len(self.best):
            return f"{text}, all there are."
        p = self.probability_best_among(*chosen)
        among = "it is best" if len(chosen) == 1 else "best among them"
        if math.isnan(p):
            return f"{text}. Without intervals of {self.by}, no probability that {among}."
        says = probability(p)
        says = says if says[0] in "<>" else f"= {says}"
        return (
            f"{text}; P({among}) {says}. Best by {self.by}, were other samples "
            "of this target scored; accuracy after fine-tuning was not measured."
        )

    def to_dict(self) -> dict[str, Any]:
        """Everything that is shown, as plain values for JSON; None where there is no value."""
        first, top = self.probability_in_top(1), self.probability_in_top(self.top)
        behind = {name: self.behind(name) for name in self.scores}
        errors = {name: self.standard_error(name) for name in self.scores}
        rank = {int(i): place for place, i in enumerate(self.order, 1)}
        decided = np.isfinite(self.scores[self.by])
        sources = [
            {
                "source": self.names[i],
                "rank": rank[i] if decided[i] else None,
                "scores": {
                    name: {
                        "score": _plain(values[i]),
                        "standard_error": _plain(errors[name][i]),
                        "behind": _plain(behind[name][i].value),
                        "behind_standard_error": _plain(behind[name][i].standard_error),
                    }
                    for name, values in self.scores.items()
                },
                "p_best": _plain(first[i]),
                "p_top": _plain(top[i]),
                **{fact: _plain(values[i]) for fact, values in self.facts.items()},
            }
            for i in map(int, self.order)
        ]
        agreement = self.agreement_table()
        return {
            "by": self.by,
            "top": self.top,
            "decision": self.decision,
            "num_samples": self.num_samples,
            "num_classes": self.num_classes,
            "null_samples": self.null_samples,
            "nulls": list(self.nulls),
            "sources": sources,
            "kendall": {a: {b: _plain(t) for b, t in row.items()} for a, row in agreement.items()},
            "failures": [failure._asdict() for failure in self.failures],
        }

    def plot(self) -> "Figure":
        """A panel for each score: how far sources are behind its best, with 95 % intervals."""
        return cells.draw(self)

    def __str__(self) -> str:
        from rich.console import Console

        console = Console(width=100, no_color=True, force_terminal=False, force_jupyter=False)
        with console.capture() as captured:
            console.print(self)
        return "\n".join(line.rstrip() for line in captured.get().splitlines())

    def __rich_console__(self, console: Any, options: Any) -> "Iterator[Table | Text]":
        yield from cells.renderables(self)

    def _repr_html_(self) -> str:
        return cells.html(self)

    def _with_intervals(self, metric: str) -> np.ndarray | None:
        here = np.isfinite(self.scores[metric])
        return here if np.isfinite(np.diag(self.covariance[metric])[here]).all() else None

    def _joint(self, metric: str, here: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.scores[metric][here], self.covariance[metric][np.ix_(here, here)]

    def _kendall(self, a: str, b: str) -> float:
        columns = self.scores | self.facts
        x, y = columns[a], columns[b]
        both = np.isfinite(x) & np.isfinite(y)
        return float(kendall(x[both], y[both], np.ones((1, both.sum())))[0])


def _plain(value: float) -> float | int | None:
    value = float(value)
    if not math.isfinite(value):
        return None
    return int(value) if value.is_integer() and abs(value) >= 1000 else value
