"""Several processes of JAX, on one machine or many: how they begin, share work, and end.

Every process runs the same program. ``initialize()`` first, before anything else of JAX; then one
rule says who does what:

* A call without ``devices``, or with this process's own, is this process's alone.
* A call with devices of all processes, such as ``jax.devices()``, is joint: every process makes it
  with the same arguments, which is checked. Each does its share with its own devices, and all get
  the whole result. Process 0 alone writes journals, caches and checkpoints.

A joint result comes to every process whole, as plain arrays: that suits scores, curves, and
features that fit in a machine's memory. What does not is a stream's (``metrics.streaming``), or
stays spread over all devices (``metrics.sharding.shard_local``).

A process that dies ends the others within ``heartbeat_timeout``: JAX's service sees to it. One that
lives but is stuck is noticed by nobody else, so each wait for others here has a time limit.

Example:
  >>> from leepjax import distributed
  >>> distributed.is_main(), distributed.gather("numbers", lambda: 1.5)
  (True, [array(1.5)])
"""

import inspect
import json
import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax._src import distributed as _jax_distributed  # of public names none has a time limit
from jax.experimental.multihost_utils import process_allgather
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from leepjax._exchange import TIME_LIMIT, Settings, end_after, exchange, line
from leepjax._exchange import time_limit as time_limit
from leepjax._store import Journal, digest


def initialize(
    coordinator: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    *,
    connect_timeout: float = 300,
    heartbeat_timeout: float = 100,
    time_limit: float = TIME_LIMIT,
) -> None:
    """Join this process to the others; before any other use of JAX, whose settings come first.

    What is not given JAX detects: from Slurm, Open MPI, a TPU pod or Kubernetes.

    Args:
      coordinator: ``HOST:PORT`` of process 0, where all can reach it.
      num_processes: how many there are.
      process_id: which this is, from 0 on.
      connect_timeout: seconds to wait for all to come.
      heartbeat_timeout: seconds after which a process that is not heard of counts as dead, and all
        others end.
      time_limit: seconds to wait for the others, each time: for their share of a joint call, for a
        step of shared arrays, and at the end of the program; then this process ends with an error.

    Raises:
      ValueError: an argument is out of its range, or neither given nor detected.
      TimeoutError: the coordinator does not answer. Where not all others come, this process ends
        with a line that says so.
    """
    timeouts = {
        "connect_timeout": connect_timeout,
        "heartbeat_timeout": heartbeat_timeout,
        "time_limit": time_limit,
    }
    for name, value in timeouts.items():
        if value < 1:
            raise ValueError(f"{name}: wanted seconds, at least 1, got {value}")
    if coordinator is not None and not coordinator.rpartition(":")[2].isdecimal():
        raise ValueError(f"coordinator: wanted HOST:PORT, got {coordinator!r}")
    if num_processes is not None and not 0 <= (process_id or 0) < num_processes:
        raise ValueError(f"process_id: wanted 0 to {num_processes - 1}, got {process_id}")
    if coordinator is not None and process_id not in (None, 0):
        _answer(coordinator, connect_timeout)
    options: dict[str, Any] = {
        "initialization_timeout": int(2 * connect_timeout) + 10,  # which ends without a clear line
        "heartbeat_timeout_seconds": int(heartbeat_timeout),
        "shutdown_timeout_seconds": int(time_limit),  # for whoever writes the last result
    }
    known = inspect.signature(jax.distributed.initialize).parameters
    late = f"wanted {num_processes or 'all'} processes, not all came in {connect_timeout:g} s"
    try:
        with end_after(connect_timeout, f"distributed: {late}; are the others running?"):
            jax.distributed.initialize(
                coordinator,
                num_processes,
                process_id,
                **{k: options[k] for k in options if k in known},
            )
            if jax.process_count() > 1:
                # All at once now: gloo gives a first collective 30 s, in which all must have come.
                client: Any = _jax_distributed.global_state.client
                client.wait_at_barrier("leepjax/start", int(2000 * connect_timeout))
                process_allgather(np.zeros(1, np.uint8))  # of processes, then of all devices
                everywhere = NamedSharding(Mesh(np.array(jax.devices()), ("all",)), P("all"))
                ones = jax.make_array_from_callback(
                    (jax.device_count(),), everywhere, lambda _: np.ones(1, np.float32)
                )
                jax.block_until_ready(jax.jit(jnp.sum)(ones))
    except (ValueError, TypeError) as error:
        got = f"{coordinator!r}, {num_processes}, {process_id} ({line(error)})"
        raise ValueError(
            "distributed: wanted coordinator, num_processes and process_id, given or detected, "
            f"got {got}"
        ) from None
    Settings.limit = time_limit


def is_main() -> bool:
    """Whether this is process 0, which alone writes."""
    return jax.process_index() == 0


class Part(NamedTuple):
    """What a process has of a call's devices.

    Attributes:
      devices: its own among them.
      joint: whether all processes have some, and share the work.
    """

    devices: Sequence[Any]
    joint: bool

    def rows(self, n: int) -> np.ndarray:
        """Its share of n rows, one or more and as many as every other's: the last are repeated."""
        if not self.joint:
            return np.arange(n)
        size = -(-n // jax.process_count())
        return np.minimum(jax.process_index() * size + np.arange(size), n - 1)


def part_of(devices: Sequence[Any] | None) -> Part:
    """This process's part of ``devices``; None is its first.

    Raises:
      ValueError: there are none, none of this process's, or only some processes have any.
    """
    if devices is None:
        return Part(jax.local_devices()[:1], False)
    if len(devices) == 0:
        raise ValueError("devices: wanted at least one, got none; leave it out for the first")
    owners, me = {d.process_index for d in devices}, jax.process_index()
    if owners == {me}:
        return Part(devices, False)
    if owners != set(range(jax.process_count())):
        raise ValueError(
            f"devices: wanted those of this process ({me}) alone, or of all "
            f"{jax.process_count()}, got those of {sorted(owners)}"
        )
    return Part([d for d in devices if d.process_index == me], True)


def gather(what: str, compute: Callable[[], Any]) -> list[Any]:
    """What ``compute()`` returns in each process, in their order: trees of arrays, alike in all.

    Where it fails in one process it fails in all: in the others with that process's message.

    Args:
      what: the same in every process; for messages.
      compute: this process's share; it returns a pytree, and the arrays come back as NumPy's.

    Raises:
      RuntimeError: it failed in another process, or that one gathers something else.
      TimeoutError: another process did not come within the time limit.
    """
    if jax.process_count() == 1:
        return [jax.tree.map(np.asarray, compute())]
    return exchange(what, compute, range(jax.process_count()))


def from_main(what: str, compute: Callable[[], Any], like: Any) -> Any:
    """What ``compute()`` returns in process 0, in all; ``like`` is a tree of its structure."""
    if jax.process_count() == 1:
        return jax.tree.map(np.asarray, compute())
    return exchange(what, compute if is_main() else lambda: like, [0])[0]


def gather_plain(what: str, compute: Callable[[], Any]) -> list[Any]:
    """:func:`gather` of plain values, such as JSON has."""
    texts = gather(what, lambda: np.frombuffer(json.dumps(compute()).encode(), np.uint8))
    return [json.loads(bytes(text)) for text in texts]


def check_same(what: str, **parts: Any) -> None:
    """Check that every process calls with the same arguments: by their digests, before work.

    Raises:
      ValueError: one does not; it says which, and of which argument.
    """

    def digests() -> dict[str, str]:
        return {k: digest(*map(_data, jax.tree.leaves(part))) for k, part in parts.items()}

    first, *others = gather_plain(what, digests)
    for number, other in enumerate(others, start=1):
        differs = [name for name in {**first, **other} if first.get(name) != other.get(name)]
        if differs:
            raise ValueError(
                f"{differs[0]}: wanted the same in all {len(others) + 1} processes, got another in "
                f"process {number} than in process 0 ({what})"
            )


def open_journal(
    what: str,
    path: str | os.PathLike[str],
    identity: Mapping[str, Any],
    devices: Sequence[Any] | None,
) -> tuple[Journal | None, list[dict[str, Any]]]:
    """A journal, in a joint call open in process 0 alone; and the rows that it has, in all.

    Raises:
      ValueError: as of :class:`Journal`.
    """
    if not part_of(devices).joint:
        record = Journal(Path(path), identity)
        return record, record.rows
    opened: list[Journal] = []

    def earlier() -> list[dict[str, Any]]:
        if is_main():
            opened.append(Journal(Path(path), identity))
        return opened[0].rows if opened else []

    rows = gather_plain(what, earlier)[0]
    return (opened[0], opened[0].rows) if opened else (None, rows)


def _answer(coordinator: str, seconds: float) -> None:
    host, _, port = coordinator.rpartition(":")
    end, reason = time.monotonic() + seconds, "no time"
    while (left := end - time.monotonic()) > 0:
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=left).close()
            return
        except OSError as error:
            reason = error.strerror or str(error)
            time.sleep(min(0.2, left))
    raise TimeoutError(
        f"coordinator: wanted process 0 at {coordinator}, got no answer in {seconds:g} s "
        f"({reason}); is it running, and is the port open?"
    )


def _data(x: Any) -> Any:
    """What a typed key holds; anything else as it is."""
    is_key = isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
    return jax.random.key_data(x) if is_key else x
