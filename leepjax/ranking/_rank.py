"""Sources read one at a time, scored, and ranked."""

import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from typing import Any

import jax
import numpy as np

from leepjax._progress import progress
from leepjax._seed import check_seed
from leepjax._store import digest
from leepjax.cluster import Failed
from leepjax.data import Bank, TextBank
from leepjax.ranking._pieces import all_rows, why_not
from leepjax.ranking._score_one import Judged, Row, scores_of, unscored_of
from leepjax.ranking.best import covariances
from leepjax.ranking.cost import PARTS
from leepjax.ranking.files import FACTS
from leepjax.ranking.inputs import (
    Facts,
    Sources,
    by_name,
    check_facts,
    check_metrics,
    find_groups,
    find_labels,
    join_facts,
)
from leepjax.ranking.result import Failure, Ranking
from leepjax.ranking.scored import HELD_OUT, Scored, Target, Unscored
from leepjax.ranking.shuffles import p_value
from leepjax.ranking.targets import Labels, baseline, read_target, unfit

DEFAULT = ("leep", "nce", "h_score", "regularized_h_score", "logme")
NULLS = ("knn", "linear_probe")
CALLBACKS = 100  # at most: each ranks all that there is


def rank(
    sources: Sources,
    labels: Any = None,
    *,
    groups: Any = None,
    target: str = "auto",
    by: str | None = None,
    metrics: str | Sequence[str] = DEFAULT,
    nulls: Sequence[str] = NULLS,
    confidence: float = 0.9,
    facts: Facts | None = None,
    max_samples: int = 5000,
    num_halves: int = 0,
    seed: int = 0,
    cluster: str | None = None,
    journal: str | os.PathLike[str] | None = None,
    callback: Callable[[Ranking], Any] | None = None,
) -> Ranking:
    """Rank source models for one target, by what they say of labelled samples they have not seen.

    What decides is held out: ``predictive_r2``, of a linear head on the features, if all sources
    have features; else ``cross_fitted_leep``, if all have probabilities or logits; else the one of
    the two that most have, and sources without it are named. Transferability scores stand beside,
    each with its value under shuffled labels: a score computed on the samples that it was fitted to
    grows with the dimension, and that value says how far.

    Sources are read and scored one after the other, so that no more than one is in memory (but for
    arrays that you hold); what stays is a number a sample, from which paired differences follow.
    What cannot be read or scored is listed among the ``failures``, and the others are ranked.

    Labels may be several at once, or numbers; and of tokens, pixels, or samples that come in groups
    whole sentences, images or groups are left out, and standard errors are of groups. Several
    labels have the mean over labels of the scores of each as two classes, one linear head and the
    same neighbours; numbers are standardised and have ``predictive_r2``, ``logme_regression`` and
    ``knn``.

    Args:
      sources: ``{name: source}``, or paths, which name themselves. A source is ``Outputs``; a
        mapping with any of ``features [n, d]``, ``logits [n, s]``, ``probs [n, s]`` (of tokens
        ``[n, tokens, d]``, of pixels ``[n, h, w, d]``, of which h and w may be fewer); a path of
        ``.npz``, ``.safetensors`` or Parquet that holds them by these names; a ``Source``, if
        ``labels`` is a bank; or a function without arguments that returns one of these.
      labels: ``[n]`` integers >= 0, classes; ``[n, t]`` 0 and 1, several labels at once; ``[n]`` or
        ``[n, t]`` floats, numbers; ``[n, tokens]`` or ``[n, h, w]`` integers, -1 for none, classes
        of tokens or pixels. Or a path of them (``.npy``, or ``labels`` in a file as above), a
        ``Bank`` or a ``TextBank``; default those in the first source file that has some.
      groups: ``[n]`` integers or names, or a path of them (``.npy``): samples that belong together,
        of a sentence, an image, a patient, and are left out together; at least three. Beside them
        a label of -1 is none. Default of tokens and pixels: those of the same row of labels.
      target: what labels are where dtype and shape do not say it: ``"class"``, ``"multilabel"`` or
        ``"regression"``, as of integers that are numbers. Floats that are all whole want it.
      by: the score that decides in place of what is held out; any metric, nulls too.
      metrics: the scores to stand beside it, names from ``leepjax.metrics.METRICS``; ``"all"``. By
        default LEEP, NCE, the two H-scores and LogME. Those that labels of this kind do not have
        are among the ``failures``.
      nulls: what needs no theory of transfer, the same way.
      confidence: the probability, in (0, 1), with which the choice is to contain the best source.
      facts: ``{name: {"parameters": ..., "source_accuracy": ..., "seconds": ...}}`` of the sources,
        seconds those of one forward pass. Parameters of a ``Source`` are counted; files may hold
        numbers of these names.
      max_samples: the linear head and nearest neighbours see so many samples at most, drawn once
        for all sources: what they cost grows with the square.
      num_halves: random halves for intervals of a metric ``by`` that has no weights; 0: it has no
        intervals. Each costs as much as the score of half the samples.
      seed: of these draws and of random metrics.
      cluster: divide the sources over a Ray cluster: ``"local:N"``, ``"auto"`` or ``HOST:PORT``,
        as of :func:`leepjax.cluster.connect`. The scores are those of one process.
      journal: a file that keeps the scores of each source, under the content of its arrays, the
        labels and the arguments; a call that names it again scores what it does not hold. Sources
        with a failure are tried again, and functions, whose content is not known.
      callback: called with the ranking so far as sources have had their turn, once one of them
        has a score that decides; those whose turn is to come are ``waiting``.

    Returns:
      A :class:`Ranking`, which prints as a table.

    Raises:
      ValueError: labels (of at least two classes, or a column that varies, and three samples),
        groups, an unknown metric or fact, a seed, names that are not unique, no source that could
        be scored, a cluster that does not answer, or a journal of other things; it names the
        argument.

    Example:
      >>> rng = np.random.default_rng(0)
      >>> labels = rng.integers(0, 3, 300)
      >>> near, far = (np.eye(3)[labels] * s + rng.normal(size=(300, 3)) for s in (2, 0.5))
      >>> sources = {"far": {"features": far}, "near": {"features": near}}
      >>> ranking = rank(sources, labels, metrics=("h_score",))
      >>> print(ranking.decision)
      Fine-tune near: with probability > .99 it has the linear head that predicts new samples \
best. The transferability score agrees. Accuracy after fine-tuning was not measured.
      >>> print("{:.2f} +- {:.2f}".format(*ranking.difference("near", "far")))
      0.48 +- 0.03
    """
    sources = by_name(sources)
    shown = check_metrics(by=by or (), held_out=HELD_OUT, metrics=metrics, nulls=nulls)
    for name, value, least in (("max_samples", max_samples, 3), ("num_halves", num_halves, 0)):
        if not isinstance(value, int) or value < least:
            raise ValueError(f"{name}: wanted a whole number >= {least}, got {value!r}")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence: wanted a number in (0, 1), got {confidence!r}")
    check_seed("seed", seed)
    facts = check_facts(facts or {}, sources)
    given = read_target(find_labels(labels, sources), find_groups(groups), target, seed)
    whole_target, some, of_some = _targets(given, max_samples, num_halves, seed)
    shown, unfitting = _fitting(shown, given.kind, by)
    deciding = (by,) if by else tuple(name for name in HELD_OUT if name in shown)

    start = time.perf_counter()
    data = labels.digest if isinstance(labels, Bank | TextBank) else digest(given.given)
    bank = labels if isinstance(labels, Bank | TextBank) else None
    judged = Judged(bank, given, tuple(shown), tuple(deciding), whole_target, some, of_some)
    rows: dict[str, Row | Failed] = {}
    required = {by} if by else set()
    if metrics is not DEFAULT and metrics != "all":
        required |= {metrics} if isinstance(metrics, str) else {*metrics}

    def ranked() -> Ranking:
        found: dict[str, dict[str, Scored]] = {}
        of_found: list[Row] = []
        known: dict[str, dict[str, float]] = {}
        whole: list[Failure] = []
        unscored: list[tuple[str, Unscored]] = []
        for name in filter(rows.__contains__, sources):  # in the order in which they were given
            row = rows[name]
            try:
                if isinstance(row, Failed):
                    raise row.error
                own = join_facts(row["facts"], facts.get(name, {}))
            except Exception as error:
                whole.append(Failure(name, (), why_not(sources[name], error)))
                continue
            unscored += [(name, failure) for failure in unscored_of(row)]
            if row["scores"]:
                found[name], known[name] = scores_of(row), own
                of_found.append(row)
        failures = [*whole, *_failures(unscored, found, required), *unfitting]
        count = {name: sum(name in scored for scored in found.values()) for name in shown}
        decides = max(deciding, key=lambda name: count[name])  # the first of equals
        if not count[decides]:
            said = "; ".join(f"{failure.source}: {failure.reason}" for failure in failures)
            raise ValueError(f"sources: none could be scored: {said}")
        names = [decides, *(name for name in shown if count[name] and name != decides)]
        columns = {name: [found[s].get(name, _NOTHING) for s in found] for name in names}
        held = {fact for of_source in known.values() for fact in of_source}
        spread = covariances(
            np.array([s.value for s in columns[decides]]), [s.deviations for s in columns[decides]]
        )
        commits = {
            name: row["commit"]
            for name, row in zip(found, of_found, strict=True)
            if row.get("commit") is not None
        }
        return Ranking(
            names=tuple(found),
            scores={name: np.array([s.value for s in column]) for name, column in columns.items()},
            shuffled={
                name: np.array([s.shuffled[0] for s in column]) for name, column in columns.items()
            },
            covariance=spread.covariance,
            p_value=_p_values(columns[decides], decides in HELD_OUT),
            facts={
                fact: np.array([known[name].get(fact, np.nan) for name in found])
                for fact in FACTS
                if fact in held
            },
            metrics=tuple(name for name in names if name == decides or name not in nulls),
            nulls=tuple(name for name in names if name != decides and name in nulls),
            confidence=confidence,
            dimensions=np.array([row["dimensions"] for row in of_found]),
            num_samples=len(given.values),
            num_classes=whole_target.num_classes,
            max_samples=len(some),
            failures=tuple(failures),
            leading=spread.leading,
            variance=spread.variance,
            kind=given.kind,
            num_groups=None if given.groups is None else int(given.groups.max() + 1),
            baseline=baseline(given),
            constant=given.constant,
            waiting=tuple(name for name in sources if name not in rows),
            took=dict(zip(PARTS, np.transpose([row["took"] for row in of_found]), strict=True)),
            elapsed=time.perf_counter() - start,
            made={"data": data, "seed": seed, **_versions(), "commits": commits},
        )

    often, decided = -(-len(sources) // CALLBACKS), False
    scored = all_rows(judged, sources, cluster, journal)
    for name, row in progress(scored, total=len(sources), desc="rank", unit="source"):
        rows[name] = row
        decided = decided or _decided(row, deciding)
        if callback and decided and len(rows) % often == 0:
            callback(ranked())
    return ranked()


def _decided(row: Row | Failed, deciding: Sequence[str]) -> bool:
    return not isinstance(row, Failed) and any(name in row["scores"] for name in deciding)


def _targets(
    given: Labels, max_samples: int, num_halves: int, seed: int
) -> tuple[Target, np.ndarray, Target]:
    """The labels of all samples; indices of those that the costly scores see; their labels."""
    rng, key = np.random.default_rng(seed), jax.random.key(seed)
    n = min(max_samples, len(given.values))
    some = np.sort(rng.choice(len(given.values), n, replace=False))

    def target(rows: np.ndarray | slice) -> Target:
        labels, groups = given.values[rows], given.groups
        if groups is not None:
            groups = np.unique(groups[rows], return_inverse=True)[1]
        if given.kind == "class":  # a rare class may not be drawn
            present, labels = np.unique(labels, return_inverse=True)
            labels, number = labels.astype(np.int32), len(present)
        else:
            labels = labels[:, np.ptp(labels, 0) > 0]
            number = labels.shape[1]
        return Target(labels, number, key, num_halves, given.kind, groups)

    return target(slice(None)), some, target(some)


def _fitting(names: Sequence[str], kind: str, by: str | None) -> tuple[list[str], list[Failure]]:
    """The scores that labels of this kind have, and why not the others.

    LogME of several labels and of numbers has a name of its own.
    """
    if kind != "class":
        names = ["logme_regression" if name == "logme" else name for name in names]
    reasons: dict[str, list[str]] = {}
    for name in names:
        if reason := unfit(name, kind):
            reasons.setdefault(reason, []).append(name)
            if name == by:
                raise ValueError(f"by: {by!r} does not apply: {reason}")
    failures = [Failure("all sources", tuple(unfits), why) for why, unfits in reasons.items()]
    return [name for name in dict.fromkeys(names) if not unfit(name, kind)], failures


def _versions() -> dict[str, str]:
    """What it is made with, and when."""
    held = {name: version(name) for name in ("leepjax", "jax", "numpy")}
    device = jax.devices()[0].device_kind
    held |= {"python": platform.python_version(), "device": str(device)}
    return held | {"date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())}


_NOTHING = Scored(np.nan, np.full(1, np.nan))


def _p_values(column: Sequence[Scored], tested: bool) -> np.ndarray:
    known = [tested and np.isfinite(s.value) for s in column]
    return np.array(
        [p_value(s.value, s.shuffled) if k else np.nan for s, k in zip(column, known, strict=True)]
    )


def _failures(
    unscored: Sequence[tuple[str, Unscored]], found: Mapping[str, Any], required: set[str]
) -> list[Failure]:
    """What could not be scored; a default metric that no source has the inputs of is none."""
    had = required | {name for scored in found.values() for name in scored}
    broken = {source for source, failure in unscored if not failure.lacking}
    failures = []
    for source, (metrics, why, lacking) in unscored:
        if source not in found and (not lacking or source not in broken):
            failures.append(Failure(source, (), why))
        elif source in found and (not lacking or had & {*metrics}):
            metrics = tuple(name for name in metrics if not lacking or name in had)
            failures.append(Failure(source, metrics, why))
    whole = {failure.source: failure for failure in failures[::-1] if not failure.metrics}
    return [f for f in failures if f.metrics or f is whole[f.source]]  # one reason is enough
