"""Meta-transfer learning: pre-trained kernels stay fixed, and their strength is meta-learnt.

Q. Sun, Y. Liu, T.-S. Chua, B. Schiele: Meta-Transfer Learning for Few-Shot Learning, CVPR 2019.
The kernel W of every convolution, frozen, is scaled by a learnt factor for each pair of an input
and an output channel, and its output shifted by a learnt value for each channel; the inner loop
adapts the head, from a learnt start. (Their hard-task meta-batches are `MetaRecipe.hard_every`.)

Two things are ours: the head works on features in the task's own units (`units.task_units`), since
over raw features the inner loop diverges once training lets them grow; and its rate, at most 2, and
a gain of the logits are learnt.
"""

from typing import Any

import jax
import jax.numpy as jnp

from leepjax.meta.inner import check_steps, descend
from leepjax.meta.learner import Meta, MetaLearner, assemble, cross_entropy
from leepjax.meta.network import body, feature_function, init_head, linear
from leepjax.meta.units import in_units, task_units
from leepjax.models import Source


def mtl(source: Source, ways: int, *, steps: int = 20) -> MetaLearner:
    """Meta-transfer learning (MTL), with the source's batch normalisation frozen.

    Args:
      source: the pre-trained network; its convolutions ``conv*`` are followed by ``bn*``.
      ways: classes of a task.
      steps: inner steps of the head.

    Raises:
      ValueError: ``steps`` below 1; a network without ``head``, or with a convolution that no
        normalisation follows.
    """
    check_steps(steps)
    features = feature_function(source, "running", in_loop=False)
    _check_pairs(source.params, source.rest)

    def init(key: jax.Array) -> Meta:
        dtype = source.params["head"]["kernel"].dtype
        params = {
            "scale": _of_convolutions(source.params, lambda k: jnp.ones(k.shape[2:], k.dtype)),
            "shift": _of_convolutions(source.params, lambda k: jnp.zeros(k.shape[3], k.dtype)),
            "head": init_head(key, source, ways),
            "rate": jnp.zeros((), dtype),
            "gain": jnp.zeros((), dtype),
        }
        return Meta(params, {"params": body(source.params), "rest": source.rest})

    def embed(meta: Meta, images: jax.Array) -> jax.Array:
        params, rest = modulated(meta)
        return features(params, rest, source.preprocess(images))

    def adapt(meta: Meta, x: jax.Array, labels: jax.Array) -> Any:
        units = task_units(x)
        x = in_units(units, x)
        rate = 2 * jax.nn.sigmoid(meta.params["rate"])[None]
        gain = jnp.exp(meta.params["gain"])

        def loss(head: Any) -> jax.Array:
            return cross_entropy(linear(head, x), labels)

        head, _ = descend(loss, meta.params["head"], rate, steps)
        return units, jax.tree.map(lambda a: gain * a, head)

    def predict(meta: Meta, adapted: Any, x: jax.Array) -> jax.Array:
        units, head = adapted
        return linear(head, in_units(units, x))

    return assemble(
        "mtl",
        source,
        ways,
        init,
        embed,
        adapt,
        predict,
        whole_network=False,
        batch_norm="frozen",
        steps=steps,
    )


def modulated(meta: Meta) -> tuple[Any, Any]:
    """Parameters and running averages with the learnt scales and shifts in them.

    A shift of a convolution's output is one of the mean that the normalisation after it takes off.
    """

    def merge(params: Any, rest: Any, scale: Any, shift: Any) -> tuple[Any, Any]:
        params, rest = dict(params), dict(rest)
        for name, factor in scale.items():
            if not isinstance(factor, dict):
                bn = _follows(name)
                params[name] = {**params[name], "kernel": params[name]["kernel"] * factor}
                rest[bn] = {**rest[bn], "mean": rest[bn]["mean"] - shift[name]}
            else:
                params[name], rest[name] = merge(params[name], rest[name], factor, shift[name])
        return params, rest

    fixed = meta.fixed
    return merge(fixed["params"], fixed["rest"], meta.params["scale"], meta.params["shift"])


def _of_convolutions(params: Any, make: Any) -> Any:
    """``make(kernel)`` of every convolution, in dicts like the parameters'."""
    made = {}
    for name, value in params.items():
        if not isinstance(value, dict):
            continue
        if "kernel" in value and value["kernel"].ndim == 4:
            made[name] = make(value["kernel"])
        elif inside := _of_convolutions(value, make):
            made[name] = inside
    return made


def _follows(name: str) -> str:
    """The normalisation after a convolution: ``bn2`` after ``conv2``."""
    return name.replace("conv", "bn")


def _check_pairs(params: Any, rest: Any) -> None:
    convolutions = _of_convolutions(params, lambda kernel: True)
    if not convolutions:
        raise ValueError("source: wanted a network with convolutions, got none to scale and shift")
    for name, value in convolutions.items():
        if isinstance(value, dict):
            _check_pairs(params[name], rest.get(name, {}))
        elif "mean" not in rest.get(_follows(name), {}):
            raise ValueError(
                f"source: wanted a normalisation after the convolution {name}, whose mean takes "
                f"its shift, named as conv2 and bn2 are; got none named {_follows(name)}"
            )
