"""What processes of JAX send each other, and how long they wait: under ``leepjax.distributed``."""

import contextlib
import itertools
import json
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

import jax
import numpy as np
from jax._src import distributed as _jax_distributed  # of public names none has a time limit
from jax.experimental.multihost_utils import process_allgather
from safetensors.numpy import load, save

SMALL = 2**20  # bytes that go through the service of process 0; what is larger, over the devices
BLOCK = 2**26  # bytes of each process at once, over the devices
TIME_LIMIT = 3600.0  # seconds; shares of work are as long as they are


class Settings:
    """Of this process; :func:`leepjax.distributed.initialize` sets the limit."""

    limit = TIME_LIMIT
    numbers = itertools.count()  # of exchanges, the same in every process
    published: ClassVar[list[str]] = []  # keys that this process has to delete


@contextlib.contextmanager
def time_limit(what: str, seconds: float | None = None) -> Iterator[None]:
    """End this process, with one line, if what is inside takes longer: by default as configured.

    Around work with arrays that several processes share: where one of them is stuck, the others
    wait in a collective that nothing else interrupts. The work inside must end with the result on
    the host, or with ``jax.block_until_ready``. In a single process it does nothing.
    """
    if jax.process_count() == 1:
        yield
        return
    seconds = Settings.limit if seconds is None else seconds
    with end_after(
        seconds,
        f"{what}: process {jax.process_index()} of {jax.process_count()} waited {seconds:g} s for "
        "the others, one of which is stuck; what is finished is kept: run it again",
    ):
        yield


@contextlib.contextmanager
def end_after(seconds: float, said: str) -> Iterator[None]:
    """End this process with a line, from a thread: what waits in C++ hears of no exception."""

    def end() -> None:
        print(f"error: {said}", file=sys.stderr, flush=True)
        os._exit(1)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def exchange(what: str, compute: Callable[[], Any], senders: Sequence[int]) -> list[Any]:
    """What some processes compute, in all: published under their number, read by everyone."""
    me, number = jax.process_index(), next(Settings.numbers)
    client: Any = _jax_distributed.global_state.client
    error, value = None, None
    try:
        value = compute()
        leaves = [np.asarray(x, order="C") for x in jax.tree.leaves(value)]
        payload = save({str(i): x for i, x in enumerate(leaves)})
    except Exception as caught:
        error, payload = caught, b""
    mine = f"leepjax/{number}/{me}"
    if me in senders:
        head = {"what": what, "size": len(payload), "error": error and line(error)}
        client.key_value_set_bytes(f"{mine}/payload", payload if len(payload) <= SMALL else b"")
        client.key_value_set(mine, json.dumps(head))
    if error is not None:
        raise error
    heads = []
    for sender in senders:
        get = client.blocking_key_value_get
        head = json.loads(_read(what, sender, get, f"leepjax/{number}/{sender}"))
        if head["what"] != what:
            got = f"process {me} is at {what!r}, process {sender} at {head['what']!r}"
            raise RuntimeError(f"distributed: wanted one call in all processes, but {got}")
        if head["error"] is not None:
            raise RuntimeError(f"{what}: process {sender} failed: {head['error']}")
        heads.append(head)
    largest = max(head["size"] for head in heads)
    if largest > SMALL:
        with time_limit(what):
            payloads = _collect(payload if me in senders else b"", largest)
    else:
        get = client.blocking_key_value_get_bytes
        payloads = {s: _read(what, s, get, f"leepjax/{number}/{s}/payload") for s in senders}
    received = []
    for sender, head in zip(senders, heads, strict=True):
        arrays = load(payloads[sender][: head["size"]])
        leaves = [arrays[str(i)] for i in range(len(arrays))]
        received.append(jax.tree.unflatten(jax.tree.structure(value), leaves))
    if len(senders) == jax.process_count():  # all are here, so all have read what came before
        for key in Settings.published:
            client.key_value_delete(key)
        Settings.published = []
    if me in senders:
        Settings.published += [mine, f"{mine}/payload"]
    return received


def _collect(payload: bytes, largest: int) -> list[bytes]:
    """The payloads of all processes, each padded to the largest, over the devices in blocks."""
    whole = np.frombuffer(payload.ljust(largest, b"\0"), np.uint8)
    blocks = [
        np.reshape(process_allgather(whole[i : i + BLOCK]), (jax.process_count(), -1))
        for i in range(0, largest, BLOCK)
    ]
    return [bytes(row) for row in np.concatenate(blocks, 1)]


def _read(what: str, sender: int, get: Callable[[str, int], Any], key: str) -> Any:
    try:
        return get(key, int(1000 * Settings.limit))
    except RuntimeError as error:
        got = line(error)
        if "DEADLINE" in got:
            me, count = jax.process_index(), jax.process_count()
            raise TimeoutError(
                f"{what}: process {me} waited {Settings.limit:g} s for process {sender} of "
                f"{count}, which is stuck or far behind; what is finished is kept: run it again, "
                "with a larger time_limit if it was only slow"
            ) from None
        raise RuntimeError(
            f"{what}: process {sender} cannot be reached, or has ended: {got}"
        ) from None


def line(error: Exception) -> str:
    """An error as one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
