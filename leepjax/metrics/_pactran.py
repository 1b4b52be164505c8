"""PACTran with a conjugate prior over the table P(y | z): Dirichlet and Gamma."""

import math
from functools import partial

import jax
import jax.numpy as jnp
from jax.scipy.special import digamma, gammaln
from jax.typing import ArrayLike

from leepjax.metrics._evaluate import evaluate
from leepjax.metrics._sums import sum_over_samples
from leepjax.metrics.platform import row_of_class, sum_by_class

ITERATIONS = 10
PRIOR = 1.0  # alpha, the pseudo-samples of the prior


def pactran_dirichlet(
    probs: ArrayLike, labels: ArrayLike, *, num_classes: int, where: ArrayLike | None = None
) -> jax.Array:
    r"""PACTran-Dirichlet: a bound on the log evidence of the labels; larger is better, in nats.

    Each source class z has an unknown P(y | z) with prior Dirichlet(a), :math:`a_y = n_y / n`, and
    sample i draws z with probability :math:`\theta_{iz}` and then its label. Ten coordinate steps
    from :math:`q_i(z) = \theta_{iz}` raise the variational bound on log p(labels):

    .. math:: A_{yz} = a_y + \sum_{i: y_i = y} q_i(z), \qquad
              q_i(z) \propto \theta_{iz} \exp\left( \psi(A_{y_i z})
                             - \psi(\textstyle\sum_y A_{yz}) \right)

    .. math:: \mathrm{score} = \frac{1}{n c} \left[ \sum_z \log \frac{B(A_{\cdot z})}{B(a)}
              - \sum_i \mathrm{KL}(q_i \,\|\, \theta_i) \right], \qquad
              B(a) = \frac{\prod_y \Gamma(a_y)}{\Gamma(\sum_y a_y)}

    with c the number of classes present: the mean over samples *and classes*, as the authors' code
    has it. The score is minus their loss, at most 0. One class present gives 0. A source class
    without mass and a target class without samples change nothing.

    Args:
      probs: ``[n, s]`` source-class probabilities of the target samples; rows sum to one.
      labels: ``[n]`` integer target labels in ``0..num_classes-1``.
      num_classes: number of target classes, a Python int.
      where: ``[n]`` bool, the samples to count; default all.

    Returns:
      A scalar; NaN for invalid values under ``jit`` or ``vmap``. Differentiable in ``probs``.

    Raises:
      ValueError: a shape, dtype or (outside tracing) value is wrong; it names the argument.

    Example:
      >>> import jax.numpy as jnp
      >>> probs = jnp.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.1, 0.9]])
      >>> print(f"{pactran_dirichlet(probs, jnp.array([0, 0, 1, 1]), num_classes=2):.4f}")
      -0.3355

    Source: Ding, Chen, Levinboim, Changpinyo, Soricut, "PACTran: PAC-Bayesian Metrics for
    Estimating the Transferability of Pretrained Models to Classification Tasks", ECCV 2022. Its
    code adds 1e-10 to a and theta; here 0 log 0 = 0.
    """
    return evaluate(
        _pactran_dirichlet, probs=probs, labels=labels, num_classes=num_classes, where=where
    )


def pactran_gamma(
    probs: ArrayLike, labels: ArrayLike, *, num_classes: int, where: ArrayLike | None = None
) -> jax.Array:
    r"""PACTran-Gamma: as :func:`pactran_dirichlet`, the entries of the table unnormalised.

    The weight of label y under source class z has prior Gamma(a_y, 1), :math:`a_y = n_y / n`, all
    independent. Ten coordinate steps from :math:`q_i(z) = \theta_{iz}`:

    .. math:: A_{yz} = a_y + \sum_{i: y_i = y} q_i(z), \qquad
              q_i(z) \propto \theta_{iz} \exp \psi(A_{y_i z})

    .. math:: \mathrm{score} = \frac{1}{n c} \left[
              \sum_{y,z} \log \frac{\Gamma(A_{yz})}{\Gamma(a_y)}
              - \sum_i \Big( \mathrm{KL}(q_i \,\|\, \theta_i)
              + \log \sum_z \theta_{iz} \sum_y A_{yz} - 1 \Big) \right] - 1

    The constants are those of the authors' code, of whose loss this is the negative. Larger is
    better. Arguments, errors and source as for :func:`pactran_dirichlet`; with one class present
    the value depends on ``probs`` still.

    Example:
      >>> import jax.numpy as jnp
      >>> probs = jnp.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.1, 0.9]])
      >>> print(f"{pactran_gamma(probs, jnp.array([0, 0, 1, 1]), num_classes=2):.4f}")
      -1.2117
    """
    return evaluate(
        _pactran_gamma, probs=probs, labels=labels, num_classes=num_classes, where=where
    )


def _pactran_dirichlet(probs, labels, weights, *, num_classes):
    prior, present, c = _prior(labels, weights, num_classes)
    table, divergence = _iterate(_mean_log_dirichlet, probs, labels, weights, prior, present)
    gain = (gammaln(table) - gammaln(prior)[:, None]).sum(0)  # 0 for an absent class
    gain = gain - gammaln(_mass(table, present))  # log Gamma of the sum of a is log Gamma(1) = 0
    return (gain.sum() - divergence) / (weights.sum() * c)


def _pactran_gamma(probs, labels, weights, *, num_classes):
    prior, present, c = _prior(labels, weights, num_classes)
    table, divergence = _iterate(_mean_log_gamma, probs, labels, weights, prior, present)
    gain = gammaln(table) - gammaln(prior)[:, None]

    def log_normalizers(probs, weights, mass):
        rate = jnp.matmul(probs, mass, precision="highest")
        return jnp.sum(jnp.where(weights > 0, jnp.log(jnp.where(weights > 0, rate, 1)), 0))

    normalizers = sum_over_samples(log_normalizers, (probs, weights), _mass(table, present))
    return (gain.sum() - divergence - normalizers) / (weights.sum() * c) + 1 / c - 1


def _prior(labels, weights, num_classes):
    """``a [c]`` (1 for absent classes, whose rows are masked later), who is present, how many."""
    share = sum_by_class(weights, labels, num_classes) / weights.sum()
    present = share > 0
    return jnp.where(present, PRIOR * share, 1), present, present.sum()


def _iterate(mean_log, probs, labels, weights, prior, present):
    """The table A ``[c, s]`` of the last step, and the sum of KL(q, theta) of the q it gives."""
    step = partial(_step, probs, labels, weights)

    @jax.checkpoint  # so that a gradient keeps ten tables, not ten arrays of the size of probs
    def again(counts, _):
        return step(mean_log(prior[:, None] + counts, present))[0], None

    counts = sum_over_samples(
        partial(_count, num_classes=len(prior)), (weights[:, None] * probs, labels)
    )
    counts = jax.lax.scan(again, counts, length=ITERATIONS - 1)[0]
    table = prior[:, None] + counts
    log_weight = mean_log(table, present)
    counts, log_totals = step(log_weight)
    # sum_iz q log(q / theta), where q_iz = theta_iz exp(log_weight[y_i, z]) / total_i.
    return table, jnp.sum(counts * log_weight) - log_totals


def _count(q, labels, *, num_classes):
    return sum_by_class(q, labels, num_classes)


def _step(probs, labels, weights, log_weight):
    """``[c, s]`` sums of q by class, and the sum of the logarithms of q's normalisers.

    With a row of ``log_weight`` for each sample, not one for each sample and class: [n, s].
    """
    largest = math.log(jnp.finfo(probs.dtype).max) - 1

    def sums(probs, labels, weights, log_weight):
        exponent = row_of_class(log_weight, labels)
        # psi(A) is -1 / A near zero: far below what exp can hold, but for all z of a row alike.
        top = jax.lax.stop_gradient((jnp.log(probs) + exponent).max(1))
        top = jnp.where(weights > 0, top, 0)
        q = probs * jnp.exp(jnp.minimum(exponent - top[:, None], largest))
        total = q.sum(1)
        total = jnp.where(weights > 0, total, 1)
        q = jnp.where(weights > 0, 1 / total, 0)[:, None] * q
        log_totals = jnp.where(weights > 0, jnp.log(total) + top, 0)
        return _count(q, labels, num_classes=log_weight.shape[0]), log_totals.sum()

    return sum_over_samples(sums, (probs, labels, weights), log_weight)


def _mass(table, present):
    return jnp.where(present[:, None], table, 0).sum(0)


def _mean_log_dirichlet(table, present):
    return digamma(table) - digamma(_mass(table, present))[None]


def _mean_log_gamma(table, present):
    return digamma(table)
