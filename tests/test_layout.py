"""The folders are layers: imports run downwards only."""

import ast
import sys
from pathlib import Path

import pytest

import leepjax

LAYERS = ["metrics", "data", "models", "tasks", "transfer", "meta", "evaluation", "audit", "report"]
LAYERS += ["commands"]
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
    if layer == "audit":  # audits know statistics, nothing that computes or trains scores
        above = [*above, *LAYERS[: LAYERS.index("evaluation")], "_cache", "_progress"]
    assert not imported(file) & set(above)


def test_audits_are_computed_by_numpy_and_scipy_alone():
    for file in (ROOT / "audit").glob("*.py"):
        nodes = [*ast.walk(ast.parse(file.read_text()))]
        names = {a.name for node in nodes if isinstance(node, ast.Import) for a in node.names}
        names |= {str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)}
        others = {name.split(".")[0] for name in names} - sys.stdlib_module_names
        assert others <= {"leepjax", "numpy", "scipy"}


def test_public_names_resolve_lazily():
    for name in leepjax.__all__:
        assert getattr(leepjax, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'leap'"):
        leepjax.leap  # noqa: B018
