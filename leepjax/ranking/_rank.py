"""Sources read one at a time, scored, and ranked."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from leepjax._progress import progress
from leepjax._seed import check_seed
from leepjax.ranking.files import FACTS
from leepjax.ranking.inputs import (
    Facts,
    Sources,
    by_name,
    check_facts,
    check_labels,
    check_metrics,
    check_same,
    facts_among,
    find_labels,
    read,
)
from leepjax.ranking.result import Failure, Ranking
from leepjax.ranking.scored import Scored, Unscored, score_source

DEFAULT = ("leep", "nce", "h_score", "regularized_h_score", "logme")


def rank(
    sources: Sources,
    labels: Any = None,
    *,
    metrics: str | Sequence[str] = DEFAULT,
    nulls: Sequence[str] = ("knn", "linear_probe"),
    top: int = 3,
    facts: Facts | None = None,
    null_samples: int = 2000,
    num_halves: int = 0,
    seed: int = 0,
) -> Ranking:
    """Rank source models for one target by their scores on its labelled samples.

    Sources are read and scored one after the other, so that no more than one is in memory (but for
    arrays that you hold); what stays is one number a sample, its influence, from which standard
    errors and paired differences follow. A source that cannot be read or scored is listed among
    the ``failures``, and the others are ranked.

    Args:
      sources: ``{name: source}``, or paths, which name themselves. A source is ``Outputs``; a
        mapping with any of ``features [n, d]``, ``logits [n, s]``, ``probs [n, s]``; a path of
        ``.npz``, ``.safetensors`` or Parquet that holds them by these names; a ``Source``, if
        ``labels`` is a bank; or a function without arguments that returns one of these.
      labels: ``[n]`` integers >= 0, a path of them (``.npy``, or ``labels`` in a file as above), a
        ``Bank``; default those in the first source file that has some.
      metrics: names from ``leepjax.metrics.METRICS``, the one that decides first; ``"all"``. By
        default LEEP, NCE, the two H-scores and LogME, those of which any source has the inputs.
      nulls: what a score must beat, the same way; they do not decide.
      top: how many sources to name in the decision.
      facts: ``{name: {"parameters": ..., "source_accuracy": ..., "seconds": ...}}`` of the sources,
        seconds those of one forward pass. Parameters of a ``Source`` are counted; files may hold
        numbers of these names.
      null_samples: nearest neighbours and the linear probe see so many samples at most, drawn once
        for all sources: what they cost grows with the square.
      num_halves: random halves for the standard errors of metrics without weights, which have no
        influences; 0: they have no intervals. Each costs as much as the score of half the samples.
      seed: of these draws and of random metrics.

    Returns:
      A :class:`Ranking`, which prints as a table.

    Raises:
      ValueError: labels, an unknown metric or fact, a seed, names that are not unique, or no source
        that could be scored; it names the argument.

    Example:
      >>> rng = np.random.default_rng(0)
      >>> labels = rng.integers(0, 3, 300)
      >>> near, far = (np.eye(3)[labels] * s + rng.normal(size=(300, 3)) for s in (2, 0.5))
      >>> ranking = rank({"far": {"logits": far}, "near": {"logits": near}}, labels, top=1)
      >>> print(ranking.decision)
      Fine-tune this one: near; P(it is best) > .99. Best by leep, were other samples of this \
target scored; accuracy after fine-tuning was not measured.
      >>> print("{:.2f} +- {:.2f}".format(*ranking.difference("near", "far")))
      0.37 +- 0.03
    """
    sources = by_name(sources)
    asked = check_metrics(metrics, nulls)
    for name, value, least in (
        ("top", top, 1),
        ("null_samples", null_samples, 2),
        ("num_halves", num_halves, 0),
    ):
        if not isinstance(value, int) or value < least:
            raise ValueError(f"{name}: wanted a whole number >= {least}, got {value!r}")
    check_seed("seed", seed)
    facts = check_facts(facts or {}, sources)
    given = check_labels(find_labels(labels, sources))
    classes, codes = np.unique(given, return_inverse=True)
    codes = codes.astype(np.int32)
    n = min(null_samples, len(codes))
    some = np.sort(np.random.default_rng(seed).choice(len(codes), n, replace=False))
    options = {"num_classes": len(classes), "some": some, "num_halves": num_halves}

    found: dict[str, dict[str, Scored]] = {}
    known: dict[str, dict[str, float]] = {}
    dimensions: dict[str, int] = {}
    whole: list[Failure] = []
    unscored: list[tuple[str, Unscored]] = []
    for name in progress(sources, desc="rank", unit="source"):
        try:
            arrays = read(sources[name], labels)
            check_same(arrays.pop("labels", given), given)
            known[name] = facts_among(arrays) | dict(facts.get(name, {}))
            scored, failed = score_source(jax.random.key(seed), arrays, codes, asked, **options)
            unscored += [(name, failure) for failure in failed]
            if scored:
                found[name] = scored
                shape = np.shape(arrays.get("features", ()))
                dimensions[name] = shape[1] if len(shape) == 2 else 0
        except ValueError as error:
            whole.append(Failure(name, (), str(error).removeprefix(f"{sources[name]}: ")))
        arrays = None  # let go of it before the next one is read
    explicit = metrics if not isinstance(metrics, str) else (metrics,)
    required = set() if metrics == "all" or metrics is DEFAULT else {*explicit}
    failures = [*whole, *_failures(unscored, found, required)]
    count = {name: sum(name in scored for scored in found.values()) for name in asked}
    chosen = [name for name in asked if count[name] and name not in nulls]
    if not required:  # the first of those that most sources have
        chosen.sort(key=lambda name: -count[name])
    if not chosen:
        reasons = "; ".join(f"{failure.source}: {failure.reason}" for failure in failures)
        raise ValueError(f"sources: none could be scored: {reasons}")
    there = (*chosen, *(name for name in asked if name in nulls and count[name]))
    columns = {name: [found[s].get(name, _NOTHING) for s in found] for name in there}
    held = {fact for of_source in known.values() for fact in of_source}
    return Ranking(
        names=tuple(found),
        scores={name: np.array([s.value for s in column]) for name, column in columns.items()},
        covariance={name: _covariance(column) for name, column in columns.items()},
        facts={
            fact: np.array([known[name].get(fact, np.nan) for name in found])
            for fact in FACTS
            if fact in held
        },
        metrics=tuple(chosen),
        nulls=there[len(chosen) :],
        top=top,
        dimensions=np.array([dimensions[name] for name in found]),
        num_samples=len(codes),
        num_classes=len(classes),
        null_samples=n,
        failures=tuple(failures),
    )


_NOTHING = Scored(np.nan, None)


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
    for source, (metrics, reason, lacking) in unscored:
        if source not in found and (not lacking or source not in broken):
            failures.append(Failure(source, (), reason))
        elif source in found and (not lacking or had & {*metrics}):
            metrics = tuple(name for name in metrics if not lacking or name in had)
            failures.append(Failure(source, metrics, reason))
    return failures
