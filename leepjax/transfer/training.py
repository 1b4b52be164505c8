"""The programs that train and test networks on tasks: pure functions of one task, laid out.

A *job* is one task trained with one recipe. A dispatch trains every job for some steps. There are
two strategies with the same results. A device holds one job and takes one step a dispatch; or it
holds several jobs, by `vmap`, and takes the steps of an epoch, by `scan`.
"""

from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from leepjax import fit
from leepjax.data import Pixels
from leepjax.fit import DONATES, State
from leepjax.models import Preprocess, Tokens, apply
from leepjax.models.convolve import keep_barriers
from leepjax.models.initialisation import reinitialise
from leepjax.transfer._softmax_regression import Heads
from leepjax.transfer.augment import augment
from leepjax.transfer.optimiser import make_optimiser
from leepjax.transfer.recipe import Rates, Recipe


class JobArrays(NamedTuple):
    """What stays the same throughout a job's training; stacked, arrays ``[jobs, ...]``."""

    key: Any  # typed key
    num_classes: Any  # of its task; the head has as many outputs as the largest task
    steps: Any  # in all, for the schedule
    rates: Rates
    head: Heads  # to start from


class Batch(NamedTuple):
    """Images of one step; stacked, arrays ``[jobs, steps, ...]``."""

    rows: Any  # [batch] of the train bank
    labels: Any  # [batch]
    number: Any  # [] of the step
    live: Any  # [] False where this job has nothing left to do


class Program(NamedTuple):
    """Jitted functions of arrays with a leading axis of jobs, divided over the mesh."""

    init: Any  # (params, rest, jobs) -> state
    train: Any  # (images, params, jobs, state, batches) -> (state, info)
    predict: Any  # (images, jobs, state, rows [jobs, e]) -> labels [jobs, e]; -1: not finite


@cache
def make_program(
    graphdef: Any,
    preprocess: Preprocess | Tokens,
    recipe: Recipe,
    scratch: bool,
    mesh: Mesh,
    vmap: bool,
    platform: str,
) -> Program:
    """The program of a network and the static part of a recipe.

    Args:
      graphdef: the network.
      preprocess: from uint8 images to its input.
      recipe: ``Recipe.static``.
      scratch: start from fresh parameters instead of the source's.
      mesh: its axis ``data`` divides the jobs.
      vmap: whether a device holds several jobs, and takes several steps a dispatch.
      platform: that it is for.
    """

    def init(params: Any, rest: Any, job: JobArrays) -> State:
        if scratch:
            params, rest = (
                reinitialise(jax.random.fold_in(job.key, 0), params),
                reinitialise(job.key, rest),
            )
        params = params | {"head": {"kernel": job.head.kernel, "bias": job.head.bias}}
        return fit.init(params, rest, make_optimiser(recipe, job.rates, job.steps, params))

    def loss(num_classes: jax.Array, params: Any, rest: Any, batch: Any):
        x, labels = batch
        outputs, rest = apply(graphdef, params, rest, x, train=recipe.batch_norm == "batch")
        logits, present = _present(outputs.logits, num_classes)
        log_p = jax.nn.log_softmax(logits)
        value = -jnp.take_along_axis(log_p, labels[:, None], 1).mean()
        if recipe.label_smoothing:
            even = -jnp.sum(jnp.where(present, log_p, 0), 1).mean() / num_classes
            value = (1 - recipe.label_smoothing) * value + recipe.label_smoothing * even
        return value, (rest, jnp.mean(logits.argmax(1) == labels))

    def train(images: Pixels, source: Any, job: JobArrays, state: State, batches: Batch):
        optimiser = make_optimiser(recipe, job.rates, job.steps, source)

        def step(state: State, batch: Batch):
            x = images[batch.rows]
            if recipe.flip or recipe.crop:
                key = jax.random.fold_in(job.key, batch.number + 1)
                x = augment(key, x, flip=recipe.flip, crop=recipe.crop)
            of_task = partial(loss, job.num_classes)
            return fit.step(of_task, optimiser, state, (preprocess(x), batch.labels), batch.live)

        if vmap:
            return jax.lax.scan(step, state, batches)
        state, info = step(state, jax.tree.map(lambda a: a[0], batches))
        return state, jax.tree.map(lambda a: a[None], info)

    def predict(images: Pixels, job: JobArrays, state: State, rows: jax.Array) -> jax.Array:
        outputs, _ = apply(graphdef, state.params, state.rest, preprocess(images[rows]))
        logits, present = _present(outputs.logits, job.num_classes)
        finite = (jnp.isfinite(logits) | ~present).all(1)
        return jnp.where(finite, logits.argmax(1), -1)

    def laid_out(fn: Callable[..., Any], shared: int, **options: Any) -> Any:
        """``fn`` of one job, over all: its first ``shared`` arguments are the same for all."""

        def block(*args):
            common, jobs = args[:shared], args[shared:]
            if vmap:
                return jax.vmap(partial(fn, *common))(*jobs)
            value = fn(*common, *jax.tree.map(lambda a: a[0], jobs))
            return jax.tree.map(lambda a: a[None], value)

        def over_devices(*args):
            if mesh.size == 1:
                return block(*args)
            specs = (P(),) * shared + (P("data"),) * (len(args) - shared)
            mapped = jax.shard_map(
                block, mesh=mesh, in_specs=specs, out_specs=P("data"), check_vma=False
            )
            return mapped(*args)

        return jax.jit(over_devices, **options)

    stepwise = laid_out(
        train, 2, donate_argnums=(3,) if DONATES else (), compiler_options=keep_barriers(platform)
    )
    return Program(laid_out(init, 2), stepwise, laid_out(predict, 1))


def _present(logits: jax.Array, num_classes: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Logits of the task's classes, -inf beyond them; and which those are."""
    present = jnp.arange(logits.shape[1]) < num_classes
    return jnp.where(present, logits, -jnp.inf), present
