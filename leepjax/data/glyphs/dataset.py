"""Glyphs as banks, from one file for each script and split, drawn into the cache when asked for."""

import os
import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import matplotlib
import numpy as np
import PIL
from PIL import features

from leepjax._progress import progress
from leepjax._store import cache_dir, digest, intact, read_record, seal, whole, write_record
from leepjax.data.bank import Bank, Dataset
from leepjax.data.glyphs.catalogue import SCRIPTS, Character, catalogue
from leepjax.data.glyphs.images import IMAGES, images_of

VERSION = 1  # of the characters and their images: what is in the cache is drawn anew


def glyphs(selection: str) -> Dataset:
    """Glyphs of the selected scripts (all without a selection), drawn first if need be.

    Args:
      selection: ``A+B`` (these scripts), ``-A-B`` (all but these), or empty.

    Raises:
      ValueError: an unknown script, none at all, or a cache that cannot be written to.
    """
    scripts = _selected(selection)
    folder, made_with = cache_dir("glyphs"), _made_with()
    by_script: dict[str, list[Character]] = {}
    for character in _characters(folder / f"catalogue-{digest(made_with)}.json"):
        if character.script in scripts:
            by_script.setdefault(character.script, []).append(character)

    def piece(script: str, split: str) -> Path:
        key = digest(made_with, script, by_script[script], IMAGES[split])
        return folder / f"{script}-{split}-{key}.npy"

    pieces = {(script, split): piece(script, split) for split in IMAGES for script in by_script}
    _draw({key: path for key, path in pieces.items() if not intact(_record(path))}, by_script)
    names = tuple(c.name for characters in by_script.values() for c in characters)
    counts = [len(characters) for characters in by_script.values()]
    banks = []
    for split, n in IMAGES.items():
        images = [np.load(pieces[script, split], mmap_mode="r") for script in by_script]
        labels = np.repeat(np.arange(len(names), dtype=np.int32), n)
        groups = np.repeat(np.arange(len(counts), dtype=np.int32), np.multiply(counts, n))
        together = images[0] if len(images) == 1 else np.concatenate(images)
        banks.append(Bank(together, labels, groups, names, tuple(by_script)))
    return Dataset(*banks)


def _selected(selection: str) -> tuple[str, ...]:
    """Scripts of ``A+B`` (these) or ``-A-B`` (all but these), in the order of :data:`SCRIPTS`."""
    scripts = tuple(SCRIPTS)
    named = selection.removeprefix("-").split("-" if selection.startswith("-") else "+")
    unknown = [script for script in named if selection and script not in scripts]
    if unknown:
        raise ValueError(
            f"name: glyphs has no script {unknown[0]!r} (in 'glyphs:{selection}'); wanted A+B or "
            f"-A-B of {', '.join(scripts)}."
        )
    if not selection:
        return scripts
    kept = tuple(s for s in scripts if (s in named) != selection.startswith("-"))
    if not kept:
        raise ValueError(f"name: 'glyphs:{selection}' leaves no script. Leave out fewer.")
    return kept


def _made_with() -> dict[str, object]:
    """What decides the pixels: this code, the fonts inside matplotlib, and what renders them."""
    return {
        "glyphs": VERSION,
        "matplotlib": matplotlib.__version__,
        "pillow": PIL.__version__,
        "freetype": features.version("freetype2"),
    }


def _characters(path: Path) -> list[Character]:
    """The catalogue, kept in ``path``, since finding it takes seconds."""
    try:
        rows = read_record(path)["characters"]
        return [Character(char, script, tuple(faces)) for char, script, faces in rows]
    except FileNotFoundError:
        pass
    except ValueError as error:
        warnings.warn(f"{error}; it is made anew", stacklevel=3)
    characters = list(catalogue())
    write_record(path, {"characters": characters})
    return characters


def _record(piece: Path) -> Path:
    return piece.with_suffix(".json")


def _draw(
    missing: Mapping[tuple[str, str], Path], by_script: Mapping[str, Sequence[Character]]
) -> None:
    """Draw the pieces ``{(script, split): file}``, on all cores; each is written when whole."""
    if not missing:
        return
    jobs = [(character, split) for script, split in missing for character in by_script[script]]
    total = sum(IMAGES[split] for _, split in jobs)
    pool = ThreadPoolExecutor(min(8, os.cpu_count() or 1))
    with progress(total=total, desc="Drawing Glyphs (once)", unit="image") as bar:
        try:
            drawn = pool.map(images_of, *zip(*jobs, strict=True))
            for (script, _), path in missing.items():
                images = []
                for _ in by_script[script]:
                    images.append(next(drawn))
                    bar.update(len(images[-1]))
                with whole(path) as part, part.open("wb") as file:
                    np.save(file, np.concatenate(images))
                seal(_record(path), [path])
        finally:
            pool.shutdown(cancel_futures=True)
