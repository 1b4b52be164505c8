"""Pre-trained networks as sources of a ranking: each loaded in its turn, run, and let go of."""

import dataclasses
from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from leepjax.data import Bank, TextBank
from leepjax.models import (
    Source,
    TorchEncoder,
    count_layers,
    extract,
    extract_layers,
    find_checkpoint,
    forward_seconds,
    read_encoder,
    tokenize,
)
from leepjax.ranking.files import READERS, read_source
from leepjax.ranking.inputs import by_array
from leepjax.ranking.layers import layer_name

BATCH = 32  # images of ImageNet's size at once
TEXTS = 256  # texts of 16 tokens at once, or as many tokens of longer ones


def pretrained_sources(
    names: Sequence[str],
    bank: Bank | TextBank,
    commits: dict[str, str],
    *,
    every_layer: bool = False,
    pooling: str | None = None,
) -> dict[str, Callable[[], dict[str, Any]]]:
    """What :func:`rank` takes: by name, functions that say what a network says about a bank.

    Args:
      names: of the hub, ``NAME`` or ``NAME@REVISION``, or folders, as ``load_encoder`` takes
        them; a folder goes by its last part where that is unique. A file of arrays of the same
        samples (``.npz``, ``.safetensors``, Parquet) is read as :func:`rank` reads it.
      bank: the images or texts; outputs are cached by ``extract``.
      commits: filled, while the functions are called, with what was loaded from the hub.
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

    def run(short: str, name: str) -> tuple[dict[str, Any], list[np.ndarray]]:
        network = _opened(short, name, commits, pooling)
        samples = tokenize(network, bank) if isinstance(bank, TextBank) else bank
        size = TEXTS if isinstance(bank, TextBank) else BATCH
        facts = {
            "parameters": network.num_parameters,
            "seconds": forward_seconds(network, samples, batch_size=size),
        }
        if every_layer and isinstance(bank, TextBank):
            return facts, extract_layers(network, samples, batch_size=size)
        return {**by_array(extract(network, samples, batch_size=size)), **facts}, []

    run_once = lru_cache(maxsize=1)(run)  # the layers of one network come one after the other

    def say(short: str, name: str, layer: int | None) -> dict[str, Any]:
        if layer is None:
            return run(short, name)[0]
        facts, layers = run_once(short, name)
        return {"features": np.array(layers[layer]), **facts}

    sources = {}
    for short, name in zip(shown, names, strict=True):
        if Path(name).suffix in READERS and Path(name).is_file():
            sources[short] = partial(read_source, name)
            continue
        count = count_layers(name) if every_layer and isinstance(bank, TextBank) else None
        for layer in [None] if count is None else range(count):
            source = short if layer is None else layer_name(short, layer)
            sources[source] = partial(say, short, name, layer)
    return sources


def _opened(
    short: str, name: str, commits: dict[str, str], pooling: str | None
) -> Source | TorchEncoder:
    try:
        checkpoint = find_checkpoint(name)
        if checkpoint.commit is not None:
            commits[short] = checkpoint.commit
        return read_encoder(checkpoint, pooling=pooling)
    except ValueError as error:
        raise ValueError(str(error).removeprefix("name: ")) from None


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
