"""How fast are meta-steps of second-order MAML, against PyTorch?

    python -m benchmarks meta --shots 5

PyTorch goes by a loop over tasks and by `torch.func`. Images and weights are random: only their
shapes count. All contenders start from the same weights and see the same episodes; the loss of the
first step says that they compute the same.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from rich.console import Console

from benchmarks import command, peers
from benchmarks.training import race
from leepjax.meta import Episodes, EpisodeShape, Meta, MetaLearner, MetaRecipe, make_learner
from leepjax.meta.train import MetaState, init_state, meta_update
from leepjax.models import Conv4, Preprocess, make_source

WAYS, QUERIES, SIZE, STEPS, RATE, META_STEPS = 5, 15, 28, 5, 0.1, 4
NOTE = f"A call takes {META_STEPS} meta-steps, and loss is that of the first."


@dataclasses.dataclass(frozen=True)
class Config(command.Shared):
    """Time meta-steps of MAML beside PyTorch, in one run, on the same threads."""

    tasks: int = 8
    """In a step."""
    shots: int = 1
    """Support images of a class."""
    width: int = 32
    """Channels of the Conv4."""
    strategies: tuple[Literal["loop", "vmap"], ...] = ("loop", "vmap")
    """Which of leepjax's."""


class Problem(NamedTuple):
    """What all contenders work on."""

    learner: MetaLearner
    recipe: MetaRecipe
    meta: Meta
    batches: list[Episodes]
    preprocess: Callable[[jax.Array], jax.Array]


def run(config: Config, console: Console) -> Path:
    """Time everything, print the table, write it as CSV and Markdown; return its directory."""
    title = (
        f"MAML, second order, {STEPS} inner steps; {config.tasks} tasks a step, {WAYS} "
        f"ways, {config.shots} shot(s), {QUERIES} queries; Conv4-{config.width}, {SIZE} x {SIZE}"
    )
    contenders = partial(make_contenders, make_problem(config), config)
    return race(config, title, "steps", META_STEPS, contenders, NOTE, console)


def make_problem(config: Config) -> Problem:
    """A Conv4 and a few batches of 5-way episodes with 15 queries a class."""
    rng, tasks, shots = np.random.default_rng(config.seed), config.tasks, config.shots
    network = Conv4(WAYS, width=config.width, rngs=nnx.Rngs(config.seed))
    source = make_source(network, Preprocess(SIZE, 1, (0.5,), (0.5,)), tuple("abcde"))
    learner = make_learner("maml", source, WAYS, steps=STEPS, rate=RATE)
    recipe = MetaRecipe(
        steps=10_000, tasks=tasks, episode=EpisodeShape(WAYS, shots, QUERIES), clip=1e9
    )

    def images(each: int) -> np.ndarray:
        return rng.integers(0, 256, (tasks, WAYS * each, SIZE, SIZE, 1), dtype=np.uint8)

    def labels(each: int) -> np.ndarray:
        return np.tile(np.arange(WAYS, dtype=np.int32), (tasks, each))

    classes = np.zeros((tasks, WAYS), np.int32)
    batches = [
        Episodes(images(shots), labels(shots), images(QUERIES), labels(QUERIES), classes)
        for _ in range(META_STEPS)
    ]
    meta = learner.init(jax.random.key(config.seed))
    return Problem(learner, recipe, meta, batches, source.preprocess)


def make_contenders(
    problem: Problem, config: Config, console: Console
) -> dict[str, Callable[[], float]]:
    """Calls that take the steps and return the loss of the first, by name."""
    on_device = [jax.device_put(batch) for batch in problem.batches]

    def ours(strategy: Any) -> Callable[[], float]:
        step = partial(meta_update, problem.learner, problem.recipe, strategy=strategy)
        update = jax.jit(step)

        def call() -> float:
            state: MetaState = init_state(problem.meta.params, problem.recipe, WAYS)
            losses = []
            for batch in on_device:
                state, info = update(state, problem.meta.fixed, batch)
                losses.append(info.loss)
            jax.block_until_ready(state)
            return float(losses[0])

        return call

    calls = {f"leepjax {strategy}": ours(strategy) for strategy in config.strategies}
    return calls | (_theirs(problem, console) if config.peers else {})


def _theirs(problem: Problem, console: Console) -> dict[str, Callable[[], float]]:
    module = peers.available("torch_maml", console)
    if module is None:
        return {}
    params = problem.meta.params
    nested = jax.device_get({**params["body"], "head": params["head"]})

    def prepared(images: np.ndarray) -> np.ndarray:
        flat = problem.preprocess(jnp.asarray(images.reshape(-1, SIZE, SIZE, 1)))
        return np.asarray(flat).reshape(images.shape)

    arrays = [
        (prepared(b.support), b.support_labels, prepared(b.query), b.query_labels)
        for b in problem.batches
    ]
    rate = problem.recipe.learning_rate
    calls = module.contenders(nested, arrays, STEPS, RATE, rate, META_STEPS)
    return {name: lambda call=call: call()[0] for name, call in calls.items()}


def main(config: Config) -> None:
    """Run the benchmark, on as many cores as it says."""
    command.start(config, run)
