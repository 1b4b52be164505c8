"""Networks filled from safetensors files: everything in its place, or one message what is not."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from safetensors import SafetensorError
from safetensors.numpy import load_file

from leepjax._progress import say
from leepjax.models.naming import Naming, tensor_names
from leepjax.models.source import Source

# Where our axes are in PyTorch's tensor, by rank: it has [out, in, h, w] and [out, in];
# embeddings are [in, out] in both.
_AXES = {1: (0,), 2: (1, 0), 3: (0, 1, 2), 4: (2, 3, 1, 0)}
_IGNORED = ("num_batches_tracked",)


class _Leaf(NamedTuple):
    """One of our arrays, and the tensors it is made of."""

    names: list[str]
    shape: tuple[int, ...]  # of each tensor
    axes: tuple[int, ...]

    def of(self, tensors: dict[str, np.ndarray]) -> jax.Array:
        parts = [tensors[name] for name in self.names] if 0 not in self.shape else ()
        joined = np.concatenate(parts) if parts else np.zeros(self.shape)  # of no classes
        return jnp.asarray(joined.transpose(self.axes), jnp.float32)


def fill(
    network: nnx.Module,
    tensors: dict[str, np.ndarray],
    naming: Naming,
    *,
    path: str | os.PathLike[str],
    wanted: str,
    hint: str = "",
) -> nnx.Module:
    """A network with the tensors of a file.

    Args:
      network: of shapes alone, as ``nnx.eval_shape`` makes it.
      tensors: by the library's names.
      naming: that of the library.
      path: where the tensors are from, for the message.
      wanted: what they should be, for the message.
      hint: what to do, for the message.

    Raises:
      ValueError: tensors that are missing, unexpected, misshapen or no floats, all in one message
        (``num_batches_tracked`` is ignored).
    """
    graphdef, params, rest = nnx.split(network, nnx.Param, ...)
    empty = (nnx.to_pure_dict(params), nnx.to_pure_dict(rest))
    leaves = jax.tree_util.tree_map_with_path(
        lambda keys, leaf: _leaf([entry.key for entry in keys[1:]], leaf.shape, naming), empty
    )
    shapes = {
        name: leaf.shape
        for leaf in jax.tree.leaves(leaves, is_leaf=_is_leaf)
        for name in leaf.names
        if 0 not in leaf.shape
    }
    tensors = _renamed({k: v for k, v in tensors.items() if not k.endswith(_IGNORED)}, shapes, path)
    problems = {
        "missing": shapes.keys() - tensors.keys(),
        "unexpected": tensors.keys() - shapes.keys(),
        "misshapen": {
            f"{name} {list(tensors[name].shape)} (wanted {list(shape)})"
            for name, shape in shapes.items()
            if name in tensors and tensors[name].shape != shape
        },
        "of whole numbers or of 8 bits, as quantised networks have": {
            f"{name} ({tensors[name].dtype})"
            for name in shapes.keys() & tensors.keys()
            if not jnp.issubdtype(tensors[name].dtype, jnp.floating)
            or tensors[name].dtype.itemsize == 1  # without the scales that belong to them
        },
    }
    if any(problems.values()):
        listed = "; ".join(f"{kind}: {_some(names)}" for kind, names in problems.items() if names)
        raise ValueError(
            f"path: wanted the tensors of {wanted}, but {str(path)!r} differs: {listed}{hint}"
        )
    params, rest = jax.tree.map(lambda leaf: leaf.of(tensors), leaves, is_leaf=_is_leaf)
    return nnx.merge(graphdef, params, rest)


def has_head(tensors: Iterable[str], naming: Naming) -> bool:
    """Whether there is a head among the names of a file's tensors, whatever stands before it."""
    (head,) = tensor_names(["head", "kernel"], naming)
    return any(f".{name}".endswith(f".{head}") for name in tensors)


def _renamed(
    tensors: dict[str, np.ndarray], wanted: Iterable[str], path: str | os.PathLike[str]
) -> dict[str, np.ndarray]:
    """Tensors by the names that are wanted, where one prefix of all is all that is amiss.

    Wrappers put ``module.``, ``_orig_mod.``, ``model.``, ``backbone.`` before every name, one or
    several; transformers' networks without a head lack the step that those with one have.
    """
    wanted = {*wanted}
    steps = {name.partition(".")[0] + "." for name in wanted}
    cut, names = "", {*tensors}
    while True:
        for added in ("", *sorted(steps)):
            if wanted & {added + name for name in names}:
                if cut or added:
                    now = f", and {added!r} put before" if added else ""
                    what = f"without the prefix {cut!r} of all" if cut else "as they are"
                    say(f"{path}: names of tensors are taken {what}{now}")
                return {added + k.removeprefix(cut): x for k, x in tensors.items()}
        first = {name.partition(".")[0] for name in names}
        if len(first) != 1 or not all("." in name for name in names):
            return tensors
        cut += first.pop() + "."
        names = {name.removeprefix(cut) for name in tensors}


def to_tensors(source: Source, naming: Naming) -> dict[str, np.ndarray]:
    """The arrays of a source, named and laid out as in such a file: the inverse of :func:`fill`."""
    tensors = {}
    for keys, array in jax.tree_util.tree_leaves_with_path((source.params, source.rest)):
        leaf = _leaf([entry.key for entry in keys[1:]], array.shape, naming)
        parts = np.split(np.asarray(array).transpose(np.argsort(leaf.axes)), len(leaf.names))
        tensors |= dict(zip(leaf.names, parts, strict=True))
    return tensors


def read_tensors(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """All tensors of a safetensors file.

    Raises:
      ValueError: no such file; not of this kind, or damaged; numbers that NumPy has not.
    """
    if not Path(path).is_file():
        raise ValueError(f"path: wanted a safetensors file, but there is none at {str(path)!r}")
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ValueError(
            f"path: wanted a safetensors file, but {str(path)!r} is damaged or of another kind "
            f"({error}); fetch it again, or save PyTorch's state_dict with safetensors.torch"
        ) from error
    except (TypeError, KeyError, AttributeError) as error:  # a number format that NumPy has not
        raise ValueError(
            f"path: wanted numbers as float32 or float16, but {str(path)!r} has others ({error}); "
            "save them as float32"
        ) from error


def _leaf(steps: list[str], shape: tuple[int, ...], naming: Naming) -> _Leaf:
    names = tensor_names(steps, naming)
    axes = (0, 1) if steps[-1] == "embedding" else _AXES[len(shape)]
    first, *others = (shape[axes.index(axis)] for axis in range(len(shape)))
    return _Leaf(names, (first // len(names), *others), axes)


def _is_leaf(node: Any) -> bool:
    return isinstance(node, _Leaf)


def _some(names: Iterable[str], most: int = 12) -> str:
    names = sorted(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
