"""A bank: labelled images held once, from which every task is cut by index."""

import dataclasses
from functools import cached_property, partial
from typing import NamedTuple

import jax
import numpy as np

from leepjax._store import digest

EMBEDDED = ("glyphs", "digits")  # the sets that come with the package


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["images", "labels", "groups"],
    meta_fields=["class_names", "group_names"],
)
@dataclasses.dataclass(frozen=True)
class Bank:
    """Labelled images with the names of their classes and groups.

    Attributes:
      images: ``[n, h, w, channels]`` uint8; characters are bright ink on black.
      labels: ``[n]`` int32 in ``0..C-1``; of several labels at once ``[n, t]`` uint8, 0 or 1; of
        numbers ``[n]`` or ``[n, t]`` float32. Only scores and rankings take those.
      groups: ``[n]`` int32, the script or alphabet of each image; all zero where there are none.
      class_names: ``C`` names; a label is an index into them. Or the names of the ``t`` targets.
      group_names: the names of the groups; one where there are none.
    """

    images: np.ndarray
    labels: np.ndarray
    groups: np.ndarray
    class_names: tuple[str, ...]
    group_names: tuple[str, ...]

    @property
    def num_classes(self) -> int:
        """Number of classes, also of those without an image in this bank."""
        return len(self.class_names)

    @property
    def class_groups(self) -> np.ndarray:
        """``[C]`` int32, the group of each class's images; -1 without an image."""
        groups = np.full(self.num_classes, -1, np.int32)
        groups[self.labels] = self.groups
        return groups

    @cached_property
    def digest(self) -> str:
        """Content key of images, labels, groups and names."""
        return digest(self.images, self.labels, self.groups, [*self.class_names, *self.group_names])


def check_bank(name: str, bank: Bank) -> None:
    """Check what everything that reads a bank of images of classes relies on.

    Raises:
      ValueError: images, labels or groups have a wrong shape, dtype or value, or there are none.
    """
    if not hasattr(bank, "images"):
        raise ValueError(f"{name}: wanted a bank of images, got a {type(bank).__name__}")
    for field in ("images", "labels", "groups"):
        if not hasattr(getattr(bank, field), "dtype"):
            got = type(getattr(bank, field)).__name__
            raise ValueError(f"{name}.{field}: wanted an array, as of np.asarray, got a {got}")
    for field in ("class_names", "group_names"):
        names = getattr(bank, field)
        if not isinstance(names, tuple) or not all(isinstance(x, str) for x in names):
            got = type(names).__name__ + (f" with {names[0]!r}" if len(names) else "")
            raise ValueError(f"{name}.{field}: wanted a tuple of text, got a {got:.60}")
    images, n = bank.images, len(bank.images)
    if images.ndim != 4 or images.dtype != np.uint8 or 0 in images.shape:
        raise ValueError(
            f"{name}.images: wanted uint8 of shape [n, h, w, channels] with n >= 1, got "
            f"{images.dtype} of shape {list(images.shape)}{_remedy(images)}"
        )
    layout = _other_layout(images.shape)
    if layout:
        raise ValueError(
            f"{name}.images: wanted [n, h, w, channels], got shape {list(images.shape)}; {layout}"
        )
    for field, values, names in (
        ("labels", bank.labels, bank.class_names),
        ("groups", bank.groups, bank.group_names),
    ):
        values = np.asarray(values)
        if values.shape != (n,) or not np.issubdtype(values.dtype, np.integer):
            raise ValueError(
                f"{name}.{field}: wanted {n} integers, one per image, got {values.dtype} of shape "
                f"{list(values.shape)}"
            )
        if values.min() < 0 or values.max() >= len(names):
            raise ValueError(
                f"{name}.{field}: wanted 0 to {len(names) - 1}, an index into the names, got "
                f"{values.min()} to {values.max()}"
            )


def _other_layout(shape: tuple[int, ...]) -> str:
    """What to do with images ``[n, channels, h, w]`` or ``[h, w, channels, n]``; else nothing.

    Images of many channels are read, so it is the other sides that tell.
    """
    _, h, w, last = shape
    if last in (1, 3) or h == w:
        return ""
    if h in (1, 3, 4) or w == last:
        return "of channels first, as in PyTorch, give images.transpose(0, 2, 3, 1)"
    if w in (1, 3):
        return "of samples last give images.transpose(3, 0, 1, 2)"
    return ""


def _remedy(images: np.ndarray) -> str:
    """What to do with images of another dtype or rank, where that is known."""
    if images.ndim == 3:
        return "; of grey images give images[..., None]"
    if images.dtype.kind == "f":
        return "; of values in [0, 1] give np.round(255 * images).astype(np.uint8)"
    return ""


class Dataset(NamedTuple):
    """The two banks of one data set, over the same classes and groups."""

    train: Bank
    test: Bank
