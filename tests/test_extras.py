"""The base is light: what each part needs beyond it is named where it is missing."""

import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from leepjax._extras import EXTRAS, require

PROJECT = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]
HEAVY = {name for modules in EXTRAS.values() for name in modules}

# A process in which nothing but the base is there: other modules are not found.
WITHOUT = f"""
import importlib.abc, importlib.util, sys
class Missing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {HEAVY!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
found = importlib.util.find_spec
def without(name, package=None):
    return None if name.partition(".")[0] in {HEAVY!r} else found(name, package)
importlib.util.find_spec = without
sys.meta_path.insert(0, Missing())
"""


def run(code: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", WITHOUT + code], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("extra", EXTRAS)
def test_extras_are_those_of_the_project(extra):
    wanted = PROJECT["optional-dependencies"][extra]
    names = {re.split(r"[>=\[ ]", line)[0].lower().replace("_", "-") for line in wanted}
    brought = packages_distributions()
    for module in EXTRAS[extra]:
        homes = {home.lower().replace("_", "-") for home in brought[module]}
        assert homes & names, f"{module} comes with {homes}, {extra} has {names}"


def test_base_needs_none_of_them():
    base = {re.split(r"[>=\[ ]", line)[0].lower() for line in PROJECT["dependencies"]}
    assert base == {"jax", "numpy", "scipy", "safetensors", "tqdm", "rich", "tyro"}


def test_what_the_base_does():
    code = """
import numpy as np, leepjax
from leepjax.commands import audit, rank, score
from leepjax import audit, choosing, evaluation, report, tasks
labels = np.arange(30) % 3
features = np.eye(3)[labels] + 0.1 * np.random.default_rng(0).normal(size=(30, 3))
ranking = leepjax.rank({"a": {"features": features}}, labels, metrics=["h_score"], nulls=())
ranking = leepjax.rank(
    {"a": {"features": features, "seconds": 0.1}}, labels, metrics=["h_score"], nulls=()
)
assert ranking.cost and ranking.to_dict() and str(ranking)
print(ranking.names, not {"flax", "optax", "matplotlib"} & {*sys.modules})
"""
    assert run(code).stdout == "('a',) True\n"


@pytest.mark.parametrize(
    ("code", "extra"),
    [
        ("import leepjax.models", "networks"),
        ("import leepjax.transfer", "networks"),
        ("import leepjax.meta", "networks"),
        ("import leepjax.fit", "networks"),
        ("from leepjax.choosing import maximise", "networks"),
        ("from leepjax import load; load('digits')", "data"),
        ("from leepjax import load; load('glyphs')", "data"),
        ("from leepjax import load; load('cifar10')", "data"),
        ("from leepjax.report import draw_levels; draw_levels(None, '', '', [])", "figures"),
    ],
)
def test_a_part_without_its_extra_says_which(code, extra):
    error = run(code).stderr.splitlines()[-1]
    assert error.startswith("ImportError: this part of leepjax needs ")
    assert f'pip install "leepjax[{extra}]"' in error


def test_command_says_it_in_one_line():
    code = """
from leepjax.__main__ import main
main(["rank", "--hub", "some/network", "--data", "digits"])
"""
    error = run(code).stderr.splitlines()
    assert len(error) == 1
    assert error[0].startswith("error: this part of leepjax needs flax")


def test_require_is_quiet_where_all_is_there():
    for extra in EXTRAS:
        require(extra)
