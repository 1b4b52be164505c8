"""Notebooks: scripts and their pairs say the same, outputs are there, and all run top to bottom."""

import importlib.metadata
import importlib.util
import json
import re
import subprocess
import sys
import tomllib
from collections import namedtuple
from pathlib import Path

import matplotlib
import pytest

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted((ROOT / "notebooks").glob("[0-9]*.py"))
NAMES = [path.stem for path in SCRIPTS]
BADGE = "https://colab.research.google.com/assets/colab-badge.svg"


def cells_of(script):
    """``(kind, source)`` of the cells of a script in the percent format."""
    _, *parts = re.split(r"^# %%", script.read_text(), flags=re.M)
    for part in parts:
        head, body = part.split("\n", 1)
        body = body.strip("\n")
        if head.strip() == "[markdown]":
            yield "markdown", re.sub(r"^# ?", "", body, flags=re.M)
        else:
            yield "code", body


def notebook_of(script):
    return json.loads(script.with_suffix(".ipynb").read_text())


def code_of(script):
    return [source for kind, source in cells_of(script) if kind == "code"]


def test_there_are_four():
    assert NAMES == [
        "01_leep_in_five_minutes",
        "02_transfer_accuracy_study",
        "03_meta_transfer",
        "04_your_own_model",
    ]


@pytest.mark.parametrize("script", SCRIPTS, ids=NAMES)
def test_pairs_say_the_same(script):
    found = [(c["cell_type"], "".join(c["source"])) for c in notebook_of(script)["cells"]]
    remedy = f"python notebooks/render.py {script.stem}"
    assert found == list(cells_of(script)), f"{script.stem}.ipynb is of another script: {remedy}"


@pytest.mark.parametrize("script", SCRIPTS, ids=NAMES)
def test_outputs_are_committed(script):
    text, notebook = script.with_suffix(".ipynb").read_text(), notebook_of(script)
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    assert len(text) < 400_000
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert all(output["output_type"] != "error" for output in outputs)
    assert all(output.get("name") != "stderr" for output in outputs)
    assert set(notebook["metadata"]) == {"kernelspec", "language_info"}
    assert all(cell["metadata"] == {} for cell in notebook["cells"])


@pytest.mark.parametrize("script", SCRIPTS, ids=NAMES)
def test_outputs_name_no_place_of_a_machine(script):
    for cell in notebook_of(script)["cells"]:
        for output in cell.get("outputs", ()):
            output.get("data", {}).pop("image/png", None)
            found = re.findall(
                r"(?:file://|[A-Z]:\\|/(?:home|root|tmp|usr|opt|work)/)\S*", str(output)
            )
            assert not found


@pytest.mark.parametrize("script", SCRIPTS, ids=NAMES)
def test_the_badge_opens_this_notebook_where_there_is_a_repository(script):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    repository = project.get("urls", {}).get("Repository", "")
    place = repository.replace("https://github.com", "github")
    place += f"/blob/main/notebooks/{script.stem}.ipynb" if repository else ""
    badge = f"[![Open in Colab]({BADGE})](https://colab.research.google.com/{place})"
    assert badge in next(cells_of(script))[1]


def test_the_set_up_is_the_same_in_all():
    assert len({code_of(script)[0] for script in SCRIPTS}) == 1


Version = namedtuple("Version", "major minor micro releaselevel serial")


@pytest.fixture
def set_up(monkeypatch, tmp_path):
    """Run the first cell, outside a checkout."""
    monkeypatch.chdir(tmp_path)
    return lambda: exec(code_of(SCRIPTS[0])[0], {"__name__": "__main__"})


def test_an_old_python_says_what_to_do(set_up, monkeypatch):
    monkeypatch.setattr(sys, "version_info", Version(3, 10, 12, "final", 0))
    with pytest.raises(SystemExit, match=r"3\.11 or newer is wanted, this is 3\.10\.12.*Runtime"):
        set_up()


def test_an_old_jax_says_what_to_do(set_up, monkeypatch):
    versions = {"jax": "0.6.2", "flax": "0.11.2"}
    monkeypatch.setattr(importlib.metadata, "version", versions.__getitem__)
    with pytest.raises(SystemExit, match=r'jax 0\.7\.2 .* this is 0\.6\.2\..*"jax>=0\.7\.2"'):
        set_up()


@pytest.fixture
def pip(monkeypatch):
    """Without leepjax: the commands that would be run, and what they return."""
    find_spec, commands = importlib.util.find_spec, []
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "leepjax" else find_spec(name)
    )
    monkeypatch.setattr(
        importlib.metadata, "version", {"jax": "0.7.2", "flax": "0.12.0.1"}.__getitem__
    )

    def run(command, returncode=0):
        commands.append(command)
        return subprocess.CompletedProcess(command, returncode)

    monkeypatch.setattr(subprocess, "run", run)
    return commands


def test_jax_stays_as_it_is_when_leepjax_is_installed(set_up, pip, capsys):
    set_up()
    command = [sys.executable, "-m", "pip", "install", "--quiet"]
    assert pip == [[*command, "leepjax[all]", "jax==0.7.2", "flax==0.12.0.1"]]
    assert "Python" in capsys.readouterr().out


def test_a_checkout_around_the_notebook_is_what_is_installed(set_up, pip, tmp_path, monkeypatch):
    (tmp_path / "leepjax" / "metrics").mkdir(parents=True)
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    exec(code_of(SCRIPTS[0])[0], {})
    assert pip[0][5] == "..[all]"


def test_a_package_that_cannot_be_installed_says_what_to_do(set_up, pip, monkeypatch):
    failed = subprocess.CompletedProcess([], 1)
    monkeypatch.setattr(subprocess, "run", lambda command: failed)
    with pytest.raises(SystemExit, match=r"pip could not install 'leepjax.all.'.*PACKAGE"):
        set_up()


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS, ids=NAMES)
def test_runs(script, monkeypatch, capsys):
    """In small, without prepared data; outputs are not compared, as sizes are others."""
    monkeypatch.setenv("LEEPJAX_NOTEBOOK_SMALL", "1")
    monkeypatch.setenv("TFDS_DATA_DIR", "nowhere")
    monkeypatch.chdir(script.parent)
    with matplotlib.rc_context({"backend": "agg"}):
        exec(compile("\n\n".join(code_of(script)), str(script), "exec"), {"__name__": "__main__"})
    printed = capsys.readouterr().out
    assert printed.startswith("Python")
    if script.stem.startswith("02"):
        assert "Glyphs alone. name: 'fashion_mnist' is not prepared" in printed
