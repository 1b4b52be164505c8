"""What makes training fast on a CPU changes nothing, and is there."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from leepjax._fit import init
from leepjax.models import Preprocess, make_network, make_source
from leepjax.models.batch_norm import BatchNorm
from leepjax.models.source import apply
from leepjax.models.train import make_step


@pytest.mark.parametrize("running", [False, True])
def test_normalises_as_flax_does(running):
    x = jax.random.normal(jax.random.key(0), (6, 4, 4, 3)) * jnp.array([1, 2, 0.1]) + 0.7
    weights = jax.random.normal(jax.random.key(1), x.shape)

    def run(kind):
        def loss(x, scale, bias):
            module = kind(3, momentum=0.9, epsilon=1e-5, rngs=nnx.Rngs(0))
            module.scale[...], module.bias[...] = scale, bias
            y = module(x, use_running_average=running)
            return jnp.sum(y * weights), (y, module.mean[...], module.var[...])

        scale, bias = jnp.array([1.0, 0.5, 2.0]), jnp.array([0.1, -0.2, 0.3])
        return jax.jit(jax.grad(loss, (0, 1, 2), has_aux=True))(x, scale, bias)

    ours, theirs = jax.tree.leaves(run(BatchNorm)), jax.tree.leaves(run(nnx.BatchNorm))
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5)


def test_a_constant_channel_has_finite_gradients():
    def loss(x):
        return jnp.sum(BatchNorm(1, rngs=nnx.Rngs(0))(x, use_running_average=False) ** 2)

    assert np.isfinite(jax.jit(jax.grad(loss))(jnp.full((4, 2, 2, 1), 3.0))).all()


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="barriers are kept on a CPU only")
def test_training_keeps_what_convolutions_read():
    network = make_network("conv4", 2, size=8, channels=1, rngs=nnx.Rngs(0))
    source = make_source(network, Preprocess(8, 1, (0.5,), (0.5,)), ("a", "b"))
    optimiser = optax.sgd(0.1)
    update = make_step(source.graphdef, source.preprocess, optimiser)
    state = init(source.params, source.rest, optimiser)
    images, labels = np.zeros((4, 8, 8, 1), np.uint8), np.zeros(4, np.int32)
    compiled = update.lower(state, np.arange(4), images, labels).compile().as_text()
    assert compiled.count(" opt-barrier(") >= 4  # one for each convolution


def test_gradients_of_gradients_pass_the_barriers():
    network = make_network("conv4", 2, size=8, channels=1, rngs=nnx.Rngs(0))
    source = make_source(network, Preprocess(8, 1, (0.5,), (0.5,)), ("a", "b"))
    x = jax.random.normal(jax.random.key(0), (3, 8, 8, 1))

    def value(params):
        return jnp.sum(apply(source.graphdef, params, source.rest, x, train=True)[0].logits ** 2)

    def of_gradient(params):
        return optax.tree.norm(jax.grad(value)(params), squared=True)

    second = jax.jit(jax.grad(of_gradient))(source.params)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(second))
    assert any(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(second))
