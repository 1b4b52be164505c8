"""A folder of images, with a subfolder for each class."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from leepjax._names import listed
from leepjax._progress import say
from leepjax.data.samples import Samples

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
LOST = "there is no such file"
TESTS = ("test", "val", "valid", "validation")  # the first that is there is taken


def read_folder(folder: Path) -> Samples:
    """The images of a folder: ``CLASS/...`` or ``train/CLASS/...`` and ``test/CLASS/...``.

    Raises:
      ValueError: there is no class with an image.
    """
    parts = _subfolders(folder)
    split = "train" in parts
    tests = [name for name in TESTS if split and name in parts and _subfolders(parts[name])]
    roots = [parts["train"], *(parts[name] for name in tests[:1])] if split else [folder]
    labels: list[str] = []
    paths: list[str] = []
    tested: list[bool] = []
    empty: list[str] = []
    others = [str(path) for path in parts.values() if path not in roots] if split else []
    for root in roots:
        for name, path in _subfolders(root).items():
            files = list(_files(path))
            images = [file for file in files if file.lower().endswith(SUFFIXES)]
            others += [file for file in files if not file.lower().endswith(SUFFIXES)]
            empty += [] if images else [str(path)]
            paths += images
            labels += [name] * len(images)
            tested += [root is not roots[0]] * len(images)
        others += _files(root, deep=False)
    where, empty, others = (
        [path[len(str(folder)) + 1 :] for path in found] for found in (paths, empty, others)
    )
    if not paths:
        got = f"nothing but {listed(others)}" if others else "no files"
        raise ValueError(
            f"name: wanted a subfolder of images ({' '.join(SUFFIXES)}) for each class, or images "
            f"beside labels.csv, got {got} in {str(folder)!r}"
        )
    name = folder.resolve().name
    if empty:
        say(f"{name}: left out {len(empty)} class folders without an image: {listed(empty)}")
    if others:
        say(f"{name}: left out {len(others)} other entries: {listed(others)}")
    keys = [file_key(path, place) for path, place in zip(paths, where, strict=True)]
    return Samples(
        name=name,
        where=where,
        labels={"folder": labels},
        keys=keys,
        images=paths,
        tested=np.array(tested) if any(tested) else None,
        wrong={i: LOST for i, key in enumerate(keys) if key is None},
    )


def file_key(path: str, name: str) -> tuple[str, int, int] | None:
    """What changes when a file does; None where there is no such file."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):  # ValueError: a name that no file can have
        return None
    return (name, found.st_size, found.st_mtime_ns) if stat.S_ISREG(found.st_mode) else None


def _subfolders(folder: Path) -> dict[str, Path]:
    """By name, in order; hidden ones are not there."""
    entries = sorted(folder.iterdir(), key=lambda path: path.name)
    return {e.name: e for e in entries if e.is_dir() and not e.name.startswith((".", "__"))}


def _files(folder: Path, deep: bool = True) -> Iterator[str]:
    """Files in order, also of folders within; hidden ones are not there."""
    for at, within, names in os.walk(folder, onerror=_raise):
        within[:] = sorted(n for n in within if deep and not n.startswith((".", "__")))
        for name in sorted(names):
            if not name.startswith(".") and name.lower() not in ("thumbs.db", "desktop.ini"):
                yield os.path.join(at, name)


def _raise(error: OSError) -> None:
    """A folder that cannot be read is not passed over."""
    raise error
