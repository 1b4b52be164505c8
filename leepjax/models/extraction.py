"""One forward pass over a bank, done once and kept."""

import contextlib
import platform
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from leepjax import distributed
from leepjax._progress import progress
from leepjax._store import (
    cache_dir,
    digest,
    intact,
    optional,
    read_record,
    seal,
    whole,
    write_record,
    writing,
)
from leepjax.data import Bank, TextBank, check_bank
from leepjax.models.source import Outputs, Source, apply
from leepjax.models.tokens import Tokens, tokenize
from leepjax.models.torch_encoder import TorchEncoder


def extract(
    source: Source | TorchEncoder,
    bank: Bank | TextBank,
    *,
    batch_size: int = 512,
    devices: Sequence[Any] | None = None,
) -> Outputs:
    """Features and logits of every image or text of a bank, cached by the content of both.

    Neither the batch size nor the devices change the result beyond float tolerance, so neither is
    part of the key; a damaged cache file is computed anew, with a warning. Texts are padded to few
    lengths, powers of two, so that few programs are compiled, and no text is given much padding.

    Args:
      source: the source model.
      bank: ``n`` images, or texts for a language model (which :func:`tokenize` splits).
      batch_size: images a step, over all devices together; rounded up to a multiple of their
        number. Of texts as many of 16 tokens, and fewer of longer ones.
      devices: each batch is divided evenly over these; ``None``: this process's first alone. With
        those of several processes the call is joint (``leepjax.distributed``): each process takes
        its share of the samples.

    Returns:
      NumPy arrays, features ``[n, d]`` and logits ``[n, s]``.

    Raises:
      ValueError: an empty bank, no devices, or a batch size below 1.
    """
    bank = _checked(source, bank, batch_size)
    part = distributed.part_of(devices)
    path = cache_dir("outputs") / f"{digest(source.digest, bank.digest)}.safetensors"
    if part.joint:
        return _extract_jointly(source, bank, batch_size, part, path)
    outputs = _load(path)
    if outputs is None:
        outputs = _compute(source, bank, batch_size, part.devices)
        with optional(path):
            _save(path, outputs)
    return outputs


def _extract_jointly(
    source: Source | TorchEncoder, bank: Bank, batch_size: int, part: distributed.Part, path: Path
) -> Outputs:
    """Process 0's cache, or each process's share of the images; process 0 keeps them."""
    distributed.check_same("extract", source=source.digest, bank=bank.digest)
    cached = _load(path) if distributed.is_main() else None
    if distributed.gather_plain("extract", lambda: cached is not None)[0]:
        empty = Outputs(np.empty(0), np.empty(0))
        return distributed.from_main("extract", lambda: cached, empty)
    n, processes = len(bank.images), jax.process_count()
    mine = replace(bank, images=bank.images[part.rows(n)])
    size = max(1, batch_size // processes)
    parts = distributed.gather("extract", lambda: _compute(source, mine, size, part.devices))
    outputs = Outputs(*(np.concatenate(arrays)[:n] for arrays in zip(*parts, strict=True)))
    if distributed.is_main():
        with optional(path):
            _save(path, outputs)
    return outputs


def extract_layers(
    source: Source | TorchEncoder,
    bank: Bank | TextBank,
    *,
    batch_size: int = 512,
    devices: Sequence[Any] | None = None,
) -> list[np.ndarray]:
    """What every layer of a language model says about a bank: its pooled states.

    One pass writes each layer to a file of its own in the cache, batch by batch. The arrays are
    those files, mapped: memory holds a batch while they are written, and what is read after.

    Args:
      source: a language model.
      bank: ``n`` texts, or their tokens.
      batch_size: as of :func:`extract`.
      devices: as of :func:`extract`, but of this process.

    Returns:
      ``[n, d]`` float32 of each layer, the embeddings first.

    Raises:
      ValueError: as of :func:`extract`; a network without layers.
    """
    bank = _checked(source, bank, batch_size)
    if not has_layers(source):
        raise ValueError("source: wanted a language model, whose layers can be read, got another")
    folder = cache_dir("layers") / digest(source.digest, bank.digest)
    record = folder / "record.json"
    if not intact(record):
        folder.mkdir(parents=True, exist_ok=True)
        files: list[np.memmap] = []
        for rows, layers in _passes(
            source, bank, batch_size, devices or jax.local_devices()[:1], layers=True
        ):
            for i in range(len(files), len(layers)):
                shape = len(bank.images), layers[i].shape[1]
                files.append(_mapped(folder / f"layer{i}.npy", shape))
            for file, layer in zip(files, layers, strict=True):
                file[rows] = layer
        for file in files:
            file.flush()
        seal(record, [folder / f"layer{i}.npy" for i in range(len(files))])
    count = len(list(folder.glob("layer*.npy")))
    return [np.load(folder / f"layer{i}.npy", mmap_mode="r") for i in range(count)]


def has_layers(source: Source | TorchEncoder) -> bool:
    """Whether the states of every layer of a network can be read."""
    if isinstance(source, TorchEncoder):
        return source.run_layers is not None
    return hasattr(nnx.merge(source.graphdef, source.params, source.rest), "layers")


def _mapped(path: Path, shape: tuple[int, ...]) -> np.memmap:
    with writing(path):
        return np.lib.format.open_memmap(path, "w+", np.float32, shape)


def forward_seconds(
    source: Source | TorchEncoder, bank: Bank | TextBank, *, batch_size: int = 512
) -> float:
    """Seconds that an image or a text takes on the first device, among a batch's.

    Compiling is left out. Texts of each length are timed, and count as often as they are there.

    It is measured once: the cache holds it by source, size of the batch, device and machine.

    Args:
      source: the source model.
      bank: its first batch (of each length) is run, twice; the second time counts.
      batch_size: as of :func:`extract`.
    """
    bank, device = _checked(source, bank, batch_size), jax.local_devices()[0]
    lengths, counts = np.unique(source.preprocess.lengths(bank.images), return_counts=True)
    shares = counts / counts.sum()
    of = (*bank.images.shape[1:], batch_size, lengths.tolist(), shares.round(3).tolist())
    where = (device.platform, device.device_kind, platform.node(), jax.__version__)
    path = cache_dir("seconds") / f"{digest(source.digest, of, *where)}.json"
    if path.exists():
        with contextlib.suppress(OSError, ValueError, KeyError):  # damaged: it is measured anew
            return read_record(path)["seconds"]
    run, seconds = make_runner(source, [device]), 0.0
    for length, count, share in zip(lengths, counts, shares, strict=True):
        size = _size(source, batch_size, length, count, 1)
        rows = np.flatnonzero(source.preprocess.lengths(bank.images) == length)[:size]
        images = _filled(bank.images[rows, :length], size)
        jax.block_until_ready(run(images))
        start = time.perf_counter()
        jax.block_until_ready(run(images))
        seconds += (time.perf_counter() - start) / size * share
    with optional(path):
        write_record(path, {"seconds": float(seconds)})
    return float(seconds)


def accuracy(source: Source, bank: Bank) -> float:
    """Share in ``[0, 1]`` of a bank's images that a source model classifies correctly.

    Args:
      source: the source model.
      bank: images of the model's own classes.

    Raises:
      ValueError: the bank has other classes.
    """
    if bank.class_names != source.class_names:
        raise ValueError(
            f"bank: wanted the source's {len(source.class_names)} classes "
            f"({', '.join(source.class_names[:3])}, ...), got {len(bank.class_names)} "
            f"({', '.join(bank.class_names[:3])}, ...)"
        )
    logits = extract(source, bank).logits
    return float(np.mean(logits.argmax(axis=1) == bank.labels))


# Not lax.map over batches: XLA's CPU backend runs a convolution inside a loop body more than ten
# times slower (https://github.com/jax-ml/jax/issues/12868).
@partial(jax.jit, static_argnames=("graphdef", "preprocess"))
def _forward(graphdef: Any, preprocess: Any, params: Any, rest: Any, images: jax.Array) -> Outputs:
    return apply(graphdef, params, rest, preprocess(images))[0]


@partial(jax.jit, static_argnames=("graphdef", "preprocess"))
def _forward_layers(
    graphdef: Any, preprocess: Any, params: Any, rest: Any, images: jax.Array
) -> list[jax.Array]:
    network: Any = nnx.merge(graphdef, params, rest)
    return network.layers(preprocess(images))


def _checked(source: Any, bank: Any, batch_size: int) -> Bank:
    """The bank, of texts their tokens."""
    if isinstance(bank, TextBank):
        bank = tokenize(source, bank)
    check_bank("bank", bank)
    if isinstance(source.preprocess, Tokens):
        source.preprocess.check(bank.images)
    if batch_size < 1:
        raise ValueError(f"batch_size: wanted at least 1, got {batch_size}")
    return bank


def _compute(source: Any, bank: Bank, batch_size: int, devices: Sequence[Any]) -> Outputs:
    where, collected = [], []
    for rows, outputs in _passes(source, bank, batch_size, devices):
        where.append(rows)
        collected.append(outputs)
    order = np.argsort(np.concatenate(where))
    return Outputs(*(np.concatenate(arrays)[order] for arrays in zip(*collected, strict=True)))


def _passes(
    source: Any, bank: Bank, batch_size: int, devices: Sequence[Any], *, layers: bool = False
) -> Iterator[tuple[np.ndarray, Any]]:
    """Rows of a bank, and what a forward pass says of them, batch by batch, length by length."""
    run = make_runner(source, devices, layers=layers)
    lengths = source.preprocess.lengths(bank.images)
    unit = "text" if isinstance(source.preprocess, Tokens) else "image"
    with progress(total=len(lengths), desc="extract", unit=unit) as bar:
        for length in np.unique(lengths):
            rows = np.flatnonzero(lengths == length)
            size = _size(source, batch_size, length, len(rows), len(devices))
            for start in range(0, len(rows), size):
                part = rows[start : start + size]
                outputs = run(_filled(bank.images[part, :length], size))
                count = len(part)
                yield part, jax.tree.map(lambda x, n=count: np.asarray(x)[:n], outputs)
                bar.update(count)


def _size(source: Any, batch_size: int, length: int, count: int, devices: int) -> int:
    """How many of ``count`` of a length at once."""
    most = min(source.preprocess.at_once(batch_size, length), count)
    return -(-most // devices) * devices


def _filled(images: np.ndarray, size: int) -> np.ndarray:
    """Filled up with zeros to so many, so that there is one shape and one compilation."""
    return np.pad(images, ((0, size - len(images)), *((0, 0),) * 3))


def make_runner(
    source: Source | TorchEncoder, devices: Sequence[Any], *, layers: bool = False
) -> Callable[[np.ndarray], Any]:
    """A forward pass of uint8 images, as many as the devices share evenly."""
    if isinstance(source, TorchEncoder):
        return source.run_layers if layers and source.run_layers else source.run
    forward = _forward_layers if layers else _forward
    mesh = jax.make_mesh(
        (len(devices),), ("data",), axis_types=(AxisType.Auto,), devices=list(devices)
    )
    params, rest = jax.device_put((source.params, source.rest), NamedSharding(mesh, P()))

    def run(images: np.ndarray) -> Any:
        placed = jax.device_put(images, NamedSharding(mesh, P("data")))
        return forward(source.graphdef, source.preprocess, params, rest, placed)

    return run


def _load(path: Path) -> Outputs | None:
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="numpy") as file:
            outputs = Outputs(*(file.get_tensor(name) for name in Outputs._fields))
            intact = (file.metadata() or {}).get("digest") == digest(*outputs)
    except (OSError, SafetensorError):
        outputs, intact = None, False
    if not intact:
        warnings.warn(f"{path} is damaged; it is made anew", stacklevel=3)
    return outputs if intact else None


def _save(path: Path, outputs: Outputs) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with writing(path, SafetensorError), whole(path) as part:
        save_file(outputs._asdict(), part, metadata={"digest": digest(*outputs)})
