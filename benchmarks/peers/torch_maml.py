"""MAML in plain PyTorch: what leepjax's meta-learning is timed and tested against.

Written from the article (C. Finn, P. Abbeel, S. Levine: Model-Agnostic Meta-Learning for Fast
Adaptation of Deep Networks, ICML 2017), second order, Adam outside. Of leepjax it takes the names
of the arrays only. The network is that of ``leepjax.models.conv4`` with strides, normalised
everywhere by the batch at hand: the support's, then the queries' own.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
import torch  # pyright: ignore[reportMissingImports]
from torch.nn import functional as F  # pyright: ignore[reportMissingImports]

STRIDES = (2, 2, 2, 1)
Form = Literal["loop", "vmap"]
Nested = Mapping[str, Mapping[str, np.ndarray]]
Flat = dict[str, torch.Tensor]
Norm = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
LossAndGrad = Callable[[Flat, "Episode", int, float], tuple[torch.Tensor, Flat]]


class Episode(NamedTuple):
    """A batch of tasks: images ``[t, n, c, h, w]``, labels ``[t, n]``, queries and theirs."""

    support: torch.Tensor
    support_labels: torch.Tensor
    query: torch.Tensor
    query_labels: torch.Tensor


def to_flat(params: Nested, device: str = "cpu") -> Flat:
    """Tensors by names such as ``conv1.kernel``, laid out as PyTorch wants them: copies."""
    named = {
        f"{m}.{name}": np.asarray(a) for m, leaves in params.items() for name, a in leaves.items()
    }
    return {
        name: torch.tensor(
            a.transpose(3, 2, 0, 1) if a.ndim == 4 else a, device=device
        ).contiguous()
        for name, a in named.items()
    }


def to_nested(flat: Mapping[str, torch.Tensor]) -> dict[str, dict[str, np.ndarray]]:
    """The inverse of ``to_flat``."""
    nested: dict[str, dict[str, np.ndarray]] = {}
    for key, tensor in flat.items():
        module, name = key.split(".")
        a = tensor.detach().cpu().numpy()
        nested.setdefault(module, {})[name] = a.transpose(2, 3, 1, 0) if a.ndim == 4 else a
    return nested


def to_episode(arrays: Sequence[np.ndarray], device: str = "cpu") -> Episode:
    """Tensors of support, its labels, queries and theirs."""
    images = [torch.tensor(a.transpose(0, 1, 4, 2, 3), device=device) for a in arrays[::2]]
    labels = [torch.tensor(a, device=device).long() for a in arrays[1::2]]
    return Episode(images[0].contiguous(), labels[0], images[1].contiguous(), labels[1])


def fused_norm(x: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """Of images ``[n, c, h, w]`` by their own mean and biased variance; PyTorch's own."""
    return F.batch_norm(x, None, None, scale, bias, training=True, eps=1e-5)


def plain_norm(x: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """The same, slower on its own, but right when differentiated twice around ``vmap``."""
    var, mean = torch.var_mean(x, (0, 2, 3), correction=0, keepdim=True)
    return (x - mean) * (torch.rsqrt(var + 1e-5) * scale[:, None, None]) + bias[:, None, None]


def logits(params: Flat, x: torch.Tensor, norm: Norm) -> torch.Tensor:
    """``[n, ways]`` of images ``[n, c, h, w]``."""
    for layer, stride in enumerate(STRIDES, start=1):
        x = F.conv2d(x, params[f"conv{layer}.kernel"], stride=stride, padding=1)
        scale, bias = params[f"bn{layer}.scale"], params[f"bn{layer}.bias"]
        x = F.relu(norm(x, scale, bias))
    return x.mean((2, 3)) @ params["head.kernel"] + params["head.bias"]


def loss(params: Flat, x: torch.Tensor, labels: torch.Tensor, norm: Norm) -> torch.Tensor:
    """The mean cross-entropy."""
    return F.cross_entropy(logits(params, x, norm), labels)


def _gradient(of: torch.Tensor, params: Flat, create_graph: bool = False) -> Flat:
    grads = torch.autograd.grad(of, list(params.values()), create_graph=create_graph)
    return dict(zip(params, grads, strict=True))


def _descend(params: Flat, grads: Flat, rate: float) -> Flat:
    return {name: p - rate * grads[name] for name, p in params.items()}


def by_loop(params: Flat, episode: Episode, steps: int, rate: float) -> tuple[torch.Tensor, Flat]:
    """One task after another; of each, the graph is freed before the next."""
    params = {name: p.detach().requires_grad_() for name, p in params.items()}
    sums = {name: torch.zeros_like(p) for name, p in params.items()}
    total, tasks = torch.zeros_like(episode.query[0, 0, 0, 0, 0]), len(episode.query)
    for x, labels, query, query_labels in zip(*episode, strict=True):
        inner = params
        for _ in range(steps):
            of_support = loss(inner, x, labels, fused_norm)
            inner = _descend(inner, _gradient(of_support, inner, create_graph=True), rate)
        outer = loss(inner, query, query_labels, fused_norm) / tasks
        for name, grad in _gradient(outer, params).items():
            sums[name] += grad
        total += outer.detach()
    return total, sums


def _batched_loss(params: Flat, episode: Episode, steps: int, rate: float) -> torch.Tensor:
    def of_task(x: torch.Tensor, labels: torch.Tensor, query: torch.Tensor, query_labels: Any):
        inner = params
        for _ in range(steps):
            inner = _descend(inner, torch.func.grad(loss)(inner, x, labels, plain_norm), rate)
        return loss(inner, query, query_labels, plain_norm)

    return torch.func.vmap(of_task)(*episode).mean()


def by_vmap(
    params: Flat, episode: Episode, steps: int, rate: float, batched: Any = _batched_loss
) -> tuple[torch.Tensor, Flat]:
    """All tasks at once; from the second inner step on, convolutions are grouped ones.

    The outer gradient is taken around ``vmap`` by autograd, which is faster than inside it, and
    than by ``torch.func.grad``. ``F.batch_norm`` loses terms of it there, without a word (2.13).
    """
    params = {name: p.detach().requires_grad_() for name, p in params.items()}
    mean = batched(params, episode, steps, rate)
    return mean.detach(), _gradient(mean, params)


FORMS: dict[Form, LossAndGrad] = {"loop": by_loop, "vmap": by_vmap}


def meta_loss_and_grad(
    params: Nested, arrays: Sequence[np.ndarray], steps: int, rate: float, form: Form
) -> tuple[float, dict[str, dict[str, np.ndarray]]]:
    """The mean query loss after adaptation and its gradient, of arrays of one dtype.

    Args:
      params: ``{"conv1": {"kernel": [3, 3, c, width]}, "bn1": {"scale", "bias"}, ..., "head":
        {"kernel": [width, ways], "bias"}}``.
      arrays: support ``[t, n, h, w, c]``, its labels ``[t, n]``, queries and their labels.
      steps: of the inner descent.
      rate: of the inner descent.
      form: tasks in a loop, or at once.
    """
    value, grads = FORMS[form](to_flat(params), to_episode(arrays), steps, rate)
    return value.item(), to_nested(grads)


def train(
    params: Flat,
    episodes: Iterable[Episode],
    steps: int,
    rate: float,
    learning_rate: float,
    form: LossAndGrad,
) -> list[float]:
    """An Adam step on each batch of tasks, from a copy of the parameters; the loss before each."""
    params = {name: p.clone() for name, p in params.items()}
    optimiser = torch.optim.Adam(params.values(), learning_rate)
    losses = []
    for episode in episodes:
        value, grads = form(params, episode, steps, rate)
        for name, p in params.items():
            p.grad = grads[name]
        optimiser.step()
        losses.append(value)
    return torch.stack(losses).tolist()


def contenders(
    params: Nested,
    episodes: Sequence[Sequence[np.ndarray]],
    steps: int,
    rate: float,
    learning_rate: float,
    num_steps: int,
) -> dict[str, Callable[[], list[float]]]:
    """Calls that meta-train on the first batches of tasks, by name; each returns the losses."""
    device = "cuda" if jax.default_backend() == "gpu" else "cpu"
    torch.backends.cudnn.benchmark = True  # shapes stay the same
    ready = [to_episode(arrays, device) for arrays in episodes[:num_steps]]
    if len(ready) < num_steps:
        raise ValueError(f"episodes: wanted {num_steps}, one for each step, got {len(ready)}")
    forms = {"PyTorch loop": by_loop, "PyTorch vmap": by_vmap}
    if device == "cuda":
        forms["PyTorch vmap compile"] = partial(by_vmap, batched=torch.compile(_batched_loss))
    start = to_flat(params, device)
    return {
        n: partial(train, start, ready, steps, rate, learning_rate, f) for n, f in forms.items()
    }
