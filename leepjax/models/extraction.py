"""One forward pass over a bank, done once and kept."""

import contextlib
import platform
import time
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from leepjax._progress import progress
from leepjax._store import (
    cache_dir,
    digest,
    optional,
    read_record,
    whole,
    write_record,
    writing,
)
from leepjax.data.bank import Bank, check_bank
from leepjax.models.preprocess import Preprocess
from leepjax.models.source import Outputs, Source, apply


def extract(
    source: Source,
    bank: Bank,
    *,
    batch_size: int = 512,
    devices: Sequence[Any] | None = None,
) -> Outputs:
    """Features and logits of every image of a bank, cached by the content of both.

    Neither the batch size nor the devices change the result beyond float tolerance, so neither is
    part of the key; a damaged cache file is computed anew, with a warning.

    Args:
      source: the source model.
      bank: ``n`` images.
      batch_size: images a step, over all devices together; rounded up to a multiple of their
        number.
      devices: each batch is divided evenly over these; ``None``: the first device alone.

    Returns:
      NumPy arrays, features ``[n, d]`` and logits ``[n, s]``.

    Raises:
      ValueError: an empty bank, no devices, or a batch size below 1.
    """
    check_bank("bank", bank)
    if batch_size < 1:
        raise ValueError(f"batch_size: wanted at least 1, got {batch_size}")
    if devices is not None and len(devices) == 0:
        raise ValueError("devices: wanted at least one, got none; leave it out for the first")
    path = cache_dir("outputs") / f"{digest(source.digest, bank.digest)}.safetensors"
    outputs = _load(path)
    if outputs is None:
        outputs = _compute(source, bank, batch_size, devices or jax.devices()[:1])
        with optional(path):
            _save(path, outputs)
    return outputs


def forward_seconds(source: Source, bank: Bank, *, batch_size: int = 512) -> float:
    """Seconds that an image takes on the first device, among a batch's; compiling is left out.

    It is measured once: the cache holds it by source, size of the batch, device and machine.

    Args:
      source: the source model.
      bank: its first ``batch_size`` images are run, twice; the second time counts.
      batch_size: as of :func:`extract`.
    """
    images, device = bank.images[:batch_size], jax.devices()[0]
    where = (device.platform, device.device_kind, platform.node(), jax.__version__)
    path = cache_dir("seconds") / f"{digest(source.digest, images.shape, *where)}.json"
    if path.exists():
        with contextlib.suppress(OSError, ValueError, KeyError):  # damaged: it is measured anew
            return read_record(path)["seconds"]
    run = _runner(source, [device])
    jax.block_until_ready(run(images))
    start = time.perf_counter()
    jax.block_until_ready(run(images))
    seconds = (time.perf_counter() - start) / len(images)
    with optional(path):
        write_record(path, {"seconds": seconds})
    return seconds


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
def _forward(
    graphdef: Any, preprocess: Preprocess, params: Any, rest: Any, images: jax.Array
) -> Outputs:
    return apply(graphdef, params, rest, preprocess(images))[0]


def _compute(source: Source, bank: Bank, batch_size: int, devices: Sequence[Any]) -> Outputs:
    n = len(bank.images)
    batch_size = -(-min(batch_size, n) // len(devices)) * len(devices)
    run = _runner(source, devices)
    collected: list[Outputs] = []
    with progress(total=n, desc="extract", unit="image") as bar:
        for start in range(0, n, batch_size):
            images = bank.images[start : start + batch_size]
            count = len(images)
            # The last batch is filled up, so that there is one shape and one compilation.
            images = np.pad(images, ((0, batch_size - count), (0, 0), (0, 0), (0, 0)))
            collected.append(Outputs(*(np.asarray(array)[:count] for array in run(images))))
            bar.update(count)
    return Outputs(*(np.concatenate(arrays) for arrays in zip(*collected, strict=True)))


def _runner(source: Source, devices: Sequence[Any]) -> Callable[[np.ndarray], Outputs]:
    """The forward pass of uint8 images, as many as the devices share evenly."""
    mesh = jax.make_mesh(
        (len(devices),), ("data",), axis_types=(AxisType.Auto,), devices=list(devices)
    )
    params, rest = jax.device_put((source.params, source.rest), NamedSharding(mesh, P()))

    def run(images: np.ndarray) -> Outputs:
        placed = jax.device_put(images, NamedSharding(mesh, P("data")))
        return _forward(source.graphdef, source.preprocess, params, rest, placed)

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
