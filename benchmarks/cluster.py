"""Work divided over a cluster of two nodes on this machine, while workers, nodes and drivers die.

    python -m benchmarks cluster sources --count 1000
    python -m benchmarks cluster tasks --count 200
    python -m benchmarks cluster meta --count 200

The same work is done by one process, and on a Ray cluster of two nodes of one CPU each (pip install
'leepjax[ray]'). There a worker is killed when a fifth is done, a node at two fifths, and at three
fifths the process that gives the work out; with a new node the same call is then made again.
The results are compared to the last digit.
"""

import dataclasses
import json
import multiprocessing
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
from tyro.conf import Positional

import leepjax
from leepjax._store import keep_programs
from leepjax.data import Dataset
from leepjax.meta import EpisodeShape, MetaRecipe, adapt_tasks, make_learner, meta_train
from leepjax.models import Source, SourceRecipe, train_source
from leepjax.tasks import Tasks, sample_tasks
from leepjax.transfer import Recipe, fine_tune

SAMPLES, CLASSES, FEATURES = 200, 4, 8  # of a small source


@dataclasses.dataclass(frozen=True)
class Config:
    """Work on two nodes, interrupted, beside one process."""

    what: Positional[Literal["sources", "tasks", "meta"]] = "sources"
    """Small sources, ranked; networks, fine-tuned on tasks; or a meta-learner, adapted to them."""
    count: int = 200
    """How many sources, or tasks."""


def write_sources(folder: Path, count: int) -> list[Path]:
    """Small sources in files, some as good as others; the labels are in each."""
    labels = np.random.default_rng(0).integers(0, CLASSES, SAMPLES)
    paths = []
    for i in range(count):
        rng = np.random.default_rng([1, i])
        features = (
            rng.normal(size=(SAMPLES, FEATURES))
            + (1 + i % 7 / 4) * np.eye(CLASSES, FEATURES)[labels]
        )
        paths.append(folder / f"source{i}.npz")
        np.savez(paths[-1], features=features.astype("f4"), labels=labels)
    return paths


@cache
def _digits(count: int) -> tuple[Dataset, Source, Tasks]:
    digits = leepjax.load("digits")
    source = train_source("mlp", digits, SourceRecipe(steps=50))
    options: dict[str, Any] = {"ways": 3, "shots": 5, "test_shots": 10}
    return digits, source, sample_tasks(jax.random.key(0), digits, num_tasks=count, **options)


def work(config: Config, folder: Path, cluster: str | None, journal: Path | None) -> str:
    """The result, as text with all its digits."""
    where: dict[str, Any] = {"cluster": cluster, "journal": journal}
    if config.what == "sources":
        paths = sorted(folder.glob("*.npz")) or write_sources(folder, config.count)
        shown = leepjax.rank(sorted(paths), **where).to_dict()
        for part in (shown, *shown["sources"]):  # but how long it took, and when it was made
            for seconds in ("elapsed", "made", "took"):
                part.pop(seconds, None)
        return json.dumps(shown)
    digits, source, tasks = _digits(config.count)
    key = jax.random.key(1)
    if config.what == "tasks":
        recipe = Recipe(epochs=2, batch_size=5)
        result = fine_tune(key, source, digits, tasks, recipe, **where)
        return json.dumps([x.tolist() for x in result])
    learner = make_learner("anil", source, 3)
    recipe = MetaRecipe(episode=EpisodeShape(3, 5, 5), shots=(5,), steps=2, tasks=2)
    meta = meta_train(key, learner, digits.train, recipe)[0]
    result = adapt_tasks(learner, meta, digits, tasks, chunk=5, **where)
    return json.dumps([x.tolist() for x in result])


@contextmanager
def two_nodes() -> Iterator[Any]:
    """A Ray cluster of two nodes, one CPU each, as ``ray.cluster_utils.Cluster``."""
    from ray.cluster_utils import Cluster  # pyright: ignore[reportMissingImports]

    nodes = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False}
    )
    try:
        nodes.add_node(num_cpus=1)
        yield nodes
    finally:
        nodes.shutdown()


def lines(journal: Path) -> int:
    """Results that a journal has."""
    return max(journal.read_bytes().count(b"\n") - 1, 0) if journal.exists() else 0


def kill_worker() -> None:
    """Kill a process of Ray's that does a piece for this process's nodes."""
    parents, names = {}, {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(entry.name)] = int(
                (entry / "stat").read_text().rpartition(")")[2].split()[1]
            )
            names[int(entry.name)] = (entry / "cmdline").read_text()
        except OSError:  # it has ended
            continue
    for process, name in names.items():
        ancestor = process
        while ancestor in parents and ancestor != os.getpid():
            ancestor = parents[ancestor]
        if ancestor == os.getpid() and name.startswith("ray::_work"):
            os.kill(process, signal.SIGKILL)
            return
    raise RuntimeError("no worker is at work")


def interrupted(config: Config, folder: Path, journal: Path) -> tuple[str, dict[str, int]]:
    """The result on two nodes, with everything killed once; how much was done at each death."""
    with two_nodes() as nodes:
        context = multiprocessing.get_context("spawn")
        driver = context.Process(target=work, args=(config, folder, nodes.address, journal))
        deaths = {
            "worker": kill_worker,
            "node": lambda: nodes.remove_node(nodes.list_all_nodes()[-1], allow_graceful=False),
            "driver": driver.kill,
        }
        driver.start()
        done = {}
        for fifth, (what, kill) in enumerate(deaths.items(), 1):
            while lines(journal) < config.count * fifth // 5 and driver.is_alive():
                time.sleep(0.01)
            done[what] = lines(journal)
            kill()
        driver.join()
        nodes.add_node(num_cpus=1)
        return work(config, folder, nodes.address, journal), done


def main(config: Config) -> None:
    """Do the work both ways, and print what it took."""
    if config.count < 10:
        raise ValueError(f"--count: wanted at least 10, got {config.count}")
    keep_programs()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        start = time.perf_counter()
        alone = work(config, folder, None, None)
        seconds = [time.perf_counter() - start]
        start = time.perf_counter()
        divided, done = interrupted(config, folder, folder / "divided.journal")
        seconds.append(time.perf_counter() - start)
    print(f"{config.count} {config.what}: {seconds[0]:.0f} s here, {seconds[1]:.0f} s on two nodes")
    for what, count in done.items():
        print(f"  the {what} was killed when {count} were done")
    print(f"  results equal to the last digit: {alone == divided}")
    if alone != divided:
        sys.exit(1)
