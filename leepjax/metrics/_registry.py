"""The catalogue of metrics, and ``score``, which computes many of them at once.

A new metric is one file and one line here; the contract suite and ``score`` read the rest from it.
"""

import inspect
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike

from leepjax.metrics._checks import check_key
from leepjax.metrics._cross_fitted_leep import _cross_fitted_leep, cross_fitted_leep
from leepjax.metrics._energy import _energy, energy
from leepjax.metrics._evaluate import evaluate_all
from leepjax.metrics._gbc import _gbc, gbc
from leepjax.metrics._h_score import _h_score, h_score
from leepjax.metrics._kernel import Kernel, as_kernel, derived
from leepjax.metrics._kinds import NOT_SEVERAL, SINGLE_OUT, as_samples, kind_of, over_columns
from leepjax.metrics._knn import _knn, knn
from leepjax.metrics._lda_score import _lda_score, lda_score
from leepjax.metrics._leep import _leep, _leep_gain, leep, leep_gain
from leepjax.metrics._leep_calibrated import _leep_calibrated, leep_calibrated
from leepjax.metrics._lfc import _lfc, lfc
from leepjax.metrics._linear_probe import _linear_probe, linear_probe
from leepjax.metrics._logme import _logme, _logme_regression, logme, logme_regression
from leepjax.metrics._nce import _nce, nce
from leepjax.metrics._neg_label_entropy import neg_entropy, neg_label_entropy
from leepjax.metrics._nleep import _nleep, nleep
from leepjax.metrics._pactran import (
    _pactran_dirichlet,
    _pactran_gamma,
    pactran_dirichlet,
    pactran_gamma,
)
from leepjax.metrics._pactran_gaussian import _pactran_gaussian, pactran_gaussian
from leepjax.metrics._parc import _parc, parc
from leepjax.metrics._predictive_r2 import _predictive_r2, predictive_r2
from leepjax.metrics._regularized_h_score import _regularized_h_score, regularized_h_score
from leepjax.metrics._sfda import _sfda, sfda
from leepjax.metrics._transrate import _transrate, transrate


class Metric(NamedTuple):
    """What a metric needs and promises.

    Attributes:
      name: the public name.
      fn: ``fn(*inputs, num_classes=..., where=None, ...)`` -> scalar, larger is better; with a
        random key before the inputs where ``key``.
      kernel: the formula on clean arrays, by itself or as a ``Kernel`` that says when it is
        undefined; its parameters are names of ``_kernel.PARAMETERS``.
      inputs: the arrays, in order, of ``probs``, ``logits``, ``source_labels``, ``features``,
        ``labels``, ``targets``.
      weights: whether it takes frequency weights.
      differentiable: whether its gradient in its floating-point inputs is meaningful.
      key: whether it is random.
    """

    name: str
    fn: Callable[..., jax.Array]
    kernel: Kernel | Callable[..., jax.Array]
    inputs: tuple[str, ...]
    weights: bool = False
    differentiable: bool = False
    key: bool = False


_PROBS, _LOGITS, _FEATURES = (
    ("probs", "labels"),
    ("logits", "labels"),
    ("features", "labels"),
)
_SMOOTH = {"weights": True, "differentiable": True}

METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("leep", leep, _leep, _PROBS, **_SMOOTH),
        Metric("leep_gain", leep_gain, _leep_gain, _PROBS, **_SMOOTH),
        Metric("leep_calibrated", leep_calibrated, _leep_calibrated, _LOGITS, **_SMOOTH),
        Metric("cross_fitted_leep", cross_fitted_leep, _cross_fitted_leep, _PROBS, **_SMOOTH),
        Metric("nce", nce, _nce, ("source_labels", "labels"), weights=True),
        Metric("neg_label_entropy", neg_label_entropy, neg_entropy, ("labels",), weights=True),
        Metric(
            "pactran_dirichlet", pactran_dirichlet, _pactran_dirichlet, _PROBS, differentiable=True
        ),
        Metric("pactran_gamma", pactran_gamma, _pactran_gamma, _PROBS, differentiable=True),
        Metric("h_score", h_score, _h_score, _FEATURES, **_SMOOTH),
        Metric(
            "regularized_h_score",
            regularized_h_score,
            _regularized_h_score,
            _FEATURES,
            **_SMOOTH,
        ),
        Metric("logme", logme, _logme, _FEATURES, **_SMOOTH),
        Metric(
            "logme_regression",
            logme_regression,
            _logme_regression,
            ("features", "targets"),
            **_SMOOTH,
        ),
        Metric("lfc", lfc, _lfc, _FEATURES, **_SMOOTH),
        Metric("transrate", transrate, _transrate, _FEATURES, **_SMOOTH),
        Metric("gbc", gbc, _gbc, _FEATURES, **_SMOOTH),
        Metric("lda_score", lda_score, _lda_score, _FEATURES),
        Metric("sfda", sfda, _sfda, _FEATURES),
        Metric("pactran_gaussian", pactran_gaussian, _pactran_gaussian, _FEATURES),
        Metric("energy", energy, _energy, ("features",)),
        Metric("parc", parc, _parc, _FEATURES, key=True),
        Metric("nleep", nleep, _nleep, _FEATURES, key=True),
        Metric("predictive_r2", predictive_r2, _predictive_r2, _FEATURES),
        Metric("knn", knn, _knn, _FEATURES),
        Metric("linear_probe", linear_probe, _linear_probe, _FEATURES),
    )
}


def score(
    labels: ArrayLike,
    *,
    num_classes: int | None = None,
    features: ArrayLike | None = None,
    probs: ArrayLike | None = None,
    logits: ArrayLike | None = None,
    source_labels: ArrayLike | None = None,
    num_source_classes: int | None = None,
    key: jax.Array | None = None,
    where: ArrayLike | None = None,
    metrics: str | Sequence[str] = "all",
) -> dict[str, jax.Array]:
    """Scores by name: all registered metrics whose inputs are given, or those asked for.

    What they share (moments, an eigendecomposition, probabilities) is computed once. What labels
    are is read off their dtype and shape:

    - classes, ``[n]`` integers: all scores but ``logme_regression``;
    - several labels at once, ``[n, t]`` 0 and 1 or booleans: the mean over labels of the score of
      each as two classes, and ``logme_regression``, which stands for ``logme``, of the columns;
    - numbers, ``[n]`` or ``[n, t]`` floats: ``logme_regression``, ``energy``;
    - a class for every token or pixel, ``[n, tokens]`` or ``[n, h, w]`` integers, -1 without one,
      where features, probs and logits are ``[n, tokens, d]`` or ``[n, h, w, d]``: each is a sample.
      Scores that leave one sample out (``knn``, ``linear_probe``, ``predictive_r2``,
      ``cross_fitted_leep``) do not apply, as its neighbours stay: :func:`leepjax.rank` leaves out
      whole sentences and images, and has the first and third of them for several labels and
      numbers too.

    Args:
      labels: ``[n]`` integer target labels in ``0..num_classes-1``; or as above.
      num_classes: number of target classes, a Python int; not for several labels and numbers.
      features: ``[n, d]`` features of the source model.
      probs: ``[n, s]`` source-class probabilities; from ``logits`` where not given.
      logits: ``[n, s]`` source-class logits.
      source_labels: ``[n]`` source labels; the arg max of probs or logits where not given.
      num_source_classes: number of source classes, where ``source_labels`` alone are given and
        traced; otherwise it is read off the arrays.
      key: a random key, for the metrics that draw; without one ``"all"`` leaves them out.
      where: ``[n]`` bool, the samples to count; default all.
      metrics: ``"all"`` or names from ``METRICS``.

    Returns:
      ``{name: scalar}`` in the order of the registry, or of ``metrics``.

    Raises:
      ValueError: an unknown name, one whose inputs are missing, or what the metric itself raises.

    Example:
      >>> import jax.numpy as jnp
      >>> logits = jnp.array([[2.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 3.0]])
      >>> names = ["leep", "leep_gain", "nce", "neg_label_entropy"]
      >>> labels = jnp.array([0, 0, 1, 1])
      >>> scores = score(labels, num_classes=2, logits=logits, metrics=names)
      >>> print({name: round(float(value), 3) for name, value in scores.items()})
      {'leep': -0.346, 'leep_gain': 0.347, 'nce': 0.0, 'neg_label_entropy': -0.693}
    """
    arrays = {
        "labels": labels,
        "features": features,
        "probs": probs,
        "logits": logits,
        "source_labels": source_labels,
        "where": where,
    }
    arrays = {name: x for name, x in arrays.items() if x is not None}
    kind = kind_of(arrays)
    if kind == "tokens":
        arrays = as_samples(arrays)
        where, source_labels = arrays["where"], arrays.get("source_labels")
    elif kind == "regression":
        arrays["targets"] = arrays.pop("labels")
    elif kind == "multilabel":
        arrays["targets"] = labels
    if num_classes is None and kind in ("class", "tokens"):
        raise ValueError("num_classes: wanted a Python int >= 1, got None")
    outputs = arrays.get("probs", arrays.get("logits"))
    if outputs is not None:
        num_source_classes = max(1, np.shape(outputs)[-1] if np.ndim(outputs) else 1)
    elif source_labels is not None and num_source_classes is None:
        num_source_classes = _count(source_labels, where)
    given = (*arrays, *(() if key is None else ("key",)))
    names = metrics_of(*given, metrics=metrics)
    refused = {"tokens": SINGLE_OUT, "multilabel": NOT_SEVERAL}.get(kind, {})
    for name in () if metrics == "all" else names:
        if name in refused:
            raise ValueError(f"metrics: {name!r} does not apply: {refused[name]}")
    chosen = [METRICS[name] for name in names if name not in refused]
    kernels = {m.name: (as_kernel(m.kernel), _defaults(m)) for m in chosen}
    counts = {"num_classes": num_classes, "num_source_classes": num_source_classes}
    random = {} if key is None else {"key": check_key(key)}
    evaluate = over_columns if kind == "multilabel" else evaluate_all
    scores = evaluate(kernels, arrays, counts, random)
    return {name: scores[name] for name in kernels}  # jit sorts dictionaries


def metrics_of(*given: str, metrics: str | Sequence[str] = "all") -> tuple[str, ...]:
    """Names of the registered metrics that can be had from arrays of these names and ``"key"``.

    Args:
      *given: names of arrays, and ``"key"``.
      metrics: ``"all"``, or names: those alone, checked.

    Raises:
      ValueError: an unknown name, or one whose inputs are missing.

    Example:
      >>> metrics_of("source_labels", "labels")
      ('nce', 'neg_label_entropy')
    """
    if metrics is None:
        raise ValueError(f"metrics: wanted 'all' or names among {sorted(METRICS)}, got None")
    if metrics == "all":
        return tuple(name for name, metric in METRICS.items() if not _missing(metric, given))
    names = (metrics,) if isinstance(metrics, str) else tuple(metrics)
    for name in names:
        if name not in METRICS:
            raise ValueError(f"metrics: wanted names among {sorted(METRICS)}, got {name!r}")
        if missing := _missing(METRICS[name], given):
            raise ValueError(f"metrics: {name!r} needs {missing}, which was not given")
    return names


def _missing(metric: Metric, given: Sequence[str]) -> list[str]:
    needed = {*metric.inputs, *(("key",) if metric.key else ())}
    return sorted(needed - {*given} - derived(given))


def _defaults(metric: Metric) -> dict[str, Any]:
    """The metric's own choices: its keyword options beside the arrays and counts."""
    parameters = inspect.signature(metric.fn).parameters.values()
    shared = ("num_classes", "num_source_classes", "where", "weights")
    return {
        p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY and p.name not in shared
    }


def _count(source_labels: ArrayLike, where: ArrayLike | None) -> int:
    """One more than the largest source label that counts."""
    if isinstance(source_labels, Tracer) or isinstance(where, Tracer):
        raise ValueError("num_source_classes: wanted while tracing with source_labels alone")
    # At least 1, so that it is the metric that says what is wrong with bad labels.
    ids = np.asarray(source_labels)
    if ids.ndim != 1 or ids.dtype.kind not in "iu":
        return 1
    if where is not None and np.shape(where) == ids.shape:
        ids = np.where(np.asarray(where), ids, 0)
    return max(int(ids.max(initial=0)), 0) + 1
