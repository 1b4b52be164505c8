"""Temperature, source-class weights and a mixture of sources, chosen by the gradient of LEEP.

A parameter is fitted on a task's training images, by gradient and by a grid. It is judged on the
test images by the expected empirical predictor of the training images: its mean log-likelihood
(held-out LEEP) and its accuracy. ``leepjax.choosing.temperature_probs`` and related functions
define the parameters.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from leepjax.choosing import (
    class_weight_probs,
    maximise,
    mixture_probs,
    temperature_probs,
)
from leepjax.metrics import ExpectedEmpiricalPredictor, cross_fitted_leep, leep
from leepjax.tasks import Tasks, map_tasks

TEMPERATURES = np.geomspace(0.05, 20, 25)  # the grid: a factor of 1.28 apart, 1 among them

OBJECTIVES = {"leep": leep, "cross_fitted_leep": cross_fitted_leep}
Logits = Sequence[jax.Array]  # [n, s_m] of each source; temperature and class weights: one


class Judged(NamedTuple):
    """A parameter of each of t tasks, chosen in each of w ways, and its results.

    Attributes:
      params: ``[t, w, ...]``.
      leep: ``[t, w]`` on the training images.
      cross_fitted_leep: ``[t, w]`` on the training images.
      held_out: ``[t, w]`` mean log-likelihood of the test images.
      accuracy: ``[t, w]`` of the expected empirical predictor on the test images.
    """

    params: Any
    leep: Any
    cross_fitted_leep: Any
    held_out: Any
    accuracy: Any


class Family(NamedTuple):
    """A kind of parameter.

    Attributes:
      probs: its effect, ``probs(params, logits) -> [n, s]``.
      start: the value when nothing is chosen, given the logits.
      grid: the few values ``[g, ...]`` that a grid tries, given the logits.
    """

    probs: Callable[[Any, Logits], jax.Array]
    start: Callable[[Logits], jax.Array]
    grid: Callable[[Logits], jax.Array]


FAMILIES = {
    "temperature": Family(
        lambda log_temperature, logits: temperature_probs(log_temperature, logits[0]),
        lambda logits: jnp.zeros(()),
        lambda logits: jnp.log(jnp.asarray(TEMPERATURES, jnp.float32)),
    ),
    "class_weights": Family(
        lambda log_weights, logits: class_weight_probs(log_weights, logits[0]),
        lambda logits: jnp.zeros(logits[0].shape[1]),
        lambda logits: jnp.zeros((1, logits[0].shape[1])),  # too many to try
    ),
    "mixture": Family(
        mixture_probs,
        lambda logits: jnp.zeros(len(logits)),
        lambda logits: jnp.log(jnp.eye(len(logits))),  # each source alone
    ),
}
WAYS = {
    "temperature": ("start", "grid", "leep", "cross_fitted_leep"),
    "class_weights": ("start", "leep", "cross_fitted_leep"),
    "mixture": ("start", "grid", "leep", "cross_fitted_leep"),
}


def choose(
    train: Logits, test: Logits, tasks: Tasks, family: str, *, devices: Any = None
) -> Judged:
    """Choose a parameter for each task from its training images, and judge it on its test images.

    Args:
      train: logits ``[n, s_m]`` of the train bank from each source.
      test: ``[m, s_m]`` of the test bank.
      tasks: the tasks.
      family: of ``FAMILIES``.
      devices: the devices that share the tasks; default the first.

    Returns:
      The parameters chosen in the ways of ``WAYS[family]``. ``start`` chooses nothing. ``grid``
      takes the best of a few by cross-fitted LEEP (for a mixture, the best source alone). The
      others maximise the objective that they name.
    """
    shared = tuple(map(jnp.asarray, train)), tuple(map(jnp.asarray, test))
    return map_tasks(_chooser(family), shared, tasks, devices=devices, desc=family)


@cache
def _chooser(family: str) -> Callable[..., Judged]:
    probs_of, start_of, grid_of = FAMILIES[family]

    def of_tasks(shared, tasks: Tasks) -> Judged:
        train, test = shared
        c = tasks.classes.shape[1]

        def one(split, judge) -> Judged:
            logits = [x[split.indices] for x in train]
            unseen = [x[judge.indices] for x in test]
            number = judge.where.sum()

            def objective(params, name):
                probs = probs_of(params, logits)
                return OBJECTIVES[name](probs, split.labels, num_classes=c, where=split.where)

            def chosen(way):
                if way == "start":
                    return start_of(logits)
                if way == "grid":
                    tried = grid_of(logits)
                    values = jax.lax.map(lambda p: objective(p, "cross_fitted_leep"), tried)
                    return tried[jnp.argmax(values)]
                return maximise(lambda params: objective(params, way), start_of(logits))

            def judged(params) -> Judged:
                predictor = ExpectedEmpiricalPredictor.fit(
                    probs_of(params, logits),
                    split.labels,
                    num_classes=c,
                    where=split.where,
                    smoothing=1 / c,
                )
                predicted = predictor.predict(probs_of(params, unseen))
                likelihood = jnp.take_along_axis(predicted, judge.labels[:, None], 1)[:, 0]
                log = jnp.log(jnp.where(judge.where, likelihood, 1)).sum() / number
                right = jnp.sum(judge.where & (predicted.argmax(1) == judge.labels)) / number
                reached = {name: objective(params, name) for name in OBJECTIVES}
                return Judged(params, **reached, held_out=log, accuracy=right)

            # In turn, not one program for each: compiling takes longer than running.
            return jax.lax.map(judged, jnp.stack([chosen(way) for way in WAYS[family]]))

        return jax.vmap(one)(tasks.train, tasks.test)

    return of_tasks
