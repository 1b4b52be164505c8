"""MAML in PyTorch: its two forms, finite differences, a step by hand, and leepjax's Conv4."""

import jax
import numpy as np
import pytest
from flax import nnx

from leepjax.models.conv4 import Conv4

torch = pytest.importorskip("torch", reason='needs PyTorch: pip install -e ".[bench]"')

from benchmarks.peers import torch_maml  # noqa: E402  (needs torch)

WIDTH, WAYS, STEPS, RATE = 4, 3, 3, 0.4


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def make_params(rng, dtype=np.float64):
    params, inputs = {}, 2
    for layer in range(1, 5):
        kernel = rng.normal(size=(3, 3, inputs, WIDTH)) / 3 / inputs**0.5
        scale, bias = rng.uniform(0.5, 1.5, WIDTH), rng.normal(size=WIDTH)
        params |= {f"conv{layer}": {"kernel": kernel}, f"bn{layer}": {"scale": scale, "bias": bias}}
        inputs = WIDTH
    params["head"] = {"kernel": rng.normal(size=(WIDTH, WAYS)), "bias": rng.normal(size=WAYS)}
    return jax.tree.map(lambda a: a.astype(dtype), params)


def make_arrays(rng, tasks=2, dtype=np.float64):
    def part(n):
        labels = np.tile(np.arange(n, dtype=np.int32) % WAYS, (tasks, 1))
        return rng.normal(size=(tasks, n, 12, 10, 2)).astype(dtype), labels  # not square

    return [*part(2 * WAYS), *part(3 * WAYS)]


def flat(tree):
    return np.concatenate([a.ravel() for a in jax.tree.leaves(tree)])


def test_loop_and_vmap_agree(rng):
    params, arrays = make_params(rng), make_arrays(rng)
    loop = torch_maml.meta_loss_and_grad(params, arrays, STEPS, RATE, "loop")
    vmap = torch_maml.meta_loss_and_grad(params, arrays, STEPS, RATE, "vmap")
    assert jax.tree.map(np.shape, loop[1]) == jax.tree.map(np.shape, params)
    assert jax.tree.leaves(loop[1])[0].dtype == np.float64
    np.testing.assert_allclose(vmap[0], loop[0], rtol=0, atol=1e-10)
    np.testing.assert_allclose(flat(vmap[1]), flat(loop[1]), rtol=0, atol=1e-10)


@pytest.mark.parametrize("form", ["loop", "vmap"])
def test_finite_differences(form, rng):
    """Along random directions in each array: only the second-order gradient can agree."""
    params, arrays = make_params(rng), make_arrays(rng)
    grads = torch_maml.meta_loss_and_grad(params, arrays, STEPS, RATE, form)[1]
    leaves, tree = jax.tree.flatten(params)
    size = 1e-6  # small, so that hardly a ReLU changes sides
    for i, (leaf, grad) in enumerate(zip(leaves, jax.tree.leaves(grads), strict=True)):
        direction = rng.normal(size=leaf.shape)
        ends = []
        for sign in (1, -1):
            moved = [*leaves[:i], leaf + sign * size * direction, *leaves[i + 1 :]]
            moved = jax.tree.unflatten(tree, moved)
            ends.append(torch_maml.meta_loss_and_grad(moved, arrays, STEPS, RATE, form)[0])
        slope = (ends[0] - ends[1]) / (2 * size)
        np.testing.assert_allclose((grad * direction).sum(), slope, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("form", ["loop", "vmap"])
def test_one_step_by_hand(form, rng):
    """``backward`` and a subtraction, the network anew out of modules."""
    params, arrays = make_params(rng), make_arrays(rng, tasks=1)
    model = modules(params)
    x, labels, query, query_labels = (a[0] for a in torch_maml.to_episode(arrays))
    torch.nn.functional.cross_entropy(model(x), labels).backward()
    with torch.no_grad():
        for p in model.parameters():
            p -= RATE * p.grad
    expected = torch.nn.functional.cross_entropy(model(query), query_labels).item()
    before, after = (
        torch_maml.meta_loss_and_grad(params, arrays, steps, RATE, form)[0] for steps in (0, 1)
    )
    np.testing.assert_allclose(after, expected, rtol=1e-12)
    assert abs(after - before) > 0.01  # the step shows


def modules(params):
    """The network in training mode, as an ``nn.Sequential``."""
    layers, arrays = [], torch_maml.to_flat(params)
    for layer, stride in enumerate((2, 2, 2, 1), start=1):
        kernel = arrays[f"conv{layer}.kernel"]
        conv = torch.nn.Conv2d(kernel.shape[1], WIDTH, 3, stride, padding=1, bias=False)
        norm = torch.nn.BatchNorm2d(WIDTH, dtype=torch.float64)
        conv.weight.data = kernel
        norm.weight.data, norm.bias.data = arrays[f"bn{layer}.scale"], arrays[f"bn{layer}.bias"]
        layers += [conv, norm, torch.nn.ReLU()]
    head = torch.nn.Linear(WIDTH, WAYS)
    head.weight.data, head.bias.data = arrays["head.kernel"].T, arrays["head.bias"]
    pool = torch.nn.AdaptiveAvgPool2d(1)
    return torch.nn.Sequential(*layers, pool, torch.nn.Flatten(), head)


@pytest.mark.parametrize("norm", ["fused_norm", "plain_norm"])
def test_network_is_conv4(norm, rng, x64):
    """The same logits, of the same arrays."""
    params, x = make_params(rng), rng.normal(size=(6, 12, 10, 2))
    network = Conv4(WAYS, channels=2, width=WIDTH, rngs=nnx.Rngs(0))
    for module, leaves in params.items():
        for name, array in leaves.items():
            setattr(getattr(network, module), name, nnx.Param(array))
    for layer in range(1, 5):  # running averages, which do not matter here, in float64
        moments = getattr(network, f"bn{layer}")
        moments.mean, moments.var = (nnx.BatchStat(np.zeros(WIDTH)) for _ in range(2))
    expected = network(x, train=True)[1]
    images = torch.tensor(x.transpose(0, 3, 1, 2))
    actual = torch_maml.logits(torch_maml.to_flat(params), images, getattr(torch_maml, norm))
    assert expected.dtype == np.float64
    np.testing.assert_allclose(actual.numpy(), expected, rtol=1e-10)


def test_contenders_learn_and_start_anew(rng):
    """Both see the same losses, the first before any step; a second call gives the same."""
    params, arrays = make_params(rng, np.float32), make_arrays(rng, dtype=np.float32)
    calls = torch_maml.contenders(params, [arrays] * 4, STEPS, 0.1, 1e-2, num_steps=4)
    assert list(calls) == ["PyTorch loop", "PyTorch vmap"]
    loop, vmap = (call() for call in calls.values())
    first = torch_maml.meta_loss_and_grad(params, arrays, STEPS, 0.1, "loop")[0]
    assert loop[0] == pytest.approx(first, rel=1e-6)
    assert loop[-1] < loop[0]
    np.testing.assert_allclose(vmap, loop, rtol=1e-3)
    assert calls["PyTorch loop"]() == loop
    with pytest.raises(ValueError, match="wanted 5"):
        torch_maml.contenders(params, [arrays] * 4, STEPS, 0.1, 1e-2, num_steps=5)
