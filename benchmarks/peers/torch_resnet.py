"""A CIFAR ResNet and its fine-tuning in plain PyTorch: what leepjax's are timed and tested against.

Written from the article (K. He, X. Zhang, S. Ren, J. Sun: Deep Residual Learning for Image
Recognition, CVPR 2016, section 4.2) and PyTorch's own optimisers; of leepjax it takes only the
settings, and the names of its arrays. The modules are named as in the published weights.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import torch  # pyright: ignore[reportMissingImports]
from torch import nn  # pyright: ignore[reportMissingImports]
from torch.nn import functional as F  # pyright: ignore[reportMissingImports]

from leepjax.models import Preprocess, Source
from leepjax.models.naming import CIFAR
from leepjax.models.tensors import to_tensors
from leepjax.transfer import Recipe


class Block(nn.Module):
    """Two 3×3 convolutions around a shortcut of option A: strided, padded with zero channels."""

    def __init__(self, inputs: int, width: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.stride, self.missing = stride, width - inputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[n, inputs, h, w]`` to ``[n, width, h / stride, w / stride]``."""
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = self.bn2(self.conv2(y))
        if self.missing:
            before = self.missing // 2
            x = x[:, :, :: self.stride, :: self.stride]
            x = F.pad(x, (0, 0, 0, 0, before, self.missing - before))
        return F.relu(y + x, inplace=True)


class ResNet(nn.Module):
    """Three stages of so many blocks, with 16, 32 and 64 channels."""

    def __init__(self, blocks: int, num_classes: int):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = _stage(blocks, 16, 16, 1)
        self.layer2 = _stage(blocks, 16, 32, 2)
        self.layer3 = _stage(blocks, 32, 64, 2)
        self.linear = nn.Linear(64, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits ``[n, num_classes]`` of images ``[n, 3, h, w]``."""
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(x.mean((2, 3)))


def _stage(blocks: int, inputs: int, width: int, stride: int) -> nn.Sequential:
    others = [Block(width, width, 1) for _ in range(blocks - 1)]
    return nn.Sequential(Block(inputs, width, stride), *others)


def transferred(tensors: Mapping[str, np.ndarray], num_classes: int) -> ResNet:
    """The network of the tensors of a safetensors file, under a new head, which is zero."""
    blocks = sum(name.startswith("layer1.") and "conv1" in name for name in tensors)
    model = ResNet(blocks, num_classes)
    state = model.state_dict()
    kept = {name: torch.tensor(a) for name, a in tensors.items() if "linear" not in name}
    kept |= {name: a for name, a in state.items() if "num_batches_tracked" in name}
    kept |= {name: torch.zeros_like(a) for name, a in state.items() if "linear" in name}
    model.load_state_dict(kept)  # raises where a tensor is missing or is one too many
    return model


def to_input(images: torch.Tensor, preprocess: Preprocess) -> torch.Tensor:
    """From uint8 ``[n, channels, h, w]``, at most ``size`` pixels wide, to the network's input."""
    x = images / 255
    x = x.expand(-1, preprocess.channels, -1, -1)
    frame = (preprocess.size - x.shape[-1]) // 2
    x = F.pad(x, (frame,) * 4)
    mean, std = (
        torch.tensor(a, dtype=x.dtype, device=x.device)[:, None, None]
        for a in (preprocess.mean, preprocess.std)
    )
    return (x - mean) / std


def make_optimiser(model: ResNet, recipe: Recipe) -> torch.optim.Optimizer:
    """SGD or AdamW, which decay kernels alone."""
    kernels = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim == 1]
    groups = [
        {"params": kernels, "weight_decay": recipe.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    rate: Any = recipe.learning_rate
    if recipe.optimiser == "adamw":
        return torch.optim.AdamW(groups, rate)
    return torch.optim.SGD(groups, rate, recipe.momentum, nesterov=recipe.nesterov)


def fit(
    model: Callable[[torch.Tensor], torch.Tensor],
    optimiser: torch.optim.Optimizer,
    batches: Iterable[tuple[torch.Tensor, torch.Tensor]],
    steps: int,
    recipe: Recipe,
) -> torch.Tensor:
    """Train on batches of inputs and labels; the loss of each of the steps.

    The rate falls as a cosine, whatever the recipe says.
    """
    losses = []
    for step, (x, labels) in enumerate(batches):
        for group in optimiser.param_groups:
            group["lr"] = recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * step / steps))
        loss = F.cross_entropy(model(x), labels, label_smoothing=recipe.label_smoothing)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.detach())
    return torch.stack(losses)


def contenders(
    source: Source,
    images: np.ndarray,
    tasks: Sequence[tuple[np.ndarray, np.ndarray]],
    num_classes: int,
    recipe: Recipe,
) -> dict[str, Callable[[], float]]:
    """Calls that fine-tune one task after another, by name; each returns a mean of last losses.

    Args:
      source: what training starts from.
      images: ``[n, h, w, channels]`` uint8.
      tasks: rows and labels of each task's batches, ``[steps, batch]``.
      num_classes: of every task.
      recipe: how to train; its last losses are those of its last epoch.
    """
    device = "cuda" if jax.default_backend() == "gpu" else "cpu"
    torch.backends.cudnn.benchmark = True  # shapes stay the same
    bank = torch.tensor(images.transpose(0, 3, 1, 2), device=device)
    ready = [[torch.tensor(a, device=device).long() for a in task] for task in tasks]

    def contender(layout: torch.memory_format, compiled: bool) -> Callable[[], float]:
        model = transferred(to_tensors(source, CIFAR), num_classes).to(device)
        model.to(memory_format=layout)  # pyright: ignore[reportCallIssue]  (a stub lacks it)
        start = {name: a.clone() for name, a in model.state_dict().items()}
        network = torch.compile(model) if compiled else model
        preprocess = source.preprocess
        assert isinstance(preprocess, Preprocess)  # of images

        def inputs(rows: torch.Tensor) -> torch.Tensor:
            return to_input(bank[rows], preprocess).contiguous(memory_format=layout)

        def call() -> float:
            last = []
            for rows, labels in ready:
                model.load_state_dict(start)
                batches = ((inputs(r), y) for r, y in zip(rows, labels, strict=True))
                losses = fit(network, make_optimiser(model, recipe), batches, len(rows), recipe)
                last.append(losses[-(len(rows) // recipe.epochs) :].mean())
            return torch.stack(last).mean().item()

        return call

    plain, last = torch.contiguous_format, torch.channels_last
    calls = {"PyTorch": contender(plain, False), "PyTorch channels_last": contender(last, False)}
    if device == "cuda":
        calls["PyTorch compile"] = contender(plain, True)
        calls["PyTorch compile channels_last"] = contender(last, True)
    return calls
