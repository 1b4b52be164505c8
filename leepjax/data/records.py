"""TFDS records decoded without TensorFlow, and cached as plain arrays."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from leepjax._progress import progress
from leepjax._store import cache_dir, digest, intact, seal, whole

GROUP_KEYS = {"omniglot": "alphabet"}  # feature that names an image's group
CHUNK = 1000  # records read at once


class Records(NamedTuple):
    """One decoded split: images ``[n, h, w, channels]`` uint8, labels and groups ``[n]`` int32.

    Labels and groups count as the set itself does, so they may have gaps.
    """

    images: np.ndarray
    labels: np.ndarray
    groups: np.ndarray


def names_of(builder: Any, key: str) -> tuple[str, ...]:
    """Names of the values of the ClassLabel ``key``; ``KEY NUMBER`` where the set has none."""
    names = builder.info.features[key].names
    if names == [str(i) for i in range(len(names))]:
        return tuple(f"{key} {i}" for i in names)
    return tuple(names)


def group_key(builder: Any) -> str | None:
    """The feature that says which script or alphabet an image belongs to, if there is one."""
    return GROUP_KEYS.get(builder.info.name)


def read(builder: Any, split: str) -> Records:
    """All images of one split, decoded once and memory-mapped from the cache afterwards.

    The cache is keyed by the set's name, version and split and by size and time of its files. What
    is damaged in it is decoded again, with a warning.

    Raises:
      ValueError: a set without image and label features, images of different sizes, or
        damaged records.
    """
    info = builder.info
    shape = _image_shape(builder)
    files = [Path(file) for file in info.splits[split].filepaths]
    try:
        stats = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    except OSError as error:
        raise ValueError(damaged(info.name, builder.data_dir, error)) from error
    key = digest(info.name, str(info.version), split, stats, shape, group_key(builder))
    stem = cache_dir("banks") / f"{info.name}-{split}-{key}"
    images, ids, record = (Path(f"{stem}{end}") for end in ("-images.npy", "-ids.npy", ".json"))
    if not intact(record):
        with whole(images) as part:
            numbers = _write(builder, split, shape, part)
        with whole(ids) as part, part.open("wb") as file:
            np.save(file, numbers)
        seal(record, (images, ids))
    labels, groups = np.load(ids)
    return Records(np.load(images, mmap_mode="r"), labels, groups)


def _write(builder: Any, split: str, shape: tuple[int, int, int], path: Path) -> np.ndarray:
    """Writes a split's images as an ``.npy`` file; its ids ``[2 (label, group), n]`` int32."""
    name, n = builder.info.name, builder.info.splits[split].num_examples
    layout = {"descr": "|u1", "fortran_order": False, "shape": (n, *shape)}
    ids = []
    bar = progress(total=n, desc=f"Decoding {name} {split} (once)", unit="image")
    with path.open("wb") as file, bar:
        np.lib.format.write_array_header_1_0(file, layout)
        for chunk in _decoded(builder, split, shape):
            file.write(chunk.images.data)
            ids.append((chunk.labels, chunk.groups))
            bar.update(len(chunk.labels))
    return np.concatenate(ids, axis=1)


def _decoded(builder: Any, split: str, shape: tuple[int, int, int]) -> Iterator[Records]:
    """A split in chunks. Pillow decodes, whatever else is installed: the same bytes anywhere."""
    encoded = isinstance(builder.info.features["image"], tfds.features.Image)
    group = group_key(builder)
    try:
        decoders = {"image": tfds.decode.SkipDecoding()} if encoded else None
        source = builder.as_data_source(split, decoders=decoders)
        for start in range(0, len(source), CHUNK):
            rows = source.__getitems__(range(start, min(start + CHUNK, len(source))))
            images = np.stack([_pixels(row["image"], shape) for row in rows])
            if builder.info.name == "omniglot":  # dark strokes on white paper
                images = 255 - images
            labels = np.array([row["label"] for row in rows], np.int32)
            groups = np.array([row[group] if group else 0 for row in rows], np.int32)
            yield Records(images, labels, groups)
    except Exception as error:
        raise ValueError(damaged(builder.info.name, builder.data_dir, error)) from error


def _pixels(image: Any, shape: tuple[int, int, int]) -> np.ndarray:
    """One image in ``shape``, from a PNG or JPEG file's bytes or from an array."""
    if isinstance(image, bytes):
        mode = {1: "L", 3: "RGB"}[shape[2]]
        image = np.asarray(Image.open(io.BytesIO(image)).convert(mode)).reshape(shape)
    if image.shape != shape:
        raise ValueError(f"an image of shape {image.shape}, wanted {shape}")
    return image


def _image_shape(builder: Any) -> tuple[int, int, int]:
    """Height, width and channels of a set's decoded images: Omniglot's three are one grey."""
    name, features = builder.info.name, dict(builder.info.features)
    image, label = features.get("image"), features.get("label")
    labelled = isinstance(label, tfds.features.ClassLabel)
    if not labelled or not isinstance(image, tfds.features.Image | tfds.features.Tensor):
        raise ValueError(
            f"name: {name!r} has the features {sorted(features)}; wanted an image set, with "
            "'image' and a ClassLabel 'label'. Choose another set."
        )
    shape: Any = image.shape
    dtype: Any = image.np_dtype
    if len(shape) != 3 or None in shape or shape[2] not in (1, 3) or dtype != np.uint8:
        raise ValueError(
            f"name: {name!r} has images of shape {shape} and dtype {np.dtype(dtype)}; wanted "
            "uint8 images of one size with 1 or 3 channels. Choose another set."
        )
    return (*shape[:2], 1) if name == "omniglot" else shape


def damaged(name: str, folder: Any, error: Exception) -> str:
    """What to say of records that cannot be read."""
    return (
        f"name: {name!r} cannot be read from {folder}: {type(error).__name__}: {error}. Wanted "
        "whole TFDS records. Delete that folder and prepare the set again."
    )
