"""One source read and scored: a pure function, whose row is small and plain, for a journal."""

import os
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from leepjax._store import digest, pack, unpack
from leepjax.data import Bank, TextBank
from leepjax.ranking.files import ARRAYS
from leepjax.ranking.inputs import arrays_of, check_same, facts_among, is_of, load
from leepjax.ranking.scored import Scored, Target, Unscored, score_source
from leepjax.ranking.targets import Labels

Row = dict[str, Any]


class Judged(NamedTuple):
    """What every source of a ranking is judged by, the same for all.

    Attributes:
      bank: what sources that are networks run over; None where labels were given alone.
      labels: in one form; sources have rows as they were given.
      metrics: names of the scores.
      deciding: those of them that may decide.
      target: the labels of all samples.
      some: indices of the samples that the costly scores see.
      of_some: the labels of these.
    """

    bank: Bank | TextBank | None
    labels: Labels
    metrics: tuple[str, ...]
    deciding: tuple[str, ...]
    target: Target
    some: np.ndarray
    of_some: Target


def score_one(judged: Judged, source: Any) -> Row:
    """The row of one source: its scores, the facts that come with it, and what it lacks.

    Raises:
      Exception: it cannot be read, whatever the reader or the network raises.
    """
    times = [time.perf_counter()]
    loaded = load(source)
    times.append(time.perf_counter())
    arrays = arrays_of(loaded, judged.bank)
    del loaded
    times.append(time.perf_counter())
    commit = arrays.pop("commit", None)
    given = judged.labels.given
    check_same(arrays.pop("labels", given), given)
    facts = facts_among(arrays)
    arrays = {name: judged.labels.rows(name, x) for name, x in arrays.items() if name in ARRAYS}
    metrics, deciding, target, some, of_some = judged[2:]
    scored, unscored = score_source(arrays, metrics, deciding, target, some, of_some)
    return {
        "scores": {name: _plain(score) for name, score in scored.items()},
        "unscored": [[[*metrics], why, lacking] for metrics, why, lacking in unscored],
        "facts": facts,
        "dimensions": _columns(arrays.get("features", ())),
        "commit": commit,
        "took": np.diff([*times, time.perf_counter()]).tolist(),
    }


def scores_of(row: Row) -> dict[str, Scored]:
    """The scores of a row, by metric."""
    return {
        name: Scored(value, np.array(shuffled), None if packed is None else unpack(packed))
        for name, (value, shuffled, packed) in row["scores"].items()
    }


def unscored_of(row: Row) -> list[Unscored]:
    """Why a row has no other scores."""
    return [Unscored(tuple(names), why, lacking) for names, why, lacking in row["unscored"]]


def row_key(judged: Judged, source: Any) -> str | None:
    """Content key of a source's row; None where that cannot be had, as of a function."""
    try:
        content = _content(source, judged.bank)
    except Exception:  # what cannot be read says so when it is scored
        return None
    labels, target = judged.labels, judged.target
    samples = labels.given, labels.kind, judged.some, *(labels.where or ())
    groups = [] if labels.groups is None else [labels.groups]
    of_labels = *samples, *groups, jax.random.key_data(target.key), target.num_halves
    return content and digest(content, *of_labels, judged.metrics, judged.deciding)


def _content(source: Any, bank: Bank | TextBank | None) -> str | None:
    if isinstance(source, str | os.PathLike):
        return digest(os.path.splitext(source)[1], np.memmap(source, np.uint8, "r"))
    if is_of("Source", source):
        return None if bank is None else digest(source.digest, bank.digest)
    if is_of("Outputs", source):
        source = source._asdict()
    if isinstance(source, Mapping):
        held = {str(name): x for name, x in source.items() if x is not None}
        return digest(*(part for name, x in held.items() for part in (name, np.asarray(x))))
    return None


def _plain(score: Scored) -> list[Any]:
    deviations = None if score.deviations is None else pack(np.asarray(score.deviations))
    return [float(score.value), np.asarray(score.shuffled, float).tolist(), deviations]


def _columns(features: Any) -> int:
    try:
        shape = np.shape(features)
    except ValueError:  # rows of several lengths; the scores said so
        return 0
    return shape[1] if len(shape) == 2 else 0
