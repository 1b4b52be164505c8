"""How many workers ``-n auto`` starts: as many as cores and memory allow, and at least one."""

import os

import pytest

from tests import conftest

GIB = 2**30


def machine(root, total, limit="max", used=0):
    """The files in which Linux says how much memory there is."""
    for name, text in (
        ("proc/meminfo", f"MemTotal: 1 kB\nMemAvailable: {total // 1024} kB\n"),
        ("sys/fs/cgroup/memory.current", f"{used}\n"),
        ("sys/fs/cgroup/memory.max", f"{limit}\n"),
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return conftest.memory(root)


def test_memory_is_that_of_the_machine_or_of_its_container(tmp_path):
    assert machine(tmp_path, 8 * GIB) == 8 * GIB
    assert machine(tmp_path, 8 * GIB, 4 * GIB, GIB) == 3 * GIB
    assert conftest.memory(tmp_path / "elsewhere") == float("inf")


@pytest.mark.parametrize(
    ("cores", "gib", "workers"), [(1, 64, 1), (16, 2, 1), (16, 16, 10), (2, 64, 2), (4, 0.5, 1)]
)
def test_workers(cores, gib, workers, monkeypatch):
    monkeypatch.setattr(conftest, "memory", lambda: gib * GIB)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
    assert conftest.pytest_xdist_auto_num_workers(None) == workers
