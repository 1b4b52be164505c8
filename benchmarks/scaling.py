"""Does the work of a device stay the same when samples or tasks grow with the devices?

    python -m benchmarks scaling

Weak scaling by the compiler's account: floating-point operations of the program that each of 1, 2,
4 and 8 devices runs, with as many samples, tasks or episodes for each. No clock: the cores of one
machine that are made devices share its memory.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from rich.console import Console

from benchmarks.compile import account
from benchmarks.programs import Program, Sizes, _meta, _shape, programs
from benchmarks.table import print_table
from leepjax.tasks import Split, Tasks
from leepjax.tasks.map import _sharded
from leepjax.transfer._retrain_head import _FITS

DEVICES = (1, 2, 4, 8)
METRICS = ("leep", "nce", "h_score", "logme", "transrate", "gbc")


@dataclasses.dataclass(frozen=True)
class Config:
    """Count the operations of a device, with the same share for each; there are no flags."""


def main(config: Config) -> None:
    """Print a table of operations of one device."""
    del config
    jax.config.update("jax_num_cpu_devices", max(DEVICES))
    print_table([["program", *(f"{n} devices" for n in DEVICES)], *table()], Console(), names=1)
    print("Mflop of each device; samples of scores, tasks of heads and episodes grow with devices")


def table() -> list[list[str]]:
    """Names of programs, and the operations of a device for each number of devices."""
    flops = operations()
    return [[name, *(f"{x / 1e6:.3f}" for x in row)] for name, row in flops.items()]


def operations(counts: tuple[int, ...] = DEVICES) -> dict[str, list[float]]:
    """``{program: [operations of one device, for each number of devices]}``."""
    found: dict[str, list[float]] = {}
    for count in counts:
        mesh = Mesh(np.array(jax.devices("cpu")[:count]), ("data",))
        made = programs(Sizes(n=2048 * count, s=20, d=32, c=5), mesh)
        shared = {name: made[name]() for name in METRICS}
        shared["heads"] = _heads(8 * count, mesh)
        shared["meta-step"] = _meta("protonet", 2 * count, mesh)
        for name, program in shared.items():
            found.setdefault(name, []).append(account(program, mesh, "cpu")["flops"])
    return found


def _heads(tasks: int, mesh: Mesh) -> Program:
    """What ``map_tasks`` runs for heads of 5 classes x 50 images, 64 features."""
    rows: Any = _shape((tasks, 250), jnp.int32)
    where: Any = _shape((tasks, 250), jnp.bool)
    classes: Any = _shape((tasks, 5), jnp.int32)
    groups: Any = _shape((tasks,), jnp.int32)
    split = Split(rows, rows, where)
    features = _shape((1000, 64))
    shared = features, features, _shape(()), jax.eval_shape(lambda: jax.random.key(0))
    return Program(_sharded(_FITS["optimum"], mesh), (shared, Tasks(classes, groups, split, split)))
