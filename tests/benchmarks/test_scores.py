"""Scores timed from the command line, and that the baselines compute the same scores."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import roofline
from benchmarks.__main__ import BENCHMARKS, main
from benchmarks.peers import numpy_scores, sklearn_scores
from benchmarks.score_calls import SIZES, contenders, make_data
from benchmarks.timing import interleaved

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_a_row_for_each_score_in_both_tables(tmp_path):
    """In a process of its own: the program starts itself again on so many cores."""
    command = [sys.executable, "-m", "benchmarks", "scores", "--no-peers", "--memory"]
    command += ["--size", "small", "--repeats", "1", "--metrics", "leep"]
    ran = subprocess.run(
        [*command, "--output-dir", str(tmp_path / "run")],
        cwd=ROOT,
        env={k: v for k, v in os.environ.items() if k != "LEEPJAX_BENCHMARK_THREADS"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    with open(tmp_path / "run" / "benchmark.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["score"], row["by"]) == ("leep", "leepjax")
    assert float(row["seconds"]) > 0
    assert float(row["roof"]) > 0
    assert float(row["memory"]) >= 0
    markdown = (tmp_path / "run" / "benchmark.md").read_text()
    assert "n = 2,000, s = 100, d = 64, c = 10" in markdown
    assert "1 thread(s), median of 1; copy JAX" in markdown
    assert "| leep | leepjax |" in markdown
    assert "% of a copy" in ran.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("scores", "--metrics", "leap"), "--metrics: wanted names among leep"),
        (("scores", "--repeats", "0"), "--repeats: wanted at least 1, got 0"),
        (("fine_tune", "--tasks", "0"), "--tasks: wanted at least 1, got 0"),
        (("scores", "--threads", "9999"), "--threads: wanted 1 to"),
        (("score",), "NAME: wanted one of scores, heads"),
    ],
)
def test_bad_input_is_one_line(arguments, message):
    with pytest.raises(SystemExit, match=f"error: {message}"):
        main(arguments)


def test_help_lists_every_benchmark(capsys):
    main(["--help"])
    shown = capsys.readouterr().out
    assert {name for name in BENCHMARKS if f"  {name} " not in shown} == set()


@pytest.fixture(scope="module")
def data():
    return make_data("small")


@pytest.mark.parametrize(
    ("metric", "peers"),
    [
        pytest.param(metric, peers, id=f"{metric}-{peers.NAME}")
        for peers in (numpy_scores, sklearn_scores)
        for metric in sorted(peers.PEERS)
    ],
)
def test_baselines_agree(metric, peers, data):
    timings, errors = interleaved(contenders(metric, data, [peers]), repeats=1)
    assert not errors
    assert timings[peers.NAME].value == pytest.approx(timings["leepjax"].value, rel=2e-4, abs=1e-4)


def test_what_raises_is_left_out():
    def fails():
        raise MemoryError("too much")

    timings, errors = interleaved({"good": lambda: np.float32(1), "bad": fails}, repeats=2)
    assert errors == {"bad": "MemoryError: too much"}
    assert len(timings["good"].wall) == 2
    assert timings["good"].value == 1


def test_the_higher_roof_counts():
    machine = roofline.Machine({"JAX": 10.0, "NumPy": 5.0}, {"JAX": 1.0, "NumPy": 100.0})
    assert machine.seconds(roofline.Work(bytes=100, flops=100)) == 10
    assert machine.seconds(roofline.Work(bytes=100, flops=2000)) == 20


def test_scores_together_share_one_gram():
    n, s, d, c = SIZES["large"]
    count = {
        names: roofline.work(list(names), n=n, s=s, d=d, c=c)
        for names in (("h_score",), ("lfc",), ("h_score", "lfc"))
    }
    assert count["h_score", "lfc"].bytes == count["lfc",].bytes == 4 * n * d
    assert count["h_score", "lfc"].flops < count["h_score",].flops + count["lfc",].flops / 2
