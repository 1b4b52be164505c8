"""Head retraining of many tasks: the source's features stay, a new linear head is fitted."""

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike

from leepjax.fit import fit, init
from leepjax.tasks import Split, Tasks, check_rows, map_tasks
from leepjax.transfer._softmax_regression import Heads, certify, softmax_regression

TOLERANCE = 5e-6  # by how much the objective of an "optimum" head may exceed its minimum


class HeadResult(NamedTuple):
    """The results of a retrained head on each of t tasks.

    Attributes:
      accuracy: ``[t]`` share of the test images with a correct prediction.
      objective: ``[t]`` training objective at the end (module docstring of softmax_regression).
      gap: ``[t]`` by how much the objective may exceed its minimum: the certificate of protocol
        "optimum", at most 5e-6 there (``Certificate`` says how it is estimated).
      iterations: ``[t]`` L-BFGS iterations, or gradient steps of protocol "sgd".
    """

    accuracy: Any
    objective: Any
    gap: Any
    iterations: Any


def retrain_head(
    train_features: ArrayLike,
    test_features: ArrayLike,
    tasks: Tasks,
    *,
    protocol: str = "optimum",
    l2: float = 1e-3,
    key: jax.Array | None = None,
    devices: Sequence[Any] | None = None,
) -> HeadResult:
    """Fit a new head for each task and measure its test accuracy.

    The objective is mean cross-entropy + l2/2 times the squared norm of the kernel, over features
    standardised by the task's own training images (features that do not vary there are left out).
    ``"optimum"`` solves it to a gap of 5e-6, and warns of heads that it could not (l2 tiny,
    features collinear). ``"sgd"`` takes SGD steps worth 100 epochs, momentum 0.9, rate 0.01,
    batches of 32 drawn with replacement: what a fixed budget reaches, as in most published studies.

    Args:
      train_features: ``[n, d]`` features of the train bank.
      test_features: ``[m, d]`` features of the test bank.
      tasks: the tasks, over the same two banks.
      protocol: ``"optimum"`` or ``"sgd"``.
      l2: strength of the penalty; > 0, since separable tasks have no optimum without it.
      key: typed JAX key that orders the batches of ``"sgd"``.
      devices: the devices that share the tasks; default the first.

    Raises:
      ValueError: an argument has a wrong shape or value; it names the argument.
    """
    train_features = check_rows("train_features", train_features, tasks.train)
    test_features = check_rows("test_features", test_features, tasks.test)
    wanted, got = (np.shape(x)[1] for x in (train_features, test_features))
    if got != wanted:
        raise ValueError(f"test_features: wanted {wanted} columns like train_features, got {got}")
    if protocol not in ("optimum", "sgd"):
        raise ValueError(f"protocol: wanted 'optimum' or 'sgd', got {protocol!r}")
    if not 0 < l2 < float("inf"):
        raise ValueError(f"l2: wanted a finite number > 0, got {l2}")
    if protocol == "sgd" and key is None:
        raise ValueError("key: protocol 'sgd' needs one, e.g. jax.random.key(0)")
    key = jax.random.key(0) if key is None else key  # "optimum" draws nothing
    shared = jnp.asarray(train_features), jnp.asarray(test_features), jnp.float32(l2), key
    desc = f"heads ({protocol})"
    result = map_tasks(_FITS[protocol], shared, tasks, devices=devices, desc=desc)
    if protocol == "optimum" and result.gap.max() > 1.1 * TOLERANCE:
        warnings.warn(
            f"l2: {np.sum(result.gap > 1.1 * TOLERANCE)} of {len(result.gap)} heads are not solved "
            f"to {TOLERANCE:g} (gap up to {result.gap.max():.1e}); a larger l2 than {l2:g} helps",
            stacklevel=2,
        )
    return result


def fit_heads(
    features: ArrayLike,
    tasks: Tasks,
    *,
    l2: float = 1e-3,
    devices: Sequence[Any] | None = None,
) -> Heads:
    """The optimal head of each task, that of :func:`retrain_head`, for the features as they are.

    Args:
      features: ``[n, d]`` of the train bank.
      tasks: t tasks of k classes at most.
      l2: as there.
      devices: as there.

    Returns:
      Kernels ``[t, d, k]`` and biases ``[t, k]``; zero beyond a task's own classes.
    """
    features = check_rows("features", features, tasks.train)
    if not 0 < l2 < float("inf"):
        raise ValueError(f"l2: wanted a finite number > 0, got {l2}")
    shared = jnp.asarray(features), jnp.float32(l2), jnp.zeros(tasks.classes.shape[1])
    return map_tasks(_raw_heads, shared, tasks, devices=devices, desc="heads (optimum)")


def _raw_heads(shared, tasks: Tasks) -> Heads:
    """With x' = (x - mean) / unit / scale, x' W + b is x W' + b'."""
    features, l2, classes = shared
    heads, (mean, unit, scale), _ = _solve(features, l2, tasks)
    kernel = heads.kernel / jnp.swapaxes(unit * scale, 1, 2)
    bias = heads.bias - jnp.einsum("td,tdk->tk", mean[:, 0], kernel, precision="highest")
    missing = classes.shape[0] - kernel.shape[2]
    return Heads(
        jnp.pad(kernel, ((0, 0), (0, 0), (0, missing))), jnp.pad(bias, ((0, 0), (0, missing)))
    )


def _solve(features, l2, tasks: Tasks):
    x, standardise = _standardised(features[tasks.train.indices], tasks.train.where)
    heads, info = softmax_regression(
        x,
        tasks.train.labels,
        tasks.train.where,
        num_classes=tasks.classes.shape[1],
        l2=l2,
        tolerance=TOLERANCE,
    )
    return heads, standardise, info


def _optimum(shared, tasks: Tasks) -> HeadResult:
    train_features, test_features, l2, _ = shared
    heads, standardise, info = _solve(train_features, l2, tasks)
    return HeadResult(_accuracy(heads, standardise, test_features, tasks.test), *info)


def _sgd(shared, tasks: Tasks) -> HeadResult:
    """100 epochs' worth of batches of 32, each drawn with replacement from the task's images."""
    train_features, test_features, l2, key = shared
    labels, where, c = tasks.train.labels, tasks.train.where, tasks.classes.shape[1]
    x, standardise = _standardised(train_features[tasks.train.indices], where)
    n, d = x.shape[1:]
    size = where.sum(1)
    steps = -(-100 * size // 32)
    # A task's own key, the same in whatever chunk it comes.
    keys = jax.vmap(lambda rows: jax.random.fold_in(key, rows.sum()))(tasks.train.indices)
    optimiser = optax.sgd(0.01, momentum=0.9)
    most = -(-100 * n // 32)

    def loss(heads, rest, batch):
        x, labels = batch
        logits = x @ heads.kernel + heads.bias
        cross = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
        right = jnp.mean(logits.argmax(1) == labels)
        return cross + l2 / 2 * jnp.sum(heads.kernel**2), (rest, right)

    def one(x, labels, key, size, steps):
        def of_batch(heads, rest, i):
            rows = jax.random.randint(jax.random.fold_in(key, i), (32,), 0, size)
            return loss(heads, rest, (x[rows], labels[rows]))

        heads = Heads(jnp.zeros((d, c), x.dtype), jnp.zeros(c, x.dtype))
        number = jnp.arange(most)
        return fit(of_batch, optimiser, init(heads, (), optimiser), number, number < steps)[
            0
        ].params

    heads = jax.vmap(one)(x, labels, keys, size, steps)
    info = certify(heads, x, labels, where, l2, steps)
    return HeadResult(_accuracy(heads, standardise, test_features, tasks.test), *info)


_FITS = {"optimum": _optimum, "sgd": _sgd}


def _standardised(x, where):
    """``x [t, n, d]`` standardised over ``where``, and how: ``(mean, unit, scale)``, ``[t, 1, d]``.

    An infinite scale leaves out a feature that does not vary. Deviations are taken in units of the
    largest before they are squared, so that the squares stay in range.
    """
    share = (where / where.sum(1, keepdims=True))[..., None]
    mean = jnp.sum(share * jnp.where(where[..., None], x, 0), 1, keepdims=True)
    deviation = jnp.where(where[..., None], x - mean, 0)
    unit = jnp.abs(deviation).max(1, keepdims=True)
    varies = unit > 1e-6 * jnp.abs(mean)
    unit = jnp.where(varies, unit, jnp.inf)
    scale = jnp.sqrt(jnp.sum(share * (deviation / unit) ** 2, 1, keepdims=True))
    scale = jnp.where(varies, scale, 1)
    return deviation / unit / scale, (mean, unit, scale)


def _accuracy(heads, standardise, features, split: Split):
    """Test images one task at a time: their features need not be held for all tasks at once."""

    def one(args):
        kernel, bias, (mean, unit, scale), split = args
        x = (features[split.indices] - mean) / unit / scale
        logits = jnp.matmul(x, kernel, precision="highest") + bias
        right = (logits.argmax(1) == split.labels) & split.where
        return right.sum() / split.where.sum()

    return jax.lax.map(one, (heads.kernel, heads.bias, standardise, split))
