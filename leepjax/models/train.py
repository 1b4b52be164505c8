"""Training of source models, each once: the result is kept under a key of what determines it."""

import dataclasses
import json
import os
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
from flax import nnx

from leepjax._progress import progress
from leepjax._seed import check_seed
from leepjax._store import cache_dir, digest, optional, whole, writing
from leepjax.data import Bank, Dataset, Pixels, check_bank
from leepjax.fit import DONATES, Info, State, init, step
from leepjax.metrics.platform import target
from leepjax.models.convolve import keep_barriers
from leepjax.models.extraction import accuracy
from leepjax.models.networks import make_network
from leepjax.models.preprocess import Preprocess
from leepjax.models.source import Source, apply, make_source, tree_digest
from leepjax.models.tokens import Tokens

VERSION = 3  # of what is computed; a source that another one trained is trained anew
_REPORT_EVERY = 20  # steps


@dataclasses.dataclass(frozen=True)
class SourceRecipe:
    """How a source model is trained.

    Attributes:
      steps: number of updates.
      batch_size: images an update.
      learning_rate: peak rate of Adam, reached after the warm-up and then lowered to 0 by a cosine.
      weight_decay: decoupled decay of the kernels (AdamW), times the learning rate.
      warmup: share of the steps, in ``[0, 1)``, over which the rate rises linearly from 0.
      seed: of the initial parameters and the order of the images.

    Raises:
      ValueError: a field out of its range.
    """

    steps: int = 2000
    batch_size: int = 128
    learning_rate: float = 3e-3
    weight_decay: float = 1e-2
    warmup: float = 0.05
    seed: int = 0

    def __post_init__(self):
        for name in ("steps", "batch_size"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name}: wanted an int >= 1, got {value!r}")
        check_seed("seed", self.seed)
        for name in ("learning_rate", "weight_decay"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name}: wanted 0 or more, got {getattr(self, name)}")
        if not 0 <= self.warmup < 1:
            raise ValueError(f"warmup: wanted a share in [0, 1), got {self.warmup}")


def train_source(name: str, dataset: Dataset, recipe: SourceRecipe) -> Source:
    """A network trained to classify a data set, or the one that an earlier call trained.

    The checkpoint lies in ``cache_dir("sources")`` under a key of the name, the configuration and
    the training bank. Beside it ``source.json``, written last, says that it is complete and holds
    the accuracy on the test bank. What is incomplete is trained anew; what is damaged too, with a
    warning.

    Args:
      name: one of ``NETWORKS``.
      dataset: ``train`` is learnt, ``test`` only measured. Images that are not square are padded.
      recipe: the recipe.

    Raises:
      ValueError: an unknown name, an empty bank, images too small for the network, or a loss that
        is not finite.
    """
    return train_checkpoints(name, dataset, recipe, (recipe.steps,))[0]


def train_checkpoints(
    name: str, dataset: Dataset, recipe: SourceRecipe, at: Sequence[int]
) -> tuple[Source, ...]:
    """The network after each of ``at`` updates of one training, kept as :func:`train_source` does.

    They are moments of the same training, whose learning rate falls to 0 at ``recipe.steps``: one
    before the end is what an interrupted training leaves, not what a shorter one would reach. After
    ``recipe.steps`` it is the source of :func:`train_source`, which it shares the cache with.

    Args:
      name: as of :func:`train_source`.
      dataset: as there.
      recipe: as there.
      at: numbers of updates, ascending, from 1 to ``recipe.steps``.

    Raises:
      ValueError: other numbers, or what :func:`train_source` raises.
    """
    if not at or list(at) != sorted(set(at)) or not 1 <= at[0] <= at[-1] <= recipe.steps:
        raise ValueError(f"at: wanted ascending numbers from 1 to {recipe.steps}, got {list(at)}")
    for split, bank in zip(dataset._fields, dataset, strict=True):
        check_bank(f"dataset.{split}", bank)
    init_key, order_key = jax.random.split(jax.random.key(recipe.seed))
    initial = untrained(init_key, name, dataset.train)

    def folder(steps: int) -> Path:
        moment = () if steps == recipe.steps else (steps,)
        key = digest(VERSION, name, recipe, dataset.train.digest, *moment)
        return cache_dir("sources").absolute() / key

    trained = {steps: _load(folder(steps), initial) for steps in at}
    missing = [steps for steps, source in trained.items() if source is None]
    if missing:
        reached = _train(order_key, name, initial, dataset.train, recipe, missing)
        for steps, source in reached.items():
            record = {
                "network": name,
                "recipe": dataclasses.asdict(recipe),
                "steps": steps,
                "train": dataset.train.digest,
                "test": dataset.test.digest,
                "test_accuracy": accuracy(source, dataset.test),
            }
            if jax.process_index() == 0:  # of several, which may share the cache, it alone writes
                with optional(folder(steps)):
                    _save(folder(steps), source, record)
        trained |= reached
    return tuple(source for source in trained.values() if source is not None)


def make_step(
    graphdef: Any, preprocess: Preprocess | Tokens, optimiser: optax.GradientTransformation
) -> Callable[..., tuple[State, Info]]:
    """One jitted update, ``step(state, index [batch], images, labels [n])``.

    It gathers its batch from the ``Pixels`` on the device and lowers the batch's mean
    cross-entropy; ``state`` is donated where that is safe.
    """

    def loss(params: Any, rest: Any, batch: tuple[jax.Array, jax.Array]):
        x, labels = batch
        outputs, rest = apply(graphdef, params, rest, x, train=True)
        value = optax.softmax_cross_entropy_with_integer_labels(outputs.logits, labels).mean()
        return value, (rest, jnp.mean(outputs.logits.argmax(axis=1) == labels))

    @partial(
        jax.jit, donate_argnums=(0,) if DONATES else (), compiler_options=keep_barriers(target())
    )
    def update(state: State, index: jax.Array, images: Pixels, labels: jax.Array):
        return step(loss, optimiser, state, (preprocess(images[index]), labels[index]))

    return update


def untrained(key: jax.Array, name: str, bank: Bank) -> Source:
    """What :func:`train_source` starts from: a fresh network for the classes of a bank."""
    size, channels = max(bank.images.shape[1:3]), bank.images.shape[3]
    preprocess = Preprocess(size, channels, mean=(0.5,) * channels, std=(0.5,) * channels)
    rngs = nnx.Rngs(key)
    network = make_network(name, bank.num_classes, size=size, channels=channels, rngs=rngs)
    return make_source(network, preprocess, bank.class_names)


def adamw(recipe: SourceRecipe) -> optax.GradientTransformation:
    """AdamW that decays kernels only, its rate warmed up and then along a cosine to 0."""
    warmup = int(recipe.warmup * recipe.steps)
    rate = optax.warmup_cosine_decay_schedule(0.0, recipe.learning_rate, warmup, recipe.steps)

    def is_kernel(params: Any) -> Any:
        return jax.tree.map(lambda leaf: leaf.ndim > 1, params)

    return optax.adamw(rate, weight_decay=recipe.weight_decay, mask=is_kernel)


def _batches(key: jax.Array, n: int, recipe: SourceRecipe) -> Iterator[np.ndarray]:
    """Index batches ``[batch]``, cut from one permutation of the ``n`` images after another."""
    waiting = np.empty(0, np.int32)
    epoch = 0
    for _ in range(recipe.steps):
        while len(waiting) < recipe.batch_size:
            order = jax.random.permutation(jax.random.fold_in(key, epoch), n)
            waiting = np.concatenate([waiting, np.asarray(order, np.int32)])
            epoch += 1
        yield waiting[: recipe.batch_size]
        waiting = waiting[recipe.batch_size :]


def _train(
    key: jax.Array,
    name: str,
    initial: Source,
    bank: Bank,
    recipe: SourceRecipe,
    at: Sequence[int],
) -> dict[int, Source]:
    """The network after each of ``at`` updates; none is made after the last of them."""
    optimiser = adamw(recipe)
    update = make_step(initial.graphdef, initial.preprocess, optimiser)
    state = init(initial.params, initial.rest, optimiser)
    images, labels = jax.device_put((Pixels.of(bank.images), bank.labels))
    window: list[Info] = []
    total = at[-1] * recipe.batch_size
    reached: dict[int, Source] = {}
    with progress(total=total, desc=f"train {name}", unit="image") as bar:
        for done, index in enumerate(islice(_batches(key, len(labels), recipe), at[-1]), start=1):
            state, info = update(state, index, images, labels)
            window.append(info)
            # Reading a value waits for the device, so not at every step.
            if len(window) == _REPORT_EVERY or done in at:
                loss, correct = np.mean(jax.device_get(window), axis=0)
                if not np.isfinite(loss):
                    raise ValueError(
                        f"recipe.learning_rate: the loss of {name} became {loss} within {done} "
                        f"steps, wanted finite; lower it from {recipe.learning_rate}"
                    )
                bar.set_postfix(loss=f"{loss:.3f}", accuracy=f"{correct:.3f}", refresh=False)
                bar.update(len(window) * recipe.batch_size)
                window.clear()
            if done in at:  # a copy: the next update takes the arrays of the state
                params, rest = jax.tree.map(jnp.copy, (state.params, state.rest))
                reached[done] = dataclasses.replace(initial, params=params, rest=rest)
    return reached


def _save(folder: Path, source: Source, record: dict[str, Any]) -> None:
    # As NumPy arrays a checkpoint can be restored on any machine, whatever its devices.
    tree = jax.device_get({"params": source.params, "rest": source.rest})
    # Of its own in each process, as another may be training the same; the last record counts.
    name = f"checkpoint-{os.getpid()}-{time.time_ns()}"
    with writing(folder, Exception), _checkpointer() as checkpointer:
        checkpointer.save(folder / name, tree)
    _write_record(
        folder / "source.json", record | {"checkpoint": name, "arrays": tree_digest(tree)}
    )


def _checkpointer() -> Any:
    """Orbax's, of this process alone: among several it would wait for the others."""
    me = jax.process_index()
    alone = ocp.options.MultiprocessingOptions(
        primary_host=me, active_processes={me}, barrier_sync_key_prefix=f"source{me}"
    )
    return ocp.StandardCheckpointer(multiprocessing_options=alone)


def _write_record(path: Path, record: dict[str, Any]) -> None:
    with whole(path) as part:
        part.write_text(json.dumps(record, indent=2) + "\n")


def _load(folder: Path, initial: Source) -> Source | None:
    complete = folder / "source.json"
    if not complete.is_file():
        return None
    try:
        record = json.loads(complete.read_text())
        with _checkpointer() as checkpointer:
            empty = jax.device_get({"params": initial.params, "rest": initial.rest})
            tree = checkpointer.restore(folder / record["checkpoint"], empty)
        if tree_digest(tree) != record["arrays"]:
            raise ValueError("the arrays are not those that were saved")
    except Exception as error:  # Orbax passes on whatever its parsers and its storage raise.
        warnings.warn(f"{folder} is damaged and trained anew: {error}", stacklevel=3)
        return None
    return dataclasses.replace(initial, **jax.tree.map(jnp.asarray, tree))
