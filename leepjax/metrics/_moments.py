r"""Moments of features by class: all that many scores need, one pass over the data, and they add.

With :math:`g = (f - \mathrm{shift}) / \mathrm{unit}` for a shift and a unit that all batches and
devices share, every other field of :class:`Moments` is a sum over samples. A shift near the data
leaves a large common offset no rounding behind, a unit keeps fourth powers in range.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from leepjax.metrics._by_class import derive_from, map_class_grams
from leepjax.metrics._pairs import add_pairs
from leepjax.metrics._sums import sum_over_samples
from leepjax.metrics.platform import eigh, sum_by_class, target

RTOL = 1e-6  # eigenvalues of the covariance below this part of the largest count as zero
SURE = 4e-6  # above which none is taken for one below, whatever rounding did
PRODUCT_ROWS = 512  # of a block that a CPU multiplies: adding up the products then costs little
COLUMNS = 64  # at once of a Gram matrix, or a sixteenth: little of the other triangle is computed


class Targets(NamedTuple):
    """Sums over samples with t real targets, h = y - shift: of h, of h^2, and of h g."""

    shift: jax.Array  # [t]
    sums: jax.Array  # [t]
    squares: jax.Array  # [t]
    products: jax.Array  # [t, d]


class Moments(NamedTuple):
    """Weighted sums over samples of g = (f - shift) / unit, by class. A pytree that adds.

    Attributes:
      shift: ``[d]``, near the features; not a sum, the same in all parts.
      unit: a scalar, about the size of the features; not a sum either.
      support: ``[c]`` number of samples of positive weight.
      counts: ``[c]`` sum of weights.
      sums: ``[c, d]`` of g.
      gram: of g g^T, ``[d, d]`` over all classes, or ``[c, d, d]`` by class.
      norms: ``[c]`` of |g|^2.
      norm_sums: ``[c, d]`` of |g|^2 g.
      squared_norms: ``[c]`` of |g|^4.
      targets: sums with real targets, or None.
      rest: what rounding took from each of these sums (``_pairs.py``); None of a single batch.
    """

    shift: jax.Array
    unit: jax.Array
    support: jax.Array
    counts: jax.Array
    sums: jax.Array
    gram: jax.Array
    norms: jax.Array
    norm_sums: jax.Array
    squared_norms: jax.Array
    targets: Targets | None = None
    rest: "Moments | None" = None

    @property
    def additive(self) -> "Moments":
        """The sums alone: without shifts, unit and rest."""
        targets = None if self.targets is None else self.targets._replace(shift=None)
        return self._replace(shift=None, unit=None, targets=targets, rest=None)

    @property
    def total(self) -> jax.Array:
        """The sum of weights, n."""
        return self.counts.sum()

    @property
    def rank_bound(self) -> jax.Array:
        """The largest rank that the scatter can have, n - 1 for n samples of positive weight."""
        return self.support.sum() - 1

    @property
    def centre(self) -> jax.Array:
        """``[d]`` the mean of g."""
        return self.sums.sum(0) / self.total

    @property
    def mean(self) -> jax.Array:
        """``[d]`` the mean feature, in units of ``unit``."""
        return self.shift / self.unit + self.centre

    @property
    def scatter(self) -> jax.Array:
        """``[d, d]`` sum over samples of the outer product of g about its mean."""
        gram = self.gram.sum(0) if self.gram.ndim == 3 else self.gram
        return gram - self.total * jnp.outer(self.centre, self.centre)

    @property
    def class_sums(self) -> jax.Array:
        """``[c, d]`` sums of g about its mean."""
        return self.sums - self.counts[:, None] * self.centre[None]


def add(a: Moments, b: Moments) -> Moments:
    """Moments of the samples of both, which are about one shift in one unit."""
    total, rest = add_pairs((a.additive, a.rest), (b.additive, b.rest))
    if a.targets is not None:
        total = total._replace(targets=total.targets._replace(shift=a.targets.shift))
    return total._replace(shift=a.shift, unit=a.unit, rest=rest)


def select_classes(moments: Moments, classes) -> Moments:
    """Moments by class, of these classes alone."""
    shift, unit, *by_class, _, rest = moments
    rest = None if rest is None else select_classes(rest, classes)
    return Moments(shift, unit, *(x[classes] for x in by_class), targets=None, rest=rest)


def blank(x, where):
    """Clean samples ``[n, ...]``: at least single precision, and zero where masked."""
    if jnp.issubdtype(x.dtype, jnp.floating):
        x = x.astype(jnp.promote_types(x.dtype, jnp.result_type(float)))
    return x if where is None else jnp.where(where.reshape(-1, *[1] * (x.ndim - 1)), x, 0)


def centre_of(features, weights, some):
    """A shift near the features, and a unit of their size about it; constants.

    The median of ``some`` rows: no outlier moves it, and it is what features that do not vary are.
    """
    features = jax.lax.stop_gradient(features)
    shift = jnp.median(blank(features[some], None), axis=0)
    sizes = jnp.abs(features - shift[None]).max(1)
    return shift, power_of_two(jnp.max(jnp.where(weights > 0, sizes, 0)))


def measure(features, labels, weights, *, some, num_classes, where=None, targets=None) -> Moments:
    """Moments about the centre of ``some`` rows of positive weight.

    The arrays are clean, but ``features`` may be any where ``where`` is not.
    """
    about = centre_of(features, weights, some)
    if targets is not None:
        about = *about, jnp.median(jax.lax.stop_gradient(targets)[some], axis=0)
    return measure_about(
        about,
        features,
        labels,
        weights,
        num_classes=num_classes,
        targets=targets,
        where=where,
    )


def measure_about(
    about, features, labels, weights, *, num_classes, targets=None, where=None, by_class=False
) -> Moments:
    """Moments as of :func:`measure` about a given ``(shift, unit)``, and shift of the targets."""
    shift, unit, *target_shift = about

    def add_up(features, labels, weights, targets, where, about):
        shift, unit, *target_shift = about
        g = (blank(features, where) - shift[None]) / unit
        sums = _by_class(g, labels, weights, num_classes)
        if targets is not None:
            h = targets - target_shift[0][None]
            products = jnp.matmul((weights[:, None] * h).T, g, precision="highest")
            sums += ((weights[:, None] * h).sum(0), (weights[:, None] * h * h).sum(0), products)
        return sums

    def gram_of(features, weights, where, shift, unit):
        g = (blank(features, where) - shift[None]) / unit
        return _upper(weights[:, None] * g, g)

    def all_of(features, labels, weights, targets, where, about):
        sums = add_up(features, labels, weights, targets, where, about)
        return sums, gram_of(features, weights, where, *about[:2])

    rows = (features, labels, weights, targets, where)
    if by_class:
        sums = sum_over_samples(add_up, rows, about, weights=2)
        g = (blank(features, where) - shift[None]) / unit
        gram = map_class_grams(lambda _, gram: gram, g, labels, weights, sums[1])
    elif target() == "cpu":  # whose products are better of more rows than its other sums
        sums = sum_over_samples(add_up, rows, about)
        rows = (features, weights, where)
        gram = sum_over_samples(gram_of, rows, shift, unit, at_once=PRODUCT_ROWS)
        gram = _symmetric(gram)
    else:
        sums, gram = sum_over_samples(all_of, rows, about, weights=2)
        gram = _symmetric(gram)
    support, counts, sums, norms, norm_sums, squared, *products = sums
    of_targets = Targets(target_shift[0], *products) if products else None
    return Moments(shift, unit, support, counts, sums, gram, norms, norm_sums, squared, of_targets)


def _by_class(g, labels, weights, num_classes):
    """Sums by class: of samples, weights, g, and of |g|^2, |g|^2 g, |g|^4, as in ``Moments``.

    Those with norms apart from the others: the compiler leaves out what a score does not need.
    """
    norms = jnp.sum(g * g, 1)

    def by(x):
        return sum_by_class(x, labels, num_classes)

    support, counts = by(jnp.stack([(weights > 0).astype(weights.dtype), weights], 1)).T
    first, second = by(jnp.stack([weights * norms, weights * norms**2], 1)).T
    norm_sums = by((weights * norms)[:, None] * g)
    return support, counts, by(weights[:, None] * g), first, norm_sums, second


def _upper(a, b):
    """Blocks of rows of a^T b from the diagonal on: symmetric, so a CPU need not do the rest."""
    d = a.shape[1]
    columns = max(COLUMNS, d // 16)
    if target() != "cpu" or d < 2 * columns:
        return (jnp.matmul(a.T, b, precision="highest"),)
    return tuple(
        jnp.matmul(a[:, i : i + columns].T, b[:, i:], precision="highest")
        for i in range(0, d, columns)
    )


def _symmetric(blocks):
    d = blocks[0].shape[1]
    if len(blocks) == 1 and blocks[0].shape[0] == d:
        return blocks[0]
    rows = [jnp.pad(block, ((0, 0), (d - block.shape[1], 0))) for block in blocks]
    upper = jnp.triu(jnp.concatenate(rows))
    return upper + jnp.triu(upper, 1).T


def sum_of_squares(x):
    """Of a matrix, row by row: one long float32 sum loses what is small beside its total."""
    return jnp.sum(jnp.einsum("ij,ij->i", x, x, precision="highest"))


def power_of_two(x):
    """The power of two at or above x, so that dividing by it rounds nothing; 1 for 0."""
    exponent = jnp.frexp(jax.lax.stop_gradient(x))[1]
    return jnp.where(x > 0, jnp.ldexp(jnp.ones((), x.dtype), exponent), 1)


class Spectrum(NamedTuple):
    """Eigendecomposition of the covariance of g (of ``scatter / total``).

    Attributes:
      eigenvalues: ``[d]``, ascending; 0 where not kept.
      vectors: ``[d, d]``, in columns; constant for differentiation.
      kept: ``[d]`` bool: above 1e-6 of the largest, and at most min(d, n - 1) of them.
      perturbation: ``[d, d]`` zeros, with the tangent of the covariance in this basis: first-order
        terms in it make functions of the spectrum differentiable also where eigenvalues coincide.
    """

    eigenvalues: jax.Array
    vectors: jax.Array
    kept: jax.Array
    perturbation: jax.Array


def spectrum_of(moments: Moments) -> Spectrum:
    """The spectrum that all kernels share."""
    covariance = moments.scatter / moments.total
    eigenvalues, vectors = eigh(jax.lax.stop_gradient(covariance))
    from_largest = jnp.arange(eigenvalues.shape[0])[::-1]
    kept = (eigenvalues > RTOL * eigenvalues[-1]) & (from_largest < moments.rank_bound)
    eigenvalues = jnp.where(kept, eigenvalues, 0)
    return Spectrum(eigenvalues, vectors, kept, _perturbation(covariance, vectors))


def solve(moments: Moments, right: jax.Array, spectrum: Spectrum | None = None) -> jax.Array:
    """``C^+ right [d, k]``, constant for differentiation, for the covariance C of g.

    The pseudo-inverse is that of the spectrum. Without one given, a CPU takes a Cholesky factor, a
    fraction of the time, where C is of full rank by the same rule: C - t I has a factor too, for a
    t above 1e-6 of the largest eigenvalue.
    """
    covariance = jax.lax.stop_gradient(moments.scatter / moments.total)
    right = jax.lax.stop_gradient(right)
    if target() != "cpu" or spectrum is not None:
        return _by_spectrum(spectrum_of(moments) if spectrum is None else spectrum, right)

    def by_factor(moments, covariance, right):
        identity = jnp.eye(len(covariance), dtype=covariance.dtype)
        least = SURE * jnp.sqrt(sum_of_squares(covariance))
        definite = jnp.isfinite(jnp.linalg.cholesky(covariance - least * identity)[-1, -1])
        return jax.lax.cond(
            definite & (len(covariance) <= moments.rank_bound),
            lambda: jax.scipy.linalg.cho_solve((jnp.linalg.cholesky(covariance), True), right),
            lambda: _by_spectrum(spectrum_of(moments), right),
        )

    def constant(moments, covariance, right):
        return jnp.zeros_like(right)

    return derive_from(by_factor, constant)(moments, covariance, right)


def _by_spectrum(spectrum, right):
    kept, vectors = spectrum.kept, spectrum.vectors
    inverse = jnp.where(kept, 1 / jnp.where(kept, spectrum.eigenvalues, 1), 0)
    along = jnp.matmul(vectors.T, right, precision="highest")
    return jax.lax.stop_gradient(jnp.matmul(vectors, inverse[:, None] * along, precision="highest"))


@jax.custom_jvp
def _perturbation(covariance, vectors):
    return jnp.zeros_like(covariance)


@_perturbation.defjvp
def _perturbation_jvp(primals, tangents):
    covariance, vectors = primals
    in_basis = jnp.matmul(
        vectors.T, jnp.matmul(tangents[0], vectors, precision="highest"), precision="highest"
    )
    return jnp.zeros_like(covariance), in_basis
