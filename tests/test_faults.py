"""Every file that is written and read again, damaged on purpose: no other result without a word."""

import copy
import dataclasses
import math
import os
import shutil
import warnings
from collections import Counter
from functools import cache
from pathlib import Path

import jax
import numpy as np
import pytest

from leepjax._store import Journal
from leepjax.data import load
from leepjax.data.glyphs import dataset as glyphs
from leepjax.meta.checkpoints import Checkpoints
from leepjax.models import SourceRecipe, extract, train_source
from leepjax.models.train import untrained
from leepjax.report import open_run, read_table
from tests.data.test_glyphs import FEW
from tests.data.test_load import Tiny

ROWS = [{"task": i, "test": [i / 3, math.nan, -math.inf], "name": "Ωж\u2028" * i} for i in range(9)]
NOISE = np.random.default_rng(0).normal(size=(4, 999))
TREE = ({"a": NOISE, "b": NOISE.astype(np.float32)}, np.full(4, np.nan))


@dataclasses.dataclass(frozen=True)
class Config:
    steps: int = 3


@cache
def prepared() -> Path:
    """A TFDS set of forty images; kept for all tries, as it is not ours to damage."""
    root = Path(os.environ["LEEPJAX_CACHE"]).parent / "prepared"
    if not root.exists():
        Tiny(data_dir=str(root), file_format="array_record").download_and_prepare()
    return root


def bank(root):
    del root
    return [(b.images, b.labels, b.groups) for b in load("tiny", data_dir=prepared())]


def drawn(root):
    del root
    return [(b.images, b.labels, b.class_names) for b in load("glyphs:greek+nko")]


def outputs(root):
    del root
    test = load("digits").test
    return extract(untrained(jax.random.key(0), "mlp", test), test)


def source(root):
    del root
    trained = train_source("mlp", load("digits"), SourceRecipe(steps=1, batch_size=8))
    return trained.params, trained.rest


def checkpoint(root):
    blank = jax.tree.map(np.zeros_like, TREE)
    with Checkpoints(root / "mine" / "meta", {"a": 1}) as kept:
        tree = kept.load(blank)
        if tree is not blank:
            return tree
        kept.save(50, TREE)
    return TREE


def journal(root):
    kept = Journal(root / "mine" / "some.journal", {"a": 1})
    done = {row["task"] for row in kept.rows}
    for row in ROWS:
        if row["task"] not in done:
            kept.append([row])
    return sorted(kept.rows, key=lambda row: row["task"])


def run(root):
    with open_run("test", Config(), output_dir=root / "mine" / "run") as study:
        if not study.finished:
            study.write_table("results", ROWS)
            study.write_table("none", [])
            study.log(event="written", number=3)
            journal = Journal(study.path / "some.journal", {"a": 1})
            journal.append(ROWS)
    return [read_table(study.final / f"{name}.csv") for name in ("results", "none")]


KINDS = (bank, drawn, outputs, source, checkpoint, journal, run)


def flip(content, rng):
    content[rng.integers(len(content))] ^= 1 << rng.integers(8)
    return content


def scribble(content, rng):
    for place in rng.integers(len(content), size=20):
        content[place] ^= rng.integers(1, 256)
    return content


def truncate(content, rng):
    return content[: rng.integers(len(content))]


def empty(content, rng):
    del content, rng
    return b""


def zero_the_end(content, rng):
    start = rng.integers(len(content))
    return content[:start] + bytes(len(content) - start)


DAMAGES = (flip, scribble, truncate, empty, zero_the_end, None)  # None: the file is lost


def attempt(kind, damage, root, rng):
    """Write, damage one file, read: what became of it, and what was said.

    ``same``: the result is that of before, of which ``made anew`` says a line; ``refused``: an
    error names a file; ``believed``: another result; ``crashed``: another error.
    """
    for there in (root / "cache", root / "mine"):
        shutil.rmtree(there, ignore_errors=True)
    (root / "mine").mkdir()
    # Copies, as a bank's images are the file that is about to be damaged.
    wanted = jax.tree.map(copy.copy, kind(root))
    files = [file for there in ("cache", "mine") for file in (root / there).rglob("*")]
    files = sorted(f for f in files if f.is_file() and f.name != ".lock" and f.stat().st_size)
    file = files[rng.integers(len(files))]
    if damage is None:
        file.unlink()
    else:
        file.write_bytes(damage(bytearray(file.read_bytes()), rng))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            got = kind(root)
        except ValueError as error:
            named = str(root) in str(error)
            return "refused" if named else "crashed", f"{file.relative_to(root)}: {error}"
        except Exception as error:
            return "crashed", f"{file.relative_to(root)}: {type(error).__name__}: {error}"
    said = [str(one.message) for one in said if issubclass(one.category, UserWarning)]
    same = jax.tree.structure(got) == jax.tree.structure(wanted) and all(
        np.array_equal(a, b, equal_nan=not isinstance(a, str))
        for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True)
    )
    if not same:
        return "believed", str(file.relative_to(root))
    return "made anew" if said else "same", f"{file.relative_to(root)}: {said}"


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("LEEPJAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(glyphs, "catalogue", lambda: FEW)
    prepared.cache_clear()
    return tmp_path


@pytest.mark.parametrize(
    "kind", [pytest.param(k, marks=[pytest.mark.slow] * (k is source)) for k in KINDS]
)
def test_what_is_damaged_is_made_anew_or_refused(kind, root):
    rng = np.random.default_rng(0)
    became = Counter()
    for damage in DAMAGES * 2:
        outcome, about = attempt(kind, damage, root, rng)
        assert outcome in ("same", "made anew", "refused"), (damage, about)
        became[outcome] += 1
    assert became["made anew"] + became["refused"] > 3, became
