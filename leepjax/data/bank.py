"""A bank: labelled images held once, from which every task is cut by index."""

import dataclasses
from functools import cached_property, partial
from typing import NamedTuple

import jax
import numpy as np

from leepjax._store import digest


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
      labels: ``[n]`` int32 in ``0..C-1``.
      groups: ``[n]`` int32, the script or alphabet of each image; all zero where there are none.
      class_names: ``C`` names; a label is an index into them.
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
    """Check what everything that reads a bank relies on.

    Raises:
      ValueError: images, labels or groups have a wrong shape, dtype or value, or there are none.
    """
    images, n = bank.images, len(bank.images)
    if images.ndim != 4 or images.dtype != np.uint8 or n == 0:
        raise ValueError(
            f"{name}.images: wanted uint8 of shape [n, h, w, channels] with n >= 1, got "
            f"{images.dtype} of shape {list(images.shape)}"
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


class Dataset(NamedTuple):
    """The two banks of one data set, over the same classes and groups."""

    train: Bank
    test: Bank
