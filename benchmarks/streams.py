"""A stream of generated blocks, one in memory at a time: samples a second, peak of memory.

    python -m benchmarks streams

Every score that a stream gives, of features and probabilities in two passes, on the CPU.
"""

import dataclasses
import time

import jax
import jax.numpy as jnp
from rich.console import Console

from benchmarks.memory import in_fresh_process, peak_within
from leepjax._progress import progress
from leepjax.metrics import streaming


@dataclasses.dataclass(frozen=True)
class Config:
    """Stream generated samples, and measure time and memory."""

    samples: int = 1_280_000
    """How many, about: a multiple of the block."""
    classes: int = 1000
    """Source classes, and target classes."""
    dimensions: int = 2048
    """Of the features."""
    block: int = 4096
    """Samples at once."""


def main(config: Config) -> None:
    """Run it in a process of its own, and print what it took."""
    for name, value in dataclasses.asdict(config).items():
        if value < 2:
            raise ValueError(f"--{name}: wanted at least 2, got {value}")
    in_fresh_process(stream, config)


def stream(config: Config) -> float:
    """Both passes; bytes at the peak above those before the stream began."""
    c, d, blocks = config.classes, config.dimensions, -(-config.samples // config.block)
    console = Console()

    keys = jax.random.split(jax.random.key(0), 2)
    noise = (
        jax.random.uniform(keys[0], (config.block, c)),
        jax.random.uniform(keys[1], (config.block, d)),
    )

    @jax.jit
    def draw(noise, number):
        """Noise is drawn once and shifted: drawing it anew takes longer than adding it up."""
        logits, features = (jnp.roll(x, 37 * number, (0, 1)) for x in noise)
        labels = jax.random.randint(jax.random.key(number), (config.block,), 0, c)
        probs = jax.nn.softmax(logits + 8 * (jnp.arange(c) == labels[:, None]))
        return labels, features.at[jnp.arange(config.block), labels % d].add(1), probs

    def run(state, second, blocks):
        work = 0.0
        for number in progress(range(blocks), desc=f"pass {1 + second}", unit="block"):
            labels, features, probs = jax.block_until_ready(draw(noise, number))
            start = time.perf_counter()
            given = {} if second else {"features": features}
            state = jax.block_until_ready(streaming.update(state, labels, probs=probs, **given))
            work += time.perf_counter() - start
        return state, work

    jax.block_until_ready(noise)  # neither JAX itself nor this is the stream's
    with peak_within() as growth:
        state = streaming.init(num_classes=c, num_source_classes=c, features=draw(noise, 0)[1])
        for second in (False, True):
            state = streaming.second_pass(state) if second else state
            run(state, second, 1)  # compiles
            state, work = run(state, second, blocks)
            rate = blocks * config.block / work
            console.print(
                f"pass {1 + second}: {work:.0f} s in updates, {rate:,.0f} samples a second"
            )
        scores = streaming.finalize(state)
    console.print(f"samples: {float(state.counts.sum()):,.0f}")
    console.print(f"memory at the peak, above that before: {growth() / 2**30:.2f} GiB")
    console.print(", ".join(f"{name} {float(value):.4f}" for name, value in scores.items()))
    return float(growth())
