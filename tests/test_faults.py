"""Every file that is written and read again, damaged on purpose: no other result without a word."""

import copy
import dataclasses
import importlib
import json
import math
import os
import re
import shutil
import subprocess
import sys
import warnings
from collections import Counter
from functools import cache
from pathlib import Path

import jax
import numpy as np
import pytest

from leepjax._store import Journal, cache_dir, keep_programs, read_record
from leepjax.data import load
from leepjax.data.glyphs import dataset as glyphs
from leepjax.meta.checkpoints import Checkpoints
from leepjax.models import SourceRecipe, extract, load_pretrained, train_source
from leepjax.models.train import untrained
from leepjax.report import open_run, read_table
from tests.data.test_glyphs import FEW
from tests.data.test_load import Tiny

ROWS = [{"task": i, "test": [i / 3, math.nan, -math.inf], "name": "Ωж\u2028" * i} for i in range(9)]
NOISE = np.random.default_rng(0).normal(size=(4, 999)).astype(np.float32)
TREE = ({"a": NOISE, "b": -NOISE}, np.full(4, np.nan))


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


def clear(root):
    for there in (root / "cache", root / "mine"):
        shutil.rmtree(there, ignore_errors=True)
    (root / "mine").mkdir()


def equal(one, other):
    return jax.tree.structure(one) == jax.tree.structure(other) and all(
        np.array_equal(a, b, equal_nan=not isinstance(a, str))
        for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    )


def attempt(kind, damage, root, rng):
    """Write, damage one file, read: what became of it, and what was said.

    ``same``: the result is that of before, of which ``made anew`` says a line; ``refused``: an
    error names a file; ``believed``: another result; ``crashed``: another error.
    """
    clear(root)
    # Copies, as a bank's images are the file that is about to be damaged.
    wanted = jax.tree.map(copy.copy, kind(root))
    files = [file for there in ("cache", "mine") for file in (root / there).rglob("*")]
    files = sorted(f for f in files if f.is_file() and f.name != ".lock" and f.stat().st_size)
    sizes = np.array([file.stat().st_size for file in files], float)
    file = files[rng.choice(len(files), p=sizes / sizes.sum())]  # where the content is
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
    if not equal(got, wanted):
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
    for damage in DAMAGES * 4:
        outcome, about = attempt(kind, damage, root, rng)
        assert outcome in ("same", "made anew", "refused"), (damage, about)
        became[outcome] += 1
    # Some damage is none: of a torn line that is computed again, of bytes that nobody reads.
    assert became["made anew"] + became["refused"] > 3, became


def full(root):
    """Run by a child, whose files can be so long: what is said, and what is read afterwards."""
    resource = importlib.import_module("resource")  # not on Windows
    glyphs.catalogue = lambda: FEW
    prepared()
    for kind in (bank, drawn, outputs, checkpoint, journal, run):
        clear(root)
        wanted = jax.tree.map(copy.copy, kind(root))
        for size in (0, 200, 1000):
            clear(root)
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
            said = f"cannot write {root}"
            try:  # a cache may do without its file
                assert equal(kind(root), wanted), (kind, size)
            except OSError as error:
                said = str(error)
            assert said.startswith(f"cannot write {root}"), said
            assert "\n" not in said
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
            assert equal(kind(root), wanted), (kind, size)


def together(root):
    """Run by two children at once: the content of everything that is cached."""
    glyphs.catalogue = lambda: FEW
    arrays = [
        np.asarray(a).tolist() for f in (bank, drawn, outputs) for a in jax.tree.leaves(f(root))
    ]
    print(hash(json.dumps(arrays)))


def child(function, root):
    code = f"from pathlib import Path; from tests import test_faults as t; t.{function.__name__}"
    command = [sys.executable, "-c", f"{code}(Path({str(root)!r}))"]
    env = os.environ | {"PYTHONHASHSEED": "0"}
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on the size of files")
def test_a_full_disk_is_one_line_and_nothing_half_written_is_believed(root):
    process = child(full, root)
    said = process.communicate(timeout=300)[1].decode()
    assert process.returncode == 0, said


def test_two_processes_share_a_cache(root):
    prepared()
    children = [child(together, root) for _ in range(2)]
    outputs = [process.communicate(timeout=300) for process in children]
    assert [process.returncode for process in children] == [0, 0], outputs
    assert outputs[0][0] == outputs[1][0]


def test_without_a_home_the_cache_is_of_this_process_alone(monkeypatch, caplog):
    for name in ("HOME", "USERPROFILE", "LEEPJAX_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pathlib.Path.expanduser", no_home)
    folder = cache_dir("faults")
    assert folder.is_dir()
    assert "LEEPJAX_CACHE: ~/.cache/leepjax/faults cannot be written" in caplog.text


def no_home(self):
    raise RuntimeError("Could not determine home directory.")


def test_a_damaged_line_of_a_journal_is_named_and_the_file_left_alone(tmp_path):
    journal(tmp_path)
    path = tmp_path / "mine" / "some.journal"
    damaged = path.read_bytes().replace(b'"task": 4', b'"task": 5')
    path.write_bytes(damaged)
    with pytest.raises(ValueError, match=r"some\.journal: line 6 is damaged.*delete that line"):
        journal(tmp_path)
    assert path.read_bytes() == damaged


def test_json_that_is_too_deep_is_damaged(tmp_path):
    deep = "[" * 100_000
    journal(tmp_path)
    path = tmp_path / "mine" / "some.journal"
    path.write_text(path.read_text() + deep + "\n")
    with pytest.raises(ValueError, match="line 11 is damaged"):
        journal(tmp_path)
    (tmp_path / "config.json").write_text(deep)
    (tmp_path / "identity.json").write_text(deep)
    with pytest.raises(ValueError, match=r"config\.json is damaged"):
        read_record(tmp_path / "config.json")
    with pytest.raises(ValueError, match=r"config\.json: damaged, or no JSON"):
        load_pretrained(tmp_path)
    with pytest.raises(ValueError, match="checkpoint: cannot use"), Checkpoints(tmp_path, {}):
        pass


def test_what_an_earlier_version_wrote_is_read(tmp_path):
    for kind in (journal, run):
        wanted = kind(tmp_path)
        for file in (tmp_path / "mine").rglob("*"):
            if file.suffix in (".journal", ".json"):
                text = re.sub(r',\s*"(crc32|checksums)": "[^"]*"', "", file.read_text())
                file.write_text(text)
        (tmp_path / "mine" / "run" / "files.json").unlink(missing_ok=True)
        assert equal(kind(tmp_path), wanted)
    (tmp_path / "mine" / "run" / "results.csv").write_text("")
    with pytest.raises(ValueError, match=r"results\.csv is damaged"):
        run(tmp_path)


def test_a_journal_keeps_any_text_and_number(tmp_path):
    rows = [
        {"a": "\ud800\u2028\x00\r\n", "b": [math.inf, -0.0, 5e-324, 2**70], "c": {"1": None}},
        {"a": "x" * 2**22},
    ]
    kept = Journal(tmp_path / "some.journal", {"Ω": "\u2029"})
    kept.append(rows)
    assert kept.rows == rows
    del kept
    assert Journal(tmp_path / "some.journal", {"Ω": "\u2029"}).rows == rows


def test_empty_compiled_programs_are_deleted(root, monkeypatch):
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    monkeypatch.setattr(jax.config, "update", lambda *_: None)
    programs = cache_dir("xla")
    for name, content in (("full-cache", b"x"), ("empty-cache", b"")):
        (programs / name).write_bytes(content)
    keep_programs()
    assert [file.name for file in programs.iterdir()] == ["full-cache"]
