"""The folders are layers: imports run downwards only."""

import ast
from pathlib import Path

import pytest

import leepjax

LAYERS = ["metrics", "data", "models", "tasks", "transfer", "meta", "evaluation", "report"]
ROOT = Path(leepjax.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))


def imported(file: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return {n.split(".")[1] for n in names if n.startswith("leepjax.") and n.count(".")}


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(ROOT)))
def test_imports_run_downwards(file):
    layer = file.relative_to(ROOT).parts[0]
    if layer not in LAYERS:
        return
    above = LAYERS[LAYERS.index(layer) + 1 :]
    if layer == "tasks":  # tasks know data, not models
        above = [*above, "models"]
    if layer == "meta":  # beside transfer, not above it
        above = [*above, "transfer"]
    if layer == "metrics":  # metrics know nothing else
        above = [*above, "_cache", "_progress"]
    assert not imported(file) & set(above)


@pytest.mark.parametrize("folders", ["experiments benchmarks", "benchmarks experiments"])
def test_experiments_and_benchmarks_stand_apart(folders):
    folder, other = folders.split()
    for file in (Path(__file__).parents[1] / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not [name for name in names if name.split(".")[0] == other], file


def test_public_names_resolve_lazily():
    for name in leepjax.__all__:
        assert getattr(leepjax, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'leap'"):
        leepjax.leap  # noqa: B018
