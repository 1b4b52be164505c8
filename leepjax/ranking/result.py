"""What is known of the order of source models for one target: scores, and how sure it is."""

import dataclasses
import math
import os
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from leepjax.evaluation.correlation import kendall_of_rows
from leepjax.ranking import cells, cost, figure, saved, verdict
from leepjax.ranking.best import Paired, less, probability_best, smallest_set

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
    """Source models ranked by what they say of one target, as of :func:`leepjax.rank`.

    ``print(ranking)`` and a notebook show it as tables. Larger scores are better; a source that
    has no score of a metric has NaN.

    Attributes:
      names: the m sources that were scored, in the order in which they were given.
      scores: ``{metric: [m]}``, the one that decides first, nulls last.
      shuffled: ``{metric: [m]}`` the same scores under shuffled labels: what they have without
        information about the labels.
      covariance: ``[m, k]`` of the scores that decide with those of them that lead, in their units
        squared: what another draw of as many samples would do to them. NaN where they have no
        intervals. Of up to 500 sources all lead.
      p_value: ``[m]`` of the scores that decide: probability of as high a one under shuffled
        labels. 0 where no test was needed; NaN where what decides is not held out.
      facts: ``{fact: [m]}``: ``parameters``, ``source_accuracy`` and forward ``seconds``, of those
        that any source has.
      metrics: names of the scores, the one that decides first.
      nulls: names of those that need no theory of transfer.
      confidence: the probability with which the choice is to contain the best.
      dimensions: ``[m]`` columns of the features, 0 without.
      num_samples: n.
      num_classes: number of classes among the labels; of several labels at once, and of numbers,
        of columns.
      max_samples: how many of the samples the linear head and nearest neighbours saw.
      failures: what could not be scored, and why; of the source ``"all sources"`` scores that are
        not of this kind of labels.
      leading: ``[k]`` indices of the sources that could be the best; None: all.
      variance: ``[m]`` of the scores that decide; None: the diagonal of ``covariance``.
      kind: ``"class"``, ``"multilabel"`` or ``"regression"``.
      num_groups: how many groups (sentences, images) samples come from, which are left out whole;
        None: samples are on their own.
      baseline: what a constant has: of classes the share of the largest, of several labels the mean
        over them, of one column of numbers the root mean squared error of their mean, in their
        units; else NaN.
      constant: columns of the labels that do not vary, and are left out.
      waiting: sources whose turn is still to come; none at the end.
      took: ``{part: [m]}`` seconds that each source took here: to ``load`` it, in its ``forward``
        passes (hardly any where they were cached), and for its ``scores``.
      elapsed: seconds since ``rank`` was called.
      made: how it was made, by name: a digest of the data, the seed, versions, device and date. Add
        what else is to stand on the page with ``dataclasses.replace``; ``commits`` is ``{source:
        commit}``.
    """

    names: tuple[str, ...]
    scores: dict[str, np.ndarray]
    shuffled: dict[str, np.ndarray]
    covariance: np.ndarray
    p_value: np.ndarray
    facts: dict[str, np.ndarray]
    metrics: tuple[str, ...]
    nulls: tuple[str, ...]
    confidence: float
    dimensions: np.ndarray
    num_samples: int
    num_classes: int
    max_samples: int
    failures: tuple[Failure, ...]
    leading: np.ndarray | None = None
    variance: np.ndarray | None = None
    kind: str = "class"
    num_groups: int | None = None
    baseline: float = math.nan
    constant: tuple[int, ...] = ()
    waiting: tuple[str, ...] = ()
    took: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    elapsed: float = math.nan
    made: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def by(self) -> str:
        """The metric that decides."""
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

    @property
    def informative(self) -> bool | None:
        """Whether any source says more of the labels than of shuffled ones, at the 5 % level.

        By Bonferroni over the sources. None where what decides is not held out.
        """
        if np.isnan(self.p_value).all():
            return None
        return bool(np.nanmin(self.p_value) * np.sum(np.isfinite(self.p_value)) <= 0.05)

    @property
    def choice(self) -> tuple[str, ...]:
        """The fewest sources that hold the best with probability ``confidence``, likeliest first.

        Without intervals the one of the highest score; none where no source is ``informative``.
        Where some have information at the 1 % level, those without are not chosen.
        """
        if self.informative is False:
            return ()
        p = self.probability_best()
        if np.isnan(p).all():
            return self.best[:1]
        p = np.nan_to_num(p)
        sure = self.p_value <= 0.01
        if p[sure].sum() > 0:
            p = np.where(sure, p, 0) / p[sure].sum()
        return tuple(self.names[i] for i in smallest_set(p, self.confidence))

    @property
    def standard_error(self) -> np.ndarray:
        """``[m]`` of the scores that decide."""
        return np.sqrt(np.diag(self.covariance) if self.variance is None else self.variance)

    def difference(self, a: str, b: str) -> Paired:
        """Score of source a less that of b, with its standard error on the same samples.

        It is far smaller than two separate standard errors say, as samples are hard for both. NaN
        where neither is among the ``leading``.
        """
        i, j = self.names.index(a), self.names.index(b)
        if (others := self._less(j)) is not None:
            return others[i]
        if (others := self._less(i)) is not None:
            return Paired(-others[j].value, others[j].standard_error)
        return Paired(float(self.scores[self.by][i] - self.scores[self.by][j]), np.nan)

    def behind(self) -> list[Paired]:
        """Each source, in the order of ``names``, less the best: values <= 0."""
        scores = self.scores[self.by]
        best = int(np.nanargmax(scores))
        return self._less(best) or [Paired(float(x), np.nan) for x in scores - scores[best]]

    def probability_best(self) -> np.ndarray:
        """``[m]`` probability that each has the best score over other samples; they sum to 1.

        Scores are taken for jointly normal (20,000 draws with a fixed seed); equals, to a twentieth
        of the standard error, share, as does a network that is there in two precisions. It is about
        the score that decides, not about accuracies after fine-tuning. NaN without intervals. Of
        more than 500 sources it is 0 where it is below 1e-9: six standard errors behind the best.
        """
        return self._probability_best.copy()

    @cached_property
    def _probability_best(self) -> np.ndarray:
        here = np.isfinite(self.scores[self.by])
        p = np.full(len(self.names), np.nan)
        if np.isfinite(self.standard_error[here]).all():
            leads = here[self._leading]
            rows = self._leading[leads]
            p[here] = 0
            p[rows] = probability_best(
                self.scores[self.by][rows], self.covariance[np.ix_(rows, leads)]
            )
        return p

    @property
    def _leading(self) -> np.ndarray:
        return np.arange(len(self.names)) if self.leading is None else self.leading

    def _less(self, j: int) -> list[Paired] | None:
        """Every source less source j; None where that is not among the leading."""
        (column,) = np.nonzero(self._leading == j)
        if not len(column):
            return None
        with_j = self.covariance[:, column[0]]
        return less(self.scores[self.by], self.standard_error**2, with_j, j)

    def misleading(self, metric: str) -> bool:
        """Whether shuffled labels explain as much of a metric's values as the labels do.

        So it is if the labels add no more to it, for any source, than sources differ by under
        shuffled labels, or than a hundredth of its largest value: it then orders sources by their
        dimensions, or is nearly constant, and takes no part in the agreement.
        """
        values, shuffled = self.scores[metric], self.shuffled[metric]
        here = np.isfinite(values) & np.isfinite(shuffled)
        if not here.any():
            return True
        added = np.max(values[here] - shuffled[here])
        return bool(added <= max(np.ptp(shuffled[here]), 0.01 * np.abs(values[here]).max()))

    def agreement(self) -> dict[str, float]:
        """Kendall's tau-b of every other column with the scores that decide, over the sources.

        Of those that are not ``misleading``. NaN for fewer than three sources, or where a column
        does not vary.
        """
        columns = [name for name in self.scores if not self.misleading(name)]
        columns += [fact for fact in self.facts if fact != "seconds"]
        return {other: self._kendall(self.by, other) for other in columns if other != self.by}

    @property
    def decision(self) -> str:
        """What to do, in words, how sure that is, and whether other scores agree."""
        return verdict.decision(self)

    @property
    def cost(self) -> str:
        """What the ranking took, and what fine-tuning the choice would take at least, in words."""
        return cost.words(self)

    def fine_tune_seconds(self) -> np.ndarray:
        """``[m]`` seconds that fine-tuning each source would take: an estimate, with its formula.

        A step of training is taken for three forward passes, as its backward pass computes about
        twice as much as a forward pass: 3 x the fact ``seconds``, of one sample's forward pass, x
        ``num_samples`` x epochs of the default :class:`leepjax.Recipe`. NaN without that fact.
        Small networks take longer: on a CPU a ResNet20 of CIFAR's took eight forward passes.
        """
        return cost.fine_tune_seconds(self)

    def to_dict(self) -> dict[str, Any]:
        """Everything that is shown, as plain values for JSON; None where there is no value."""
        p, behind, errors = self.probability_best(), self.behind(), self.standard_error
        estimate, commits = self.fine_tune_seconds(), self.made.get("commits", {})
        rank = {int(i): place for place, i in enumerate(self.order, 1)}
        decided = np.isfinite(self.scores[self.by])
        sources = [
            {
                "source": self.names[i],
                "rank": rank[i] if decided[i] else None,
                "p_best": _plain(p[i]),
                "behind": _plain(behind[i].value),
                "behind_standard_error": _plain(behind[i].standard_error),
                "standard_error": _plain(errors[i]),
                "scores": {name: _plain(values[i]) for name, values in self.scores.items()},
                "shuffled": {name: _plain(values[i]) for name, values in self.shuffled.items()},
                **{fact: _plain(values[i]) for fact, values in self.facts.items()},
                "took": {part: _plain(values[i]) for part, values in self.took.items()},
                "fine_tune_seconds": _plain(estimate[i]),
                **({"commit": commits[self.names[i]]} if self.names[i] in commits else {}),
            }
            for i in map(int, self.order)
        ]
        return {
            "by": self.by,
            "decision": self.decision,
            "choice": list(self.choice),
            "confidence": self.confidence,
            "informative": self.informative,
            "num_samples": self.num_samples,
            "num_classes": self.num_classes,
            "max_samples": self.max_samples,
            "kind": self.kind,
            "num_groups": self.num_groups,
            "baseline": _plain(self.baseline),
            "constant": list(self.constant),
            "nulls": list(self.nulls),
            "misleading": [name for name in self.scores if self.misleading(name)],
            "sources": sources,
            "kendall": {name: _plain(tau) for name, tau in self.agreement().items()},
            "failures": [failure._asdict() for failure in self.failures],
            "waiting": list(self.waiting),
            "elapsed": _plain(self.elapsed),
            "made": dict(self.made),
        }

    def plot(self, path: str | os.PathLike[str] | None = None) -> "Figure":
        """Draw how far each source is behind the best, with 95 % intervals of the differences.

        Args:
          path: ``.png``, ``.svg`` or ``.pdf`` to write it to, whole or not at all; None: nowhere.

        Raises:
          ValueError: another ending, or a file that cannot be written.
        """
        return figure.plot(self, path)

    def save(self, output: str | os.PathLike[str]) -> None:
        """Write a folder: the page ``index.html``, ``ranking.csv`` and ``ranking.json``.

        The page is one file that loads nothing. All three are written before any takes its place,
        so that what an earlier ranking left there stays where the disk is full.

        Args:
          output: a new folder, an empty one, or one of an earlier ranking.

        Raises:
          ValueError: it holds something else, or cannot be written.
        """
        saved.save(self, output)

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

    def _kendall(self, a: str, b: str) -> float:
        columns = self.scores | self.facts
        x, y = columns[a], columns[b]
        both = np.isfinite(x) & np.isfinite(y)
        return kendall_of_rows(x[both], y[both])


def _plain(value: float) -> float | int | None:
    value = float(value)
    if not math.isfinite(value):
        return None
    return int(value) if value.is_integer() and abs(value) >= 1000 else value
