"""PACTran-Gaussian: how well a linear classifier fits, and how flat its optimum is."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from leepjax.metrics._checks import check_number
from leepjax.metrics._evaluate import evaluate
from leepjax.metrics._softmax_regression import fit
from leepjax.metrics.platform import product


def pactran_gaussian(
    features: ArrayLike,
    labels: ArrayLike,
    *,
    num_classes: int,
    prior_variance: float = 1.0,
    posterior_scale: float = 100.0,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Minus the loss of a linear classifier and the sharpness of its minimum; larger is better.

    The linear softmax classifier on centred features x, with weights W ``[d, c]`` and biases that
    are not penalised, is fitted by

    .. math:: L = \min_{W, b} \; \tfrac1n \sum_i -\log p(y_i \mid x_i)
                  + \frac{\lVert W \rVert^2}{2 \lambda n}

    and at the minimum, which is unique in W and in the probabilities :math:`p_{ic}`,

    .. math:: \mathrm{score} = -L - \frac{\sigma_0^2}{2}\,\frac{d c}{\lambda n}
              \log\left( 1 + \frac{\lambda n}{d c}
              \sum_i (1 + \lVert x_i \rVert^2) \sum_c p_{ic} (1 - p_{ic}) \right),
              \qquad \sigma_0^2 = \frac{s}{d}

    where :math:`\lambda` is ``prior_variance``, s ``posterior_scale``, n, d, c count samples,
    columns of features and classes present; the double sum is the trace of the Hessian of the
    cross-entropy, *summed* over samples, as the authors' code has it. Their pairs are
    (:math:`\lambda`, s) = (10, 1000 or 100), (1, 100 or 10), (0.1, 10 or 1); at the default the
    second term outweighs the first by far unless n is much larger than 100 c. The score is at most
    0; it depends on the unit of the features. One class present gives 0. Features that do not vary
    leave the biases: L is H(Y).

    The minimum is found by Newton's method (conjugate gradients in the eigenbasis of the features,
    a line search along each step) from W = 0 and the class frequencies, until a step promises less
    than the rounding error of the objective. The minimum is within |gradient in W|^2 lambda n / 2.

    Args:
      features: ``[n, d]`` floating-point features.
      labels: ``[n]`` integer labels in ``0..num_classes-1``.
      num_classes: number of classes, a Python int; absent classes change nothing.
      prior_variance: lambda > 0, the variance of the Gaussian prior on W.
      posterior_scale: s >= 0; d times the variance of the posterior on W. 0 gives -L alone.
      where: ``[n]`` bool, the samples to count; default all.

    Returns:
      A scalar; NaN for invalid values under ``jit`` or ``vmap``. Not differentiable.

    Raises:
      ValueError: a shape, dtype or (outside tracing) value is wrong; it names the argument.

    Example:
      >>> import jax.numpy as jnp
      >>> features = jnp.array([[1.0, 0.0], [0.0, 1.0], [3.0, 3.0], [2.0, 5.0]])
      >>> labels = jnp.array([0, 0, 1, 1])
      >>> print(f"{pactran_gaussian(features, labels, num_classes=2):.2f}")
      -36.07
      >>> print(f"{pactran_gaussian(features, labels, num_classes=2, posterior_scale=0.0):.4f}")
      -0.1835

    Source: Ding, Chen, Levinboim, Changpinyo, Soricut, "PACTran: PAC-Bayesian Metrics for
    Estimating the Transferability of Pretrained Models to Classification Tasks", ECCV 2022. Its
    code starts at random and stops after 100 steps of L-BFGS, a few 1e-5 from the minimum.
    """
    return evaluate(
        _pactran_gaussian,
        features=features,
        labels=labels,
        num_classes=num_classes,
        prior_variance=check_number("prior_variance", prior_variance, positive=True),
        posterior_scale=check_number("posterior_scale", posterior_scale),
        where=where,
    )


def _pactran_gaussian(
    features, labels, weights, moments, spectrum, *, num_classes, prior_variance, posterior_scale
):
    n, d = moments.total, features.shape[1]
    present = moments.counts > 0
    # A rotation leaves |W| and the scores alone; directions past the n-th hold no features.
    vectors = spectrum.vectors[:, max(0, d - len(labels)) :]
    g = (features - moments.shift[None]) / moments.unit - moments.centre[None]
    x = jnp.where((weights > 0)[:, None], product(g, vectors), 0)
    # In units of moments.unit W is larger by it, and its penalty smaller by the square: in range
    # for features of any size.
    size = jnp.log(moments.unit)
    log_penalty = -2 * size - jnp.log(prior_variance * n)
    penalty = jnp.exp(jnp.clip(log_penalty, -60, 60))
    share = (weights / n)[:, None]
    right = jax.nn.one_hot(labels, num_classes, dtype=bool)
    objective, p, wrong = fit(x, right, share, present, penalty)

    spread = jnp.sum(jnp.where(right, p * wrong[:, None], p * (1 - p)), 1)  # sum_c p (1 - p)
    log_trace = jnp.logaddexp(
        _log(jnp.sum(share[:, 0] * spread)),
        _log(jnp.sum(share[:, 0] * spread * jnp.sum(jnp.square(x), 1))) + 2 * size,
    )
    c = present.sum()
    log_sharpness = jnp.logaddexp(0, jnp.log(prior_variance * n * n / (d * c)) + log_trace)
    return -objective - posterior_scale * c / (2 * prior_variance * n) * log_sharpness


def _log(x):
    return jnp.log(jnp.maximum(x, jnp.finfo(x.dtype).tiny))
