"""Data sets by name: ``NAME`` or ``NAME:SPLIT`` to a training and a test bank."""

import os
import re
from pathlib import Path

import numpy as np

from leepjax._extras import require
from leepjax.data.bank import EMBEDDED, Bank, Dataset

DIGITS_TEST_SHARE = 0.3


def load(name: str, *, data_dir: str | Path | None = None) -> Dataset:
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
    ============================  ==============================================================

    Classes and groups without an image are left out, and labels and groups are numbered anew
    from 0. Images are cached (``LEEPJAX_CACHE``), and memory-mapped where they are in one file.

    Args:
      name: the table's first column.
      data_dir: the TFDS data directory; by default ``TFDS_DATA_DIR`` or ``~/tensorflow_datasets``.

    Returns:
      The two banks, over the same classes and groups.

    Raises:
      ValueError: an unknown set, split or script; a set that is not prepared (the message says
        how to), not of labelled images, or damaged; a cache that Glyphs cannot be drawn into.
    """
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
    base, _, root = _place(name, data_dir)
    if base not in EMBEDDED:
        from leepjax.data import prepared

        prepared.find(base, root)


def _place(name: str, data_dir: str | Path | None) -> tuple[str, str, Path]:
    """Set and split that a name stands for, and the TFDS data directory."""
    base, colon, split = name.partition(":")
    if not re.fullmatch(r"\w+(/[\w.-]+)?", base) or (colon and not split):
        raise ValueError(f"name: wanted NAME or NAME:SPLIT, got {name!r}. Try 'glyphs'.")
    directory = data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    return base, split, Path(directory).expanduser().absolute()


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
