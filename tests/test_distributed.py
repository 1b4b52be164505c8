"""Several processes of JAX on this machine, over gloo: as one process, or a clear end."""

import os
import re
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from leepjax import distributed
from tests.distributed_checks import CHECKS


def start(count, folder, *names, wait=True, only=None):
    """So many processes, or the first of them, that run the checks of these names.

    Their exit codes and what they said, or, without waiting, the processes and their logs.
    """
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    running = []
    for me in range(only or count):
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
        said = "\n".join(line for line in text.splitlines() if "[Gloo]" not in line)
        assert code == 0, f"process {number}: {said[:2000]} ... {said[-2000:]}"


@pytest.mark.slow
def test_two_processes_equal_one(tmp_path):
    check(start(2, tmp_path, *CHECKS))


@pytest.mark.slow
def test_four_processes_equal_one(tmp_path):
    check(start(4, tmp_path, *CHECKS))


def ended(running, within):
    """Exit codes and texts of processes that end by themselves, all soon after the first."""
    first = time.monotonic() + 300
    while all(process.poll() is None for process, _ in running) and time.monotonic() < first:
        time.sleep(0.1)
    return finish(running, within)


SOON = 60  # seconds: the configured 10 or 20, and what a busy machine needs to notice


@pytest.mark.slow
def test_one_of_four_killed_ends_all_and_a_rerun_resumes(tmp_path):
    results = ended(start(4, tmp_path, "killed", wait=False), SOON)
    assert results[1][0] == -signal.SIGKILL
    for number in (0, 2, 3):
        code, text = results[number]
        assert code != 0
        assert re.search(r"another task died|cannot be reached, or has ended", text), text[-2000:]
    kept = (tmp_path / "table.jsonl").read_text()
    assert len(kept.splitlines()) == 1 + 4  # the first wave
    check(start(4, tmp_path, "none"))
    assert (tmp_path / "table.jsonl").read_text().startswith(kept)
    (tmp_path / "alone").mkdir()
    check(start(1, tmp_path / "alone", "none"))
    one = np.load(tmp_path / "alone/table-0.npy")
    for number in range(4):
        np.testing.assert_allclose(np.load(tmp_path / f"table-{number}.npy"), one, rtol=1e-4)


@pytest.mark.slow
def test_one_of_four_stuck_in_its_share(tmp_path):
    results = ended(start(4, tmp_path, "stuck", wait=False), SOON)
    assert all(code != 0 for code, _ in results)
    waited = "fine_tune: process 0 waited 20 s for process 1 of 4, which is stuck or far behind"
    assert waited in results[0][1]


@pytest.mark.slow
def test_one_of_two_stuck_in_a_step(tmp_path):
    results = ended(start(2, tmp_path, "stuck_in_step", wait=False), SOON)
    assert results[0][0] == 1
    line = "error: meta-train protonet: process 0 of 2 waited 20 s for the others, one of which is"
    assert line in results[0][1]
    assert results[1][0] != 0


@pytest.mark.slow
def test_one_that_is_late(tmp_path):
    check(start(2, tmp_path, "late"))


def test_one_that_never_comes(tmp_path):
    ((code, text),) = start(2, tmp_path, "absent", only=1)
    assert code == 1
    assert "error: distributed: wanted 2 processes, not all came in 10 s" in text


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
