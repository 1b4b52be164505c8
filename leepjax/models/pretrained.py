"""CIFAR ResNets that were trained elsewhere, from safetensors files with PyTorch's names."""

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from safetensors import SafetensorError
from safetensors.numpy import load_file

from leepjax.models.preprocess import Preprocess
from leepjax.models.resnet import ResNet
from leepjax.models.source import Source, make_source

CIFAR10_CLASS_NAMES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)

# ImageNet's channel statistics, with which these CIFAR networks were trained too.
_PREPROCESS = Preprocess(size=32, channels=3, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))

# PyTorch's names of our modules and tensors; a block is layerL.B there.
_MODULES = {"conv": "conv1", "bn": "bn1", "head": "linear"}
_TENSORS = {
    "kernel": "weight",
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
}
# Where our axes are in PyTorch's tensor, by rank: it has [out, in, h, w] and [out, in].
_AXES = {1: (0,), 2: (1, 0), 4: (2, 3, 1, 0)}


def load_resnet(
    path: str | os.PathLike[str],
    depth: int,
    *,
    class_names: tuple[str, ...] = CIFAR10_CLASS_NAMES,
) -> Source:
    """A CIFAR ResNet from tensors named ``conv1``, ``bn1``, ``layerL.B.convK``, ..., ``linear``.

    Args:
      path: safetensors file.
      depth: 20, 32, 44 or 56.
      class_names: one per row of ``linear.weight``, in its order.

    Returns:
      A source whose inputs are 32×32 colour images: smaller ones are zero-padded to that, grey
      ones repeated.

    Raises:
      ValueError: another depth; no such file, or not a safetensors file; tensors that are missing,
        unexpected or misshapen for this depth and these classes, all in one message
        (``num_batches_tracked`` is ignored).
    """
    network = nnx.eval_shape(lambda: ResNet(depth, len(class_names), rngs=nnx.Rngs(0)))
    graphdef, params, rest = nnx.split(network, nnx.Param, ...)
    empty = (nnx.to_pure_dict(params), nnx.to_pure_dict(rest))
    tensors = _read(path)
    _check(path, depth, tensors, empty)
    params, rest = jax.tree_util.tree_map_with_path(
        lambda keys, leaf: jnp.asarray(
            tensors[_torch_name(keys)].transpose(_AXES[len(leaf.shape)]), jnp.float32
        ),
        empty,
    )
    return make_source(nnx.merge(graphdef, params, rest), _PREPROCESS, class_names)


def _torch_name(keys: tuple[Any, ...]) -> str:
    """PyTorch's name of a leaf of ``(params, rest)``, from its path in that tree."""
    modules: list[str] = [entry.key for entry in keys[1:]]
    tensor = modules.pop()
    module = ".".join(_MODULES.get(name, name) for name in modules)
    module = re.sub(r"stage(\d+)_block(\d+)", r"layer\1.\2", module)
    return f"{module}.{_TENSORS[tensor]}"


def _torch_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    axes = _AXES[len(shape)]
    return tuple(shape[axes.index(axis)] for axis in range(len(shape)))


def _read(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    if not Path(path).is_file():
        raise ValueError(f"path: wanted a safetensors file, but there is none at {str(path)!r}")
    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise ValueError(
            f"path: wanted a safetensors file, but {str(path)!r} is damaged or of another kind "
            f"({error}); fetch it again, or save PyTorch's state_dict with safetensors.torch"
        ) from error
    return {k: v for k, v in tensors.items() if not k.endswith("num_batches_tracked")}


def _check(
    path: str | os.PathLike[str], depth: int, tensors: dict[str, np.ndarray], empty: Any
) -> None:
    wanted = {
        _torch_name(keys): _torch_shape(leaf.shape)
        for keys, leaf in jax.tree_util.tree_leaves_with_path(empty)
    }
    problems = {
        "missing": wanted.keys() - tensors.keys(),
        "unexpected": tensors.keys() - wanted.keys(),
        "misshapen": {
            f"{name} {list(tensors[name].shape)} (wanted {list(shape)})"
            for name, shape in wanted.items()
            if name in tensors and tensors[name].shape != shape
        },
    }
    if not any(problems.values()):
        return
    listed = "; ".join(f"{kind}: {_some(names)}" for kind, names in problems.items() if names)
    blocks = {name.split(".")[1] for name in tensors if name.startswith("layer1.")}
    hint = f"; its {len(blocks)} blocks a stage are depth {6 * len(blocks) + 2}" if blocks else ""
    raise ValueError(
        f"path: wanted the tensors of a ResNet of depth {depth}, but {str(path)!r} differs: "
        f"{listed}{hint}"
    )


def _some(names: Iterable[str], most: int = 12) -> str:
    names = sorted(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
