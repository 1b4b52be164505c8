"""Sources read one at a time, scored, and ranked."""

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
from leepjax.data.bank import Bank
from leepjax.ranking.cost import PARTS
from leepjax.ranking.files import FACTS
from leepjax.ranking.inputs import (
    Facts,
    Sources,
    arrays_of,
    by_name,
    check_facts,
    check_labels,
    check_metrics,
    check_same,
    facts_among,
    find_labels,
    join_facts,
    load,
)
from leepjax.ranking.result import Failure, Ranking
from leepjax.ranking.scored import HELD_OUT, Scored, Target, Unscored, reason_of, score_source
from leepjax.ranking.shuffles import p_value

DEFAULT = ("leep", "nce", "h_score", "regularized_h_score", "logme")


def rank(
    sources: Sources,
    labels: Any = None,
    *,
    by: str | None = None,
    metrics: str | Sequence[str] = DEFAULT,
    nulls: Sequence[str] = ("knn", "linear_probe"),
    confidence: float = 0.9,
    facts: Facts | None = None,
    max_samples: int = 5000,
    num_halves: int = 0,
    seed: int = 0,
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

    Args:
      sources: ``{name: source}``, or paths, which name themselves. A source is ``Outputs``; a
        mapping with any of ``features [n, d]``, ``logits [n, s]``, ``probs [n, s]``; a path of
        ``.npz``, ``.safetensors`` or Parquet that holds them by these names; a ``Source``, if
        ``labels`` is a bank; or a function without arguments that returns one of these.
      labels: ``[n]`` integers >= 0, a path of them (``.npy``, or ``labels`` in a file as above), a
        ``Bank``; default those in the first source file that has some.
      by: the score that decides in place of what is held out; any metric, nulls too.
      metrics: the scores to stand beside it, names from ``leepjax.metrics.METRICS``; ``"all"``. By
        default LEEP, NCE, the two H-scores and LogME.
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
      callback: called with the ranking so far each time that a source has had its turn, once one of
        them has a score that decides; those whose turn is to come are ``waiting``.

    Returns:
      A :class:`Ranking`, which prints as a table.

    Raises:
      ValueError: labels (of at least two classes and three samples), an unknown metric or fact,
        a seed, names that are not unique, or no source that could be scored; it names the argument.

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
    given = check_labels(find_labels(labels, sources))
    target, some, of_some = _targets(given, max_samples, num_halves, seed)
    deciding = (by,) if by else HELD_OUT

    start = time.perf_counter()
    data = labels.digest if isinstance(labels, Bank) else digest(given)
    found: dict[str, dict[str, Scored]] = {}
    known: dict[str, dict[str, float]] = {}
    dimensions: dict[str, int] = {}
    took: dict[str, np.ndarray] = {}
    whole: list[Failure] = []
    unscored: list[tuple[str, Unscored]] = []

    def ranked(waiting: Sequence[str]) -> Ranking:
        required = {by} if by else set()
        if metrics is not DEFAULT and metrics != "all":
            required |= {metrics} if isinstance(metrics, str) else {*metrics}
        failures = [*whole, *_failures(unscored, found, required)]
        count = {name: sum(name in scored for scored in found.values()) for name in shown}
        decides = max(deciding, key=lambda name: count[name])  # the first of equals
        if not count[decides]:
            said = "; ".join(f"{failure.source}: {failure.reason}" for failure in failures)
            raise ValueError(f"sources: none could be scored: {said}")
        names = [decides, *(name for name in shown if count[name] and name != decides)]
        columns = {name: [found[s].get(name, _NOTHING) for s in found] for name in names}
        held = {fact for of_source in known.values() for fact in of_source}
        return Ranking(
            names=tuple(found),
            scores={name: np.array([s.value for s in column]) for name, column in columns.items()},
            shuffled={
                name: np.array([s.shuffled[0] for s in column]) for name, column in columns.items()
            },
            covariance=_covariance(columns[decides]),
            p_value=_p_values(columns[decides], decides in HELD_OUT),
            facts={
                fact: np.array([known[name].get(fact, np.nan) for name in found])
                for fact in FACTS
                if fact in held
            },
            metrics=tuple(name for name in names if name == decides or name not in nulls),
            nulls=tuple(name for name in names if name != decides and name in nulls),
            confidence=confidence,
            dimensions=np.array([dimensions[name] for name in found]),
            num_samples=len(given),
            num_classes=target.num_classes,
            max_samples=len(some),
            failures=tuple(failures),
            waiting=tuple(waiting),
            took=dict(zip(PARTS, np.transpose([took[name] for name in found]), strict=True)),
            elapsed=time.perf_counter() - start,
            made={"data": data, "seed": seed, **_versions()},
        )

    for turn, name in enumerate(progress(sources, desc="rank", unit="source"), start=1):
        try:
            times = [time.perf_counter()]
            loaded = load(sources[name])
            times.append(time.perf_counter())
            arrays = arrays_of(loaded, labels)
            times.append(time.perf_counter())
            check_same(arrays.pop("labels", given), given)
            known[name] = join_facts(facts_among(arrays), facts.get(name, {}))
            scored, failed = score_source(arrays, shown, deciding, target, some, of_some)
            unscored += [(name, failure) for failure in failed]
            if scored:
                found[name] = scored
                dimensions[name] = _columns(arrays.get("features", ()))
                took[name] = np.diff([*times, time.perf_counter()])
        except Exception as error:  # whatever a reader, a network, JAX or the system raises
            whole.append(Failure(name, (), reason_of(error).removeprefix(f"{sources[name]}: ")))
        arrays = loaded = None  # let go of it before the next one is read
        if callback and any(score in scored for scored in found.values() for score in deciding):
            callback(ranked([*sources][turn:]))
    return ranked(())


def _targets(
    given: np.ndarray, max_samples: int, num_halves: int, seed: int
) -> tuple[Target, np.ndarray, Target]:
    """The labels of all samples; indices of those that the costly scores see; their labels."""
    classes, codes = np.unique(given, return_inverse=True)
    if len(classes) < 2 or len(given) < 3:
        raise ValueError(
            "labels: wanted at least two classes and three samples, got "
            f"{len(classes)} of {len(given)}: there is nothing to tell apart"
        )
    rng, key = np.random.default_rng(seed), jax.random.key(seed)
    n = min(max_samples, len(codes))
    some = np.sort(rng.choice(len(codes), n, replace=False))

    def target(labels: np.ndarray) -> Target:
        present, labels = np.unique(labels, return_inverse=True)  # a rare class may not be drawn
        labels = labels.astype(np.int32)
        return Target(labels, len(present), key, num_halves)

    return target(codes), some, target(codes[some])


def _versions() -> dict[str, str]:
    """What it is made with, and when."""
    held = {name: version(name) for name in ("leepjax", "jax", "numpy")}
    device = jax.devices()[0].device_kind
    held |= {"python": platform.python_version(), "device": str(device)}
    return held | {"date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())}


def _columns(features: Any) -> int:
    try:
        shape = np.shape(features)
    except ValueError:  # rows of several lengths; the scores said so
        return 0
    return shape[1] if len(shape) == 2 else 0


_NOTHING = Scored(np.nan, np.full(1, np.nan))


def _p_values(column: Sequence[Scored], tested: bool) -> np.ndarray:
    known = [tested and np.isfinite(s.value) for s in column]
    return np.array(
        [p_value(s.value, s.shuffled) if k else np.nan for s, k in zip(column, known, strict=True)]
    )


def _covariance(column: Sequence[Scored]) -> np.ndarray:
    """``[m, m]``: sums of products of the deviations; NaN where a source has none."""
    covariance = np.full((len(column), len(column)), np.nan)
    u = {i: scored.deviations for i, scored in enumerate(column) if scored.deviations is not None}
    if u:
        deviations = np.stack([*u.values()]).astype(float)  # twins differ by less than float32 says
        covariance[np.ix_([*u], [*u])] = deviations @ deviations.T
    return covariance


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
