"""Pre-trained networks as sources of a ranking: each loaded in its turn, run, and let go of."""

import dataclasses
import os
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from leepjax.data import Bank, TextBank
from leepjax.models import (
    Source,
    TorchEncoder,
    count_layers,
    extract_layers,
    find_checkpoint,
    forward_seconds,
    read_encoder,
    tokenize,
)
from leepjax.ranking.files import READERS
from leepjax.ranking.inputs import arrays_of, batch_of
from leepjax.ranking.layers import layer_name


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """A source that is loaded where it is run, over the bank that a worker has.

    Attributes:
      name: of the hub, or a folder.
      pooling: of language models, as ``load_pretrained`` takes it.
      layer: the one layer of a language model that is the source; None: what the network gives.
    """

    name: str
    pooling: str | None = None
    layer: int | None = None

    def open_network(self) -> "Opened":
        """Read the network."""
        try:
            return Opened(*_opened(self.name, self.pooling), self.layer)
        except ValueError as error:
            raise ValueError(str(error).removeprefix("name: ")) from None


class Opened(NamedTuple):
    """A network that was read; its commit, None of a folder; the layer that is the source."""

    network: Source | TorchEncoder
    commit: str | None
    layer: int | None

    def of_bank(self, bank: Bank | TextBank) -> dict[str, Any]:
        """What the network says about a bank, facts, and the commit."""
        network, commit, layer = self
        samples = tokenize(network, bank) if isinstance(bank, TextBank) else bank
        if layer is None:
            return {**arrays_of(network, samples), "commit": commit}
        size = batch_of(network)
        return {
            "features": np.array(extract_layers(network, samples, batch_size=size)[layer]),
            "parameters": network.num_parameters,
            "seconds": forward_seconds(network, samples, batch_size=size),
            "commit": commit,
        }


@lru_cache(maxsize=1)  # the layers of one network come one after the other
def _opened(name: str, pooling: str | None) -> tuple[Source | TorchEncoder, str | None]:
    checkpoint = find_checkpoint(name)
    return read_encoder(checkpoint, pooling=pooling), checkpoint.commit


def pretrained_sources(
    names: Sequence[str], *, every_layer: bool = False, pooling: str | None = None
) -> dict[str, Any]:
    """What :func:`rank` takes: by name, networks that are loaded and run in their turn.

    Args:
      names: of the hub, ``NAME`` or ``NAME@REVISION``, or folders, as ``load_encoder`` takes
        them; a folder goes by its last part where that is unique. A file of arrays of the same
        samples (``.npz``, ``.safetensors``, Parquet) is read as :func:`rank` reads it.
      every_layer: a source for each layer of a language model.
      pooling: of language models, as ``load_pretrained`` takes it.

    Raises:
      ValueError: a name that is there twice.
    """
    last = [Path(name).resolve().name if Path(name).is_dir() else name for name in names]
    times = Counter(last)
    shown = [short if times[short] == 1 else name for short, name in zip(last, names, strict=True)]
    twice = [name for name, n in Counter(shown).items() if n > 1]
    if twice:
        raise ValueError(f"hub: wanted each network once, got {twice[0]!r} twice")
    sources: dict[str, Any] = {}
    for short, name in zip(shown, names, strict=True):
        if Path(name).suffix in READERS and Path(name).is_file():
            sources[short] = Path(name)
            continue
        where = os.path.abspath(name) if Path(name).is_dir() else name
        count = count_layers(name) if every_layer else None
        for layer in [None] if count is None else range(count):
            source = short if layer is None else layer_name(short, layer)
            sources[source] = Pretrained(where, pooling, layer)
    return sources


def some_of(bank: Any, samples: int, seed: int = 0) -> Any:
    """A bank of so many of the images or texts, drawn at random, in their order.

    All, where there are fewer.

    Raises:
      ValueError: fewer than one sample is asked for.
    """
    if samples < 1:
        raise ValueError(f"samples: wanted at least 1, got {samples}")
    if samples >= len(bank.labels):
        return bank
    rows = np.sort(np.random.default_rng(seed).choice(len(bank.labels), samples, replace=False))
    arrays = {"labels": bank.labels[rows], "groups": bank.groups[rows]}
    if isinstance(bank, Bank):
        return dataclasses.replace(bank, images=bank.images[rows], **arrays)
    texts = tuple(bank.texts[i] for i in rows)
    pairs = bank.pairs and tuple(bank.pairs[i] for i in rows)
    return dataclasses.replace(bank, texts=texts, pairs=pairs, **arrays)
