"""Temperature, source-class weights and a mixture of sources, chosen by the gradient of LEEP.

With theta_m the softmax of source m over its own s_m classes, all are probabilities of the disjoint
union of the source classes, for which LEEP is defined as for any one source:

    temperature     softmax(l_1 / T)                    start: T = 1
    class_weights   softmax(l_1 + b), b of each class   start: b = 0
    mixture         (w_1 theta_1, ..., w_M theta_M)     start: w = 1/M

P(y | z) of a class z of source m does not depend on w, the weight cancels; so LEEP of the mixture
is the mean logarithm of sum_m w_m p_m(y_i | x_i), concave in w: a gradient finds its maximum. A
parameter is fitted on a task's training images and judged on its test images, by the expected
empirical predictor of the training images: its mean log-likelihood (held-out LEEP) and accuracy.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from leepjax.metrics import ExpectedEmpiricalPredictor, cross_fitted_leep, leep
from leepjax.tasks import Tasks, map_tasks

STEPS, RATE = 150, 0.1  # of Adam
TEMPERATURES = np.geomspace(0.05, 20, 25)  # the grid: a factor of 1.28 apart, 1 among them

OBJECTIVES = {"leep": leep, "cross_fitted_leep": cross_fitted_leep}
Logits = Sequence[jax.Array]  # [n, s_m] of each source


class Judged(NamedTuple):
    """A parameter of each of t tasks, chosen in each of w ways, and what it is worth.

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


def tempered(log_temperature: jax.Array, logits: Logits) -> jax.Array:
    """Probabilities ``[n, s]`` of the first source at a temperature; the parameter is a scalar."""
    return jax.nn.softmax(logits[0] * jnp.exp(-log_temperature), axis=1)


def class_weighted(log_weights: jax.Array, logits: Logits) -> jax.Array:
    """Probabilities ``[n, s]`` of the first source with weights ``[s]`` of its classes."""
    return jax.nn.softmax(logits[0] + log_weights, axis=1)


def mixed(log_weights: jax.Array, logits: Logits) -> jax.Array:
    """Probabilities ``[n, s_1 + ... + s_M]`` of a mixture; the parameter ``[M]`` is its logits."""
    weights = jax.nn.softmax(log_weights)
    parts = [w * jax.nn.softmax(x, axis=1) for w, x in zip(weights, logits, strict=True)]
    return jnp.concatenate(parts, axis=1)


class Family(NamedTuple):
    """A kind of parameter.

    Attributes:
      probs: what it does, ``probs(params, logits) -> [n, s]``.
      start: where nothing is chosen, by the logits.
      grid: the few values ``[g, ...]`` that a grid tries, by the logits.
    """

    probs: Callable[[Any, Logits], jax.Array]
    start: Callable[[Logits], jax.Array]
    grid: Callable[[Logits], jax.Array]


FAMILIES = {
    "temperature": Family(
        tempered,
        lambda logits: jnp.zeros(()),
        lambda logits: jnp.log(jnp.asarray(TEMPERATURES, jnp.float32)),
    ),
    "class_weights": Family(
        class_weighted,
        lambda logits: jnp.zeros(logits[0].shape[1]),
        lambda logits: jnp.zeros((1, logits[0].shape[1])),  # too many to try
    ),
    "mixture": Family(
        mixed,
        lambda logits: jnp.zeros(len(logits)),
        lambda logits: jnp.log(jnp.eye(len(logits))),  # each source alone
    ),
}
WAYS = {
    "temperature": ("start", "grid", "leep", "cross_fitted_leep"),
    "class_weights": ("start", "leep", "cross_fitted_leep"),
    "mixture": ("start", "grid", "leep", "cross_fitted_leep"),
}


def climb(objective: Callable[[Any], jax.Array], start: Any) -> Any:
    """The best parameter that Adam's ``STEPS`` steps up an objective meet, the start among them."""
    optimiser = optax.adam(RATE)

    def body(carry, _):
        params, moments, best, highest = carry
        value, grads = jax.value_and_grad(objective)(params)
        best = jax.tree.map(lambda a, b: jnp.where(value > highest, a, b), params, best)
        descent = jax.tree.map(jnp.negative, grads)
        updates, moments = optimiser.update(descent, moments, params)
        params = optax.apply_updates(params, updates)
        return (params, moments, best, jnp.maximum(value, highest)), value

    begin = (start, optimiser.init(start), start, jnp.array(-jnp.inf))
    return jax.lax.scan(body, begin, length=STEPS + 1)[0][2]


def choose(
    train: Logits, test: Logits, tasks: Tasks, family: str, *, devices: Any = None
) -> Judged:
    """Choose a parameter for each task from its training images, and judge it on its test images.

    Args:
      train: logits ``[n, s_m]`` of the train bank from each source.
      test: ``[m, s_m]`` of the test bank.
      tasks: the tasks.
      family: of ``FAMILIES``.
      devices: that share the tasks; default the first.

    Returns:
      What is chosen in the ways of ``WAYS[family]``: ``start`` chooses nothing, ``grid`` the best
      of a few by cross-fitted LEEP (of a mixture: the best source alone), the others climb the
      objective they name.
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
                return climb(lambda params: objective(params, way), start_of(logits))

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
