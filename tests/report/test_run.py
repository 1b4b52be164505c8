"""Run directories: kept, continued, refused, never half-written."""

import csv
import dataclasses
import json
from contextlib import suppress
from pathlib import Path

import pytest

from leepjax._text import write_table
from leepjax.report import open_run, read_table


@dataclasses.dataclass(frozen=True)
class Config:
    steps: int = 3
    weights: Path | None = None
    output_dir: Path | None = None


def finished(path, steps=3, **options):
    with open_run("test", Config(steps), output_dir=path, **options) as run:
        run.write_table("results", [{"a": 1, "b": "x, y"}, {"a": 2, "b": ""}])
        run.log(event="written")
    return run


def test_a_run_says_what_it_was_and_what_came_out(tmp_path):
    run = finished(tmp_path / "run")
    record = json.loads((run.final / "config.json").read_text())
    assert record["config"]["steps"] == 3
    assert {"jax", "flax", "leepjax", "python"} <= record["versions"].keys()
    assert record["devices"]
    assert read_table(run.final / "results.csv") == [{"a": "1", "b": "x, y"}, {"a": "2", "b": ""}]
    assert json.loads((run.final / "metrics.jsonl").read_text())["event"] == "written"
    with open_run("test", Config(), output_dir=run.final) as again:
        assert again.finished


def test_the_default_directory_is_keyed_by_the_configuration(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    paths = [finished(None, steps, overwrite=True).final for steps in (3, 4, 3)]
    assert paths[0] == paths[2] != paths[1]
    assert paths[0].parent == tmp_path / "runs" / "test"


def test_another_configuration_is_refused_saying_what_differs(tmp_path):
    finished(tmp_path)
    with (
        pytest.raises(ValueError, match=r"steps: there 3, asked for 4.*--overwrite"),
        open_run("test", Config(4), output_dir=tmp_path),
    ):
        pass
    assert read_table(tmp_path / "results.csv")


def test_overwrite_starts_anew_and_gives_back_what_it_could_not_replace(tmp_path):
    path = tmp_path / "run"
    finished(path)
    with (
        pytest.raises(ValueError, match="bad input"),
        open_run("test", Config(4), output_dir=path, overwrite=True),
    ):
        raise ValueError("bad input")
    assert len(read_table(path / "results.csv")) == 2
    finished(path, steps=4, overwrite=True)
    assert json.loads((path / "config.json").read_text())["config"]["steps"] == 4
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("there", [False, True])
def test_an_exception_leaves_everything_as_it_was(error, there, tmp_path):
    if there:
        (tmp_path / "mine").mkdir()
    with pytest.raises(error), open_run("test", Config(), output_dir=tmp_path / "mine"):
        raise error
    assert [p.name for p in tmp_path.iterdir()] == ["mine"] * there


def test_what_a_killed_run_left_is_cleared(tmp_path):
    (tmp_path / ".run.partial").mkdir()
    (tmp_path / ".run.partial" / "metrics.jsonl").touch()
    finished(tmp_path / "run")
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize("inside", ["file", "file/deeper"])
def test_a_directory_that_cannot_be_written(tmp_path, inside):
    (tmp_path / "file").touch()
    with (
        pytest.raises(ValueError, match=r"output_dir: .*file"),
        open_run("test", Config(), output_dir=tmp_path / inside),
    ):
        pass


@pytest.mark.parametrize(
    ("name", "content"), [("thesis.tex", ""), ("config.json", '{"model_type": "bert"}')]
)
def test_a_directory_with_other_things_is_left_alone(name, content, tmp_path):
    (tmp_path / name).write_text(content)
    for overwrite in (False, True):
        with (
            pytest.raises(ValueError, match="output_dir: wanted an empty directory or one of an"),
            open_run("test", Config(), output_dir=tmp_path, overwrite=overwrite),
        ):
            pass
    assert (tmp_path / name).read_text() == content


def test_other_content_of_a_file_is_another_configuration(tmp_path):
    weights = tmp_path / "weights"
    for content in ("old", "new"):
        weights.write_text(content)
        config = Config(weights=weights)
        if content == "old":
            with open_run("test", config, output_dir=tmp_path / "run"):
                pass
    with (
        pytest.raises(ValueError, match="weights: there 'weights "),
        open_run("test", config, output_dir=tmp_path / "run"),
    ):
        pass


def interrupt(path):
    with suppress(KeyboardInterrupt), open_run("test", Config(), output_dir=path) as run:
        with open(run.path / "a.journal", "a") as file:
            file.write("line\n")
        raise KeyboardInterrupt


def test_an_interrupted_run_with_a_journal_goes_on(tmp_path):
    path, partial = tmp_path / "run", tmp_path / ".run.partial"
    for _ in range(2):
        interrupt(path)
    assert (partial / "a.journal").read_text() == "line\n" * 2
    refused = pytest.raises(ValueError, match=r"steps: there 3, asked for 4")
    with refused, open_run("test", Config(4), output_dir=path):
        pass
    assert (partial / "a.journal").exists()
    with open_run("test", Config(), output_dir=path) as run:
        assert not run.finished
    assert sorted(p.name for p in path.iterdir()) == ["a.journal", "config.json", "files.json"]
    assert not partial.exists()


def test_overwrite_forgets_what_another_configuration_began(tmp_path):
    path = tmp_path / "run"
    interrupt(path)
    finished(path, steps=4, overwrite=True)
    assert not (path / "a.journal").exists()
    assert json.loads((path / "config.json").read_text())["config"]["steps"] == 4


def test_two_processes_do_not_write_one_run(tmp_path):
    path = tmp_path / "run"
    with open_run("test", Config(), output_dir=path) as run:
        with (
            pytest.raises(ValueError, match=r"output_dir: .*another process is using it"),
            open_run("test", Config(), output_dir=path),
        ):
            pass
        run.write_table("results", [{"a": 1}])
    assert read_table(path / "results.csv") == [{"a": "1"}]


NAMES = [
    "=1+1",
    "+x",
    "-y",
    "@z",
    "\t=a",
    "\n=a",
    "\uff1d1+1",
    "'=quoted",
    "'",
    "-1.5",
    "[bold]b",
    'a, "b"',
    "<i>c",
    "é",
]


@pytest.mark.parametrize("name", NAMES)
def test_names_that_a_spreadsheet_would_execute_are_written_as_text(tmp_path, name):
    write_table(tmp_path / "t.csv", [{"source": name, name: -2.5}])
    with open(tmp_path / "t.csv", newline="", encoding="utf-8") as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    executed = [c for c in cells if c[0] in "=+-@\t\n\uff1d" and c not in ("-1.5", "-2.5")]
    assert executed == []
    assert read_table(tmp_path / "t.csv") == [{"source": name, name: "-2.5"}]
