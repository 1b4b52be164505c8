"""CAVIA: a task adapts a short context vector; its effect on the network is shared.

L. Zintgraf, K. Shiarlis, V. Kurin, K. Hofmann, S. Whiteson: Fast Context Adaptation via
Meta-Learning, ICML 2019. The context, zero at the start of every task, scales and shifts the
channels of one layer (FiLM): with gamma = 1 + V c and delta = U c, h becomes gamma h + delta after
the normalisation of that layer, which is a change of the normalisation's own scale and bias.
"""

import jax
import jax.numpy as jnp

from leepjax.meta.inner import check_rate, check_steps, descend
from leepjax.meta.learner import Meta, MetaLearner, assemble, cross_entropy
from leepjax.meta.network import body, feature_function, init_head, linear, pixels
from leepjax.models import Source


def cavia(
    source: Source,
    ways: int,
    *,
    steps: int = 2,
    rate: float = 1.0,
    context: int = 100,
    layer: str = "bn3",
    batch_norm: str = "batch",
) -> MetaLearner:
    """CAVIA with its authors' defaults: two steps at rate 1 on 100 numbers, third layer.

    Args:
      source: the network, and the parameters that meta-training starts from.
      ways: classes of a task.
      steps: inner steps.
      rate: of the inner steps.
      context: length of the context vector.
      layer: the normalisation whose channels it scales and shifts.
      batch_norm: ``"batch"`` or ``"running"`` (``leepjax.models.BatchNormMode``).

    Raises:
      ValueError: an argument out of its range, or a network without ``head`` or ``layer``.
    """
    check_steps(steps)
    check_rate(rate)
    if not isinstance(context, int) or context < 1:
        raise ValueError(f"context: wanted an int >= 1, got {context!r}")
    if "scale" not in source.params.get(layer, {}):
        raise ValueError(
            f"layer: wanted a normalisation of the network, got {layer!r}; it has "
            f"{', '.join(name for name in source.params if 'scale' in source.params[name])}"
        )
    features = feature_function(source, batch_norm, in_loop=True)

    def init(key: jax.Array) -> Meta:
        like = source.params[layer]["scale"]
        shape = context, 2 * len(like)
        film_key, head_key = jax.random.split(key)
        film = jax.random.normal(film_key, shape, like.dtype) * context**-0.5
        head = init_head(head_key, source, ways)
        return Meta({"body": body(source.params), "head": head, "film": film}, source.rest)

    def predict(meta: Meta, adapted: jax.Array, x: jax.Array) -> jax.Array:
        gamma, delta = jnp.split(adapted @ meta.params["film"], 2)
        norm = meta.params["body"][layer]
        norm = {"scale": norm["scale"] * (1 + gamma), "bias": norm["bias"] * (1 + gamma) + delta}
        changed = {**meta.params["body"], layer: norm}
        return linear(meta.params["head"], features(changed, meta.fixed, x))

    def adapt(meta: Meta, x: jax.Array, labels: jax.Array) -> jax.Array:
        def support_loss(at: jax.Array) -> jax.Array:
            return cross_entropy(predict(meta, at, x), labels)

        film = meta.params["film"]
        start = jnp.zeros(context, film.dtype)
        return descend(support_loss, start, jnp.full(1, rate, film.dtype), steps)[0]

    return assemble(
        "cavia",
        source,
        ways,
        init,
        pixels(source),
        adapt,
        predict,
        whole_network=True,
        batch_norm=batch_norm,
        steps=steps,
        rate=rate,
        context=context,
        layer=layer,
    )
