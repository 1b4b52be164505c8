"""Scores and features of data that Ray Data reads in blocks: states leave a worker, data never do.

A block becomes a stream state (`leepjax.metrics.streaming`) where it lies, and states are merged as
they come. A block that is lost with its node is read again, and counts once.
"""

import functools
import io
import os
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from leepjax._ray import check_versions, environment, import_ray, one_line, versions
from leepjax._store import keep_programs
from leepjax.metrics import streaming
from leepjax.metrics.streaming import Stream
from leepjax.models import Source
from leepjax.models.extraction import make_runner

__all__ = ["extract_dataset", "score_dataset", "stream_dataset"]

ROWS = 4096  # samples of an update: one shape, one program
TOGETHER = 16  # states that are merged on a worker before they are sent


def score_dataset(
    dataset: Any,
    init: Stream,
    *,
    labels: str = "labels",
    features: str | None = None,
    probs: str | None = None,
    logits: str | None = None,
) -> dict[str, jax.Array]:
    """Scores of a Ray dataset of any size, ``{name: score}``, larger is better.

    The data are read once, and for LEEP, where there are probabilities or logits, a second time.

    Args:
      dataset: a ``ray.data.Dataset``; its rows are samples.
      init: the stream of no samples, of :func:`leepjax.metrics.streaming.init`: what is scored.
      labels: name of the column of target labels, integers in ``0..c-1``.
      features: of the column of features ``[d]``, where ``init`` has features.
      probs: of the column of source-class probabilities ``[s]``, where ``init`` has source classes.
      logits: of logits ``[s]``, in place of ``probs``.

    Raises:
      ValueError: Ray is not installed, a column is missing or not what ``init`` counts, there is no
        sample, or a worker has another version of leepjax.

    Example:
      >>> from leepjax.metrics import streaming
      >>> from leepjax.ray_data import score_dataset
      >>> init = streaming.init(num_classes=2, num_source_classes=2)
      >>> dataset = ray.data.read_parquet("s3://bucket/outputs/")  # doctest: +SKIP
      >>> score_dataset(dataset, init, logits="logits")  # doctest: +SKIP
      {'leep': -0.34, 'leep_gain': 0.35, 'nce': 0.0, 'neg_label_entropy': -0.69}
    """
    columns = {"labels": labels, "features": features, "probs": probs, "logits": logits}
    columns = {name: column for name, column in columns.items() if column is not None}
    state = stream_dataset(dataset, init, columns)
    if state.predictions is not None:
        second = {name: column for name, column in columns.items() if name != "features"}
        state = stream_dataset(dataset, streaming.second_pass(state), second)
    return streaming.finalize(state)


def stream_dataset(dataset: Any, begin: Stream, columns: Mapping[str, str]) -> Stream:
    """``begin`` with all rows of a Ray dataset added: one pass.

    Args:
      dataset: a ``ray.data.Dataset``.
      begin: a stream of ``streaming.init``, or of ``streaming.second_pass``.
      columns: the dataset's column of each argument of ``streaming.update``.

    Raises:
      ValueError: as of :func:`score_dataset`.
    """
    ray = import_ray()
    begin = jax.device_get(begin)
    # Of the resources that maps have by themselves, so that Ray makes one task of this and of what
    # made the rows: they then never leave it.
    shared = {"held": [ray.put(begin)], "here": versions(), "variables": environment()["env_vars"]}
    arguments, options = {**shared, "columns": dict(columns)}, {"batch_format": "numpy"}
    states = dataset.map_batches(_fold, batch_size=None, fn_kwargs=arguments, **options)
    states = states.map_batches(_fold_states, batch_size=TOGETHER, fn_kwargs=shared, **options)
    state = begin
    try:
        for batch in states.iter_batches(batch_size=1, batch_format="numpy"):
            if batch["error"][0]:
                raise ValueError(f"dataset: {batch['error'][0]}")
            state = streaming.merge(state, _restore(begin, batch["state"][0]))
    except ray.exceptions.RayError as error:  # of reading the data, or of a worker each time
        raise ValueError(f"dataset: {one_line(error)}") from None
    return state


def extract_dataset(
    dataset: Any, source: Source, *, images: str = "image", batch_size: int = 256
) -> Any:
    """A Ray dataset with ``features`` and ``logits`` in place of images.

    Actors hold the network: one for each GPU where the cluster has GPUs, else one for each CPU.

    Args:
      dataset: a ``ray.data.Dataset`` whose images are uint8, all of one shape ``[h, w, ch]``.
      source: the network.
      images: name of their column.
      batch_size: images of a forward pass.

    Raises:
      ValueError: Ray is not installed.
    """
    ray = import_ray()
    there = ray.cluster_resources()
    gpus = int(there.get("GPU", 0))
    needs: dict[str, Any] = {"num_gpus": 1} if gpus else {"num_cpus": 1}
    most = max(1, gpus or int(there.get("CPU", 1)))
    return dataset.map_batches(
        _Network,
        fn_constructor_kwargs={"held": [ray.put(jax.device_get(source))], "here": versions()},
        fn_kwargs={"images": images, "batch_size": batch_size},
        batch_size=batch_size,
        batch_format="numpy",
        concurrency=(1, most),
        runtime_env=environment(),
        **needs,
    )


class _Network:
    """An actor: the network on its device, and its one program."""

    def __init__(self, held: list[Any], here: dict[str, str]):
        check_versions(here)
        keep_programs()
        self.run = make_runner(import_ray().get(held[0]), jax.devices()[:1])

    def __call__(self, batch: dict[str, Any], images: str, batch_size: int) -> dict[str, Any]:
        if images not in batch:
            raise ValueError(f"images: wanted a column {images!r}, got {', '.join(batch)}")
        x = batch.pop(images)
        outputs = self.run(_filled(x, batch_size))
        arrays = {name: np.asarray(y)[: len(x)] for name, y in outputs._asdict().items()}
        return {**batch, **arrays}


def _fold(batch: dict[str, Any], columns: dict[str, str], **shared: Any) -> dict[str, Any]:
    """A block as one state, or what is wrong with it."""
    try:
        begin = _begin(**shared)
        missing = [column for column in columns.values() if column not in batch]
        if missing:
            raise ValueError(f"wanted a column {missing[0]!r}, got {', '.join(batch) or 'none'}")
        state, total = begin, len(batch[columns["labels"]])
        for start in range(0, total, ROWS):
            arrays = {name: batch[column][start : start + ROWS] for name, column in columns.items()}
            where = np.arange(ROWS) < len(arrays["labels"])
            arrays = {name: _filled(x, ROWS) for name, x in arrays.items()}
            state = streaming.update(state, where=where, **arrays)
        return _row(_changed(begin, state))
    except Exception as error:  # Ray would wrap it in pages
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        return _row(b"", kind + one_line(error))


def _fold_states(batch: dict[str, Any], **shared: Any) -> dict[str, Any]:
    """Several states as one, or the first that is wrong."""
    wrong = [error for error in batch["error"] if error]
    if wrong:
        return _row(b"", wrong[0])
    begin = _begin(**shared)
    states = (_restore(begin, state) for state in batch["state"])
    return _row(_changed(begin, functools.reduce(streaming.merge, states, begin)))


def _row(state: bytes, error: str = "") -> dict[str, Any]:
    return {"state": np.array([state], object), "error": np.array([error], object)}


_HELD: dict[
    str, Stream
] = {}  # the stream that this worker's pass begins with, by its object's name


def _begin(held: list[Any], here: dict[str, str], variables: dict[str, str]) -> Stream:
    name = held[0].hex()
    if name not in _HELD:
        check_versions(here)
        os.environ.update(variables)  # where the caches are
        keep_programs()
        _HELD.clear()
        _HELD[name] = jax.tree.map(jnp.asarray, import_ray().get(held[0]))
    return _HELD[name]


def _filled(x: np.ndarray, rows: int) -> np.ndarray:
    """An array ``[rows, ...]``, filled up by zeros."""
    return np.pad(x, ((0, rows - len(x)), *((0, 0),) * (x.ndim - 1))) if len(x) < rows else x


def _changed(begin: Stream, state: Stream) -> bytes:
    """What of a state is not as it began, as arrays in the format of ``.npz``."""
    pairs = enumerate(zip(jax.tree.leaves(begin), jax.tree.leaves(state), strict=True))
    changed: Any = {f"{i}": np.asarray(b) for i, (a, b) in pairs if not np.array_equal(a, b)}
    file = io.BytesIO()
    np.savez(file, **changed)
    return file.getvalue()


def _restore(begin: Stream, text: bytes) -> Stream:
    leaves, structure = jax.tree.flatten(begin)
    with np.load(io.BytesIO(text), allow_pickle=False) as file:
        for name in file.files:
            leaves[int(name)] = jnp.asarray(file[name])
    return jax.tree.unflatten(structure, leaves)
