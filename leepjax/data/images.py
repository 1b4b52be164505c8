"""Image files to arrays of one size, decoded once into the cache."""

import io
import os
import shutil
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from leepjax._progress import progress, say
from leepjax._store import cache_dir, digest, intact, read_record, seal, whole, write_record
from leepjax.data import samples

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")  # none runs a program
LARGEST = 256  # pixels; images of one size are kept as they are up to here
SIZE = 224  # of the others
SAMPLE = 200  # images whose size and channels are looked at beforehand
VERSION = 1  # of what is made of a file
GROUP = 16  # images that a thread decodes at once
ORIENTATION = 0x0112  # EXIF's tag
# What was done to images, said once for all of a set.
FIRST = "are animated or have pages: the first is taken"
TURNED = "are turned upright, as their EXIF says"
SIXTEEN = "have 16 bits: 0 to 65535 becomes 0 to 255"
TRANSPARENT = "have an alpha channel: transparent parts are laid on white"
FITTED = "are resized to {} x {}: shorter side, then the centre"
GREY = ("1", "L", "LA", "La", "I", "I;16", "I;16L", "I;16B", "I;16N")


class Decoded(NamedTuple):
    """Images ``[k, h, w, channels]`` uint8 of those that could be read; why not, by sample."""

    images: np.ndarray
    wrong: dict[int, str]


class Group(NamedTuple):
    """Images in a row: their bytes, those that could not be read, and what was done to how many."""

    content: bytes
    wrong: dict[int, str]
    notes: Counter[str]


class _Colour(Exception):
    """An image has colours, where those looked at beforehand were grey."""


def decode(
    name: str, files: Sequence[samples.Image], keys: Sequence[Any], size: int | None
) -> Decoded:
    """All images in one size, memory-mapped from the cache after the first time.

    Args:
      name: of the set.
      files: the images.
      keys: what tells their contents apart.
      size: so many pixels in height and width; default: as they are, where all are of one size of
        at most 256 pixels, else 224 or, where the median of shorter sides is less, that.

    Returns:
      The images, and what could not be read.

    Raises:
      ValueError: a size below 1, no room in the cache, or a file that cannot be opened.
    """
    if size is not None and size < 1:
        raise ValueError(f"size: wanted at least 1, got {size}")
    stem = cache_dir("banks") / f"{file_name(name)}-{digest(VERSION, list(keys), size)}"
    path, report, record = (Path(f"{stem}{end}") for end in (".npy", "-report.json", ".json"))
    if not intact(record):
        shape = _shape(files, size)
        _check_room(name, len(files), shape, path.parent)
        with whole(path) as part:
            try:
                wrong, notes = _write(name, files, shape, part)
            except _Colour:
                shape = (*shape[:2], 3)
                _check_room(name, len(files), shape, path.parent)
                wrong, notes = _write(name, files, shape, part)
        for note, count in sorted(notes.items()):
            say(f"{name}: {count:,} of {len(files):,} images {note.format(*shape)}")
        write_record(report, {"wrong": wrong})
        seal(record, (path, report))
    wrong = {int(i): why for i, why in read_record(report)["wrong"].items()}
    none_left = len(wrong) == len(files)  # NumPy maps no empty file
    return Decoded(np.load(path, mmap_mode=None if none_left else "r"), wrong)


def file_name(name: str) -> str:
    """How the cached files of a set begin."""
    return "own-" + "".join(c if c.isalnum() else "-" for c in name)[:60]


def _check_room(name: str, n: int, shape: tuple[int, int, int], folder: Path) -> None:
    """Say what is needed, or that there is not so much."""
    need, free = n * np.prod(shape, dtype=int), shutil.disk_usage(folder).free
    said = f"{n:,} images of {shape[0]} x {shape[1]} x {shape[2]} need {need / 1e6:,.1f} MB"
    if need > free:
        raise ValueError(
            f"name: {name}: {said} in {folder}, where {free / 1e6:,.1f} MB are free. Choose "
            "another folder by LEEPJAX_CACHE, or a smaller size."
        )
    say(f"{name}: {said} of disk, in the cache")


def _shape(files: Sequence[samples.Image], size: int | None) -> tuple[int, int, int]:
    """Height, width and channels for all, from a look at some of them."""
    rows = np.unique(np.linspace(0, len(files) - 1, SAMPLE).astype(int))
    found = [header for header in map(_header, (files[i] for i in rows)) if header]
    if not found:
        return (size or SIZE, size or SIZE, 3)
    channels = 3 if any(colour for _, _, colour in found) else 1
    shapes = {(h, w) for h, w, _ in found}
    if size is None and len(shapes) == 1 and max(max(shapes)) <= LARGEST:
        return (*shapes.pop(), channels)
    shorter = int(np.median([min(h, w) for h, w, _ in found]))
    side = size or min(SIZE, shorter)
    return side, side, channels


def _header(file: samples.Image) -> tuple[int, int, bool] | None:
    """Height and width, upright, and whether there are colours; None of what cannot be read."""
    content = _content(file)
    try:
        with Image.open(content, "r", FORMATS) as image:
            w, h = image.size
            turned = image.getexif().get(ORIENTATION, 1) >= 5
            return (w, h, image.mode not in GREY) if turned else (h, w, image.mode not in GREY)
    except Exception:  # whatever the decoders pass on: it is said when all are read
        return None


def _content(file: samples.Image) -> io.BytesIO:
    """The bytes of a file.

    Raises:
      ValueError: it cannot be read, so that nothing is known of what it holds.
    """
    content = file() if callable(file) else file
    try:
        return io.BytesIO(Path(content).read_bytes() if isinstance(content, str) else content)
    except OSError as error:
        raise ValueError(f"name: cannot read {content!r}: {error.strerror}") from None


def _write(
    name: str, files: Sequence[samples.Image], shape: tuple[int, int, int], path: Path
) -> tuple[dict[int, str], Counter[str]]:
    """Writes the images that can be read as an ``.npy`` file; what cannot, and what was done."""
    wrong: dict[int, str] = {}
    notes: Counter[str] = Counter()
    layout = {"descr": "|u1", "fortran_order": False}
    bar = progress(total=len(files), desc=f"Decoding {name} (once)", unit="image")
    with path.open("wb") as out, bar:
        np.lib.format.write_array_header_1_0(out, layout | {"shape": (len(files), *shape)})
        start = out.tell()
        for group in _groups(files, shape):
            out.write(group.content)
            wrong |= group.wrong
            notes += group.notes
            bar.update(min(GROUP, len(files) - bar.n))
        out.seek(0)  # NumPy pads the header, so that it is as long for fewer images
        kept = len(files) - len(wrong)
        np.lib.format.write_array_header_1_0(out, layout | {"shape": (kept, *shape)})
        assert out.tell() == start
    return wrong, notes


def _groups(files: Sequence[samples.Image], shape: tuple[int, int, int]) -> Iterator[Group]:
    """All images, in order; a few threads are a few groups ahead."""

    def read(start: int) -> Group:
        wrong: dict[int, str] = {}
        notes: Counter[str] = Counter()
        found = []
        for i in range(start, min(start + GROUP, len(files))):
            pixels = _read(files[i], shape, notes)
            if isinstance(pixels, str):
                wrong[i] = pixels
            else:
                found.append(pixels)
        return Group(b"".join(found), wrong, notes)

    workers = min(8, os.cpu_count() or 1)
    ahead: deque[Future[Group]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        for start in range(0, len(files), GROUP):
            ahead.append(pool.submit(read, start))
            if len(ahead) > 2 * workers:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


def _read(file: samples.Image, shape: tuple[int, int, int], notes: Counter[str]) -> bytes | str:
    """The bytes of one image in this shape; or what is wrong with its content."""
    h, w, channels = shape
    content = _content(file)
    try:
        with Image.open(content, "r", FORMATS) as image:
            notes[FIRST] += getattr(image, "is_animated", False) and image.format != "MPO"
            enough = 2 * max(h, w)
            image.draft(None, (enough, enough))  # a large JPEG is decoded at 1/2, 1/4 or 1/8
            image.load()
            if image.getexif().get(ORIENTATION, 1) != 1:
                notes[TURNED] += 1
                ImageOps.exif_transpose(image, in_place=True)
            plain = _plain(image, notes)
    except MemoryError:
        raise
    except UnidentifiedImageError:
        return "no image"
    except Exception as error:  # whatever the decoders pass on
        return (" ".join(str(error).split()) or type(error).__name__)[:120]
    if plain.mode == "RGB" and channels == 1:
        raise _Colour
    if plain.mode == "L" and channels == 3:
        plain = plain.convert("RGB")
    if plain.size != (w, h):
        notes[FITTED] += 1
        plain = ImageOps.fit(plain, (w, h), Image.Resampling.BICUBIC)
    return plain.tobytes()


def _plain(image: Image.Image, notes: Counter[str]) -> Image.Image:
    """The image in mode ``L`` or ``RGB``.

    Raises:
      ValueError: a mode whose range is not known.
    """
    mode = image.mode
    if mode.startswith("I;16") or (mode == "I" and image.format in ("PNG", "PPM")):
        notes[SIXTEEN] += 1
        return Image.fromarray(np.round(np.asarray(image) / 257).astype(np.uint8))
    if mode in ("I", "F"):
        raise ValueError("32 bits a pixel, whose range is not known; save it with 8 or 16")
    if image.has_transparency_data:
        notes[TRANSPARENT] += 1
        ground = Image.new("RGBA", image.size, "white")
        ground.alpha_composite(image.convert("RGBA"))
        image = ground
    wanted = "L" if mode in GREY else "RGB"
    return image if image.mode == wanted else image.convert(wanted)
