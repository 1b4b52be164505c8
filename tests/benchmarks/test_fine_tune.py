"""Fine-tuning timed from the command line."""

import csv

import numpy as np
import pytest

from benchmarks import fine_tune
from benchmarks.__main__ import main


@pytest.mark.slow
def test_a_row_for_each_way_to_fine_tune(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(fine_tune, "SHOTS", 5)  # a step an epoch
    monkeypatch.setenv("LEEPJAX_BENCHMARK_THREADS", "1")  # do not start again
    arguments = ["--tasks", "2", "--epochs", "1", "--repeats", "1", "--strategies", "loop"]
    main(["fine_tune", *arguments, "--no-peers", "--output-dir", str(tmp_path / "run")])
    with open(tmp_path / "run" / "benchmark.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["by"] == "leepjax loop"
    rate = 2 * 25 / float(row["seconds"])  # two tasks of 25 images
    assert float(row["images_per_second"]) == pytest.approx(rate)
    assert float(row["loss"]) == pytest.approx(np.log(5), abs=1e-4)  # before the only step
    markdown = (tmp_path / "run" / "benchmark.md").read_text()
    assert "2 tasks of 5 x 5 images of 32 x 32, ResNet20, 1 epoch(s) in batches of 25" in markdown
    assert "| leepjax loop |" in markdown
    assert "/ PyTorch: times the rate of its fastest" in capsys.readouterr().out
