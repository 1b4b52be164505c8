"""Prototypical networks: a query belongs to the class whose mean feature is nearest.

J. Snell, K. Swersky, R. Zemel: Prototypical Networks for Few-shot Learning, NeurIPS 2017.
"""

import jax
import jax.numpy as jnp

from leepjax.meta.learner import Meta, MetaLearner, assemble
from leepjax.meta.network import body, class_means, embedding, feature_function
from leepjax.models import Source


def protonet(source: Source, ways: int, *, batch_norm: str = "running") -> MetaLearner:
    """Nearest class means, logits ``-|x - c|^2``, over a network that meta-training changes.

    Args:
      source: the network, and the parameters that meta-training starts from.
      ways: classes of a task.
      batch_norm: ``"running"`` or ``"batch"`` (``leepjax.models.BatchNormMode``), there the
        support and the queries together, as its authors train.

    Raises:
      ValueError: another ``batch_norm``, or a network without ``head``.
    """
    features = feature_function(source, batch_norm, in_loop=False)

    def init(key: jax.Array) -> Meta:
        del key  # nothing is drawn: the source's parameters
        return Meta({"body": body(source.params)}, source.rest)

    def adapt(meta: Meta, x: jax.Array, labels: jax.Array) -> jax.Array:
        return class_means(x, labels, ways)

    def predict(meta: Meta, adapted: jax.Array, x: jax.Array) -> jax.Array:
        return -jnp.sum((x[:, None] - adapted) ** 2, -1)

    return assemble(
        "protonet",
        source,
        ways,
        init,
        embedding(source, features),
        adapt,
        predict,
        whole_network=False,
        batch_norm=batch_norm,
    )
