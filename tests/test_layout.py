"""The folders are layers: imports run downwards only, in no circle."""

import ast
import importlib
import inspect
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import leepjax

# Packages of one row know nothing of each other.
LAYERS = [
    ["metrics", "evaluation"],
    ["data"],
    ["models"],
    ["tasks"],
    ["transfer", "meta"],
    ["ranking"],
    ["choosing"],
    ["audit"],
    ["report"],
    ["commands"],
]
ROOT = Path(leepjax.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
PACKAGES = sorted(path.parent.name for path in ROOT.glob("*/__init__.py"))


def modules_imported(file: Path) -> set[str]:
    """Names of the modules that a file imports when it runs, at its top or late."""
    tree = ast.parse(file.read_text())
    typing = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    names = set()
    for node in ast.walk(tree):
        if id(node) in typing:
            continue
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return names


def test_every_package_has_its_layer():
    assert sorted(package for layer in LAYERS for package in layer) == PACKAGES


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_run_downwards(package):
    (at,) = (i for i, layer in enumerate(LAYERS) if package in layer)
    below = {name for layer in LAYERS[:at] for name in layer}
    if package in ("metrics", "evaluation"):
        allowed = {package}
    else:
        beside = {f.stem for f in ROOT.glob("*.py")} - {"__init__", "__main__"}
        allowed = {package, *below, *beside}
    for file in (ROOT / package).rglob("*.py"):
        names = {n.split(".")[1] for n in modules_imported(file) if n.startswith("leepjax.")}
        assert names <= allowed, f"{file}: {names - allowed}"


def test_no_circle():
    module = {file: ".".join(file.relative_to(ROOT.parent).with_suffix("").parts) for file in FILES}
    names = {name.removesuffix(".__init__") for name in module.values()}
    graph = {}
    for file, name in module.items():
        if file.name != "__init__.py":  # which gathers names, and is imported before its files
            inner = {n for n in modules_imported(file) if n in names}
            graph[name] = inner - {name}
    TopologicalSorter(graph).prepare()  # raises CycleError


@pytest.mark.parametrize(
    ("package", "heavy"),
    [
        ("metrics", {"flax", "optax", "scipy", "matplotlib", "sklearn", "orbax"}),
        ("evaluation", {"jax", "flax", "matplotlib", "sklearn", "rich", "tensorflow_datasets"}),
        ("audit", {"jax", "flax", "matplotlib", "sklearn", "rich", "tensorflow_datasets"}),
        ("ranking", {"matplotlib", "sklearn", "tyro"}),
    ],
)
def test_importing_it_brings_nothing_heavy(package, heavy):
    code = f"import sys, leepjax.{package}; print(*{{n.split('.')[0] for n in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not heavy & set(done.stdout.split())


@pytest.mark.parametrize("folders", ["experiments benchmarks", "benchmarks experiments"])
def test_experiments_and_benchmarks_stand_apart(folders):
    folder, other = folders.split()
    for file in (Path(__file__).parents[1] / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not [name for name in names if name.split(".")[0] == other], file


@pytest.mark.parametrize("package", PACKAGES)
def test_no_file_has_the_name_of_its_function(package):
    """The package's name would be one or the other, by what was imported first."""
    module = importlib.import_module(f"leepjax.{package}")
    files = {file.stem for file in (ROOT / package).glob("[!_]*.py")}
    assert [name for name in files if inspect.isroutine(getattr(module, name, None))] == []


def test_public_names_resolve_lazily():
    for name in leepjax.__all__:
        assert getattr(leepjax, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'leap'"):
        leepjax.leap  # noqa: B018
