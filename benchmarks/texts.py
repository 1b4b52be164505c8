"""Layers of a language model ranked here and by transformer-ranker: scores, seconds, memory.

    OMP_NUM_THREADS=2 python -m benchmarks texts --model MODEL --data mails.jsonl

Both take the same texts and model, and score every layer by LogME; each runs in a process of its
own, loading included. Texts are cut to so many words first, so that neither cuts any. The peer
splits texts at punctuation and pools words, without the tokens at the ends, so its features are not
ours: its LogME of our features stands beside. Needs the extra ``bench``.
"""

import dataclasses
import json
import os
import resource
import tempfile
import time
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from leepjax.data import TextBank


@dataclasses.dataclass(frozen=True)
class Config:
    """Layers of a language model ranked by both."""

    model: Path
    """Folder with config.json, model.safetensors and tokenizer.json."""
    data: Path
    """JSON Lines with text and label."""
    texts: int = 1000
    """How many of them, the first."""
    words: int = 60
    """Words of a text, at most six times as many letters."""


Side = Callable[[Config, Path], Any]


def read(config: Config) -> TextBank:
    """The first texts, cut to so many words."""
    rows = [json.loads(line) for line in config.data.read_text().splitlines()[: config.texts]]
    names, labels = np.unique([str(row["label"]) for row in rows], return_inverse=True)
    texts = tuple(" ".join(row["text"].split()[: config.words])[: 6 * config.words] for row in rows)
    labels = labels.astype(np.int32)
    return TextBank(texts, labels, np.zeros_like(labels), (*map(str, names),), ("all",))


def ours(config: Config, features: Path) -> list[float]:
    """LogME of each layer but the embeddings."""
    from leepjax.metrics import logme
    from leepjax.models import extract_layers, load_encoder

    bank = read(config)
    layers = extract_layers(load_encoder(config.model, pooling="mean"), bank)[1:]
    np.save(features, np.stack(layers))
    return [float(logme(x, bank.labels, num_classes=bank.num_classes)) for x in layers]


def our_tokens(config: Config, features: Path) -> float:
    """Tokens a second, padding not counted, of a forward pass in JAX."""
    del features
    from leepjax.models import load_encoder

    return _tokens_per_second(load_encoder(config.model, pooling="mean"), config)


def their_tokens(config: Config, features: Path) -> float:
    """The same batches through transformers."""
    del features
    from leepjax.models.tokens import read_tokenizer
    from leepjax.models.torch_encoder import read_by_torch

    about = json.loads((config.model / "config.json").read_text())
    weights = [config.model / "model.safetensors"]
    encoder = read_by_torch(about, read_tokenizer(config.model), config.model, weights)
    return _tokens_per_second(encoder, config)


def _tokens_per_second(source: Any, config: Config) -> float:
    from leepjax.models import forward_seconds, tokenize

    tokens = tokenize(source, read(config))
    given = np.count_nonzero(tokens.images[:, :, 3]) / len(tokens.images)
    return float(given / forward_seconds(source, tokens, batch_size=256))


def theirs(config: Config, features: Path) -> dict[str, Any]:
    """The same by transformer-ranker, on its own features and on ours; and its "lastlayer"."""
    from benchmarks.peers import transformer_ranker as peer

    bank = read(config)
    own = peer.embed_layers(str(config.model), list(bank.texts))
    scores = {"theirs": [peer.logme(x, peer.prepare(bank.labels), 0) for x in own]}
    if features.exists():
        scores["theirs_of_ours"] = [
            peer.logme(peer.prepare(x), peer.prepare(bank.labels), 0) for x in np.load(features)
        ]
    last = peer.last_layer(str(config.model), list(bank.texts[:8]))
    scores["last_is"] = [float(np.abs(np.asarray(x[:8]) - last).max()) for x in own]
    return scores


def measured(side: Side, config: Config, features: Path) -> dict[str, Any]:
    """What one side says, and the seconds, CPU seconds and GiB of this process."""
    start = time.perf_counter()
    scores = side(config, features)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    seconds = time.perf_counter() - start
    return {"scores": scores, "seconds": seconds, "cpu": time.process_time(), "peak": peak}


def alone(side: Side, config: Config, features: Path) -> dict[str, Any]:
    """The same in a fresh process."""
    with get_context("spawn").Pool(1) as pool:
        return pool.apply(measured, (side, config, features))


def main(config: Config) -> None:
    """Run both, and print scores by layer and what each took."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["LEEPJAX_CACHE"] = folder
        features = Path(folder) / "features.npy"
        mine, peer = (alone(side, config, features) for side in (ours, theirs))
        said = peer["scores"]
        print("layer  ours     theirs of ours  theirs   distance of their lastlayer")
        for i, value in enumerate(mine["scores"]):
            row = said["theirs_of_ours"][i], said["theirs"][i], said["last_is"][i]
            print(f"{i + 1:5}  {value:7.4f}  {row[0]:14.4f}  {row[1]:7.4f}  {row[2]:.1e}")
        for name, side in (("leepjax", mine), ("transformer-ranker", peer)):
            took = f"{side['seconds']:.0f} s, {side['cpu']:.0f} s of CPU"
            print(f"{name}: {took}, peak {side['peak']:.2f} GiB", flush=True)
        tokens = [alone(side, config, features)["scores"] for side in (our_tokens, their_tokens)]
    print("forward pass, tokens a second: JAX {:,.0f}, PyTorch {:,.0f}".format(*tokens))
