"""Reptile: move towards the parameters at the end of training on each task.

A. Nichol, J. Achiam, J. Schulman: On First-Order Meta-Learning Algorithms, arXiv:1803.02999, 2018.
Their update, theta <- theta + epsilon mean (phi_task - theta), is gradient descent at rate epsilon
on 1/2 |theta - phi_task|^2 with phi_task, the parameters after the inner steps, held constant: so
it is one more loss for the same meta-step. In meta-training the inner steps see all images of an
episode, since nothing is judged by the queries. Ours: their inner Adam (without first moment) on
small batches is plain gradient descent on all images here.
"""

from typing import Any

import jax
import jax.numpy as jnp

from leepjax.meta.inner import check_rate, check_steps, descend
from leepjax.meta.learner import Meta, MetaLearner, assemble, cross_entropy
from leepjax.meta.network import body, feature_function, init_head, linear, pixels
from leepjax.models import Source


def reptile(
    source: Source, ways: int, *, steps: int = 10, rate: float = 0.1, batch_norm: str = "batch"
) -> MetaLearner:
    """Reptile, over every parameter.

    Args:
      source: the network, and the parameters that meta-training starts from.
      ways: classes of a task.
      steps: inner steps.
      rate: of the inner steps.
      batch_norm: ``"batch"`` or ``"running"`` (``leepjax.models.BatchNormMode``).

    Raises:
      ValueError: an argument out of its range, or a network without ``head``.
    """
    check_steps(steps)
    check_rate(rate)
    features = feature_function(source, batch_norm, in_loop=True)

    def init(key: jax.Array) -> Meta:
        return Meta(
            {"body": body(source.params), "head": init_head(key, source, ways)}, source.rest
        )

    def predict(meta: Meta, adapted: Any, x: jax.Array) -> jax.Array:
        return linear(adapted["head"], features(adapted["body"], meta.fixed, x))

    def adapt(meta: Meta, x: jax.Array, labels: jax.Array) -> Any:
        def support_loss(at: Any) -> jax.Array:
            return cross_entropy(predict(meta, at, x), labels)

        speeds = jax.tree.map(lambda a: jnp.full(1, rate, a.dtype), meta.params)
        return descend(support_loss, meta.params, speeds, steps, second_order=False)[0]

    def loss(meta, support, support_labels, query, query_labels, progress):
        del progress
        images = jnp.concatenate([support, query])
        labels = jnp.concatenate([support_labels, query_labels])
        end = jax.lax.stop_gradient(adapt(meta, images, labels))
        apart = jax.tree.map(lambda a, b: jnp.sum((a - b) ** 2) / 2, meta.params, end)
        logits = jax.lax.stop_gradient(predict(meta, adapt(meta, support, support_labels), query))
        return jnp.sum(jnp.stack(jax.tree.leaves(apart))), logits

    return assemble(
        "reptile",
        source,
        ways,
        init,
        pixels(source),
        adapt,
        predict,
        loss,
        whole_network=True,
        batch_norm=batch_norm,
        steps=steps,
        rate=rate,
    )
