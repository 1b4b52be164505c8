"""Pieces of work here and on a Ray cluster: what dies is run again, the results are the same."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import leepjax
from benchmarks.cluster import Config, interrupted, lines, two_nodes, work, write_sources
from leepjax import cluster
from leepjax.__main__ import main
from leepjax._store import pack, unpack
from leepjax.cluster import Failed, WorkerDied, connect, run_all, run_pieces
from leepjax.ranking import _pieces

needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="Ray is not installed: leepjax[ray]"
)


def square(x: int) -> int:
    if x == 3:
        raise ValueError("x: wanted another, got 3")
    if x == 5:
        os.kill(os.getpid(), signal.SIGKILL)  # on a worker alone
    return x * x


def dies_once(marker: Path, x: int) -> int:
    if x == 5 and not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return x


# ------------------------------------------------------------------------- without any cluster


def test_pieces_run_here_in_their_order_and_the_others_go_on():
    found = list(run_pieces(square, [2, 3, 4]))
    assert [i for i, _ in found] == [0, 1, 2]
    assert [result for _, result in found[::2]] == [4, 16]
    assert isinstance(found[1][1], Failed)
    with pytest.raises(ValueError, match="wanted another, got 3"):
        list(run_all(square, [2, 3, 4], cluster=None, what="squares"))


def test_ray_is_imported_where_a_cluster_is_asked_for_alone(tmp_path):
    code = (
        "import sys, leepjax, experiments.transfer_accuracy, leepjax.__main__\n"
        f"leepjax.rank({[str(p) for p in write_sources(tmp_path, 2)]}, metrics=(), nulls=())\n"
        "assert 'ray' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_ray_one_line_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    paths = [str(p) for p in write_sources(tmp_path, 2)]
    said = "^error: cluster: it needs Ray: pip install 'leepjax\\[ray\\]'$"
    with pytest.raises(SystemExit, match=said):
        main(["rank", *paths, "--cluster", "local:2"])


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("local:0", "wanted local:N with N >= 1, got 'local:0'"),
        ("local", "wanted local:N with N >= 1, got 'local'"),
        ("somewhere", "wanted auto, local:N or HOST:PORT, got 'somewhere'"),
        ("127.0.0.1:1", "nothing answers at 127.0.0.1:1"),
    ],
)
@needs_ray
def test_an_address_that_is_none_or_does_not_answer(address, said):
    with pytest.raises(ValueError, match=f"^cluster: {said}"), connect(address):
        pass


def test_arrays_survive_a_journal_to_the_last_digit():
    for dtype in ("f4", "f8"):
        x = np.random.default_rng(0).normal(size=99).astype(dtype)
        back = unpack(json.loads(json.dumps(pack(x))))
        assert back.dtype == x.dtype
        np.testing.assert_array_equal(back, x)


# ---------------------------------------------------------------------- a ranking with a journal


@pytest.fixture
def sources(tmp_path):
    return write_sources(tmp_path, 5)


def scored(monkeypatch):
    """Which sources are scored from now on."""
    names, score_one = [], _pieces.score_one

    def counted(judged, source):
        names.append(Path(source).stem)
        return score_one(judged, source)

    monkeypatch.setattr(_pieces, "score_one", counted)
    return names


def table(ranking):
    """All that is shown but seconds, and when it was made."""
    shown = ranking.to_dict()
    for part in (shown, *shown["sources"]):
        for seconds in ("elapsed", "made", "took"):
            part.pop(seconds, None)
    return shown


def test_a_second_run_scores_nothing_and_a_further_source_alone(sources, tmp_path, monkeypatch):
    journal, alone = tmp_path / "rank.journal", table(leepjax.rank(sources))
    names = scored(monkeypatch)
    assert leepjax.rank(sources[:4], journal=journal).names == tuple(p.stem for p in sources[:4])
    names.clear()
    assert table(leepjax.rank(sources, journal=journal)) == alone
    assert names == ["source4"]
    names.clear()
    again = leepjax.rank({"other": sources[3], "s": sources[0]}, journal=journal)
    assert (names, again.names) == ([], ("other", "s"))  # by content, whatever its name


def test_what_determines_the_scores_is_in_the_key(sources, tmp_path, monkeypatch):
    journal = tmp_path / "rank.journal"
    labels = np.load(sources[0])["labels"]
    bare = {"a": {"features": np.load(sources[0])["features"]}}
    names = []
    monkeypatch.setattr(_pieces, "score_one", partial(_counted, names, _pieces.score_one))
    calls = [
        lambda: leepjax.rank(bare, labels, journal=journal),
        lambda: leepjax.rank(bare, labels[::-1], journal=journal),
        lambda: leepjax.rank(bare, labels, journal=journal, max_samples=50),
        lambda: leepjax.rank(bare, labels, journal=journal, seed=1, max_samples=50),
        lambda: leepjax.rank(bare, labels, journal=journal, metrics=("nce", "h_score")),
        lambda: leepjax.rank(
            {"a": {"features": 2 * bare["a"]["features"]}}, labels, journal=journal
        ),
    ]
    for number, call in enumerate(calls, 1):
        call()
        assert len(names) == number
    for call in calls:
        call()
    assert len(names) == len(calls)


def _counted(names, score_one, judged, source):
    names.append(source)
    return score_one(judged, source)


def test_a_source_that_failed_is_tried_again(sources, tmp_path):
    journal = tmp_path / "rank.journal"
    absent = tmp_path / "absent.npz"
    (failure,) = leepjax.rank([*sources, absent], journal=journal).failures
    assert failure == ("absent", (), "cannot be read (No such file or directory)")
    write_sources(tmp_path, 6)[5].rename(absent)
    assert leepjax.rank([*sources, absent], journal=journal).failures == ()


def test_a_journal_of_other_things_is_refused(sources, tmp_path):
    other = tmp_path / "other.journal"
    other.write_text('{"identity": {"learner": "fine_tune"}}\n')
    with pytest.raises(ValueError, match=r"^journal: .*holds results of another configuration"):
        leepjax.rank(sources, journal=other)


# --------------------------------------------------------------------------------- on a cluster


@pytest.fixture(scope="module")
def address():
    pytest.importorskip("ray", reason="Ray is not installed: leepjax[ray]")
    with two_nodes() as nodes, connect(nodes.address):
        yield nodes.address


def test_what_dies_is_run_again_and_what_fails_everywhere_is_named(address, tmp_path):
    found = dict(run_pieces(square, range(8), cluster=address))
    assert sorted(found) == list(range(8))
    assert repr(found[3].error) == "ValueError('x: wanted another, got 3')"
    assert isinstance(found[5].error, WorkerDied)
    assert str(found[5].error) == "its worker died 4 times (WorkerCrashedError)"
    assert [found[i] for i in (0, 1, 2, 4, 6, 7)] == [0, 1, 4, 16, 36, 49]
    once = dict(run_pieces(partial(dies_once, tmp_path / "dead"), range(8), cluster=address))
    assert once == {i: i for i in range(8)}
    assert (tmp_path / "dead").exists()
    with pytest.raises(
        ValueError, match=r"^squares: 1 of 3 parts failed and the others are done; "
    ):
        list(run_all(square, [2, 3, 4], cluster=address, what="squares"))


def test_what_cannot_be_sent_is_named(address):
    lock = __import__("threading").Lock()
    found = dict(run_pieces(str, [1, lock], cluster=address))
    assert found[0] == "1"
    assert "cannot be sent to a worker" in str(found[1].error)
    with pytest.raises(ValueError, match=r"^cluster: the work cannot be sent: "):
        list(run_pieces(partial(max, lock), [1], cluster=address))


def test_workers_of_another_version_are_refused(address, monkeypatch):
    other = cluster.versions() | {"leepjax": "0.0.9"}
    monkeypatch.setattr(cluster, "versions", lambda: other)
    said = (
        r"^cluster: wanted the same versions on .* as here: leepjax \S+ \(\w+\) there, 0.0.9 here$"
    )
    with pytest.raises(ValueError, match=said):
        list(run_pieces(square, range(4), cluster=address))


def test_a_path_that_a_worker_cannot_see(address, sources, monkeypatch):
    monkeypatch.chdir(sources[0].parent)
    unseen = "/proc/self/cwd/source0.npz"  # here it is; a worker is in another folder
    found = leepjax.rank([*sources[1:], unseen], cluster=address)
    (failure,) = found.failures
    assert failure.reason == (
        "cannot be read (No such file or directory); it is on this machine: a worker has to see it "
        "too, as on a shared file system"
    )
    assert len(found.names) == 4


def test_relative_paths_and_arrays_in_memory(address, sources, monkeypatch):
    monkeypatch.chdir(sources[0].parent)
    alone = table(leepjax.rank(sources))
    assert table(leepjax.rank([p.name for p in sources], cluster=address)) == alone
    held = {p.stem: dict(np.load(p)) for p in sources}
    assert table(leepjax.rank(held, cluster=address)) == alone


@needs_ray
@pytest.mark.slow
@pytest.mark.parametrize(("what", "count"), [("sources", 200), ("tasks", 20), ("meta", 100)])
def test_everything_killed_once_gives_the_result_of_one_process(what, count, tmp_path):
    config, journal = Config(what, count), tmp_path / "work.journal"
    alone = work(config, tmp_path, None, None)
    divided, done = interrupted(config, tmp_path, journal)
    assert divided == alone
    assert {*done} == {"worker", "node", "driver"}
    assert lines(journal) >= done["driver"] > 0


def _sleeps(x: int) -> int:
    import time

    time.sleep(20)
    return x


@needs_ray
@pytest.mark.slow
def test_a_worker_without_memory_is_named_and_the_others_go_on(monkeypatch):
    monkeypatch.setenv("RAY_memory_usage_threshold", "0.01")  # of the machine: it is used
    monkeypatch.setenv("RAY_memory_monitor_refresh_ms", "50")
    found = dict(run_pieces(_sleeps, [1], cluster="local:1"))
    assert isinstance(found[0].error, MemoryError)
    assert str(found[0].error).startswith("its node ran out of memory 4 times; run fewer pieces")
