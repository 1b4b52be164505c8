"""Seeded cases, and the one way in which the tests call a metric."""

import functools
import inspect
import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from leepjax.metrics import METRICS

from .oracles import ORACLES, WITHOUT_ORACLE

N, D, C, S = 30, 5, 4, 6
FLOATS = ("probs", "logits", "features", "targets")
# A share of right answers: near ties a sample more or less.
ACCURACIES = {"knn", "linear_probe"}


def over(metrics):
    """Parametrise a test over registry entries."""
    metrics = list(metrics)
    return pytest.mark.parametrize("metric", metrics, ids=[m.name for m in metrics])


def taking(name):
    """The metrics that take this array."""
    return [m for m in METRICS.values() if name in m.inputs]


each = over(METRICS.values())
each_labelled = over(taking("labels"))
each_with_oracle = over(m for m in METRICS.values() if m.name not in WITHOUT_ORACLE)
each_weighted = over(m for m in METRICS.values() if m.weights)
each_differentiable = over(m for m in METRICS.values() if m.differentiable)
each_random = over(m for m in METRICS.values() if m.key)


def softmax(logits):
    z = np.exp(logits - logits.max(-1, keepdims=True))
    return z / z.sum(-1, keepdims=True)


def make_case(seed=0, n=N, d=D, c=C, s=S):
    """Every array that a metric may ask for; features and predictions know a little of y."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(n) % c)
    means = rng.normal(size=(c, d)) * (D / d) ** 0.5  # as far apart in any dimension
    features = rng.normal(size=(n, d)) + means[labels]
    logits = 2 * rng.normal(size=(n, s)) + 2 * rng.normal(size=(c, s))[labels]
    return {
        "features": features,
        "targets": rng.normal(size=(n, 2)) + features[:, :2] @ rng.normal(size=(min(d, 2), 2)),
        "logits": logits,
        "probs": softmax(logits),
        "source_labels": logits.argmax(-1),
        "labels": labels,
        "where": rng.permutation(np.arange(n) % 3 > 0),
        "weights": rng.integers(0, 4, size=n).astype(np.float64),
    }


def conditioned_features(labels, d, condition, offset=0.0, seed=0):
    """Features whose covariance has about this condition number, class signal in every direction.

    `offset` moves all samples together, in units of the largest standard deviation.
    """
    rng = np.random.default_rng(seed)
    white = rng.normal(size=(len(labels), d)) + rng.normal(size=(labels.max() + 1, d))[labels]
    white = white - white.mean(0)
    white = white @ np.linalg.inv(np.linalg.cholesky(white.T @ white / len(white))).T
    rotation = np.linalg.qr(rng.normal(size=(d, d)))[0]
    spread = np.geomspace(1, condition**-0.5, d)
    return white * spread @ rotation + offset * rng.choice([-1.0, 1.0], size=d)


def hard_cases():
    """Float32 features that are hard to sum, by name: ``build() -> case``."""

    def conditioned(condition, offset, labels=None):
        case = make_case(n=500, d=48)
        if labels is not None:
            case["labels"] = labels
        case["features"] = conditioned_features(case["labels"], 48, condition, offset)
        return case

    def wide(offset):
        case = make_case(n=40, d=100)
        case["features"] += offset
        return case

    rng = np.random.default_rng(3)
    skewed = rng.permutation(np.repeat(np.arange(C), [440, 50, 9, 1]))
    absent = rng.permutation(np.resize([0, 1, 3], 500))
    return {
        "plain": lambda: make_case(n=500, d=48),
        "condition-10": lambda: conditioned(1e1, 0),
        "condition-1e4": lambda: conditioned(1e4, 0),
        "offset": lambda: conditioned(1e1, 100),
        "condition-1e4-offset": lambda: conditioned(1e4, 100),
        "skewed": lambda: conditioned(1e1, 0, skewed),
        "absent-class": lambda: conditioned(1e1, 0, absent),
        "wide": lambda: wide(0),
        "wide-offset": lambda: wide(100),
    }


def select(case, rows):
    """The same case of these rows only."""
    return {name: array[rows] for name, array in case.items()}


def cast(case, dtype):
    """The same case with its floating-point arrays in `dtype`."""
    floats = {k: v.astype(dtype) for k, v in case.items() if np.issubdtype(v.dtype, np.floating)}
    return case | floats


def parameters(metric):
    return inspect.signature(metric.fn).parameters


def optional(metric):
    """Names of the per-sample arrays that the metric takes by keyword."""
    return ("where", "weights") if metric.weights else ("where",)


def class_options(metric, num_classes=C, num_source_classes=S):
    """The static class counts that the metric asks for."""
    options = {"num_classes": num_classes, "num_source_classes": num_source_classes}
    return {name: value for name, value in options.items() if name in parameters(metric)}


def eager(fn):
    return fn


def jit_vmap(fn):
    return jax.jit(jax.vmap(fn))


@functools.lru_cache(maxsize=None, typed=True)  # typed: 4.0 is not 4
def _program(metric, use, transform, **options):
    """The transformed call, one for all cases: what was compiled once is compiled no more."""

    def call(arrays):
        key = (jax.random.key(0),) if metric.key else ()
        keywords = {name: arrays[name] for name in use}
        return metric.fn(*key, *(arrays[name] for name in metric.inputs), **keywords, **options)

    return transform(call), (*metric.inputs, *use)


@functools.lru_cache(maxsize=None, typed=True)
def _gradient_program(metric, name, use, **options):
    program, names = _program(metric, use, eager, **options)
    return jax.jit(jax.grad(lambda array, rest: program(rest | {name: array}))), names


def gradient_of(metric, name, case, use=(), **options):
    """The derivative of :func:`evaluate` in the array `name`."""
    options = class_options(metric) | options
    program, names = _gradient_program(metric, name, tuple(use), **options)
    return program(jnp.asarray(case[name]), {n: case[n] for n in names if n != name})


def evaluate(metric, case, use=(), transform=eager, **options):
    """``metric.fn`` of its own arrays of `case` and of those named in `use`, transformed."""
    options = class_options(metric) | options
    program, names = _program(metric, tuple(use), transform, **options)
    return program({name: case[name] for name in names})


def oracle_of(metric, case, use=(), **options):
    """What the oracle says of the same call: masked rows are left out before."""
    if "where" in use:
        case = select(case, case["where"])
    arrays = [case[name] for name in metric.inputs]
    weights = {"weights": case["weights"]} if "weights" in use else {}
    return ORACLES[metric.name](*arrays, **weights, **(class_options(metric) | options))


def assert_agrees(value, oracle, tolerance=1e-4):
    """The accuracy promised of float32: ``|a - b| <= tolerance max(1, |b|)``."""
    value = float(value)
    assert abs(value - oracle) <= tolerance * max(1.0, abs(oracle)), f"{value} for {oracle}"


def assert_metric_agrees(metric, value, case, use=(), tolerance=1e-4):
    """With the oracle; without one, that it is finite. Accuracies may differ by one sample."""
    if metric.name in WITHOUT_ORACLE:
        assert np.isfinite(value)
        return
    if metric.name in ACCURACIES:
        tolerance += 1 / (case["where"].sum() if "where" in use else len(case["where"]))
    assert_agrees(value, oracle_of(metric, case, use), tolerance)


class Compilations(logging.Handler):
    """Names of the programs that JAX compiles while this handler listens."""

    def __init__(self):
        super().__init__()
        self.names = []

    def emit(self, record):
        if record.getMessage().startswith("Compiling "):
            self.names.append(record.getMessage().split(" with ")[0])

    def __enter__(self):
        self._log = jax.log_compiles()
        self._log.__enter__()
        logging.getLogger("jax").addHandler(self)
        return self.names

    def __exit__(self, *exception):
        logging.getLogger("jax").removeHandler(self)
        self._log.__exit__(*exception)
