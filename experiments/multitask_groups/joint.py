"""Joint training of a group of tasks: one body, one head for each task.

All heads are one, with a logit for every class of every task; the logits of an image are those of
its own task's classes, the others are masked. A group of one is a task trained alone.
"""

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.multitask_groups.tasks import tasks_of_classes
from leepjax.data import Bank
from leepjax.fit import DONATES, State, init, step
from leepjax.models import Outputs, Preprocess, Source, SourceRecipe, apply
from leepjax.models.convolve import keep_barriers
from leepjax.models.initialisation import reinitialise
from leepjax.models.train import adamw

FORWARD = 300  # images of a forward pass


def own_logits(logits: jax.Array, task: jax.Array, of_class: jax.Array) -> jax.Array:
    """``logits [n, C]`` of the classes of each image's task ``[n]``; -inf for all others."""
    return jnp.where(of_class == task[:, None], logits, -jnp.inf)


def joint_loss(logits: jax.Array, labels: jax.Array, task: jax.Array, of_class: jax.Array):
    """Mean cross-entropy of images, each among the classes of its own task."""
    own = own_logits(logits, task, of_class)
    return optax.softmax_cross_entropy_with_integer_labels(own, labels).mean()


def train_group(
    source: Source, bank: Bank, group: Sequence[int], config: SourceRecipe, seed: int
) -> Source:
    """Train a network on the tasks of a group.

    A step takes ``config.batch_size`` images of each task, and the mean of the tasks' losses: so a
    task has the same number of updates and sees the same images in the same order in every group,
    from the same initial parameters.

    Args:
      source: the network's structure, with a logit for each class of the bank.
      bank: training images, the task of each in ``groups``.
      group: numbers of tasks.
      config: steps, images of each task a step, and rates.
      seed: of initial parameters and orders.
    """
    key = jax.random.key(seed)
    optimiser = adamw(config)
    state = init(reinitialise(key, source.params), reinitialise(key, source.rest), optimiser)
    index = np.concatenate([_order(bank, task, config, seed) for task in group], axis=1)
    update = _update(source.graphdef, source.preprocess, config)
    arrays = jax.device_put((bank.images, bank.labels, bank.groups, tasks_of_classes(bank)))
    for rows in index:
        state = update(state, rows, *arrays)
    if not all(np.isfinite(leaf).all() for leaf in jax.device_get(jax.tree.leaves(state.params))):
        raise ValueError(
            f"--learning-rate: training tasks {' '.join(map(str, group))} diverged; lower it from "
            f"{config.learning_rate}"
        )
    return Source(source.graphdef, state.params, state.rest, source.preprocess, source.class_names)


def accuracies(source: Source, bank: Bank, group: Sequence[int]) -> list[float]:
    """Share of right answers for each task of a group, among the task's own classes."""
    rows = np.flatnonzero(np.isin(bank.groups, group))
    logits = outputs(source, bank.images[rows]).logits
    of_class, labels, task = tasks_of_classes(bank), bank.labels[rows], bank.groups[rows]
    right = np.where(of_class == task[:, None], logits, -np.inf).argmax(1) == labels
    return [float(right[task == t].mean()) for t in group]


def outputs(source: Source, images: np.ndarray) -> Outputs:
    """Features and logits of images, in batches of one shape."""
    outputs = []
    for start in range(0, len(images), FORWARD):
        part = images[start : start + FORWARD]
        filled = np.resize(part, (FORWARD, *part.shape[1:]))
        value = _forward(source.graphdef, source.preprocess, source.params, source.rest, filled)
        outputs.append(Outputs(*(np.asarray(a)[: len(part)] for a in value)))
    return Outputs(*map(np.concatenate, zip(*outputs, strict=True)))


@partial(jax.jit, static_argnames=("graphdef", "preprocess"))
def _forward(graphdef: Any, preprocess: Preprocess, params: Any, rest: Any, images: jax.Array):
    return apply(graphdef, params, rest, preprocess(images))[0]


# A Python loop over one jitted step: XLA's CPU backend runs a convolution inside a loop body more
# than ten times slower (https://github.com/jax-ml/jax/issues/12868).
@cache
def _update(graphdef: Any, preprocess: Preprocess, config: SourceRecipe) -> Callable[..., State]:
    optimiser = adamw(config)

    @partial(jax.jit, donate_argnums=(0,) if DONATES else (), compiler_options=keep_barriers())
    def update(state, rows, images, labels, groups, of_class):
        def loss(params, rest, batch):
            x, y, task = batch
            out, rest = apply(graphdef, params, rest, x, train=True)
            return joint_loss(out.logits, y, task, of_class), (rest, jnp.zeros(()))

        batch = preprocess(images[rows]), labels[rows], groups[rows]
        return step(loss, optimiser, state, batch)[0]

    return update


def _order(bank: Bank, task: int, config: SourceRecipe, seed: int) -> np.ndarray:
    """Rows ``[steps, batch]`` of a task's images, one permutation after another."""
    rng = np.random.default_rng([seed, task])
    rows = np.flatnonzero(bank.groups == task)
    wanted = config.steps * config.batch_size
    passes = [rng.permutation(rows) for _ in range(-(-wanted // len(rows)))]
    return np.concatenate(passes)[:wanted].reshape(config.steps, config.batch_size)
