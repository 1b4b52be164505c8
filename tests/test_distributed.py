"""Several processes of JAX on this machine, over gloo: as one process, or a clear end."""

import os
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from leepjax import distributed
from tests.distributed_checks import CHECKS


def start(count, folder, *names, wait=True):
    """So many processes that run the checks of these names; their exit codes and what they said."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    running = []
    for me in range(count):
        command = [sys.executable, "-m", "tests.distributed_checks", port, count, me, folder]
        log = open(folder / f"log-{me}", "w+")  # noqa: SIM115 (read when the process has ended)
        environment = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": os.environ["XLA_FLAGS"]}
        process = subprocess.Popen(
            [*map(str, command), *names], stdout=log, stderr=log, env=environment
        )
        running.append((process, log))
    return finish(running) if wait else running


def finish(running, timeout=500):
    results = []
    try:
        for process, log in running:
            process.wait(timeout)
            log.seek(0)
            results.append((process.returncode, log.read()))
    finally:
        for process, log in running:
            process.kill()
            log.close()
    return results


def check(results):
    for number, (code, text) in enumerate(results):
        assert code == 0, f"process {number}: {text[-3000:]}"


def test_two_processes_equal_one(tmp_path):
    check(start(2, tmp_path, *CHECKS))


@pytest.mark.slow
def test_four_processes_equal_one(tmp_path):
    check(start(4, tmp_path, *CHECKS))


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"coordinator": "nowhere"}, ValueError, "coordinator: wanted HOST:PORT, got 'nowhere'"),
        ({"time_limit": 0}, ValueError, "time_limit: wanted seconds, at least 1, got 0"),
        (
            {"coordinator": "localhost:1", "num_processes": 2, "process_id": 1},
            TimeoutError,
            "coordinator: wanted process 0 at localhost:1, got no answer in 1 s",
        ),
        (
            {"coordinator": "localhost:1", "num_processes": 2, "process_id": 2},
            ValueError,
            "process_id: wanted 0 to 1, got 2",
        ),
    ],
)
def test_bad_input(options, kind, message):
    begin = time.monotonic()
    with pytest.raises(kind, match=message):
        distributed.initialize(**{"connect_timeout": 1, **options})
    assert time.monotonic() - begin < 30


def test_one_process_alone():
    assert distributed.is_main()
    assert distributed.gather("x", lambda: {"a": 1.0}) == [{"a": 1.0}]
    assert distributed.from_main("x", lambda: 2, 0) == 2
    distributed.check_same("x", a=np.ones(3))
    with distributed.time_limit("x", 0.0):
        time.sleep(0.01)
    part = distributed.part_of(None)
    assert not part.joint
    assert part.rows(3).tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match="devices: wanted at least one"):
        distributed.part_of([])
