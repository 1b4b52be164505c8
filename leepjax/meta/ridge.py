"""A ridge-regression head, solved in closed form inside the meta-gradient (R2-D2).

L. Bertinetto, J. F. Henriques, P. H. S. Torr, A. Vedaldi: Meta-Learning with Differentiable
Closed-Form Solvers, ICLR 2019. With features X [n, d] of the support, a column of ones among them,
and one-hot labels Y, the head is

    W = (X'X + lambda I)^-1 X'Y = X' (XX' + lambda I)^-1 Y,    logits = alpha x W

in its second form, n x n, since a support has fewer images than features. The network, lambda and
alpha are meta-learnt; their beta, one number added to all logits, changes no prediction. Ours:
features in the task's own units (`units.task_units`), so that lambda and alpha mean the same for
every network.
"""

from typing import Any

import jax
import jax.numpy as jnp

from leepjax.meta.learner import Meta, MetaLearner, assemble
from leepjax.meta.network import body, embedding, feature_function
from leepjax.meta.units import in_units, task_units
from leepjax.models import Source


def ridge(source: Source, ways: int, *, batch_norm: str = "running") -> MetaLearner:
    """The ridge head over a network that meta-training changes.

    Args:
      source: the network, and the parameters that meta-training starts from.
      ways: classes of a task.
      batch_norm: ``"running"`` or ``"batch"`` (``leepjax.models.BatchNormMode``).

    Raises:
      ValueError: another ``batch_norm``, or a network without ``head``.
    """
    features = feature_function(source, batch_norm, in_loop=False)

    def init(key: jax.Array) -> Meta:
        del key  # the source's parameters, and constants
        dtype = source.params["head"]["kernel"].dtype
        constants = {"log_lambda": 0.0, "log_alpha": 1.0}
        scalars = {name: jnp.asarray(value, dtype) for name, value in constants.items()}
        return Meta({"body": body(source.params), **scalars}, source.rest)

    def adapt(meta: Meta, x: jax.Array, labels: jax.Array) -> Any:
        units = task_units(x)
        x = _with_ones(in_units(units, x))
        y = jax.nn.one_hot(labels, ways, dtype=x.dtype)
        gram = jnp.matmul(x, x.T, precision="highest")  # else not positive on a GPU
        penalised = gram + jnp.exp(meta.params["log_lambda"]) * jnp.eye(len(x), dtype=x.dtype)
        return units, x.T @ jax.scipy.linalg.solve(penalised, y, assume_a="pos")

    def predict(meta: Meta, adapted: Any, x: jax.Array) -> jax.Array:
        units, kernel = adapted
        return jnp.exp(meta.params["log_alpha"]) * _with_ones(in_units(units, x)) @ kernel

    return assemble(
        "ridge",
        source,
        ways,
        init,
        embedding(source, features),
        adapt,
        predict,
        whole_network=False,
        batch_norm=batch_norm,
    )


def _with_ones(x: jax.Array) -> jax.Array:
    return jnp.concatenate([x, jnp.ones((len(x), 1), x.dtype)], 1)
