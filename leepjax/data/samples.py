"""What a folder, a table or a hub's set holds, before images are decoded and labels are counted."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from leepjax._names import listed
from leepjax._progress import say

Image = str | Callable[[], str | bytes]  # a file's path, or what returns one, or its content


class Samples(NamedTuple):
    """``n`` samples, in the order of their source.

    Attributes:
      name: of the set, for messages and caches.
      where: ``n`` names of samples for messages: a path, or a line of a table.
      labels: ``n`` raw values for each label column; None, empty text and NaN are missing.
      keys: ``n`` plain values, which differ where the content of the input differs.
      images: ``n`` images, or None of text.
      texts: one or two columns of ``n`` texts; none of images.
      tested: ``[n]`` bool, what belongs to the test split; None where there is no such split.
      class_names: all classes in the order of the source; None: in their natural order.
      wrong: what is known to be wrong, by sample.
    """

    name: str
    where: Sequence[str]
    labels: Mapping[str, Sequence[Any]]
    keys: Sequence[Any]
    images: Sequence[Image] | None = None
    texts: tuple[Sequence[str], ...] = ()
    tested: np.ndarray | None = None
    class_names: tuple[str, ...] | None = None
    wrong: Mapping[int, str] = {}


def check_damage(samples: Samples, wrong: Mapping[int, str], skip_damaged: bool) -> None:
    """Say which samples are left out, if that was asked for.

    Raises:
      ValueError: some are damaged and it was not, or nothing is left.
    """
    if not wrong:
        return
    named = [f"{samples.where[i]} ({wrong[i]})" for i in sorted(wrong)]
    said = f"{len(wrong):,} of {len(samples.where):,} samples of {samples.name!r} cannot be used"
    said += f": {listed(named, quote=False)}"
    if len(wrong) == len(samples.where):
        raise ValueError(f"name: {said}. Nothing would be left.")
    if not skip_damaged:
        raise ValueError(
            f"name: {said}. Mend them, or leave them out by skip_damaged=True (--skip-damaged)."
        )
    say(f"{said}; left out")
