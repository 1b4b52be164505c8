"""Labelled samples of three sizes, and calls that compute scores of them."""

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from types import ModuleType
from typing import Any

import jax
import numpy as np

from benchmarks.peers import numpy_scores
from leepjax import metrics as leepjax_metrics
from leepjax.metrics import METRICS, score

SIZES = {  # n, s, d, c
    "small": (2_000, 100, 64, 10),
    "medium": (10_000, 1_000, 512, 100),
    "large": (50_000, 1_000, 2_048, 100),
}
TOGETHER = "score"  # all that need only moments, in one call
MOMENTS = ("h_score", "regularized_h_score", "logme", "lfc")


@dataclasses.dataclass(frozen=True)
class Data:
    """Arrays by name, on the host and on JAX's device, and the shape n, s, d, c."""

    host: dict[str, np.ndarray]
    device: dict[str, jax.Array]
    shape: tuple[int, int, int, int]


def make_data(size: str, seed: int = 0) -> Data:
    """Labelled samples: rectified features around class centres, predictions that know a little."""
    n, s, d, c = SIZES[size]
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(n, dtype=np.int32) % c)
    centres = rng.standard_normal((c, d), np.float32)
    features = centres[labels]
    features *= 0.5
    features += rng.standard_normal((n, d), np.float32)
    features *= np.geomspace(1, 0.1, d, dtype=np.float32)
    features += rng.standard_normal((n, 8), np.float32) @ rng.standard_normal((8, d), np.float32)
    np.maximum(features, 0, out=features)
    probs = rng.standard_normal((c, s), np.float32)[labels]
    probs += rng.standard_normal((n, s), np.float32)
    probs *= 2
    np.exp(probs, out=probs)
    probs /= probs.sum(1, keepdims=True)
    source_labels = probs.argmax(1).astype(np.int32)
    host = {"labels": labels, "features": features, "probs": probs, "source_labels": source_labels}
    return Data(host, jax.device_put(host), (n, s, d, c))


def contenders(
    metric: str, data: Data, modules: Sequence[ModuleType]
) -> dict[str, Callable[[], Any]]:
    """Calls that compute a score, by who does it; leepjax first. Inputs are where they belong."""
    if metric == TOGETHER:
        alone = [contenders(name, data, [])["leepjax"] for name in MOMENTS]
        together = partial(
            score,
            data.device["labels"],
            num_classes=data.shape[3],
            features=data.device["features"],
            metrics=MOMENTS,
        )
        return {"leepjax": together, "leepjax one by one": lambda: [call() for call in alone]}
    name, c = METRICS[metric].inputs[0], data.shape[3]
    options = {"num_source_classes": data.shape[1]} if name == "source_labels" else {}
    function = getattr(leepjax_metrics, metric)
    arrays = data.device[name], data.device["labels"]
    calls = {"leepjax": partial(function, *arrays, num_classes=c, **options)}
    for module in modules:
        if metric in module.PEERS:
            x, labels = (module.prepare(data.host[key]) for key in (name, "labels"))
            calls[module.NAME] = partial(module.PEERS[metric], x, labels, c)
    return calls


def reference(metric: str, data: Data) -> float:
    """The value by NumPy in float64; NaN for several scores."""
    if metric not in numpy_scores.PEERS:
        return float("nan")
    x = data.host[METRICS[metric].inputs[0]]
    x = x.astype(np.float64) if x.dtype.kind == "f" else x
    return numpy_scores.PEERS[metric](x, data.host["labels"], data.shape[3])
