"""OTCE: the cost of carrying source samples to target samples, and of reading labels off that."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from leepjax.metrics._checks import check_count, check_number
from leepjax.metrics._evaluate import evaluate
from leepjax.metrics._moments import power_of_two

BLOCK = 256  # rows of the coupling at once
TOLERANCE = 1e-5  # of the marginals of the coupling, in total mass
MOST_STEPS = 2000
COOLING = 0.8  # from step to step, until the regularisation is reached


def otce(
    source_features: ArrayLike,
    source_labels: ArrayLike,
    features: ArrayLike,
    labels: ArrayLike,
    *,
    num_source_classes: int,
    num_classes: int,
    regularization: float = 0.01,
    domain_weight: float = 1.0,
    task_weight: float = 1.0,
    source_where: ArrayLike | None = None,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Optimal-transport-based conditional entropy, <= 0; larger is better.

    .. math:: -(w_d\,W + w_t\,\mathrm{CE}), \qquad
              W = \sum_{ij} P_{ij} \lVert g_i - f_j \rVert^2, \qquad
              \mathrm{CE} = -\sum_{zy} J_{zy} \log \frac{J_{zy}}{\sum_{y'} J_{zy'}}

    for the features g ``[m, d]`` and labels z of source samples, f ``[n, d]`` and y of target
    samples, all by one network. The coupling P ``[m, n]`` carries the mass 1/m of each source
    sample to the 1/n of each target sample at the least cost; :math:`J_{zy}` is the mass it moves
    from source class z to target class y, so CE, in nats, is what source labels leave unsaid of
    target labels. W has the unit of the features squared.

    P is that of entropic transport: it minimises
    :math:`W + \epsilon \sum_{ij} P_{ij} \log P_{ij}`, by Sinkhorn's iteration in the log domain,
    where :math:`\epsilon` is ``regularization`` times the variance of both samples together,
    :math:`\mathrm{tr}(\mathrm{cov}\,g + \mathrm{cov}\,f)`: the mean of
    :math:`\lVert g_i - f_j \rVert^2` but for the distance of the means, which does not concern P.
    It falls to that geometrically, and the iteration ends at marginals within 1e-5 in total mass,
    or after 2,000 steps. W is an upper bound of the least cost, and nears it as ``regularization``
    goes to 0 (slower, and less well conditioned). No array of m times n is made; a step takes 2mnd
    multiplications.

    Where the features of either sample are constant, P is the product of its marginals: CE = H(Y).
    One target class gives CE = 0. Absent classes change nothing.

    Args:
      source_features: ``[m, d]`` floating-point features.
      source_labels: ``[m]`` integer labels in ``0..num_source_classes-1``.
      features: ``[n, d]`` floating-point features.
      labels: ``[n]`` integer labels in ``0..num_classes-1``.
      num_source_classes: number of source classes, a Python int.
      num_classes: number of classes, a Python int.
      regularization: of the coupling, > 0, as a part of the variance.
      domain_weight: of W. The authors fit both weights, and a constant that changes no ranking, to
        tasks whose transfer is known; 0 gives their later F-OTCE.
      task_weight: of CE.
      source_where: ``[m]`` bool, the source samples to count; default all.
      where: ``[n]`` bool, the samples to count; default all.

    Returns:
      A scalar; NaN for invalid values under ``jit`` or ``vmap``. Not differentiable.

    Raises:
      ValueError: a shape, dtype or (outside tracing) value is wrong; it names the argument.

    Example:
      >>> import jax.numpy as jnp
      >>> source, target = jnp.array([[0.0], [1.0], [5.0]]), jnp.array([[0.0], [2.0], [6.0]])
      >>> classes = {"num_source_classes": 2, "num_classes": 2}
      >>> source_labels, labels = jnp.array([0, 0, 1]), jnp.array([0, 1, 1])
      >>> print(f"{otce(source, source_labels, target, labels, **classes):.4f}")
      -1.1288

    Source: Tan, Li, Huang, "OTCE: A Transferability Metric for Cross-Domain Cross-Task
    Representations", CVPR 2021. Its code has the coupling without entropy, by network simplex.
    """
    count = check_count("num_source_classes", num_source_classes)
    options = {
        "regularization": check_number("regularization", regularization, positive=True),
        "domain_weight": check_number("domain_weight", domain_weight),
        "task_weight": check_number("task_weight", task_weight),
    }
    try:
        source = evaluate(
            _as_given,
            features=source_features,
            labels=source_labels,
            num_classes=count,
            where=source_where,
        )
    except ValueError as error:
        raise ValueError(f"source_{error}") from None
    return evaluate(
        _otce,
        features=features,
        labels=labels,
        num_classes=num_classes,
        where=where,
        given={"source": source, "options": options},
        num_source_classes=count,
    )


def _as_given(features, labels, weights):
    return features, labels.astype(weights.dtype), weights  # floats, as what is invalid is NaN


def _otce(features, labels, weights, source, options, *, num_classes, num_source_classes):
    x, source_labels, source_weights = source
    if x.shape[1] != features.shape[1]:
        wanted = f"as many columns as features, {features.shape[1]}"
        raise ValueError(f"source_features: wanted {wanted}, got {x.shape[1]}")
    dtype = jnp.promote_types(x.dtype, features.dtype)
    x, y = x.astype(dtype), features.astype(dtype)
    a, b = source_weights / source_weights.sum(), weights / weights.sum()
    shift = y[jnp.argmax(weights > 0)]
    x = jnp.where((a > 0)[:, None], x - shift[None], 0)
    y = jnp.where((b > 0)[:, None], y - shift[None], 0)
    unit = power_of_two(jnp.maximum(jnp.abs(x).max(), jnp.abs(y).max()))
    x, y = x / unit, y / unit
    # About their means: the distance of the means adds to W, and changes nothing else.
    x_mean, y_mean = _product(a, x), _product(b, y)
    x = jnp.where((a > 0)[:, None], x - x_mean[None], 0)
    y = jnp.where((b > 0)[:, None], y - y_mean[None], 0)

    log_a, log_b = (jnp.where(w > 0, jnp.log(jnp.where(w > 0, w, 1)), -jnp.inf) for w in (a, b))
    x2, y2 = jnp.sum(x * x, 1), jnp.sum(y * y, 1)
    variance = _product(a, x2) + _product(b, y2)
    epsilon = jnp.where(variance > 0, options["regularization"] * variance, 1)

    # P_ij = a_i b_j exp((u_i + v_j + 2 x_i.y_j) / epsilon): the potentials hold the squares too.
    def fit(x, y, v, log_b, epsilon):
        offset = v / epsilon + log_b

        def potential(x):
            return jax.nn.logsumexp(offset + 2 * _product(y, x) / epsilon)

        return -epsilon * jax.lax.map(potential, x, batch_size=min(BLOCK, len(x)))

    def proceed(state):
        *_, off, i = state
        return (off > TOLERANCE) & (i < MOST_STEPS)

    def step(state):
        _, v, heat, _, i = state
        e = epsilon * heat
        u = fit(x, y, v, log_b, e)  # sources give all that they have
        new = fit(y, x, u, log_a, e)  # targets get all that they need
        before = jnp.exp(jnp.minimum((v - new) / e, 50))  # of what a target needs, with v
        off = jnp.where(heat > 1, jnp.inf, jnp.sum(b * jnp.abs(before - 1)))
        rounding = 4 * jnp.finfo(dtype).eps * jnp.sum(b * jnp.abs(new)) / e
        off = jnp.where(off > rounding, off, 0)  # 0, too, where it is NaN
        return u, new, jnp.maximum(heat * COOLING, 1), off, i + 1

    heat = jnp.maximum(1 / options["regularization"], 1).astype(dtype)
    initial = (-x2, -y2, heat, jnp.full((), jnp.inf, dtype), 0)
    u, v, *_ = jax.lax.while_loop(proceed, step, initial)

    one_hot = jax.nn.one_hot(labels, num_classes, dtype=dtype)

    def carried(row):
        x, x2, u, log_a = row
        along = 2 * _product(y, x)
        mass = jnp.exp((u + v + along) / epsilon + log_a + log_b)
        return jnp.sum(mass * jnp.maximum(x2 + y2 - along, 0)), _product(mass, one_hot)

    costs, to_class = jax.lax.map(carried, (x, x2, u, log_a), batch_size=min(BLOCK, len(x)))
    joint = jax.ops.segment_sum(to_class, source_labels.astype(jnp.int32), num_source_classes)
    given = joint.sum(1, keepdims=True)
    moved = joint > 0
    logs = jnp.log(jnp.where(moved, joint, 1) / jnp.where(moved, given, 1))
    entropy = jnp.maximum(-jnp.sum(joint * logs), 0)
    cost = (costs.sum() + jnp.sum(jnp.square(x_mean - y_mean))) * unit * unit
    return -(options["domain_weight"] * cost + options["task_weight"] * entropy)


def _product(a, b):
    return jnp.matmul(a, b, precision="highest")
