"""A bank of texts: what :class:`~leepjax.data.Bank` is to images."""

import dataclasses
from functools import cached_property

import numpy as np

from leepjax._store import digest


@dataclasses.dataclass(frozen=True)
class TextBank:
    """Labelled texts, or pairs of texts, with the names of their classes and groups.

    Attributes:
      texts: ``n`` texts.
      labels: ``[n]`` int32 in ``0..C-1``, or as those of :class:`~leepjax.data.Bank`.
      groups: ``[n]`` int32; all zero where there are none.
      class_names: ``C`` names; a label is an index into them.
      group_names: the names of the groups; one where there are none.
      pairs: ``n`` second texts, or None.
    """

    texts: tuple[str, ...]
    labels: np.ndarray
    groups: np.ndarray
    class_names: tuple[str, ...]
    group_names: tuple[str, ...]
    pairs: tuple[str, ...] | None = None

    @property
    def num_classes(self) -> int:
        """Number of classes, also of those without a text in this bank."""
        return len(self.class_names)

    @cached_property
    def digest(self) -> str:
        """Content key of texts, labels, groups and names."""
        names = [*self.class_names, *self.group_names]
        return digest([*self.texts], [*(self.pairs or ())], self.labels, self.groups, names)
