"""Head retraining of many tasks: the source's features stay, a new linear head is fitted."""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from leepjax.tasks import Split, Tasks, map_tasks
from leepjax.transfer.softmax_regression import Heads, certify, softmax_regression


class TransferResult(NamedTuple):
    """What a transfer learner reached on each of t tasks.

    Attributes:
      accuracy: ``[t]`` share of the test images that are labelled right.
      objective: ``[t]`` training objective at the end (module docstring of softmax_regression).
      gap: ``[t]`` by how much the objective may exceed its minimum: the certificate of protocol
        "optimum", at most 5e-6 there.
      iterations: ``[t]`` L-BFGS iterations, or gradient steps of protocol "sgd".
    """

    accuracy: Any
    objective: Any
    gap: Any
    iterations: Any


def retrain_head(
    train_features: np.ndarray,
    test_features: np.ndarray,
    tasks: Tasks,
    *,
    protocol: str = "optimum",
    l2: float = 1e-3,
    key: jax.Array | None = None,
    devices: Sequence[Any] | None = None,
) -> TransferResult:
    """Fit a new head for each task and measure its test accuracy.

    The objective is mean cross-entropy + l2/2 times the squared norm of the kernel, over features
    standardised by the task's own training images (features that do not vary there are left out).
    ``"optimum"`` solves it to within 5e-6 of the minimum. ``"sgd"`` takes 100 epochs of SGD on it,
    momentum 0.9, rate 0.01, batches of 32: what a fixed budget reaches, as in most published
    studies.

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
    for name, features in (("train_features", train_features), ("test_features", test_features)):
        if np.ndim(features) != 2 or not np.isfinite(features).all():
            raise ValueError(
                f"{name}: wanted finite numbers of shape [n, d], got {np.shape(features)}"
            )
    if protocol not in ("optimum", "sgd"):
        raise ValueError(f"protocol: wanted 'optimum' or 'sgd', got {protocol!r}")
    if not 0 < l2 < float("inf"):
        raise ValueError(f"l2: wanted a finite number > 0, got {l2}")
    if protocol == "sgd" and key is None:
        raise ValueError("key: protocol 'sgd' needs one, e.g. jax.random.key(0)")
    banks = jnp.asarray(train_features), jnp.asarray(test_features)

    def fit(chunk: Tasks) -> TransferResult:
        return _fit(*banks, chunk, jnp.float32(l2), key, protocol=protocol)

    return map_tasks(fit, tasks, devices=devices, desc=f"heads ({protocol})")


@partial(jax.jit, static_argnames="protocol")
def _fit(train_features, test_features, tasks, l2, key, *, protocol):
    x = train_features[tasks.train.indices]
    where = tasks.train.where
    mean, scale = _moments(x, where)
    x = (x - mean) / scale
    c = tasks.classes.shape[1]
    if protocol == "optimum":
        heads, info = softmax_regression(x, tasks.train.labels, where, num_classes=c, l2=l2)
    else:
        heads, info = _sgd(x, tasks.train, c, l2, key)
    # Fold the standardisation into the head, so that it reads raw features.
    kernel = heads.kernel / jnp.swapaxes(scale, 1, 2)
    bias = heads.bias - jnp.einsum("tkd,tdc->tc", mean, kernel, precision="highest")
    accuracy = _accuracy(Heads(kernel, bias), test_features, tasks.test)
    return TransferResult(accuracy, info.objective, info.gap, info.iterations)


def _moments(x, where):
    """Mean and scale ``[t, 1, d]`` over ``where``; an infinite scale leaves a feature out."""
    share = (where / where.sum(1, keepdims=True))[..., None]
    mean = jnp.sum(share * x, 1, keepdims=True)
    std = jnp.sqrt(jnp.sum(share * (x - mean) ** 2, 1, keepdims=True))
    varies = std > 1e-6 * jnp.abs(mean)
    return mean, jnp.where(varies, std, jnp.inf)


def _accuracy(heads, features, split: Split):
    """Test images one task at a time: their features need not be held for all tasks at once."""

    def one(args):
        kernel, bias, split = args
        logits = jnp.matmul(features[split.indices], kernel, precision="highest") + bias
        right = (logits.argmax(1) == split.labels) & split.where
        return right.sum() / split.where.sum()

    return jax.lax.map(one, (heads.kernel, heads.bias, split))


def _sgd(x, split: Split, num_classes, l2, key, epochs=100, batch_size=32, rate=0.01):
    n = x.shape[1]
    batch_size = min(batch_size, n)
    optimiser = optax.sgd(rate, momentum=0.9)

    def loss(heads, x, labels, weights):
        logits = jnp.einsum("tnd,tdc->tnc", x, heads.kernel) + heads.bias[:, None]
        cross = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        mean = jnp.sum(weights * cross, 1) / jnp.maximum(jnp.sum(weights, 1), 1)
        return mean + l2 / 2 * jnp.sum(heads.kernel**2, (1, 2))

    def step(carry, rows):
        heads, state = carry
        batch = [jnp.take(a, rows, 1) for a in (x, split.labels, split.where)]
        grad = jax.grad(lambda h: loss(h, *batch).sum())(heads)
        updates, state = optimiser.update(grad, state)
        return (jax.tree.map(jnp.add, heads, updates), state), None

    orders = jax.vmap(lambda k: jax.random.permutation(k, n))(jax.random.split(key, epochs))
    steps = n // batch_size
    batches = orders[:, : steps * batch_size].reshape(epochs * steps, batch_size)
    t, _, d = x.shape
    heads = Heads(jnp.zeros((t, d, num_classes), x.dtype), jnp.zeros((t, num_classes), x.dtype))
    (heads, _), _ = jax.lax.scan(step, (heads, optimiser.init(heads)), batches)
    iterations = jnp.full(t, len(batches))
    return heads, certify(heads, x, split.labels, split.where, l2, iterations)
