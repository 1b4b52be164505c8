"""A run directory: what was asked for, what happened, what came out.

``config.json`` is the configuration with versions and device, ``metrics.jsonl`` one JSON object a
line as things happen, and tables are CSV files, each written whole or not at all. A run is finished
when ``done`` lies beside them.
"""

import csv
import dataclasses
import json
import os
import platform
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax

from leepjax._cache import digest

# What changes where a run happens, not what comes out of it.
_NOT_IDENTITY = ("output_dir", "data_dir", "devices", "overwrite", "preset")


@dataclasses.dataclass(frozen=True)
class Run:
    """An open run directory.

    Attributes:
      path: the directory.
      started: ``time.perf_counter()`` when it was opened.
    """

    path: Path
    started: float

    @property
    def finished(self) -> bool:
        """Whether a run of this configuration has come to its end here."""
        return (self.path / "done").exists()

    def log(self, **values: Any) -> None:
        """Append one line to ``metrics.jsonl``, with the seconds since the run was opened."""
        line = {"seconds": round(time.perf_counter() - self.started, 2), **values}
        with open(self.path / "metrics.jsonl", "a") as file:
            file.write(json.dumps(line) + "\n")

    def write_table(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write ``name.csv``, one row for each mapping, columns as in the first."""
        partial = self.path / f".{name}.csv.partial"
        with open(partial, "w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        os.replace(partial, self.path / f"{name}.csv")

    def finish(self) -> None:
        """Say that all results are in place."""
        self.log(event="finished")
        (self.path / "done").touch()


@contextmanager
def open_run(
    experiment: str, config: Any, *, output_dir: Path | None = None, overwrite: bool = False
) -> Iterator[Run]:
    """Open the run directory of a configuration, new or where it was left.

    It is opened before long work starts, so that a directory that cannot be written shows at once.
    An exception inside the block takes a new directory away again, and brings back one that was
    to be overwritten.

    Args:
      experiment: name of the experiment.
      config: its configuration, a dataclass.
      output_dir: the directory; default ``runs/EXPERIMENT/KEY``, KEY of the configuration.
      overwrite: start anew; what an earlier run wrote there is deleted at the end.

    Raises:
      ValueError: the directory cannot be written, or holds another configuration or other things.
    """
    identity = {k: v for k, v in _plain(config).items() if k not in _NOT_IDENTITY}
    key = digest(experiment, identity)
    path = Path(output_dir) if output_dir else Path("runs") / experiment / key
    held = _held(path)
    replaced = path.with_name(f".{path.name}.replaced")
    if held is not None and overwrite:
        shutil.rmtree(replaced, ignore_errors=True)
        os.replace(path, replaced)
    elif held is not None and held["key"] != key:
        old = held["config"]
        differs = [
            f"{name}: there {old.get(name)!r}, asked for {value!r}"
            for name, value in identity.items()
            if old.get(name) != value
        ] or [f"experiment: there {held['experiment']!r}, asked for {experiment!r}"]
        raise ValueError(
            f"output_dir: {path} holds a run of another configuration ({'; '.join(differs)}); "
            "name another directory, or pass --overwrite to delete it"
        )
    try:
        path.mkdir(parents=True, exist_ok=True)
        record = {
            "experiment": experiment,
            "key": key,
            "config": _plain(config),
            "versions": {
                name: version(name) for name in ("leepjax", "jax", "flax", "optax", "numpy")
            }
            | {"python": platform.python_version()},
            "devices": [str(device.device_kind) for device in jax.devices()],
        }
        if not (path / "config.json").exists():
            partial = path / ".config.json.partial"
            partial.write_text(json.dumps(record, indent=2) + "\n")
            os.replace(partial, path / "config.json")
        with open(path / "metrics.jsonl", "a"):
            pass
    except OSError as error:
        raise ValueError(
            f"output_dir: wanted a directory to write to, got {path} ({error})"
        ) from None
    try:
        yield Run(path, time.perf_counter())
    except BaseException:
        if held is None or overwrite:
            shutil.rmtree(path)
        if replaced.exists():
            os.replace(replaced, path)
        raise
    shutil.rmtree(replaced, ignore_errors=True)


def _held(path: Path) -> dict[str, Any] | None:
    """The record of the run that lies at ``path``, if one does."""
    try:
        if not path.is_dir() or not any(path.iterdir()):
            return None
        return json.loads((path / "config.json").read_text())
    except FileNotFoundError:
        raise ValueError(
            f"output_dir: wanted an empty directory or one of an earlier run, got {path}, "
            "which holds other things"
        ) from None
    except (OSError, json.JSONDecodeError) as error:
        raise ValueError(f"output_dir: cannot read the run at {path} ({error})") from None


def _plain(config: Any) -> dict[str, Any]:
    return json.loads(json.dumps(dataclasses.asdict(config), default=str))


def read_table(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV file as written by :meth:`Run.write_table`."""
    with open(path, newline="") as file:
        return list(csv.DictReader(file))
