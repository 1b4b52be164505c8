"""Prepared TFDS sets as banks."""

from leepjax._extras import require

require("data")

import difflib
import re
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from leepjax.data.bank import EMBEDDED, Bank, Dataset
from leepjax.data.divide import last_of_each_class
from leepjax.data.records import Records, damaged, group_key, names_of, read


def official(name: str, split: str, root: Path) -> Dataset:
    """A TFDS set: its own train and test splits, or one split divided by class."""
    builder = find(name, root)
    splits = sorted(builder.info.splits)
    if split and split not in splits:
        raise ValueError(f"name: {name} has no split {split!r}; wanted one of {', '.join(splits)}.")
    tests = [test for test in ("test", "validation") if test in splits]
    if split or len(splits) == 1:
        parts = _divide(read(builder, split or splits[0]))
    elif "train" in splits and tests:
        parts = [read(builder, part) for part in ("train", tests[0])]
        if not np.isin(parts[1].labels, parts[0].labels).any():
            raise ValueError(
                f"name: the train and {tests[0]} splits of {name} share no classes. Choose one "
                f"split, which is then divided by class: {name}:train or {name}:{tests[0]}."
            )
    else:
        raise ValueError(
            f"name: {name} has no train and test split. Choose one split, which is then divided "
            f"by class: {', '.join(f'{name}:{s}' for s in splits)}."
        )
    return _dataset(builder, *parts)


def _divide(part: Records) -> list[Records]:
    """Of each class, in stored order, the first 70 % to train and the others to test."""
    tested = last_of_each_class(part.labels)
    return [Records(*(array[mask] for array in part)) for mask in (~tested, tested)]


def _dataset(builder: Any, train: Records, test: Records) -> Dataset:
    """Two parts to banks over the classes and groups that either of them has."""
    key = group_key(builder)
    labels = np.union1d(train.labels, test.labels)
    if labels[0] < 0:
        raise ValueError(
            f"name: {builder.info.name} has images without a label. Choose another split of "
            f"{', '.join(sorted(builder.info.splits))}."
        )
    groups = np.union1d(train.groups, test.groups)
    all_classes = names_of(builder, "label")
    all_groups = names_of(builder, key) if key else (builder.info.name,)
    class_names = tuple(all_classes[i] for i in labels)
    group_names = tuple(all_groups[i] for i in groups)
    banks = (
        Bank(
            images=part.images,
            labels=np.searchsorted(labels, part.labels).astype(np.int32),
            groups=np.searchsorted(groups, part.groups).astype(np.int32),
            class_names=class_names,
            group_names=group_names,
        )
        for part in (train, test)
    )
    return Dataset(*banks)


def find(name: str, root: Path) -> Any:
    """The TFDS builder of a set prepared under ``root``, in its newest version, read-only.

    Args:
      name: ``SET`` or ``SET/CONFIG``.
      root: the TFDS data directory.

    Raises:
      ValueError: no such set, or one that is not prepared in a form that can be read here.
    """
    folders = [
        info.parent
        for info in (root / name).glob("*/dataset_info.json")
        if re.fullmatch(r"\d+\.\d+\.\d+", info.parent.name)
    ]
    if not folders:
        raise ValueError(_missing(name, root))
    folder = max(folders, key=lambda path: tuple(map(int, path.name.split("."))))
    try:
        builder = tfds.builder_from_directory(folder)
    except Exception as error:
        raise ValueError(damaged(name, folder, error)) from error
    stored = builder.info.file_format
    if stored is None or stored.value != "array_record":
        raise ValueError(
            f"name: {name!r} in {folder} is stored as {stored and stored.value}, wanted "
            f"array_record. Move that folder away, then: {_prepare_command(name, root)}"
        )
    return builder


def _missing(name: str, root: Path) -> str:
    known = tfds.list_builders(with_community_datasets=False)
    found = (info for depth in ("*/*", "*/*/*") for info in root.glob(f"{depth}/dataset_info.json"))
    prepared = {info.parent.parent.relative_to(root).as_posix() for info in found}
    base = name.split("/")[0]
    configured = sorted(other for other in prepared if other.startswith(f"{base}/"))
    if configured and name == base:
        # No one of them is meant by the set's name alone: which one would depend on the folder.
        return (
            f"name: {name!r} has configurations, wanted one of those prepared in {root}: "
            f"{', '.join(map(repr, configured))}"
        )
    if base in known or configured:
        others = f", which has {', '.join(map(repr, configured))}" if configured else ""
        return (
            f"name: {name!r} is not prepared in {root}{others}. Prepare it once with: "
            f"{_prepare_command(name, root)}"
        )
    near = difflib.get_close_matches(name, {*known, *prepared, *EMBEDDED})
    return (
        f"name: wanted {', '.join(map(repr, EMBEDDED))}, the name of a TFDS image set, or a folder "
        f"or table that is there, got {name!r}. "
        + (f"Did you mean {' or '.join(map(repr, near))}? " if near else "")
        + f"Prepared in {root}: {', '.join(sorted(prepared)) or 'none'}."
    )


def _prepare_command(name: str, root: Path) -> str:
    default = Path("~/tensorflow_datasets").expanduser()
    where = "" if root == default else f", data_dir='{root}'"
    return (
        'pip install "leepjax[prepare]" && python -c "import tensorflow_datasets as tfds; '
        f"tfds.builder('{name}', file_format='array_record'{where}).download_and_prepare()\""
    )
