"""How fast are meta-steps of second-order MAML, against PyTorch?

Images and weights are random: only their shapes count. All contenders start from the same weights
and see the same episodes; the loss of the first step says that they compute the same.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from rich.console import Console

from experiments import _peers
from leepjax.meta import Episodes, EpisodeShape, Meta, MetaLearner, MetaTraining, make_learner
from leepjax.meta.train import MetaState, init_state, meta_update
from leepjax.models import Conv4, Preprocess, make_source

WAYS, QUERIES, SIZE, STEPS, RATE, META_STEPS = 5, 15, 28, 5, 0.1, 4
NOTES = (f"A call takes {META_STEPS} meta-steps, and loss is that of the first.",)
UNIT = "steps"


class Problem(NamedTuple):
    """What all contenders work on."""

    learner: MetaLearner
    training: MetaTraining
    meta: Meta
    batches: list[Episodes]
    preprocess: Preprocess
    width: int

    @property
    def amount(self) -> int:
        """How many meta-steps a call takes."""
        return len(self.batches)


def make_problem(tasks: int, shots: int, width: int, seed: int) -> Problem:
    """A Conv4 and a few batches of 5-way episodes with 15 queries a class."""
    rng = np.random.default_rng(seed)
    network = Conv4(WAYS, width=width, rngs=nnx.Rngs(seed))
    source = make_source(network, Preprocess(SIZE, 1, (0.5,), (0.5,)), tuple("abcde"))
    learner = make_learner("maml", source, WAYS, steps=STEPS, rate=RATE)
    training = MetaTraining(
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
    meta = learner.init(jax.random.key(seed))
    return Problem(learner, training, meta, batches, source.preprocess, width)


def contenders(
    problem: Problem, strategies: Sequence[str], peers: bool, console: Console
) -> dict[str, Callable[[], float]]:
    """Calls that take the steps and return the loss of the first, by name."""
    on_device = [jax.device_put(batch) for batch in problem.batches]

    def ours(vmap: bool) -> Callable[[], float]:
        update = jax.jit(partial(meta_update, problem.learner, problem.training, vmap=vmap))

        def call() -> float:
            state: MetaState = init_state(problem.meta.params, problem.training, WAYS)
            losses = []
            for batch in on_device:
                state, info = update(state, problem.meta.fixed, batch)
                losses.append(info.loss)
            jax.block_until_ready(state)
            return float(losses[0])

        return call

    calls = {f"leepjax {strategy}": ours(strategy == "vmap") for strategy in strategies}
    return calls | (_theirs(problem, console) if peers else {})


def _theirs(problem: Problem, console: Console) -> dict[str, Callable[[], float]]:
    module = _peers.available("_torch_meta", console)
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
    rate = problem.training.learning_rate
    calls = module.contenders(nested, arrays, STEPS, RATE, rate, META_STEPS)
    return {name: lambda call=call: call()[0] for name, call in calls.items()}


def title(problem: Problem) -> str:
    """What is trained."""
    episode = problem.training.episode
    return (
        f"MAML, second order, {STEPS} inner steps; {problem.training.tasks} tasks a step, {WAYS} "
        f"ways, {episode.shots} shot(s), {QUERIES} queries; Conv4-{problem.width}, {SIZE} x {SIZE}"
    )
