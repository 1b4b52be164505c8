"""Drawing Glyphs into a TFDS data directory, once and whole."""

import contextlib
import io
import os
from pathlib import Path

import tensorflow_datasets as tfds

from leepjax.data.glyphs.builder import Glyphs


def prepare(root: Path) -> None:
    """Draw Glyphs into ``root`` unless it is there.

    TFDS writes into a temporary folder and renames it at the end, so that an interruption
    leaves no half of a set behind; progress is one bar on stderr.
    """
    done = root / Glyphs.name / str(Glyphs.VERSION) / "dataset_info.json"
    if done.exists():
        return
    tfds.disable_progress_bar()  # ours is enough
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # TFDS prints what it would download
            builder = Glyphs(data_dir=os.fspath(root), file_format="array_record")
            builder.download_and_prepare()
    except OSError:
        if not done.exists():  # else another process was faster
            raise
    finally:
        tfds.enable_progress_bar()
