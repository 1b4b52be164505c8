"""The state of a stream in a file: plain arrays, to be merged by another process or machine.

A file is one ``.safetensors`` of the state's arrays by name (``moments.rest.gram``), with what kind
of state they are, the version of the format and a checksum. Engines that read safetensors need
nothing of ours to look into it.

Example:
  >>> import jax.numpy as jnp
  >>> from pathlib import Path
  >>> from tempfile import TemporaryDirectory
  >>> from leepjax import streams
  >>> from leepjax.metrics import streaming
  >>> state = streaming.update(streaming.init(num_classes=2), jnp.array([0, 1, 1]))
  >>> with TemporaryDirectory() as folder:
  ...     streams.save(Path(folder) / "part.safetensors", state)
  ...     again = streams.load(Path(folder) / "part.safetensors")
  >>> streaming.merge(state, again).counts.tolist()
  [2.0, 4.0]
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from leepjax._store import digest, whole, writing
from leepjax.metrics.moments import About, Moments, Targets
from leepjax.metrics.streaming import Predictions, Stream

VERSION = "1"
KINDS: dict[str, type] = {"stream": Stream, "moments": Moments, "about": About}
_INNER: dict[tuple[type, str], type] = {
    (Stream, "moments"): Moments,
    (Stream, "predictions"): Predictions,
    (Stream, "rest"): Stream,
    (Moments, "targets"): Targets,
    (Moments, "rest"): Moments,
}


def save(path: str | Path, state: Stream | Moments | About) -> None:
    """Write a state, whole or not at all.

    Args:
      path: the file; one that is there is replaced.
      state: of ``metrics.streaming`` or ``metrics.moments``.

    Raises:
      ValueError: it is something else.
      OSError: the file cannot be written.
    """
    kind = next((name for name, known in KINDS.items() if type(state) is known), None)
    if kind is None:
        wanted = ", ".join(known.__name__ for known in KINDS.values())
        raise ValueError(f"state: wanted one of {wanted}, got {type(state).__name__}")
    arrays = {name: np.asarray(x, order="C") for name, x in _named(state)}
    metadata = {"kind": f"leepjax.{kind}", "version": VERSION, "digest": _checksum(arrays)}
    path = Path(path)
    with writing(path, SafetensorError), whole(path) as part:
        save_file(arrays, part, metadata=metadata)


def load(path: str | Path) -> Any:
    """The state that :func:`save` wrote.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it is damaged, of another version, or no state; or its numbers are float64, and
        JAX computes in float32 here.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"path: wanted a file of streams.save, there is none at {path}")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{path} is damaged, or no file of streams.save ({error})") from None
    kind = metadata.get("kind", "none").removeprefix("leepjax.")
    if kind not in KINDS:
        raise ValueError(f"{path}: wanted a state of {', '.join(KINDS)}, got kind {kind!r}")
    if metadata.get("version") != VERSION:
        got = metadata.get("version")
        raise ValueError(f"{path}: wanted format version {VERSION}, got {got}; save it again")
    if metadata.get("digest") != _checksum(arrays):
        raise ValueError(f"{path} is damaged (its checksum is another)")
    wide = sorted(
        name for name, x in arrays.items() if jnp.asarray(x[:0] if x.ndim else x).dtype != x.dtype
    )
    if wide:
        dtype = arrays[wide[0]].dtype
        raise ValueError(f"{path}: wanted numbers of JAX's precision, got {dtype}; jax_enable_x64")
    return _built(KINDS[kind], arrays)


def _named(state: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in state._asdict().items():
        if isinstance(value, tuple):
            yield from _named(value, f"{prefix}{name}.")
        elif value is not None:
            yield prefix + name, value


def _built(kind: Any, arrays: dict[str, np.ndarray], prefix: str = "") -> Any:
    fields: dict[str, Any] = {}
    for name in kind._fields:
        full = prefix + name
        inner = _INNER.get((kind, name))
        if inner is not None and any(n.startswith(f"{full}.") for n in arrays):
            fields[name] = _built(inner, arrays, f"{full}.")
        else:
            fields[name] = jnp.asarray(arrays[full]) if full in arrays else None
    return kind(**fields)


def _checksum(arrays: dict[str, np.ndarray]) -> str:
    names = sorted(arrays)
    return digest(names, *(arrays[name] for name in names))
