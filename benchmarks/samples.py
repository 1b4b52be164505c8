"""Samples that are made on the fly, scored through Ray Data while a node dies, beside one process.

    python -m benchmarks samples --millions 2

A sample is a label, 256 features and probabilities of 1,000 source classes. One process adds them
to a stream, batch by batch, twice for LEEP. Then Ray Data does, over a cluster of two nodes of one
CPU each (pip install 'leepjax[ray]'), of which one is killed during the first pass. Scores are
compared and samples counted. Seconds of processor time are those of all processes of the cluster,
the driver's too; those of a node that was killed are lost, so compare rates with --no-kill.
"""

import dataclasses
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks.cluster import two_nodes
from leepjax._store import keep_programs
from leepjax.cluster import connect
from leepjax.metrics import streaming
from leepjax.ray_data import score_dataset, stream_dataset

CLASSES, SOURCE_CLASSES, FEATURES, BATCH = 100, 1000, 256, 4096
COLUMNS = {"labels": "labels", "features": "features", "probs": "probs"}


@dataclasses.dataclass(frozen=True)
class Config:
    """Score samples through Ray Data with a node killed, and in one process."""

    millions: float = 2.0
    """How many samples; the data of 20 million would take 100 GB."""
    kill: bool = True
    """Kill a node a third of the way through the first pass."""


def make(number: int) -> dict[str, np.ndarray]:
    """A batch of samples, the same whenever it is made."""
    rng = np.random.default_rng(number)
    labels = rng.integers(0, CLASSES, BATCH)
    features = rng.random((BATCH, FEATURES), np.float32)
    features[np.arange(BATCH), labels] += 1
    probs = rng.random((BATCH, SOURCE_CLASSES), np.float32)
    probs[np.arange(BATCH), labels * 7] += 100
    probs /= probs.sum(1, keepdims=True)
    return {"labels": labels, "features": features, "probs": probs}


def begin() -> streaming.Stream:
    """The stream of no samples that both begin with."""
    first = make(0)["features"][:1000]
    return streaming.init(num_classes=CLASSES, num_source_classes=SOURCE_CLASSES, features=first)


def alone(batches: int) -> dict[str, jax.Array]:
    """The scores by one process."""
    state = begin()
    for passes in (1, 2):
        for i in range(batches):
            batch = make(i)
            if passes == 2:
                del batch["features"]
            state = streaming.update(state, batch.pop("labels"), **batch)
        state = streaming.second_pass(state) if passes == 1 else state
    return streaming.finalize(state)


def _make(batch: Any) -> dict[str, np.ndarray]:
    (number,) = batch["id"]
    return make(int(number))


def processor_seconds() -> float:
    """Of this process, and of all that it has started."""
    parents, seconds = {}, {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        parents[int(entry.name)] = int(fields[1])
        seconds[int(entry.name)] = sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    total = 0.0
    for process in parents:
        ancestor = process
        while ancestor in parents and ancestor != os.getpid():
            ancestor = parents[ancestor]
        total += seconds[process] if ancestor == os.getpid() else 0
    return total


def main(config: Config) -> None:
    """Score both ways, and print what it took."""
    import ray.data  # pyright: ignore[reportMissingImports]

    batches = max(1, round(config.millions * 1e6 / BATCH))
    samples = batches * BATCH
    keep_programs()
    alone(1)  # compiled
    print(f"{samples:,} samples of {FEATURES} features and {SOURCE_CLASSES} probabilities")
    start, cpu = time.perf_counter(), time.process_time()
    expected = alone(batches)
    seconds = time.perf_counter() - start
    _say("one process", samples, seconds, time.process_time() - cpu)
    with two_nodes() as nodes, connect(nodes.address):
        parts = ray.data.range(batches, override_num_blocks=max(2, batches // 8))
        dataset = parts.map_batches(_make, batch_size=1, batch_format="numpy")
        score_dataset(dataset.limit(BATCH), begin(), **COLUMNS)  # workers have compiled
        start, cpu = time.perf_counter(), processor_seconds()
        if config.kill:
            last, options = nodes.list_all_nodes()[-1], {"allow_graceful": False}
            threading.Timer(seconds / 6, nodes.remove_node, (last,), options).start()
        found = score_dataset(dataset, begin(), **COLUMNS)
        _say("two nodes", samples, time.perf_counter() - start, processor_seconds() - cpu)
        counted = stream_dataset(dataset, begin(), COLUMNS).counts.sum()
    print(f"counted through Ray Data: {int(counted):,}, of {samples:,}")
    for name, value in expected.items():
        print(f"{name:22} {float(value):.6f} {float(found[name]):.6f}")
    if counted != samples:
        sys.exit(1)


def _say(who: str, samples: int, wall: float, cpu: float) -> None:
    rate = f"{samples / cpu:,.0f} samples a second a core"
    print(f"{who}: {wall:.0f} s, {cpu:.0f} s of processors, {rate}", flush=True)
