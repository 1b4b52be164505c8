"""Pre-trained networks as sources of a ranking: each loaded in its turn, run, and let go of."""

import dataclasses
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from leepjax.data.bank import Bank
from leepjax.models import extract, find_checkpoint, forward_seconds, read_checkpoint
from leepjax.ranking.inputs import by_array

BATCH = 32  # images of ImageNet's size at once


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """A source that is loaded where it is run, over the bank that a worker has.

    Attributes:
      name: of the hub, or a folder.
      commits: filled by :func:`rank` with the hub's hash of what was loaded.
      shown: the name of the source.
    """

    name: str
    commits: dict[str, str] = dataclasses.field(compare=False, repr=False)
    shown: str

    def of_bank(self, bank: Bank) -> dict[str, Any]:
        """What the network says about a bank, facts, and its commit, None of a folder."""
        try:
            checkpoint = find_checkpoint(self.name)
            network = read_checkpoint(checkpoint)
        except ValueError as error:
            raise ValueError(str(error).removeprefix("name: ")) from None
        return {
            **by_array(extract(network, bank, batch_size=BATCH)),
            "parameters": sum(np.size(x) for x in jax.tree.leaves(network.params)),
            "seconds": forward_seconds(network, bank, batch_size=BATCH),
            "commit": checkpoint.commit,
        }


def pretrained_sources(
    names: Sequence[str], bank: Bank, commits: dict[str, str]
) -> dict[str, Pretrained]:
    """What :func:`rank` takes: by name, networks that are loaded and run in their turn.

    Args:
      names: of the hub, ``NAME`` or ``NAME@REVISION``, or folders, as ``load_pretrained`` takes
        them; a folder goes by its last part where that is unique.
      bank: the images that they are to be ranked on; outputs are cached by ``extract``.
      commits: filled, while they are ranked, with what was loaded from the hub.

    Raises:
      ValueError: a name that is there twice.
    """
    del bank
    last = [Path(name).resolve().name if Path(name).is_dir() else name for name in names]
    times = Counter(last)
    shown = [short if times[short] == 1 else name for short, name in zip(last, names, strict=True)]
    twice = [name for name, n in Counter(shown).items() if n > 1]
    if twice:
        raise ValueError(f"hub: wanted each network once, got {twice[0]!r} twice")
    whole = [os.path.abspath(name) if Path(name).is_dir() else name for name in names]
    return {
        short: Pretrained(name, commits, short) for short, name in zip(shown, whole, strict=True)
    }


def some_of(bank: Bank, samples: int, seed: int = 0) -> Bank:
    """A bank of so many of the images, drawn at random, in their order; all, where there are fewer.

    Raises:
      ValueError: fewer than one sample is asked for.
    """
    if samples < 1:
        raise ValueError(f"samples: wanted at least 1, got {samples}")
    if samples >= len(bank.images):
        return bank
    rows = np.sort(np.random.default_rng(seed).choice(len(bank.images), samples, replace=False))
    return dataclasses.replace(
        bank, images=bank.images[rows], labels=bank.labels[rows], groups=bank.groups[rows]
    )
