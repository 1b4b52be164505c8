"""What the machine can do, measured, and what each score must at least do, counted."""

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Machine(NamedTuple):
    """Measured ceilings, by who measured them: ``{"JAX": ..., "NumPy": ...}``.

    Attributes:
      bandwidth: of a copy into memory that is already there, bytes read and written a second.
      flops: of a square float32 matrix product, a second.
    """

    bandwidth: dict[str, float]
    flops: dict[str, float]

    def __str__(self) -> str:
        copy = ", ".join(f"{name} {value / 1e9:.1f}" for name, value in self.bandwidth.items())
        product = ", ".join(f"{name} {value / 1e9:.0f}" for name, value in self.flops.items())
        return f"copy {copy} GB/s; float32 matmul {product} GFLOP/s"

    def seconds(self, work: "Work") -> float:
        """The least time for some work: the higher of both roofs."""
        copy, product = max(self.bandwidth.values()), max(self.flops.values())
        return max(work.bytes / copy, work.flops / product)


class Work(NamedTuple):
    """Bytes that must be read, and floating-point operations."""

    bytes: float
    flops: float


def measure(repeats: int = 5) -> Machine:
    """Copy bandwidth and float32 matmul, the best of some repeats each."""
    gpu = jax.default_backend() == "gpu"
    size, side = (2**28, 8192) if gpu else (2**25, 2048)

    negate = jax.jit(lambda source, target: -source, donate_argnums=1, keep_unused=True)
    source, targets = jnp.ones(size), [jnp.zeros(size)]

    def copy() -> jax.Array:
        targets[0] = negate(source, targets[0])  # into the same memory: fresh pages cost more
        return targets[0]

    square = jnp.ones((side, side))
    product = jax.jit(partial(jnp.matmul, precision="highest"))
    bandwidth = {"JAX": 8 * size / _best(copy, repeats)}
    flops = {"JAX": 2 * side**3 / _best(lambda: product(square, square), repeats)}
    if not gpu:
        a, b = np.ones(size, np.float32), np.zeros(size, np.float32)
        c, d = np.ones((2, side, side), np.float32)
        out = np.zeros_like(c)
        bandwidth["NumPy"] = 8 * size / _best(lambda: np.copyto(b, a), repeats)
        flops["NumPy"] = 2 * side**3 / _best(lambda: np.matmul(c, d, out=out), repeats)
    return Machine(bandwidth, flops)


def processor() -> str:
    """What the machine calls the device that JAX runs on."""
    information = Path("/proc/cpuinfo")
    if jax.default_backend() != "cpu" or not information.exists():
        return jax.devices()[0].device_kind
    lines = information.read_text().splitlines()
    names = [line.split(": ", 1)[1] for line in lines if line.startswith("model name")]
    return names[0] if names else "cpu"


def _best(function: Callable[[], Any], repeats: int) -> float:
    seconds = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        jax.block_until_ready(function())
        seconds.append(time.perf_counter() - start)
    return min(seconds[1:])


def work(metrics: Sequence[str], *, n: int, s: int, d: int, c: int) -> Work:
    """The least that a score must do in float32, or several that share one Gram matrix.

    Counted: inputs as often as they must be read (LEEP and GBC twice: what the second pass does
    depends on the whole of the first), the upper triangle of a Gram matrix, n d (d + 1), a Cholesky
    factor, d^3 / 3, and of an eigendecomposition the reduction to tridiagonal form and the way
    back, (4/3 + 2) d^3. Searches over a few numbers a class are left out.
    """
    gram, cholesky, eigh = n * d * (d + 1), d**3 / 3 + c * d**2, 10 / 3 * d**3
    shorter = min(n / c, d)
    rates = n * d * shorter + c * shorter**3 / 3 + d**3 / 3  # a Gram matrix for each class
    reads = {"leep": 8 * n * s, "nce": 8 * n, "gbc": 8 * n * d}
    flops = {
        "leep": 3 * n * s,
        "nce": n,
        "h_score": gram + cholesky,
        "regularized_h_score": gram + cholesky + 2 * n * d,
        "logme": gram + eigh + 2 * c * d**2,
        "lfc": gram + d**2,
        "gbc": gram + 4 / 3 * d**3 + 2 * 64 * n * d,
        "transrate": gram + rates,
    }
    shared = (len(metrics) - 1) * gram if len(metrics) > 1 else 0
    return Work(
        bytes=max(reads.get(name, 4 * n * d) for name in metrics),
        flops=sum(flops[name] for name in metrics) - shared,
    )
