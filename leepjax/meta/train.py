"""Meta-training: steps over batches of episodes, with checkpoints to resume from."""

import contextlib
import dataclasses
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from leepjax import distributed
from leepjax._progress import progress
from leepjax._store import digest
from leepjax.data import Bank
from leepjax.meta._episodes import (
    TURNS,
    EpisodeBank,
    Episodes,
    episode_bank,
    episodes,
)
from leepjax.meta.checkpoints import Checkpoints
from leepjax.meta.learner import Meta, MetaLearner, meta_gradient
from leepjax.meta.recipe import MetaRecipe, make_optimiser
from leepjax.metrics.platform import target
from leepjax.tasks import Strategy, task_mesh

VERSION = 1  # of what is computed; checkpoints of another are not gone on from
CHUNK = 50  # steps between looks at the loss, and checkpoints


class MetaState(NamedTuple):
    """What one meta-step passes on to the next.

    Attributes:
      params: of the meta-learner.
      optimiser: state of the optimiser.
      step: ``[]`` how many steps have been taken.
      failed: ``[C]`` bool, classes that did worst in an episode, not all right, and have not been
        drawn again since.
    """

    params: Any
    optimiser: Any
    step: Any
    failed: Any


class MetaInfo(NamedTuple):
    """What a meta-step reports; arrays ``[steps]`` of a whole training.

    Attributes:
      loss: mean over the episodes.
      accuracy: share of queries that are labelled right after adapting.
      deviation: standard deviation of that over the episodes.
      norm: of the meta-gradient, before it is clipped.
    """

    loss: Any
    accuracy: Any
    deviation: Any
    norm: Any


def meta_update(
    learner: MetaLearner,
    recipe: MetaRecipe,
    state: MetaState,
    fixed: Any,
    batch: Episodes,
    *,
    strategy: Strategy = "auto",
    mesh: Mesh | None = None,
) -> tuple[MetaState, MetaInfo]:
    """One step on a batch of episodes; pure. The options are those of :func:`meta_gradient`."""
    shape = recipe.episode
    grads, info = meta_gradient(
        learner,
        Meta(state.params, fixed),
        batch,
        shots=recipe.shots or (shape.shots,),
        progress=state.step / recipe.steps,
        strategy=strategy,
        mesh=mesh,
    )
    updates, moments = make_optimiser(recipe).update(grads, state.optimiser, state.params)
    failed = state.failed
    if recipe.hard_every:
        # The queries are ordered: one of every class, then the next of every class.
        by_class = info.right.reshape(recipe.tasks, -1, shape.ways).mean(1)
        worst = jnp.take_along_axis(batch.classes, by_class.argmin(1)[:, None], 1)[:, 0]
        missed = by_class.min(1) < 1
        failed = failed.at[batch.classes.reshape(-1)].set(False).at[worst].max(missed)
    accuracy = info.right.mean(1)
    new = MetaState(optax.apply_updates(state.params, updates), moments, state.step + 1, failed)
    norm = jnp.sqrt(jnp.sum(jnp.stack([jnp.sum(g**2) for g in jax.tree.leaves(grads)])))
    return new, MetaInfo(info.loss.mean(), accuracy.mean(), accuracy.std(), norm)


def meta_step(
    key: jax.Array,
    learner: MetaLearner,
    recipe: MetaRecipe,
    state: MetaState,
    fixed: Any,
    bank: EpisodeBank,
    *,
    strategy: Strategy = "auto",
    mesh: Mesh | None = None,
) -> tuple[MetaState, MetaInfo]:
    """Draw episodes and take one step; pure. The options are those of :func:`meta_gradient`."""
    hard = None
    if recipe.hard_every:
        turn = state.step % recipe.hard_every == recipe.hard_every - 1
        hard = state.failed & turn
    key = jax.random.fold_in(key, state.step)
    batch = episodes(key, bank, recipe.episode, recipe.tasks, hard)
    return meta_update(learner, recipe, state, fixed, batch, strategy=strategy, mesh=mesh)


def init_state(params: Any, recipe: MetaRecipe, num_classes: int) -> MetaState:
    """The state before the first step; ``num_classes`` counts rotations where they are classes."""
    moments = make_optimiser(recipe).init(params)
    return MetaState(params, moments, jnp.zeros((), jnp.int32), jnp.zeros(num_classes, bool))


def meta_train(
    key: jax.Array,
    learner: MetaLearner,
    bank: Bank,
    recipe: MetaRecipe,
    *,
    checkpoint: Path | None = None,
    strategy: Strategy = "auto",
    devices: Sequence[Any] | None = None,
) -> tuple[Meta, MetaInfo]:
    """Train a meta-learner on episodes of a bank.

    With a checkpoint folder the same call resumes where an earlier one was stopped, with the same
    result, and returns at once if that one had ended.

    Args:
      key: typed JAX key, of what the learner starts from and of the episodes.
      learner: from a factory of this package, for ``recipe.episode.ways`` classes.
      bank: images of the classes that episodes are drawn from.
      recipe: how it is trained.
      checkpoint: folder for parameters, optimiser and step, written every 50 steps.
      strategy: ``"vmap"``: the episodes of a step at once; ``"loop"``: one after another, so that
        memory does not grow with their number; ``"auto"``: what suits learner and backend.
      devices: the devices that share the episodes of each step, as many each; default this
        process's first. With those of several processes the call is joint
        (``leepjax.distributed``), and process 0 writes the checkpoints. The result depends on the
        devices by rounding alone, and training may go on with others.

    Returns:
      The learner's parameters, and the log of the training.

    Raises:
      ValueError: a bank too small for the episodes; a folder of another configuration; a loss
        that is not finite, where training stops and leaves the last good checkpoint.
    """
    if learner.ways != recipe.episode.ways:
        raise ValueError(
            f"recipe: wanted episodes of {learner.ways} ways, the learner's, got {recipe}"
        )
    joint = distributed.part_of(devices).joint
    mesh = task_mesh(devices)
    if recipe.tasks % mesh.size:
        raise ValueError(
            f"recipe.tasks: wanted a multiple of {mesh.size}, the devices that share a step's "
            f"episodes, got {recipe.tasks}"
        )
    drawn = episode_bank(bank, recipe.episode)
    identity = {
        "version": VERSION,
        "learner": dict(learner.identity),
        "training": dataclasses.asdict(recipe),  # its name in checkpoints
        "bank": bank.digest,
        "key": digest(jax.random.key_data(key)),
    }
    what = f"meta-train {learner.name}"
    if joint:
        distributed.check_same(what, **identity, devices=[str(d) for d in mesh.devices.flat])
    init_key, episode_key = jax.random.split(key)
    writes = not joint or distributed.is_main()
    with Checkpoints(checkpoint if writes else None, identity) as kept:
        meta = learner.init(init_key)
        copies = TURNS if recipe.episode.rotations else 1
        state = init_state(meta.params, recipe, copies * bank.num_classes)
        history = MetaInfo(*np.full((4, recipe.steps), np.nan))
        start = state, history
        if joint:
            start = distributed.from_main(what, lambda: kept.load((state, history)), start)
        else:
            start = kept.load(start)
        state, history = start
        run = _runner(learner, recipe, strategy, mesh)
        episode_key, state, fixed, drawn = _everywhere(
            (episode_key, state, meta.fixed, drawn), mesh, joint
        )
        done = int(state.step)
        with progress(total=recipe.steps, desc=what, unit="step") as bar:
            bar.update(done)
            while done < recipe.steps:
                number = min(CHUNK, recipe.steps - done)
                with distributed.time_limit(what) if joint else contextlib.nullcontext():
                    state, infos = run(episode_key, state, fixed, drawn, number)
                _check_finite(infos, done, recipe, learner, kept)
                for whole, part in zip(history, infos, strict=True):
                    whole[done : done + number] = part
                done += number
                kept.save(done, (state, history))
                mean = float(np.mean(infos.accuracy))
                spread = np.sqrt(np.mean(infos.deviation**2) + np.var(infos.accuracy))
                half = 1.96 * spread / np.sqrt(number * recipe.tasks)
                loss = f"{np.mean(infos.loss):.3f}"
                bar.set_postfix(loss=loss, accuracy=f"{mean:.3f}±{half:.3f}", refresh=False)
                bar.update(number)
    params = jax.tree.map(jnp.asarray, jax.device_get(state.params)) if joint else state.params
    return Meta(params, meta.fixed), history


def _everywhere(tree: Any, mesh: Mesh, joint: bool) -> Any:
    """Arrays that all devices have whole; ``joint``: also those of other processes."""
    everywhere = NamedSharding(mesh, P())
    if not joint:
        return jax.device_put(tree, everywhere)

    def place(x: Any) -> jax.Array:
        if isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(
                place(jax.random.key_data(x)), impl=jax.random.key_impl(x)
            )
        # All processes have the same, so none asks the others, as `device_put` would.
        x = np.asarray(x)
        return jax.make_array_from_callback(x.shape, everywhere, lambda index: x[index])

    return jax.tree.map(place, tree)


def _runner(learner: MetaLearner, recipe: MetaRecipe, strategy: Strategy, mesh: Mesh) -> Any:
    """So many steps: one scan, or on a CPU, where loops slow convolutions down, one by one."""

    def step(key: jax.Array, state: MetaState, fixed: Any, bank: EpisodeBank) -> Any:
        return meta_step(key, learner, recipe, state, fixed, bank, strategy=strategy, mesh=mesh)

    everywhere = NamedSharding(mesh, P())
    if target() == "cpu":
        once = jax.jit(step, out_shardings=everywhere)

        def one_by_one(key, state, fixed, bank, number):
            infos = []
            for _ in range(number):
                state, info = once(key, state, fixed, bank)
                if mesh.size > 1:
                    # Cores that are devices share threads: two steps that wait for each other's
                    # sums, both in flight, can take all of them and wait for ever.
                    jax.block_until_ready(state)
                infos.append(info)
            return state, MetaInfo(*map(np.array, zip(*jax.device_get(infos), strict=True)))

        return one_by_one

    @partial(jax.jit, static_argnames="number", out_shardings=everywhere)
    def scanned(key, state, fixed, bank, number):
        return jax.lax.scan(lambda s, _: step(key, s, fixed, bank), state, length=number)

    def run(*arguments):
        state, infos = scanned(*arguments)
        return state, MetaInfo(*map(np.array, infos))

    return run


def _check_finite(
    infos: MetaInfo, done: int, recipe: MetaRecipe, learner: MetaLearner, kept: Checkpoints
) -> None:
    bad = ~np.isfinite(infos.loss) | ~np.isfinite(infos.norm)
    if not bad.any():
        return
    step = int(bad.argmax())
    rate = learner.identity.get("rate")
    inner = "" if rate is None else f" or the inner rate ({rate})"
    before = f", {infos.loss[step - 1]:.3g} in the step before" if step else ""
    raise ValueError(
        f"recipe.learning_rate: the loss of meta-step {done + step + 1} of {learner.name} is "
        f"{infos.loss[step]:.3g}{before}, its gradient's norm {infos.norm[step]:.3g}; the likely "
        "cause is a learning rate that is too high: lower it from "
        f"{recipe.learning_rate}{inner}. {kept.describe(done)}"
    )
