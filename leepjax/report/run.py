"""A run directory: the configuration, a log, and the results.

``config.json`` is the configuration with versions and device. ``metrics.jsonl`` has one JSON object
a line, written as things happen. Tables are CSV files. A run is written into a temporary folder
beside its directory. At the end the folder takes the directory's name, so an existing directory is
complete. An interrupted run leaves that folder if it holds a journal (``*.journal``) of finished
work, and the same command resumes there. ``files.json``, written last, holds a checksum of every
file. A file that has changed since is refused when it is read.
"""

import dataclasses
import json
import os
import platform
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jax
import numpy as np

from leepjax import _text
from leepjax._store import (
    check_seal,
    differing,
    digest,
    hold,
    read_record,
    seal,
    write_record,
    writing,
)

_LOCK = ".lock"  # in a run's folder while it is written
_FILES = "files.json"
_AGAIN = "Delete its directory and run again, or pass --overwrite."
# What changes where a run happens, not what comes out of it.
_NOT_IDENTITY = (
    *("output_dir", "data_dir", "devices", "overwrite", "preset", "weights_dir"),
    "cluster",
)


@dataclasses.dataclass(frozen=True)
class Run:
    """An open run directory.

    Attributes:
      path: the directory to write to, or to read where ``finished``.
      final: the directory it becomes.
      finished: whether a run of this configuration has ended there.
      started: ``time.perf_counter()`` when it was opened.
    """

    path: Path
    final: Path
    finished: bool
    started: float

    def log(self, **values: Any) -> None:
        """Append one line to ``metrics.jsonl``, with the seconds since the run was opened."""
        line = {"seconds": round(time.perf_counter() - self.started, 2), **values}
        path = self.path / "metrics.jsonl"
        with writing(path), open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def write_table(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write ``name.csv``, one row for each mapping; what a row has not stays empty."""
        path = self.path / f"{name}.csv"
        with writing(path):
            _text.write_table(path, rows)


@contextmanager
def open_run(
    experiment: str, config: Any, *, output_dir: Path | None = None, overwrite: bool = False
) -> Iterator[Run]:
    """Open the run directory of a configuration, to write a run or to read an existing one.

    Open it before long work starts, so that a directory that cannot be written is found at once.
    An exception inside the block leaves everything as it was, except journals, which are kept.

    Args:
      experiment: name of the experiment.
      config: its configuration, a dataclass.
      output_dir: the directory; default ``runs/EXPERIMENT/KEY``, KEY computed from the
        configuration.
      overwrite: start again; the existing run is deleted when this one has ended. (The same
        command, interrupted, resumes.)

    Raises:
      ValueError: the directory cannot be written, is in use by another process, is damaged, or
        holds another configuration or other things, finished or interrupted.
    """
    identity = {k: v for k, v in _plain(config).items() if k not in _NOT_IDENTITY}
    for name, value in vars(config).items():
        if name in identity and isinstance(value, Path) and value.is_file():
            identity[name] = f"{value.name} {digest(np.fromfile(value, np.uint8))}"  # its content
    identity |= {"experiment": experiment, "leepjax": version("leepjax")}
    key = digest(identity)
    path = (Path(output_dir) if output_dir else Path("runs") / experiment / key).resolve()
    held = _held(path)
    if held is not None and not overwrite:
        _check_same(path, held["identity"], identity)
        _check_files(path, held)
        yield Run(path, path, True, time.perf_counter())
        return
    partial = path.with_name(f".{path.name}.partial")
    names = [x for x in ("leepjax", "jax", "flax", "optax", "numpy") if find_spec(x)]
    record = {
        "identity": identity,
        "config": _plain(config),
        "versions": {name: version(name) for name in names} | {"python": platform.python_version()},
        "devices": [str(device.device_kind) for device in jax.devices()],
        "checksums": _FILES,
    }
    with _alone_in(partial, path):
        begun = _held(partial) if any(partial.glob("*.journal")) else None
        if begun is None or (overwrite and begun["identity"] != identity):
            _empty(partial)
            write_record(partial / "config.json", record)
        else:
            _check_same(partial, begun["identity"], identity)
        try:
            yield Run(partial, path, False, time.perf_counter())
            (partial / _LOCK).unlink()
            seal(partial / _FILES, sorted(f for f in partial.rglob("*") if f.is_file()))
            if held is not None:  # complete at every moment, perhaps under another name
                aside = path.with_name(f".{path.name}.old")
                os.replace(path, aside)
                os.replace(partial, path)
                shutil.rmtree(aside)
            else:
                os.replace(partial, path)
        finally:
            if not any(partial.glob("*.journal")):
                shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def _alone_in(partial: Path, path: Path) -> Iterator[None]:
    """Make a directory if there is none, and keep other processes out of it meanwhile."""
    try:
        partial.mkdir(parents=True, exist_ok=True)
        lock = open(partial / _LOCK, "w")  # noqa: SIM115 (closed below; errors of the body are its own)
    except OSError as error:
        raise ValueError(
            f"output_dir: wanted one that can be written, got {path} ({error})"
        ) from None
    with lock:
        try:
            hold(lock)
        except ValueError as error:
            raise ValueError(f"output_dir: cannot write {path}: {error}") from None
        yield


def _empty(directory: Path) -> None:
    for entry in directory.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry)
        elif entry.name != _LOCK:
            entry.unlink()


def _check_same(path: Path, there: dict[str, Any], wanted: dict[str, Any]) -> None:
    # Entries that a later version no longer has do not count.
    differs = differing({name: there.get(name) for name in wanted}, wanted)
    if differs:
        raise ValueError(
            f"output_dir: {path} holds a run of another configuration ({differs}); "
            "name another directory, or pass --overwrite to replace it"
        )


def _check_files(path: Path, held: Mapping[str, Any]) -> None:
    """Refuse a finished run that has changed; runs of earlier versions have no checksums."""
    if "checksums" in held:
        try:
            check_seal(path / held["checksums"])
        except (OSError, ValueError) as error:
            raise ValueError(f"output_dir: {error}. {_AGAIN}") from None


def _held(path: Path) -> dict[str, Any] | None:
    """The record of the run that lies at ``path``, if one does."""
    try:
        if not path.exists() or (path.is_dir() and not any(path.iterdir())):
            return None
        record = read_record(path / "config.json", old=not (path / _FILES).exists())
        why = "it is no run's"
    except (OSError, ValueError) as error:
        record, why = {}, error
    if isinstance(record.get("identity"), dict):
        return record
    raise ValueError(
        f"output_dir: wanted an empty directory or one of an earlier run, got {path}, which holds "
        f"other things or cannot be read (config.json: {why}); delete it, or name another"
    )


def _plain(config: Any) -> dict[str, Any]:
    return json.loads(json.dumps(dataclasses.asdict(config), default=str))


def read_table(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV file as written by :meth:`Run.write_table`.

    Raises:
      ValueError: it has changed since its run ended, or its rows are not whole.
    """
    record = path.with_name(_FILES)
    if record.exists():
        check_seal(record, only=path.name)
    try:
        return _text.read_table(path)
    except ValueError:
        raise ValueError(f"{path} is damaged (its rows are not whole). {_AGAIN}") from None
