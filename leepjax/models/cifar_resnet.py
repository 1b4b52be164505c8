"""CIFAR ResNets that were trained elsewhere, from safetensors files with PyTorch's names."""

import os
import re

from flax import nnx

from leepjax.models.naming import CIFAR
from leepjax.models.preprocess import Preprocess
from leepjax.models.resnet import ResNet
from leepjax.models.source import Source, make_source
from leepjax.models.tensors import fill, has_head, read_tensors

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
    tensors = read_tensors(path)
    blocks = {found[1] for name in tensors if (found := re.search(r"\blayer1\.(\d+)\.", name))}
    headless = "" if has_head(tensors, CIFAR) else "; it has no head, which is needed here"
    network = fill(
        nnx.eval_shape(lambda: ResNet(depth, len(class_names), rngs=nnx.Rngs(0))),
        tensors,
        CIFAR,
        path=path,
        wanted=f"a ResNet of depth {depth}",
        hint=f"; its {len(blocks)} blocks a stage are depth {6 * len(blocks) + 2}{headless}"
        if blocks
        else headless,
    )
    return make_source(network, _PREPROCESS, class_names)
