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
TALL, WIDE = {"n": N, "d": D}, {"n": 9, "d": 12}  # the shapes of nearly all cases
FLOATS = ("probs", "logits", "features", "targets")
# A share of right answers: near ties a sample more or less.
ACCURACIES = {"knn", "linear_probe"}
# No gradient: counts, ranks, votes, and fits by iteration.
NO_GRADIENT = {
    "nce", "neg_label_entropy", "nleep", "parc", "lda_score", "energy", "sfda",
    "pactran_gaussian", "knn", "linear_probe", "predictive_r2",
}  # fmt: skip


# One of each way into a kernel: probabilities, hard labels, moments, features themselves.
REPRESENTATIVES = ("leep", "nce", "h_score", "knn")


def over(metrics, quick=None):
    """Parametrise a test over registry entries; those not named in `quick`, if given, are slow.

    For tests of code that all metrics share, such as the checks of their inputs: each metric is
    another program to compile, and shows nothing new of that code.
    """
    return pytest.mark.parametrize(
        "metric",
        [
            pytest.param(
                m, id=m.name, marks=[pytest.mark.slow] * (quick is not None and m.name not in quick)
            )
            for m in metrics
        ],
    )


def taking(name):
    """The metrics that take this array."""
    return [m for m in METRICS.values() if name in m.inputs]


each = over(METRICS.values())
each_labelled = over(taking("labels"))
each_with_oracle = over(m for m in METRICS.values() if m.name not in WITHOUT_ORACLE)
each_weighted = over(m for m in METRICS.values() if m.weights)
each_differentiable = over(m for m in METRICS.values() if m.differentiable)
each_random = over(m for m in METRICS.values() if m.key)


def named(*names):
    """The registry entries of these names."""
    return [METRICS[name] for name in names if name in METRICS]


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
    }


def select(case, rows):
    """The same case of these rows only."""
    return {name: array[rows] for name, array in case.items()}


def cast(case, dtype):
    """The same case with its floating-point arrays in `dtype`."""
    floats = {k: v.astype(dtype) for k, v in case.items() if np.issubdtype(v.dtype, np.floating)}
    return case | floats


def skip_unless_compiled(dtype):
    """Skip where XLA has no code for numbers of this kind: float16 on an emulated SSE4_2."""
    try:
        jax.jit(lambda x: x + x)(jnp.ones(3, dtype))
    except jax.errors.JaxRuntimeError as error:
        if "Failed to materialize symbols" not in str(error):
            raise
        pytest.skip(f"XLA has no code for {np.dtype(dtype)} on this processor: {error}")


def parameters(metric):
    return inspect.signature(metric.fn).parameters


def optional(metric):
    """Names of the per-sample arrays that the metric takes by keyword."""
    return ("where", "weights") if metric.weights else ("where",)


def counted(case):
    """The same case with every sample included, at weight one: optional arrays that say nothing."""
    n = len(case["where"])
    return case | {"where": np.ones(n, bool), "weights": np.ones(n, case["weights"].dtype)}


def class_options(metric, num_classes=C, num_source_classes=S):
    """The static class counts that the metric asks for."""
    options = {"num_classes": num_classes, "num_source_classes": num_source_classes}
    return {name: value for name, value in options.items() if name in parameters(metric)}


def eager(fn):
    return fn


def jit_vmap(fn):
    return jax.jit(jax.vmap(fn))


def stack(cases):
    """A batch of cases for :func:`jit_vmap`; three everywhere, so that there is one program."""
    assert len(cases) == 3
    return {name: np.stack([case[name] for case in cases]) for name in cases[0]}


@functools.lru_cache(maxsize=None, typed=True)  # typed: 4.0 is not 4
def _program(metric, use, transform, **options):
    """The transformed call, one for all cases: what was compiled once is compiled no more."""

    def call(arrays):
        key = (jax.random.key(0),) if metric.key else ()
        keywords = {name: arrays[name] for name in use}
        return metric.fn(*key, *(arrays[name] for name in metric.inputs), **keywords, **options)

    return transform(call), (*metric.inputs, *use)


def differentiable_arguments(metric):
    """Names of the arrays that a differentiable metric has derivatives in."""
    weights = ["weights"] if metric.weights else []
    return [name for name in metric.inputs if name in FLOATS] + weights


@functools.lru_cache(maxsize=None, typed=True)
def _gradient_program(metric, **options):
    program, names = _program(metric, optional(metric), eager, **options)
    return jax.jit(jax.grad(lambda floats, rest: program(rest | floats))), names


def gradients_of(metric, case, **options):
    """Derivatives of :func:`evaluate`, with all its optional arrays: a dict of arrays by name."""
    options = class_options(metric) | options
    program, names = _gradient_program(metric, **options)
    wanted = differentiable_arguments(metric)
    floats = {name: jnp.asarray(case[name]) for name in wanted}
    return program(floats, {name: case[name] for name in names if name not in wanted})


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


def close(value, expected):
    """Equality in float64, up to the order of summation."""
    np.testing.assert_allclose(value, expected, rtol=1e-9, atol=1e-11)


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
