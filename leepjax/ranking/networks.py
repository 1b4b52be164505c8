"""Pre-trained networks as sources of a ranking: each loaded in its turn, run, and let go of."""

import dataclasses
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from leepjax.data.bank import Bank
from leepjax.models import Source, find_checkpoint, read_checkpoint


def pretrained_sources(
    names: Sequence[str], commits: dict[str, str]
) -> dict[str, Callable[[], Source]]:
    """What :func:`rank` takes: by name, functions that load a network.

    Args:
      names: of the hub, ``NAME`` or ``NAME@REVISION``, or folders, as ``load_pretrained`` takes
        them; a folder goes by its last part where that is unique.
      commits: filled, while the functions are called, with what was loaded from the hub.

    Raises:
      ValueError: a name that is there twice.
    """
    last = [Path(name).resolve().name if Path(name).is_dir() else name for name in names]
    times = Counter(last)
    shown = [short if times[short] == 1 else name for short, name in zip(last, names, strict=True)]
    twice = [name for name, n in Counter(shown).items() if n > 1]
    if twice:
        raise ValueError(f"hub: wanted each network once, got {twice[0]!r} twice")

    def load(short: str, name: str) -> Source:
        try:
            checkpoint = find_checkpoint(name)
            if checkpoint.commit is not None:
                commits[short] = checkpoint.commit
            return read_checkpoint(checkpoint)
        except ValueError as error:
            raise ValueError(str(error).removeprefix("name: ")) from None

    return {short: partial(load, short, name) for short, name in zip(shown, names, strict=True)}


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
