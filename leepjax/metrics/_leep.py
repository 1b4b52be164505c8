"""LEEP and the classifier behind it, the expected empirical predictor."""

from functools import partial

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from leepjax.metrics._checks import check_number
from leepjax.metrics._evaluate import evaluate
from leepjax.metrics._neg_label_entropy import neg_entropy
from leepjax.metrics._ride import sum_of_rows
from leepjax.metrics._sums import sum_over_samples
from leepjax.metrics.platform import row_of_class, sum_by_class


def leep(
    probs: ArrayLike,
    labels: ArrayLike,
    *,
    num_classes: int,
    where: ArrayLike | None = None,
    weights: ArrayLike | None = None,
) -> jax.Array:
    """Log expected empirical prediction: larger is better, -H(Y) <= LEEP <= 0, in nats.

    How well a source model's answers alone predict the labels of a target task, without any
    training: show the model the target's labelled images, and pass its probabilities theta for
    its own classes with the target labels. A hypothetical classifier draws a source class z from
    theta and then a target label from the empirical P(y | z); LEEP is its average
    log-likelihood::

        P(y, z) = 1/n sum over i with y_i = y of theta_iz,    P(y | z) = P(y, z) / P(z)
        LEEP    = 1/n sum_i log sum_z P(y_i | z) theta_iz

    Reading it: exp(LEEP) is the geometric-mean probability given to the right label. Constant
    ``probs`` give exactly -H(Y), :func:`neg_label_entropy`, which is the least; one-hot ``probs``
    give NCE. It grows with fewer or less even classes, so compare sources on the same target, and
    across targets :func:`leep_gain`. Its standard error is
    ``leepjax.metrics.uncertainty.influence(leep, probs, labels, num_classes=c)``. It is judged on
    the samples that P(y | z) is estimated from: with few of them for many source classes it is
    optimistic, and :func:`cross_fitted_leep` is not. It reads calibration: rescaling the logits
    moves it though no decision changes (:func:`leep_calibrated` undoes that). Neighbours on the
    features (:func:`knn`) often predict transfer as well: compute them beside it.

    With one class present LEEP is 0. A source class without mass, or a target class without
    samples, changes nothing.

    Args:
      probs: ``[n, s]`` source-class probabilities of the target samples; rows sum to one. Of
        logits: ``jax.nn.softmax(logits)``.
      labels: ``[n]`` integer target labels in ``0..num_classes-1``.
      num_classes: number of target classes, a Python int.
      where: ``[n]`` bool, the samples to count; default all.
      weights: ``[n]`` float >= 0, frequency weights: an integer weight equals repetition.

    Returns:
      A scalar; NaN for invalid values under ``jit`` or ``vmap``. Differentiable in ``probs`` and
      ``weights``.

    Raises:
      ValueError: a shape, dtype or (outside tracing) value is wrong; it names the argument.

    Example:
      >>> import jax.numpy as jnp
      >>> probs = jnp.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.1, 0.9]])
      >>> print(f"{leep(probs, jnp.array([0, 0, 1, 1]), num_classes=2):.4f}")
      -0.3426

    Source: Nguyen, Hassner, Seeger, Archambeau, "LEEP: A New Measure to Evaluate Transferability
    of Learned Representations", ICML 2020.
    """
    return evaluate(
        _leep, probs=probs, labels=labels, num_classes=num_classes, where=where, weights=weights
    )


def leep_gain(
    probs: ArrayLike,
    labels: ArrayLike,
    *,
    num_classes: int,
    where: ArrayLike | None = None,
    weights: ArrayLike | None = None,
) -> jax.Array:
    """LEEP + H(Y): the nats that the source model adds to knowing class frequencies; >= 0.

    The expected empirical predictor is one EM step away from predicting the class frequencies,
    hence the bound. Unlike LEEP it is comparable across tasks with different class counts.
    Larger is better. Arguments, errors and source as for :func:`leep`.

    Example:
      >>> import jax.numpy as jnp
      >>> probs = jnp.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.1, 0.9]])
      >>> print(f"{leep_gain(probs, jnp.array([0, 0, 1, 1]), num_classes=2):.4f}")
      0.3505
    """
    return evaluate(
        _leep_gain,
        probs=probs,
        labels=labels,
        num_classes=num_classes,
        where=where,
        weights=weights,
    )


@partial(jax.tree_util.register_dataclass, data_fields=["conditional"], meta_fields=[])
class ExpectedEmpiricalPredictor:
    """The classifier of which LEEP is the log-likelihood: p(y | x) = sum_z P(y | z) theta_z(x).

    Fitted on one sample and used on another it gives held-out LEEP:
    ``log(eep.predict(probs)[i, labels[i]])`` averaged. A pytree.

    Attributes:
      conditional: ``[c, s]`` P(y | z); a source class that never occurs has a zero column.
    """

    def __init__(self, conditional: jax.Array):
        self.conditional = conditional

    @classmethod
    def fit(
        cls,
        probs: ArrayLike,
        labels: ArrayLike,
        *,
        num_classes: int,
        where: ArrayLike | None = None,
        weights: ArrayLike | None = None,
        smoothing: float = 0.0,
    ) -> "ExpectedEmpiricalPredictor":
        """Estimate P(y | z) from ``probs [n, s]`` and ``labels [n]``.

        ``smoothing`` is Laplace's: so many samples are added to each pair (y, z) before
        conditioning. Without it a target class absent here has probability 0, and its held-out
        log-likelihood is -inf. Other arguments and errors as for :func:`leep`.

        Example:
          >>> import jax.numpy as jnp
          >>> probs = jnp.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.1, 0.9]])
          >>> eep = ExpectedEmpiricalPredictor.fit(probs, jnp.array([0, 0, 1, 1]), num_classes=2)
          >>> print([round(float(p), 3) for p in eep.predict(jnp.array([[1.0, 0.0]]))[0]])
          [0.81, 0.19]
        """
        conditional = evaluate(
            _conditional,
            probs=probs,
            labels=labels,
            num_classes=num_classes,
            where=where,
            weights=weights,
            smoothing=check_number("smoothing", smoothing),
        )
        return cls(conditional)

    def predict(self, probs: ArrayLike) -> jax.Array:
        """Target-class probabilities ``[m, c]`` of samples with source probabilities ``[m, s]``.

        Raises:
          ValueError: ``probs`` are not probabilities of the s source classes.
        """
        shape, s = jnp.shape(probs), self.conditional.shape[1]
        if len(shape) != 2 or shape[1] != s:
            raise ValueError(f"probs: wanted shape [m, {s}], got {list(shape)}")
        labels = jnp.zeros(shape[0], jnp.int32)
        checked = evaluate(_checked, probs=probs, labels=labels, num_classes=1)
        return jnp.matmul(checked, self.conditional.T, precision="highest")


def _checked(probs):
    return probs


def joint_of(probs, labels, weights, *, num_classes):
    """``[c, s]`` sums of weights: the soft counts of target and source classes."""
    return sum_over_samples(
        lambda probs, labels, weights: sum_by_class(weights[:, None] * probs, labels, num_classes),
        (probs, labels, weights),
    )


def conditional_of(joint):
    """P(y | z) ``[c, s]`` of soft counts; a source class that never occurs has a zero column."""
    # The derivative of joint / mass squares the mass, which underflows for a source class that
    # hardly occurs; of joint over its own constant it does not.
    mass = jax.lax.stop_gradient(joint.sum(0, keepdims=True))
    joint = joint / jnp.where(mass > 0, mass, 1)
    mass = joint.sum(0, keepdims=True)
    return joint / jnp.where(mass > 0, mass, 1)


def log_likelihood(probs, labels, weights, conditional):
    """The weighted sum of log p(y_i | x_i) under the expected empirical predictor."""

    def terms(probs, labels, weights, conditional):
        return row_of_class(conditional, labels) * probs

    # A row of theta has an entry >= 1/s, and P(y_i | z) there is >= 1/(s * sum of weights):
    # the argument of the logarithm is far from underflow wherever the weight is positive.
    return sum_of_rows(terms, weighted_logarithms, (probs, labels, weights), conditional)


def weighted_logarithms(likelihood, probs, labels, weights):
    """The sum of w log p over the samples that count."""
    return jnp.sum(weights * jnp.log(jnp.where(weights > 0, likelihood, 1)))


def _conditional(probs, labels, weights, *, num_classes, smoothing):
    return conditional_of(joint_of(probs, labels, weights, num_classes=num_classes) + smoothing)


def _leep(probs, labels, weights, *, num_classes):
    conditional = conditional_of(joint_of(probs, labels, weights, num_classes=num_classes))
    return log_likelihood(probs, labels, weights, conditional) / jnp.sum(weights)


def _leep_gain(probs, labels, weights, *, num_classes):
    gain = _leep(probs, labels, weights, num_classes=num_classes) - neg_entropy(
        labels, weights, num_classes=num_classes
    )
    return jnp.maximum(gain, 0)  # rounding alone can take it below
