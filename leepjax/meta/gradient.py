"""Learners that adapt by gradient descent: MAML and its relatives, one file by configuration.

==============  ===========================================================================
``maml``        every parameter adapts; C. Finn, P. Abbeel, S. Levine: Model-Agnostic
                Meta-Learning for Fast Adaptation of Deep Networks, ICML 2017
``fomaml``      its first-order form (``order=1``), the same paper, section 5.2
``anil``        the head alone adapts; A. Raghu, M. Raghu, S. Bengio, O. Vinyals: Rapid Learning
                or Feature Reuse?, ICLR 2020
``boil``        the body alone adapts; J. Oh, H. Yoo, C. Kim, S. Yun: BOIL: Towards
                Representation Change for Few-shot Learning, ICLR 2021
``meta_sgd``    a learnt rate for every parameter; Z. Li, F. Zhou, F. Chen, H. Li: Meta-SGD,
                arXiv:1707.09835, 2017
``maml_pp``     learnt rates for every layer and step, losses after every step, first order to
                begin with; A. Antoniou, H. Edwards, A. Storkey: How to Train Your MAML, ICLR
                2019 (its statistics of batch normalisation for every step are not here)
``proto_maml``  the head starts from prototypes; E. Triantafillou et al.: Meta-Dataset, ICLR 2020
``unicorn``     the head starts from one learnt vector for all classes; H.-J. Ye, W.-L. Chao: How
                to Train Your MAML to Excel in Few-Shot Classification, ICLR 2022
==============  ===========================================================================
"""

from typing import Any, Literal

import jax
import jax.numpy as jnp

from leepjax.meta.inner import check_rate, check_steps, descend
from leepjax.meta.learner import Meta, MetaLearner, assemble, cross_entropy
from leepjax.meta.network import (
    body,
    class_means,
    embedding,
    feature_function,
    init_head,
    linear,
    pixels,
)
from leepjax.models import Source

ADAPTS = ("network", "head", "body")
RATES = ("fixed", "layer", "parameter")
HEADS = ("learnt", "prototypes", "shared")
MULTI_STEP_SHARE = 0.2  # of training, over which the weight goes from all inner steps to the last
FIRST_ORDER_SHARE = 0.3  # of training, the first, without second order where it is annealed


def gradient_learner(
    source: Source,
    ways: int,
    *,
    adapts: Literal["network", "head", "body"] = "network",
    steps: int = 5,
    rate: float = 0.4,
    rates: Literal["fixed", "layer", "parameter"] = "fixed",
    order: Literal[1, 2, "annealed"] = 2,
    multi_step: bool = False,
    head: Literal["learnt", "prototypes", "shared"] = "learnt",
    batch_norm: Literal["batch", "running"] = "batch",
    name: str = "maml",
) -> MetaLearner:
    """A learner that takes a few gradient steps on the support.

    Args:
      source: the network, and the parameters that meta-training starts from.
      ways: classes of a task.
      adapts: what the inner steps change; the rest is meta-learnt alone.
      steps: inner steps.
      rate: of the inner steps; where rates are learnt, what they start from.
      rates: ``"fixed"``; or learnt, for every array and step (``"layer"``, LSLR) or for every
        single parameter (``"parameter"``).
      order: 2; or 1, the inner gradient taken for a constant; or annealed, 1 for the first 30 % of
        training.
      multi_step: train by the losses after every inner step; their weights go from equal to the
        last alone over the first fifth of training.
      head: what the head starts from: learnt; prototypes of the support, weight 2 c and bias
        -|c|^2, by which the start is a nearest-mean classifier; or one learnt vector for all
        classes.
      batch_norm: ``"batch"`` or ``"running"`` (``leepjax.models.BatchNormMode``).
      name: for the identity.

    Raises:
      ValueError: an argument out of its range, or a network without ``head``.
    """
    check_steps(steps)
    check_rate(rate)
    choices = {"adapts": (adapts, ADAPTS), "rates": (rates, RATES), "head": (head, HEADS)}
    for field, (value, known) in {**choices, "order": (order, (1, 2, "annealed"))}.items():
        if value not in known:
            raise ValueError(f"{field}: wanted one of {known}, got {value!r}")
    over_features = adapts == "head"
    features = feature_function(source, batch_norm, in_loop=not over_features)
    rows = 1 if head == "shared" else ways
    moves = {"network": ("body", "head"), "head": ("head",), "body": ("body",)}[adapts]

    def init(key: jax.Array) -> Meta:
        learnt = {} if head == "prototypes" else init_head(key, source, rows)
        params = {"body": body(source.params), "head": learnt}
        if rates != "fixed":
            # The head that adapts has a row for every way, whatever it starts from.
            whole = {"body": params["body"], "head": init_head(key, source, ways)}
            moved = {part: whole[part] for part in moves}
            shape = (lambda a: (steps,)) if rates == "layer" else (lambda a: (1, *a.shape))
            params["rates"] = jax.tree.map(lambda a: jnp.full(shape(a), rate, a.dtype), moved)
        return Meta(params, source.rest)

    def featurise(meta: Meta, at: Any, x: jax.Array) -> jax.Array:
        return x if over_features else features(at["body"], meta.fixed, x)

    def starting_head(meta: Meta, x: jax.Array, labels: jax.Array) -> Any:
        learnt = meta.params["head"]
        if head == "learnt":
            return learnt
        if head == "shared":
            kernel = jnp.repeat(learnt["kernel"], ways, axis=1)
            return {"kernel": kernel, "bias": jnp.repeat(learnt["bias"], ways)}
        means = class_means(featurise(meta, meta.params, x), labels, ways)
        return {"kernel": 2 * means.T, "bias": -jnp.sum(means**2, 1)}

    def run(meta: Meta, x: jax.Array, labels: jax.Array, second_order: Any, probe: Any) -> Any:
        whole = {"body": meta.params["body"], "head": starting_head(meta, x, labels)}
        start = {part: whole[part] for part in moves}
        still = {part: value for part, value in whole.items() if part not in moves}

        def support_loss(moved: Any) -> jax.Array:
            at = {**still, **moved}
            return cross_entropy(linear(at["head"], featurise(meta, at, x)), labels)

        if rates == "fixed":
            speeds = jax.tree.map(lambda a: jnp.full(1, rate, a.dtype), start)
        else:
            speeds = meta.params["rates"]
        adapted, seen = descend(
            support_loss,
            start,
            speeds,
            steps,
            second_order=second_order,
            probe=probe and (lambda moved: probe({**still, **moved})),
        )
        return {**still, **adapted}, seen

    def adapt(meta: Meta, x: jax.Array, labels: jax.Array) -> Any:
        return run(meta, x, labels, order != 1, None)[0]

    def predict(meta: Meta, adapted: Any, x: jax.Array) -> jax.Array:
        return linear(adapted["head"], featurise(meta, adapted, x))

    def loss(meta, support, support_labels, query, query_labels, progress):
        second = progress >= FIRST_ORDER_SHARE if order == "annealed" else order == 2

        def after(at: Any) -> tuple[jax.Array, jax.Array]:
            logits = predict(meta, at, query)
            return cross_entropy(logits, query_labels), logits

        adapted, seen = run(meta, support, support_labels, second, after if multi_step else None)
        if not multi_step:
            return after(adapted)
        losses, logits = seen[0], seen[1][-1]
        early = jnp.maximum(0.0, 1 - progress / MULTI_STEP_SHARE) / steps
        return early * losses[:-1].sum() + (1 - (steps - 1) * early) * losses[-1], logits

    return assemble(
        name,
        source,
        ways,
        init,
        embedding(source, features) if over_features else pixels(source),
        adapt,
        predict,
        loss,
        whole_network=not over_features,
        batch_norm=batch_norm,
        adapts=adapts,
        steps=steps,
        rate=rate,
        rates=rates,
        order=order,
        multi_step=multi_step,
        head=head,
    )
