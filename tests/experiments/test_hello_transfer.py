"""The study that CONTRIBUTING shows as the smallest one."""

import importlib.util
import sys
from pathlib import Path

import pytest

PATH = Path(__file__).parents[2] / "docs/examples/hello_transfer.py"


@pytest.fixture(scope="module")
def main():
    spec = importlib.util.spec_from_file_location("hello_transfer", PATH)
    module = sys.modules["hello_transfer"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module.main
    del sys.modules["hello_transfer"]


def test_it_runs_and_shows_itself_again(main, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("LEEPJAX_CACHE", str(tmp_path / "cache"))
    arguments = ["--preset", "smoke", "--output-dir", str(tmp_path / "run")]
    main(arguments)
    shown = capsys.readouterr().out
    assert "digits: 20 tasks" in shown
    assert "leep" in shown
    assert "* null" not in shown  # it has none
    main(arguments)
    assert capsys.readouterr().out == shown


@pytest.mark.parametrize("flag", ["--num-tasks", "--shots"])
def test_bad_flags_are_one_line(main, flag, tmp_path, monkeypatch):
    monkeypatch.setenv("LEEPJAX_CACHE", str(tmp_path / "cache"))
    with pytest.raises(SystemExit, match=f"error: {flag}: .*wanted at least"):
        main([flag, "0", "--output-dir", str(tmp_path / "run")])
    assert not (tmp_path / "run").exists()
