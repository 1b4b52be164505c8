"""All benchmarks of speed by one command."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks import all as bench

ROOT = Path(__file__).parents[2]


@pytest.mark.slow  # four programs
def test_everything_runs_and_is_in_one_file(tmp_path):
    command = [sys.executable, "-m", "benchmarks", "all", "--preset", "smoke", "--no-peers"]
    ran = subprocess.run(
        [*command, "--output-dir", str(tmp_path / "run")],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    text = (tmp_path / "run" / "all.md").read_text()
    for part in bench.FULL:
        assert f"## {part}\n\n`-m benchmarks {part} " in text
        assert list((tmp_path / "run" / part).glob("*.csv")), part
    assert "| leep | leepjax |" in text
    assert "of a copy" in text


def test_a_part_that_fails_is_named_and_the_others_are_written(tmp_path, monkeypatch):
    def command_of(part, config, backend, folder):
        write = f"import os; os.makedirs({str(folder)!r}); open({str(folder / 't.md')!r}, 'w')"
        run = "raise SystemExit(3)" if part == "meta" else f"{write}.write('table of {part}')"
        return [sys.executable, "-c", run, "--output-dir", str(folder)]

    monkeypatch.setattr(bench, "command_of", command_of)
    config = bench.Config(parts=("scores", "meta", "compile"), output_dir=tmp_path / "run")
    with pytest.raises(ValueError, match=r"^meta: wanted exit status 0"):
        bench.run(config, Console())
    text = (tmp_path / "run" / "all.md").read_text()
    assert "table of scores" in text
    assert "failed, exit status 3" in text
    assert "table of compile" in text


def test_a_cpu_does_not_train_several_networks_at_once(tmp_path):
    config = bench.Config(threads=2, peers=False)
    command = bench.command_of("meta", config, "cpu", tmp_path)
    assert command[3:] == [
        *("meta", "--strategies", "loop", "--threads", "2", "--no-peers"),
        *("--output-dir", str(tmp_path)),
    ]
    assert "--strategies" not in bench.command_of("meta", config, "gpu", tmp_path)
    assert "--threads" not in bench.command_of("compile", config, "gpu", tmp_path)


def test_an_unknown_part():
    with pytest.raises(ValueError, match=r"parts: wanted some of scores, .*; got .'speed'."):
        bench.run(bench.Config(parts=("speed",)), Console())
