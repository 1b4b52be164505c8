"""Joint training of several tasks: one body, one head for each task.

The tasks are the groups of a bank, and share no class. One head has a logit for every class of
every task. For an image only the logits of its own task's classes count; the others are masked. A
task alone is trained in the same way.
"""

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from leepjax.data import Bank, Pixels
from leepjax.fit import DONATES, State, init, step
from leepjax.metrics.platform import target
from leepjax.models import Outputs, Preprocess, Source, SourceRecipe, apply
from leepjax.models.convolve import keep_barriers
from leepjax.models.initialisation import reinitialise
from leepjax.models.train import adamw

BATCH = 300  # images of a forward pass


def train_jointly(
    source: Source, bank: Bank, tasks: Sequence[int], recipe: SourceRecipe, *, seed: int
) -> Source:
    """Train one network on several tasks, from fresh parameters.

    A step takes ``recipe.batch_size`` images of each task, and the mean of the tasks' losses (mean
    cross-entropy of an image among the classes of its own task). So a task has the same number of
    updates and sees the same images in the same order whatever it is trained with, and starts from
    the same parameters.

    Args:
      source: the network's structure, with a logit for each class of the bank; its parameters are
        not used.
      bank: training images, the task of each in ``groups``.
      tasks: numbers of the tasks (of the bank's groups) to train on.
      recipe: steps, images of each task a step, and rates.
      seed: of initial parameters and orders.

    Returns:
      the trained network; its logits of classes of other tasks mean nothing.

    Raises:
      ValueError: other classes than the source's, a class of two tasks, a task that is none of the
        bank's, or training that diverged.
    """
    _check(source, bank, tasks)
    key = jax.random.key(seed)
    optimiser = adamw(recipe)
    state = init(reinitialise(key, source.params), reinitialise(key, source.rest), optimiser)
    index = np.concatenate([_order(bank, task, recipe, seed) for task in tasks], axis=1)
    update = _update(source.graphdef, source.preprocess, recipe, target())
    arrays = jax.device_put((Pixels.of(bank.images), bank.labels, bank.groups, bank.class_groups))
    for rows in index:
        state = update(state, rows, *arrays)
    if not all(np.isfinite(leaf).all() for leaf in jax.device_get(jax.tree.leaves(state.params))):
        raise ValueError(
            f"recipe.learning_rate: training tasks {' '.join(map(str, tasks))} diverged; lower it "
            f"from {recipe.learning_rate}"
        )
    return Source(source.graphdef, state.params, state.rest, source.preprocess, source.class_names)


def accuracy_by_task(source: Source, bank: Bank, tasks: Sequence[int]) -> list[float]:
    """Share in [0, 1] of right answers for each of some tasks, among the task's own classes.

    Args:
      source: a network, as of :func:`train_jointly`.
      bank: test images, the task of each in ``groups``.
      tasks: numbers of the tasks.

    Raises:
      ValueError: as of :func:`train_jointly`.
    """
    _check(source, bank, tasks)
    rows = np.flatnonzero(np.isin(bank.groups, tasks))
    logits = compute_outputs(source, bank.images[rows]).logits
    labels, task = bank.labels[rows], bank.groups[rows]
    right = np.where(bank.class_groups == task[:, None], logits, -np.inf).argmax(1) == labels
    return [float(right[task == t].mean()) for t in tasks]


def compute_outputs(source: Source, images: np.ndarray) -> Outputs:
    """Features ``[n, d]`` and logits ``[n, s]`` of uint8 images ``[n, h, w, ch]``.

    Nothing is kept: for networks that are used once. Others have :func:`leepjax.models.extract`.
    """
    computed = []
    for start in range(0, len(images), BATCH):
        part = images[start : start + BATCH]
        filled = np.resize(part, (BATCH, *part.shape[1:]))  # one shape, one compilation
        value = _forward(source.graphdef, source.preprocess, source.params, source.rest, filled)
        computed.append(Outputs(*(np.asarray(a)[: len(part)] for a in value)))
    return Outputs(*map(np.concatenate, zip(*computed, strict=True)))


def joint_loss(logits: jax.Array, labels: jax.Array, task: jax.Array, class_task: jax.Array):
    """Mean cross-entropy of images ``[n]``, each among the classes of its own task.

    Args:
      logits: ``[n, C]`` of all classes of all tasks.
      labels: ``[n]`` among all classes.
      task: ``[n]`` the task of each image.
      class_task: ``[C]`` the task of each class.
    """
    own = jnp.where(class_task == task[:, None], logits, -jnp.inf)
    return optax.softmax_cross_entropy_with_integer_labels(own, labels).mean()


@partial(jax.jit, static_argnames=("graphdef", "preprocess"))
def _forward(graphdef: Any, preprocess: Preprocess, params: Any, rest: Any, images: jax.Array):
    return apply(graphdef, params, rest, preprocess(images))[0]


# A Python loop over one jitted step: XLA's CPU backend runs a convolution inside a loop body more
# than ten times slower (https://github.com/jax-ml/jax/issues/12868).
@cache
def _update(
    graphdef: Any, preprocess: Preprocess, recipe: SourceRecipe, platform: str
) -> Callable[..., State]:
    optimiser = adamw(recipe)

    @partial(
        jax.jit, donate_argnums=(0,) if DONATES else (), compiler_options=keep_barriers(platform)
    )
    def update(state, rows, images, labels, groups, class_task):
        def loss(params, rest, batch):
            x, y, task = batch
            out, rest = apply(graphdef, params, rest, x, train=True)
            return joint_loss(out.logits, y, task, class_task), (rest, jnp.zeros(()))

        batch = preprocess(images[rows]), labels[rows], groups[rows]
        return step(loss, optimiser, state, batch)[0]

    return update


def _order(bank: Bank, task: int, recipe: SourceRecipe, seed: int) -> np.ndarray:
    """Rows ``[steps, batch]`` of a task's images, one permutation after another."""
    rng = np.random.default_rng([seed, task])
    rows = np.flatnonzero(bank.groups == task)
    wanted = recipe.steps * recipe.batch_size
    passes = [rng.permutation(rows) for _ in range(-(-wanted // len(rows)))]
    return np.concatenate(passes)[:wanted].reshape(recipe.steps, recipe.batch_size)


def _check(source: Source, bank: Bank, tasks: Sequence[int]) -> None:
    if bank.class_names != source.class_names:
        raise ValueError(
            f"bank: wanted the source's {len(source.class_names)} classes, got {bank.num_classes} "
            "or others; make the source with bank.class_names"
        )
    shared = bank.class_groups[bank.labels] != bank.groups
    if shared.any():
        name = bank.class_names[bank.labels[shared.argmax()]]
        raise ValueError(f"bank: wanted every class in one group, a task; got {name!r} in several")
    known = np.unique(bank.groups).tolist()
    if not len(tasks) or not set(tasks) <= set(known):
        raise ValueError(f"tasks: wanted some of {' '.join(map(str, known))}, got {tuple(tasks)}")
