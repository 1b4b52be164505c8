"""Layers of language models as sources: which is best, score against layer, and their heads."""

import dataclasses
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from leepjax._extras import require
from leepjax._text import decimal
from leepjax.ranking.inputs import arrays_of, find_labels, load
from leepjax.ranking.result import Ranking

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from leepjax.tasks import Split

Layers = Literal["last", "all", "best"]


class Layer(NamedTuple):
    """A layer of a model: 0 are the embeddings."""

    model: str
    layer: int


def layer_name(model: str, layer: int) -> str:
    """The name of a layer as a source.

    Example:
      >>> layer_name("minilm", 3), layer_of("minilm layer 3"), layer_of("minilm")
      ('minilm layer 3', Layer(model='minilm', layer=3), None)
    """
    return f"{model} layer {layer}"


def layer_of(name: str) -> Layer | None:
    """The layer that a source is; None of a source that is none."""
    match = re.fullmatch(r"(.*) layer (\d+)", name)
    return None if match is None else Layer(match[1], int(match[2]))


def by_model(ranking: Ranking) -> dict[str, list[tuple[int, int]]]:
    """By model: each of its layers, ascending, and where it stands in ``ranking.names``."""
    found: dict[str, list[tuple[int, int]]] = {}
    for i, name in enumerate(ranking.names):
        layer = layer_of(name)
        if layer is not None:
            found.setdefault(layer.model, []).append((layer.layer, i))
    return {model: sorted(layers) for model, layers in found.items()}


def best_layers(ranking: Ranking) -> Ranking:
    """The ranking with the best layer of each model alone, by the score that decides.

    The best of several is chosen by the score that it is then ranked by, so a model of many layers
    has a slight advantage. Sources that are no layers stay.
    """
    scores = np.nan_to_num(ranking.scores[ranking.by], nan=-np.inf)
    kept = {max(layers, key=lambda at: scores[at[1]])[1] for layers in by_model(ranking).values()}
    kept |= {i for i, name in enumerate(ranking.names) if layer_of(name) is None}
    rows = np.array(sorted(kept))
    leading = np.arange(len(ranking.names)) if ranking.leading is None else ranking.leading
    kept_leading = np.flatnonzero(np.isin(leading, rows))
    columns = {
        field: {name: x[rows] for name, x in getattr(ranking, field).items()}
        for field in ("scores", "shuffled", "facts", "took")
    }
    return dataclasses.replace(
        ranking,
        names=tuple(ranking.names[i] for i in rows),
        covariance=ranking.covariance[np.ix_(rows, kept_leading)],
        leading=None if ranking.leading is None else np.searchsorted(rows, leading[kept_leading]),
        variance=None if ranking.variance is None else ranking.variance[rows],
        p_value=ranking.p_value[rows],
        dimensions=ranking.dimensions[rows],
        **columns,
    )


def draw_layers(ranking: Ranking, heads: Mapping[str, float] | None = None) -> "Figure":
    """The score that decides against the layer, a line for each model, with 90 % intervals.

    Args:
      ranking: of layers.
      heads: by source, accuracies of retrained heads, drawn in a second panel.

    Raises:
      ValueError: no source is a layer.
    """
    require("figures")
    from matplotlib.figure import Figure

    models = by_model(ranking)
    if not models:
        raise ValueError("ranking: wanted layers of models, as of --layers all, got none")
    figure = Figure(figsize=(6.4, 3.2 if heads is None else 5.6), layout="constrained")
    panels = figure.subplots(1 if heads is None else 2, 1, sharex=True, squeeze=False)[:, 0]
    scores, errors = ranking.scores[ranking.by], np.nan_to_num(ranking.standard_error)
    for model, layers in models.items():
        at, rows = np.array(layers).T
        panels[0].errorbar(
            at, scores[rows], 1.645 * errors[rows], marker="o", markersize=4, capsize=2, label=model
        )
        if heads is not None:
            accuracies = [heads.get(ranking.names[i], np.nan) for i in rows]
            panels[1].plot(at, accuracies, marker="o", markersize=4, label=model)
    panels[0].set_ylabel(ranking.by)
    if heads is not None:
        panels[1].set_ylabel("accuracy of the head")
    panels[-1].set_xlabel("layer (0: embeddings)")
    panels[0].legend(fontsize="small")
    return figure


def head_accuracies(sources: Any, bank: Any, seed: int = 0) -> dict[str, float]:
    """Accuracy in [0, 1] of a head retrained on half of the samples, on the other half.

    Args:
      sources: by name, as :func:`leepjax.rank` takes them; one that fails is left out, as the
        ranking says why.
      bank: the samples, or their labels alone; classes of a single sample are left out.
      seed: of the halves, which are the same for all sources and have half of each class.
    """
    from leepjax.tasks import Tasks  # late: scores alone need no networks
    from leepjax.transfer import retrain_head

    labels = find_labels(bank, {})
    train, test = _halves(labels, seed)
    classes, codes = np.unique(labels[train], return_inverse=True)
    tasks = Tasks(
        np.arange(len(classes), dtype=np.int32)[None],
        np.array([-1], np.int32),
        _whole(codes),
        _whole(np.searchsorted(classes, labels[test])),
    )
    found = {}
    for name, source in sources.items():
        try:
            features = np.asarray(arrays_of(load(source), bank)["features"])
        except Exception:  # the ranking has listed it
            continue
        result = retrain_head(features[train], features[test], tasks)
        found[name] = float(result.accuracy[0])
    return found


def head_lines(ranking: Ranking, heads: Mapping[str, float]) -> list[str]:
    """In words, for each model: whether the layer with the best score has the best head.

    Of sources that are no layers, what their head reached.
    """
    scores = np.nan_to_num(ranking.scores[ranking.by], nan=-np.inf)
    lines = []
    for model, layers in by_model(ranking).items():
        judged = [at for at in layers if ranking.names[at[1]] in heads]
        if judged:
            chosen = max(judged, key=lambda at: scores[at[1]])
            best = max(judged, key=lambda at: heads[ranking.names[at[1]]])
            reached, most = (heads[ranking.names[at[1]]] for at in (chosen, best))
            lines.append(
                f"{model}: layer {chosen[0]} has the best {ranking.by}, and a head of accuracy "
                f"{decimal(reached)}; the best head is that of layer {best[0]}, {decimal(most)}."
            )
    others = [name for name in heads if layer_of(name) is None]
    lines += [f"{name}: a head of accuracy {decimal(heads[name])}." for name in others]
    return [*lines, "Heads: trained on half of the samples, tested on the others."] if lines else []


def _halves(labels: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    train, test = [], []
    for label in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == label))
        if len(rows) > 1:
            train.append(rows[: len(rows) // 2])
            test.append(rows[len(rows) // 2 :])
    return np.sort(np.concatenate(train)), np.sort(np.concatenate(test))


def _whole(labels: np.ndarray) -> "Split":
    """All rows, as the one task of a split."""
    from leepjax.tasks import Split

    n = len(labels)
    rows = np.arange(n, dtype=np.int32)[None]
    return Split(rows, labels[None].astype(np.int32), np.ones((1, n), bool))
