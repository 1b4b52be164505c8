"""N-LEEP: LEEP with the clusters of the features in place of source classes."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from leepjax.metrics._checks import check_count, check_key
from leepjax.metrics._evaluate import evaluate
from leepjax.metrics._gbc import centred, principal_coordinates
from leepjax.metrics._leep import _leep
from leepjax.metrics.platform import product, sum_by_class

COMPONENTS_PER_CLASS = 5
SAMPLES_PER_COMPONENT = 5
FLOOR = 1e-3  # of a component's variance, as a part of the direction's variance over all samples
STEPS = 1000  # at most, of k-means and of EM
TOLERANCE = 1e-5  # EM stops when a step moves less of a sample's responsibility, on average


def nleep(
    key: jax.Array,
    features: ArrayLike,
    labels: ArrayLike,
    *,
    num_classes: int,
    num_components: int | None = None,
    energy: float = 0.8,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""LEEP over the components of a Gaussian mixture, in nats, <= 0; larger is better.

    .. math:: \mathrm{NLEEP} = \tfrac1n \sum_i \log \sum_v \hat P(y_i \mid v)\, p(v \mid x_i)

    where x are the features along the fewest principal directions that hold ``energy`` of their
    variance, and p(v | x) is the responsibility of component v of a Gaussian mixture fitted to x
    without labels. It needs no source classes, only features.

    The fit: k-means++ seeds, drawn with ``key``; k-means; then expectation-maximisation until a
    step changes responsibilities by less than 1e-5 (the sum over components of absolute changes,
    averaged over samples), at most 1000 steps. How far to trust the value: the fit ends in a local
    optimum, as every such fit does, and another key moves the score by several hundredths, so
    compare means over a few keys. Rounding (another processor, order of the samples or names of the
    classes) with the same key moved it by 5e-5 at most in trials of 30 and 300 samples. With
    2,000 samples in classes that overlap it moved a third of 12 trials by up to 4e-2, as another
    key does: on its way EM can pass between two optima. Covariances
    are *diagonal* in the principal directions. Published code has full ones, with about 20 samples
    for each: these are singular, and the fit then stays at the k-means clusters; the scores are
    alike, the cost is d times as large, and in single precision it fails. Every variance is at
    least 1e-3 of the direction's variance over all samples, so that no component shrinks to a
    point, and the unit of the features does not matter.

    One class gives 0. Constant features, or fewer than ten samples, leave one component and give
    -H(Y). Absent classes, the order of the samples and the names of the classes change nothing.

    Args:
      key: a JAX random key, for the seeds.
      features: ``[n, d]`` floating-point features.
      labels: ``[n]`` integer labels in ``0..num_classes-1``.
      num_classes: number of classes, a Python int.
      num_components: number of mixture components, a Python int; default five for each class
        present. Never more than one for five samples.
      energy: part of the variance to keep, 0 < energy <= 1.
      where: ``[n]`` bool, the samples to count; default all.

    Returns:
      A scalar; NaN for invalid values under ``jit`` or ``vmap``.

    Raises:
      ValueError: a shape, dtype or (outside tracing) value is wrong; it names the argument.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> features = jnp.array([1.0, 1.5, 1.2, 0.9, 1.1, 3.0, 3.1, 3.2, 2.9, 3.4])[:, None]
      >>> labels = jnp.array([0, 0, 0, 0, 0, 1, 1, 1, 1, 0])
      >>> print(f"{nleep(jax.random.key(0), features, labels, num_classes=2):.4f}")
      -0.2502

    Source: Li, Jia, Sang, Zhu, Green, Wang, Gong, "Ranking Neural Checkpoints", CVPR 2021.
    """
    if isinstance(energy, bool) or not isinstance(energy, int | float) or not 0 < energy <= 1:
        raise ValueError(f"energy: wanted a Python number in (0, 1], got {energy!r}")
    if num_components is not None:
        num_components = check_count("num_components", num_components)
    return evaluate(
        _nleep,
        given={"key": check_key(key)},
        features=features,
        labels=labels,
        num_classes=num_classes,
        where=where,
        num_components=num_components,
        energy=float(energy),
    )


def _nleep(key, features, labels, weights, spectrum, *, num_classes, num_components, energy):
    n = features.shape[0]
    key_order, key_seeds = jax.random.split(key)
    order = _order(key_order, features, weights)
    features, labels, weights = features[order], labels[order], weights[order]
    x = _principal(centred(features, weights)[0], weights, spectrum, energy)
    # As many components as could be wanted, of which some wait: the number of classes present and
    # of samples included is known only when it runs.
    wanted = num_components or COMPONENTS_PER_CLASS * num_classes
    present = sum_by_class(weights, labels, num_classes) > 0
    number = num_components or COMPONENTS_PER_CLASS * present.sum()
    number = jnp.minimum(number, jnp.sum(weights > 0) // SAMPLES_PER_COMPONENT)
    active = jnp.arange(min(wanted, max(n // SAMPLES_PER_COMPONENT, 1))) < jnp.maximum(number, 1)
    nearest = _k_means(x, weights, _seeds(key_seeds, x, weights, active), active)
    variance = product(weights, jnp.square(x)) / weights.sum()
    x = x / jnp.sqrt(jnp.where(variance > 0, variance, 1))[None]
    responsibilities = _mixture(x, weights, nearest, active)
    value = _leep(responsibilities, labels, weights, num_classes=num_classes)
    return jnp.minimum(value, 0)  # rounding alone can take it above


def _order(key, features, weights):
    """Samples in the order of a random projection, the masked last: ``[n]`` indices.

    What is then drawn by position is drawn by what the sample is, not by where it stood. So the
    projection must not round by where it stood, or neighbours would swap: it is about the least
    values, which no order of sums changes, and each sample's own sum.
    """
    included = (weights > 0)[:, None]
    least = jnp.where(included, features, jnp.inf).min(0)
    direction = jax.random.normal(key, (features.shape[1],), jnp.float32).astype(features.dtype)
    projection = jnp.sum((features - least[None]) * direction[None], 1)
    return jnp.argsort(jnp.where(included[:, 0], projection, jnp.inf))


def _principal(g, weights, spectrum, energy):
    """Coordinates ``[n, d]`` along principal directions, zero along those not needed.

    Rounding turns close directions into one another, and the diagonal covariances of the mixture
    with them: hence directions that are good to the rounding of the data.
    """
    descending = spectrum.eigenvalues[::-1]
    before = jnp.cumsum(descending) - descending
    # Less a little, so that rounding does not decide whether four of five equal ones hold 80 %.
    enough = before >= energy * (1 - 1e-6) * descending.sum()
    kept = ~enough & spectrum.kept[::-1]
    vectors = spectrum.vectors[:, ::-1]
    z = principal_coordinates(g, weights, descending, vectors, g.shape[1])
    return jnp.where(kept[None], z, 0)


def _seeds(key, x, weights, active):
    """k-means++: each seed a sample, drawn by its squared distance from the seeds before.

    Drawn as the largest of log-mass plus Gumbel noise. Unlike a lot among cumulative sums that
    depends on rounding only where two samples nearly tie, however many samples there are.
    """

    def draw(j, mass):
        log_mass = jnp.log(mass).astype(jnp.float32)  # the same noise in either precision
        return x[jax.random.categorical(jax.random.fold_in(key, j), log_mass)]

    def add(j, state):
        seeds, distance = state
        seed = draw(j, weights * distance)
        distance = jnp.minimum(distance, jnp.square(x - seed[None]).sum(1))
        return seeds.at[j].set(seed), distance

    first = draw(0, weights)
    seeds = jnp.zeros((active.shape[0], x.shape[1]), x.dtype).at[0].set(first)
    distance = jnp.square(x - first[None]).sum(1)
    return jax.lax.fori_loop(1, active.shape[0], add, (seeds, distance))[0]


def _k_means(x, weights, centres, active):
    """Which centre ``[n]`` each sample belongs to; a centre without samples stays where it is."""

    def assign(centres):
        distance = jnp.square(centres).sum(1)[None] - 2 * product(x, centres.T)
        return jnp.where(active[None], distance, jnp.inf).argmin(1)

    def move(state):
        centres, nearest, _, step = state
        size = sum_by_class(weights, nearest, active.shape[0])[:, None]
        sums = sum_by_class(weights[:, None] * x, nearest, active.shape[0])
        centres = jnp.where(size > 0, sums / jnp.where(size > 0, size, 1), centres)
        new = assign(centres)
        return centres, new, jnp.any((new != nearest) & (weights > 0)), step + 1

    start = (centres, assign(centres), jnp.array(True), 0)
    return jax.lax.while_loop(lambda s: s[2] & (s[3] < STEPS), move, start)[1]


def _mixture(x, weights, nearest, active):
    """Responsibilities ``[n, k]`` of a mixture fitted to ``x``, of variance 1 in each direction."""
    total, square = weights.sum(), jnp.square(x)

    def maximise(responsibility):
        r = weights[:, None] * responsibility
        mass = r.sum(0)
        alive = active & (mass > 1e-6)  # samples
        divisor = jnp.where(alive, mass, 1)[:, None]
        means = product(r.T, x) / divisor
        variances = product(r.T, square) / divisor - jnp.square(means)
        # The largest likelihood among variances above the floor: EM never loses.
        variances = jnp.maximum(variances, FLOOR)
        log_share = jnp.where(alive, jnp.log(divisor[:, 0] / total), -jnp.inf)
        return means, variances, log_share

    def expect(means, variances, log_share):
        exponent = product(square, 1 / variances.T) - 2 * product(x, (means / variances).T)
        constant = (jnp.log(variances) + jnp.square(means) / variances).sum(1)
        return jax.nn.softmax(log_share[None] - (exponent + constant[None]) / 2, axis=1)

    def improve(state):
        old, _, step = state
        new = expect(*maximise(old))
        moved = product(weights, jnp.abs(new - old).sum(1)) / total
        return new, moved, step + 1

    hard = jax.nn.one_hot(nearest, active.shape[0], dtype=x.dtype)
    start = (hard, jnp.array(jnp.inf, x.dtype), 0)
    return jax.lax.while_loop(lambda s: (s[1] > TOLERANCE) & (s[2] < STEPS), improve, start)[0]
