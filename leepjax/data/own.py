"""Samples of one's own to a data set: read, counted, divided, decoded."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from leepjax._names import listed
from leepjax._progress import say
from leepjax._store import cache_dir, digest, optional, write_record
from leepjax.data.bank import Bank, Dataset
from leepjax.data.columns import Columns
from leepjax.data.divide import some_of_each_class
from leepjax.data.folder import read_folder
from leepjax.data.images import decode, file_name
from leepjax.data.labels import Targets, read_targets
from leepjax.data.samples import Samples, check_damage
from leepjax.data.table import TABLES, read_table
from leepjax.data.texts import TextBank


class Options(NamedTuple):
    """How samples are read, as of :func:`leepjax.data.load`."""

    columns: Columns
    target: str
    size: int | None
    skip_damaged: bool


def read(name: str, options: Options) -> Dataset:
    """The data set of a folder, a table or ``hf:...``.

    Raises:
      ValueError: there is none, or it cannot be read as one.
    """
    if name.startswith("hf:"):
        from leepjax.data.hub import read_hub

        return dataset(read_hub(name.removeprefix("hf:"), options.columns), options)
    path = find(name)
    if path.is_file():
        return dataset(read_table(path, options.columns), options)
    if any(options.columns):
        raise ValueError(f"image_column, text_column, label_column: {name!r} is no table")
    return dataset(read_folder(path), options)


def find(name: str) -> Path:
    """The folder or the table of a name; of a folder with ``labels.csv`` that table.

    Raises:
      ValueError: there is none.
    """
    path = Path(name).expanduser().absolute()
    if (path / "labels.csv").is_file():
        return path / "labels.csv"
    if not path.is_dir() and (path.suffix.lower() not in TABLES or not path.is_file()):
        there = "which is another file" if path.exists() else "which is not there"
        if Path(name.rpartition(":")[0]).is_dir() and ":" in name:
            there += "; a split of a folder is named by its own folder"
        raise ValueError(
            f"name: wanted a folder or a table ({', '.join(TABLES)}), got {name!r}, {there}"
        )
    return path


def dataset(samples: Samples, options: Options) -> Dataset:
    """Two banks of all samples that can be used.

    Raises:
      ValueError: labels that are no targets, damaged samples, or too few that are whole.
    """
    targets = read_targets(samples.labels, options.target, samples.class_names)
    wrong = targets.wrong | dict(samples.wrong)
    check_damage(samples, wrong, options.skip_damaged)
    rows = np.array([i for i in range(len(samples.where)) if i not in wrong])
    values, _ = _present(targets, rows, samples.name)
    if samples.tested is None:
        tested = some_of_each_class(values if targets.of_classes else np.zeros(len(rows), int))
    else:
        tested = samples.tested[rows]
    order = np.argsort(tested, kind="stable")  # so that each bank is one piece of the cached file
    rows, tested = rows[order], tested[order]
    images = None
    if samples.images is not None:
        files, keys = ([column[i] for i in rows] for column in (samples.images, samples.keys))
        images, unread = decode(samples.name, files, keys, options.size)
        unread = {int(rows[i]): why for i, why in unread.items()}
        check_damage(samples, unread, options.skip_damaged)
        whole = ~np.isin(rows, [*unread])
        rows, tested = rows[whole], tested[whole]
    values, names = _present(targets, rows, samples.name)
    _show_names(samples.name, options.target, names)
    parts = _parts(tested, values if targets.of_classes else None, samples.name)

    def bank(part: slice) -> Any:
        common = (values[part], np.zeros(part.stop - part.start, np.int32), names, (samples.name,))
        if images is not None:
            return Bank(images[part], *common)
        texts = [tuple([column[int(i)] for i in rows[part]]) for column in samples.texts]
        return TextBank(texts[0], *common, *texts[1:])

    return Dataset(*map(bank, parts))


def _present(targets: Targets, rows: np.ndarray, name: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """The values of some samples and the names; classes that none of them has are left out."""
    values, names = targets.values[rows], targets.names
    if not targets.of_classes:
        return values, names
    ids, values = np.unique(values, return_inverse=True)
    if len(ids) < 2:
        raise ValueError(
            f"name: wanted two classes or more, got {names[ids[0]]!r} alone in {name!r}"
        )
    return values.astype(np.int32), tuple(names[i] for i in ids)


def _parts(tested: np.ndarray, classes: np.ndarray | None, name: str) -> tuple[slice, slice]:
    """The rows to train on and to test on.

    Raises:
      ValueError: one of them is empty, or they share no class.
    """
    n, split = len(tested), int(np.sum(~tested))
    if not 0 < split < n:
        raise ValueError(
            f"name: wanted samples to train on and to test on, got {split} and {n - split} of "
            f"{name!r}"
        )
    if classes is not None and not np.isin(classes[split:], classes[:split]).any():
        raise ValueError(f"name: the training and the test samples of {name!r} share no class")
    return slice(0, split), slice(split, n)


def _show_names(name: str, target: str, names: tuple[str, ...]) -> None:
    """Say, and write beside the cached images, which number stands for what; once."""
    path = cache_dir("banks") / f"{file_name(name)}-{digest(target, names)}-names.json"
    if path.exists():
        return
    numbers = {label: i for i, label in enumerate(names)}
    with optional(path):
        write_record(path, {"target": target, "numbers": numbers})
        shown = listed((f"{i} {label}" for label, i in numbers.items()), quote=False, limit=12)
        what = "classes" if target == "class" else "targets"
        say(f"{name}: {len(names)} {what}: {shown}; written to {path}")
