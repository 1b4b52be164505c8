"""Meta-learners, and the one step that trains all of them.

A meta-learner adapts to a task from a few labelled images; training lowers, over many episodes, the
loss that the adapted model has on further images of the same task:

    minimise over meta   mean over episodes of   loss(predict(meta, adapt(meta, support), query))

`meta_gradient` differentiates that through ``adapt``, by `vmap` over episodes, or one after the
other with the gradients added up, so that memory does not grow with their number.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from leepjax.meta._episodes import Episodes
from leepjax.metrics.platform import target
from leepjax.models import Source
from leepjax.tasks import Strategy, use_vmap


class Meta(NamedTuple):
    """The parameters of a meta-learner.

    Attributes:
      params: pytree of arrays that meta-training changes.
      fixed: pytree of arrays that it does not change: pre-trained kernels, running averages.
    """

    params: Any
    fixed: Any


class MetaLearner(NamedTuple):
    """A learner that learns to adapt: pure functions, from one of the factories of this package.

    Attributes:
      init: ``init(key) -> Meta``.
      embed: ``embed(meta, images [n, h, w, c] uint8) -> x [n, ...]``, what does not depend on the
        task: features, or, where the whole network adapts, the preprocessed images.
      adapt: ``adapt(meta, x [n, ...], labels [n]) -> adapted``, from the support.
      predict: ``predict(meta, adapted, x [q, ...]) -> logits [q, ways]``.
      loss: ``loss(meta, support, support_labels, query, query_labels, progress) -> (loss [],
        logits [q, ways])``, of embedded images; what meta-training lowers. ``progress`` in [0, 1]
        is the share of meta-training that is done.
      whole_network: whether ``adapt`` runs the network with parameters of each task's own.
      transductive: whether the prediction for a query depends on the other queries.
      identity: plain values that determine the learner: ``name``, ``ways``, ``source``, options.
    """

    init: Callable[[jax.Array], Meta]
    embed: Callable[[Meta, jax.Array], jax.Array]
    adapt: Callable[[Meta, jax.Array, jax.Array], Any]
    predict: Callable[[Meta, Any, jax.Array], jax.Array]
    loss: Callable[..., tuple[jax.Array, jax.Array]]
    whole_network: bool
    transductive: bool
    identity: Mapping[str, Any]

    @property
    def name(self) -> str:
        """What it is called."""
        return self.identity["name"]

    @property
    def ways(self) -> int:
        """How many classes its tasks have."""
        return self.identity["ways"]


def assemble(
    name: str,
    source: Source,
    ways: int,
    init: Callable[..., Any],
    embed: Callable[..., Any],
    adapt: Callable[..., Any],
    predict: Callable[..., Any],
    loss: Callable[..., Any] | None = None,
    *,
    whole_network: bool,
    batch_norm: str,
    **options: Any,
) -> MetaLearner:
    """A ``MetaLearner`` of its functions.

    Without a ``loss`` of its own it is the cross-entropy of the queries after adapting. ``options``
    are those of its factory, for the identity.
    """

    def query_loss(meta, support, support_labels, query, query_labels, progress):
        del progress
        logits = predict(meta, adapt(meta, support, support_labels), query)
        return cross_entropy(logits, query_labels), logits

    identity = {"name": name, "ways": ways, "source": source.digest, "batch_norm": batch_norm}
    return MetaLearner(
        init,
        embed,
        adapt,
        predict,
        loss or query_loss,
        whole_network,
        batch_norm == "batch",
        identity | options,
    )


class EpisodeInfo(NamedTuple):
    """The results of the adapted model on the queries of an episode.

    Attributes:
      loss: ``[]`` that meta-training lowers.
      right: ``[q]`` bool, which queries are predicted correctly.
    """

    loss: Any
    right: Any


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Mean cross-entropy in nats."""
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def tasks_at_once(learner: MetaLearner, strategy: Strategy) -> bool:
    """:func:`leepjax.tasks.use_vmap`; learners of features, by default, on every backend."""
    vmap = use_vmap(strategy, target())
    return vmap or (strategy == "auto" and not learner.whole_network)


def meta_gradient(
    learner: MetaLearner,
    meta: Meta,
    batch: Episodes,
    *,
    shots: tuple[int, ...],
    progress: Any = 0.0,
    strategy: Strategy = "auto",
    mesh: Mesh | None = None,
) -> tuple[Any, EpisodeInfo]:
    """Gradient of the mean loss over a batch of episodes by ``meta.params``.

    Args:
      learner: the learner.
      meta: what it knows.
      batch: t episodes.
      shots: the loss is the mean over these; the last is the most, and what ``right`` is of.
      progress: share of the training that is done.
      strategy: ``"vmap"``: episodes at once; ``"loop"``: one after another; ``"auto"``: what suits
        learner and backend.
      mesh: devices that share the episodes along its axis ``data``, as many each; None: one.

    Returns:
      The gradient, like ``meta.params``, and an ``EpisodeInfo`` of arrays ``[t]`` and ``[t, q]``.
    """
    at_once = tasks_at_once(learner, strategy)
    if mesh is None or mesh.size == 1:
        return _gradient(learner, meta, batch, shots, progress, at_once)

    def part(meta: Meta, progress: Any, batch: Episodes) -> tuple[Any, EpisodeInfo]:
        grads, info = _gradient(learner, meta, batch, shots, progress, at_once)
        return jax.lax.pmean(grads, "data"), info

    specs = {"in_specs": (P(), P(), P("data")), "out_specs": (P(), P("data"))}
    return jax.shard_map(part, mesh=mesh, **specs, check_vma=False)(meta, progress, batch)


def _gradient(
    learner: MetaLearner,
    meta: Meta,
    batch: Episodes,
    shots: tuple[int, ...],
    progress: Any,
    at_once: bool,
) -> tuple[Any, EpisodeInfo]:
    """:func:`meta_gradient` on one device."""

    def one(params: Any, episode: Episodes) -> tuple[jax.Array, EpisodeInfo]:
        at = meta._replace(params=params)
        number = len(episode.support_labels)
        ways = len(episode.classes)
        x = learner.embed(at, jnp.concatenate([episode.support, episode.query]))
        support, query = x[:number], x[number:]
        parts = [(support[: s * ways], episode.support_labels[: s * ways]) for s in shots]
        asked = query, episode.query_labels, progress
        losses, logits = zip(*(learner.loss(at, *part, *asked) for part in parts), strict=True)
        loss = jnp.mean(jnp.stack(losses))
        return loss, EpisodeInfo(loss, logits[-1].argmax(1) == episode.query_labels)

    if not at_once:

        def add(total, episode):
            grads, info = jax.grad(one, has_aux=True)(meta.params, episode)
            return jax.tree.map(jnp.add, total, grads), info

        zero = jax.tree.map(jnp.zeros_like, meta.params)
        total, info = jax.lax.scan(add, zero, batch)
        return jax.tree.map(lambda g: g / len(batch.classes), total), info

    def mean(params):
        losses, info = jax.vmap(one, (None, 0))(params, batch)
        return losses.mean(), info

    return jax.grad(mean, has_aux=True)(meta.params)
