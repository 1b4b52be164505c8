"""Data sets by name, from folders, tables and the hub, to a training and a test bank."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from leepjax._extras import require
from leepjax.data.bank import EMBEDDED, Bank, Dataset
from leepjax.data.columns import Columns
from leepjax.data.table import TABLES

DIGITS_TEST_SHARE = 0.3


def load(
    name: str | Path,
    *,
    data_dir: str | Path | None = None,
    image_column: str | None = None,
    text_column: str | Sequence[str] = (),
    label_column: str | Sequence[str] = (),
    target: str = "class",
    size: int | None = None,
    skip_damaged: bool = False,
) -> Dataset:
    """Training and test bank of a data set.

    ============================  ==============================================================
    ``glyphs``                    about 1,300 characters in the DejaVu faces, 16 scripts (28x28x1,
                                  90 + 30 images each, tested on faces never trained on); each
                                  script is drawn into the cache on first use; groups are scripts
    ``glyphs:latin+greek``        these scripts only
    ``glyphs:-latin-greek``       all scripts but these
    ``digits``                    scikit-learn's digits (8x8x1), 70 : 30 by class, fixed seed
    ``cifar10``, ``mnist``, ...   a TFDS image set prepared in ``data_dir``: its ``train`` split,
                                  and its ``test`` or else ``validation`` split
    ``omniglot:small1``, ...      one split of a TFDS set, its classes divided 70 : 30 in stored
                                  order; Omniglot is bright ink on black (105x105x1), its groups
                                  are alphabets
    ``./flowers``                 a folder: a subfolder of images for each class, or ``train`` and
                                  ``test`` (or ``val``) with such subfolders, or ``labels.csv``
                                  beside images
    ``./flowers.csv``             a table (CSV, JSON Lines, Parquet): images by their paths relative
                                  to it, or texts, and labels
    ``hf:OWNER/NAME``             a set of the Hugging Face hub, ``hf:OWNER/NAME/CONFIGURATION``, or
                                  a folder that its library reads; ``:SPLIT`` takes one split
    ============================  ==============================================================

    Classes and groups without an image are left out, and labels and groups are numbered anew
    from 0. Images are cached (``LEEPJAX_CACHE``), and memory-mapped where they are in one file.

    Your own samples (the last three lines) without a test split are divided 70 : 30 by class, at
    random with a fixed seed. Labels that are words are classes by name, in the order of the
    alphabet; labels that are numbers are classes in the order of numbers. Images of one size of at
    most 256 pixels stay as they are. Others are resized to 224 x 224 (less, if the median of their
    shorter sides is less): the shorter side first, then the centre is cut out. They are turned as
    their EXIF data say, laid on white where they are transparent, of animations the first frame.
    Lines on standard error say what was done and left out.

    Args:
      name: the table's first column. A folder that has the name of a prepared TFDS set is
        ``./NAME``.
      data_dir: the TFDS data directory; by default ``TFDS_DATA_DIR`` or ``~/tensorflow_datasets``.
      image_column: column of images; default ``image`` or ``file_name``.
      text_column: column of texts, or two, of pairs; default ``text``, where there are no images.
      label_column: column of labels, or several; default ``label``.
      target: ``class``; ``multilabel``: several columns of 0 and 1, or one of lists; or
        ``regression``: one or several columns of numbers.
      size: height and width of images, in pixels.
      skip_damaged: leave out what cannot be read or has no label, instead of refusing the set.

    Returns:
      The two banks, over the same classes and groups; of texts, two :class:`TextBank`. Their labels
      are ``[n]`` int32; of several labels ``[n, t]`` uint8; of numbers ``[n]`` or ``[n, t]``
      float32: ``class_names`` are then the names of the columns.

    Raises:
      ValueError: an unknown set, split or script; a set that is not prepared (the message says
        how to), not of labelled images, or damaged; a cache that Glyphs cannot be drawn into; a
        column that is not there; labels that are no targets of that kind; fewer than two classes;
        less room in the cache than needed; a library that is not installed.

    Example:
      >>> train, test = load("digits")
      >>> train.images.shape, test.images.shape, train.num_classes
      ((1257, 8, 8, 1), (540, 8, 8, 1), 10)
    """
    name = os.fspath(name)
    columns = Columns(image_column, _names(text_column), _names(label_column))
    if is_own(name, data_dir):
        from leepjax.data import own

        return own.read(name, own.Options(columns, target, size, skip_damaged))
    if any(columns) or target != "class" or size is not None:
        raise ValueError(
            f"name: columns, target and size are for a folder, a table or 'hf:NAME', got {name!r}"
        )
    base, split, root = _place(name, data_dir)
    if base == "digits":
        if split:
            raise ValueError(f"name: digits has no splits to choose from, got {name!r}.")
        return _digits()
    if base == "glyphs":
        from leepjax.data.glyphs import glyphs  # matplotlib is slow to import, TFDS too

        return glyphs(split)
    from leepjax.data import prepared

    return prepared.official(base, split, root)


def check_prepared(name: str, *, data_dir: str | Path | None = None) -> None:
    """Whether a data set could be loaded, without reading an image of it.

    Args:
      name: as of :func:`load`.
      data_dir: as of :func:`load`.

    Raises:
      ValueError: an unknown set, or one that is not prepared; the message says how to.
    """
    if is_own(name, data_dir):
        from leepjax.data import own

        if not name.startswith("hf:"):
            own.find(name)
        return
    base, _, root = _place(name, data_dir)
    if base not in EMBEDDED:
        from leepjax.data import prepared

        prepared.find(base, root)


def is_own(name: str, data_dir: str | Path | None = None) -> bool:
    """Whether a name is that of a folder or a table, or ``hf:...``; known sets come first."""
    path = Path(name)
    if name.startswith(("hf:", ".", "~")) or path.is_absolute() or path.suffix.lower() in TABLES:
        return True
    known = name in EMBEDDED or (_directory(data_dir) / name).exists()
    return path.exists() and not known


def _names(columns: str | Sequence[str]) -> tuple[str, ...]:
    return (columns,) if isinstance(columns, str) else tuple(columns)


def _place(name: str, data_dir: str | Path | None) -> tuple[str, str, Path]:
    """Set and split that a name stands for, and the TFDS data directory."""
    base, colon, split = name.partition(":")
    if not re.fullmatch(r"\w+(/[\w.-]+)?", base) or (colon and not split):
        raise ValueError(
            "name: wanted NAME or NAME:SPLIT, or a folder or table that is there, got "
            f"{name!r}. Try 'glyphs'."
        )
    return base, split, _directory(data_dir)


def _directory(data_dir: str | Path | None) -> Path:
    directory = data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    return Path(directory).expanduser().absolute()


def _digits() -> Dataset:
    """Scikit-learn's digits: 1,797 images ``[8, 8, 1]``, their 0..16 stretched to 0..255."""
    require("data")
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    pixels, labels = map(np.asarray, load_digits(return_X_y=True))
    images = np.round(pixels * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8, 1)
    rows = train_test_split(
        np.arange(len(labels)), test_size=DIGITS_TEST_SHARE, random_state=0, stratify=labels
    )
    names = tuple(map(str, range(10)))
    banks = (
        Bank(images[i], labels[i].astype(np.int32), np.zeros(len(i), np.int32), names, ("digits",))
        for i in rows
    )
    return Dataset(*banks)
