"""The platform that a program is for, and the forms of a computation that suit it: in one place.

A program has the forms of the platform that JAX runs on. To lower, export or compile one for
another platform, say so while it is traced:

  >>> import jax, jax.numpy as jnp
  >>> from leepjax.metrics import h_score, platform
  >>> arguments = jnp.zeros((8, 2)), jnp.zeros(8, jnp.int32)
  >>> program = jax.jit(lambda features, labels: h_score(features, labels, num_classes=2))
  >>> with platform.programs_for("tpu"):
  ...     lowered = program.trace(*arguments).lower(lowering_platforms=("tpu",))

What differs, and why. On a TPU, by its compiler's account, a scatter (``segment_sum``) and a gather
of rows go row by row and copy their operands several times, while products with one-hot labels read
them once; the default eigensolver is a program that takes minutes to compile, and a product over
all rows up to 18 s, so that sums of features take blocks of rows (``_sums.py``). On a CPU the
opposite holds: blocks of rows that stay in cache (``_sums.py``), half of a symmetric product
(``_moments.py``), a Cholesky factor in place of a spectrum, and LAPACK. A GPU has the plain forms:
none was measured.
"""

from contextlib import AbstractContextManager

import jax
import jax.numpy as jnp

PLATFORMS = ("cpu", "gpu", "tpu")
# Classes. A one-hot product costs n c s operations, a scatter several copies of [n, s]: by the
# TPU's compiler the same for about 4,000 classes (n = 65,536, s = 1,000).
MOST_ONE_HOT = 4096

_told = jax.make_user_context(default_value=None)  # jax.jit keeps a program for each value


def target() -> str:
    """``"cpu"``, ``"gpu"`` or ``"tpu"``: what programs traced now are for.

    It is JAX's default backend: not another device of the machine that a call is sent to.
    """
    return _told.value or jax.default_backend()


def programs_for(platform: str) -> AbstractContextManager:
    """While tracing inside, programs have the forms of this platform: cpu, gpu or tpu."""
    if platform not in PLATFORMS:
        raise ValueError(f"platform: wanted one of {', '.join(PLATFORMS)}, got {platform!r}")
    return _told(platform)


def use_one_hot(num_classes: int) -> bool:
    """Whether products with one-hot labels are the better form of sums and rows by class."""
    return target() == "tpu" and num_classes <= MOST_ONE_HOT


def product(a: jax.Array, b: jax.Array) -> jax.Array:
    """``a @ b`` in the precision of the arrays: a TPU would round them to bfloat16 first."""
    return jnp.matmul(a, b, precision="highest")


def sum_by_class(x: jax.Array, labels: jax.Array, num_classes: int) -> jax.Array:
    """``[c, ...]`` sums over the samples of each class, of finite ``x [n, ...]``."""
    if not use_one_hot(num_classes):
        return jax.ops.segment_sum(x, labels, num_classes)
    rows = x.reshape(len(x), -1)
    one_hot = jax.nn.one_hot(labels, num_classes, dtype=x.dtype)
    return jnp.matmul(one_hot.T, rows, precision="highest").reshape(num_classes, *x.shape[1:])


def row_of_class(table: jax.Array, labels: jax.Array) -> jax.Array:
    """``table[labels]``, of a finite ``table [c, s]``: a row for each of the n labels."""
    if not use_one_hot(len(table)):
        return table[labels]
    one_hot = jax.nn.one_hot(labels, len(table), dtype=table.dtype)
    return jnp.matmul(one_hot, table, precision="highest")


def eigh(matrix: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Eigenvalues, ascending, and vectors of a symmetric matrix, as ``jnp.linalg.eigh``.

    On a TPU by Jacobi's method: JAX's choice there is QDWH, a program that compiles for minutes.
    """
    implementations = getattr(jax.lax.linalg, "EighImplementation", None)  # not before jax 0.8

    def default(matrix):
        eigenvalues, vectors = jnp.linalg.eigh(matrix)
        return eigenvalues, vectors

    if target() != "tpu" or implementations is None:
        return default(matrix)

    def jacobi(matrix):
        vectors, eigenvalues = jax.lax.linalg.eigh(matrix, implementation=implementations.JACOBI)
        return eigenvalues, vectors

    # A TPU's host may run it on its CPU, which has no such method.
    return jax.lax.platform_dependent(matrix, tpu=jacobi, default=default)
