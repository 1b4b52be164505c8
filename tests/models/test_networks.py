import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from leepjax.models import MLP, NETWORKS, Conv4, ResNet, apply, cut, make_network, make_source
from leepjax.models.preprocess import Preprocess
from leepjax.models.resnet import option_a


def _images(n=4, size=8, channels=1, seed=0):
    return jax.random.normal(jax.random.key(seed), (n, size, size, channels))


DEEP = {"resnet32", "resnet44", "resnet56"}  # a ResNet20 and more of the same


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] * (n in DEEP)) for n in NETWORKS]
)
def test_shapes(name):
    network = nnx.eval_shape(
        lambda: make_network(name, 7, size=28, channels=3, rngs=nnx.Rngs(jax.random.key(0)))
    )
    graphdef, params, rest = (
        part if index == 0 else nnx.to_pure_dict(part)
        for index, part in enumerate(nnx.split(network, nnx.Param, ...))
    )
    x = jax.ShapeDtypeStruct((5, 28, 28, 3), jnp.float32)
    outputs, _ = jax.eval_shape(lambda p, r, x: apply(graphdef, p, r, x), params, rest, x)
    widths = {"mlp": 256, "conv4_8": 8, "conv4_16": 16, "conv4_32": 32}
    assert outputs.features.shape == (5, widths.get(name, 64))
    assert outputs.logits.shape == (5, 7)
    assert outputs.logits.dtype == jnp.float32
    assert set(params["head"]) == {"kernel", "bias"}


@pytest.mark.parametrize(
    ("depth", "millions"), [(20, 0.27), (32, 0.46), (44, 0.66), (56, 0.85)]
)  # table 6 of the paper
def test_resnet_has_the_papers_number_of_parameters(depth, millions):
    network = nnx.eval_shape(lambda: ResNet(depth, 10, rngs=nnx.Rngs(0)))
    leaves = jax.tree.leaves(nnx.to_pure_dict(nnx.split(network, nnx.Param, ...)[1]))
    assert round(sum(leaf.size for leaf in leaves) / 1e6, 2) == millions


@pytest.mark.parametrize(("name", "stages"), [("conv4", 4), ("resnet8", 4)])
def test_a_cut_at_the_last_stage_has_the_features_of_the_network(
    name, stages, untrained, monkeypatch
):
    if name == "conv4":
        source = untrained(name, size=8)
    else:  # the smallest of the kind, which nobody publishes
        monkeypatch.setattr("leepjax.models.resnet.DEPTHS", (8,))
        network = ResNet(8, 10, channels=1, rngs=nnx.Rngs(0))
        source = make_source(network, Preprocess(8, 1, (0.5,), (0.5,)), tuple("0123456789"))
    run = jax.jit(apply, static_argnums=0)
    whole, _ = run(source.graphdef, source.params, source.rest, _images())
    parts = cut(source)
    assert len(parts) == stages
    found = [run(p.graphdef, p.params, p.rest, _images())[0] for p in (parts[0], parts[-1])]
    np.testing.assert_allclose(found[1].features, whole.features, atol=1e-6)
    assert found[0].features.shape == (4, 64 if name == "conv4" else 16)
    assert np.abs(found[0].features).max() > 1e-3
    assert not np.any(found[1].logits)  # the head is zero until it is fitted


def test_only_a_network_of_stages_can_be_cut(untrained):
    with pytest.raises(ValueError, match="source: wanted a network of stages"):
        cut(untrained("mlp"))


def test_option_a_subsamples_and_pads_with_zero_channels():
    x = np.arange(2 * 5 * 4 * 2, dtype=np.float32).reshape(2, 5, 4, 2)
    wanted = np.zeros((2, 3, 2, 4), np.float32)
    for row, column in np.ndindex(3, 2):
        wanted[:, row, column, 1:3] = x[:, 2 * row, 2 * column]
    np.testing.assert_array_equal(option_a(jnp.asarray(x), 4, 2), wanted)
    np.testing.assert_array_equal(option_a(jnp.asarray(x), 2, 1), x)


@pytest.mark.parametrize("name", ["conv4", "conv4_max", "mlp"])
def test_logits_are_the_head_of_the_features(untrained, name):
    source = untrained(name, size=16)
    outputs, _ = jax.jit(apply, static_argnums=0)(
        source.graphdef, source.params, source.rest, _images(size=16)
    )
    assert float(outputs.features.min()) >= 0
    head = source.params["head"]
    wanted = np.asarray(outputs.features) @ np.asarray(head["kernel"]) + head["bias"]
    np.testing.assert_allclose(outputs.logits, wanted, rtol=1e-4, atol=1e-5)


def test_conv4_halves_its_image_as_named():
    for pooling, final in (("stride", 4), ("max", 1)):
        network = nnx.eval_shape(lambda p=pooling: Conv4(3, pooling=p, rngs=nnx.Rngs(0)))
        graphdef, *states = nnx.split(network, nnx.Param, ...)
        states = [nnx.to_pure_dict(state) for state in states]
        x = jax.ShapeDtypeStruct((1, 28, 28, 1), jnp.float32)
        jaxpr = jax.make_jaxpr(lambda p, r, x, g=graphdef: apply(g, p, r, x))(*states, x)
        averaged = [e.invars[0].aval.shape for e in jaxpr.eqns if e.primitive.name == "reduce_sum"]
        assert (1, final, final, 64) in averaged


@pytest.mark.parametrize("name", ["conv4", "mlp", "resnet20"])
def test_networks_built_alike_share_one_graphdef(name):
    def graphdef(seed):
        network = nnx.eval_shape(
            lambda: make_network(name, 10, size=8, channels=1, rngs=nnx.Rngs(seed))
        )
        return nnx.split(network, nnx.Param, ...)[0]

    assert graphdef(0) == graphdef(1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ResNet(18, 10, rngs=nnx.Rngs(0)), "depth: .*18"),
        (lambda: Conv4(10, pooling="mean", rngs=nnx.Rngs(0)), "pooling: .*'mean'"),
        (lambda: Conv4(10, pooling="max", rngs=nnx.Rngs(0))(_images()), "16×16.*8×8"),
        (lambda: MLP(10, inputs=9, rngs=nnx.Rngs(0))(_images()), "9 values an image, got 64"),
        (lambda: make_network("vgg", 10, size=8, channels=1, rngs=nnx.Rngs(0)), "name: .*'vgg'"),
        (
            lambda: make_source(
                MLP(10, inputs=64, rngs=nnx.Rngs(0)), Preprocess(8, 1, (0.0,), (1.0,)), ("a", "b")
            ),
            "class_names: wanted 10 names.*got 2",
        ),
    ],
)
def test_errors_name_the_argument(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_evaluation_leaves_the_running_averages_alone(untrained):
    source = untrained("mlp")
    _, rest = apply(source.graphdef, source.params, source.rest, _images())
    assert rest is source.rest


def test_training_updates_the_running_averages(untrained):
    source = untrained("conv4")
    x = 3 + 2 * _images(n=16)
    before = jax.tree.map(np.array, source.rest)
    call = jax.jit(apply, static_argnums=0, static_argnames="train")
    outputs, _ = call(source.graphdef, source.params, source.rest, x)
    trained, updated = call(source.graphdef, source.params, source.rest, x, train=True)
    assert not np.allclose(outputs.logits, trained.logits)
    changed = jax.tree.map(lambda a, b: not np.allclose(a, b), before, updated)
    assert all(jax.tree.leaves(changed))
    jax.tree.map(np.testing.assert_array_equal, before, source.rest)
    # Running averages of one batch, repeated, come to be that batch's own statistics.
    for _ in range(200):
        _, updated = call(source.graphdef, source.params, updated, x, train=True)
    settled, _ = call(source.graphdef, source.params, updated, x)
    np.testing.assert_allclose(settled.logits, trained.logits, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ["conv4", "mlp"])
def test_vmap_over_parameters_is_the_loop(untrained, name):
    sources = [untrained(name, seed) for seed in range(3)]
    x = _images()
    params, rest = jax.tree.map(
        lambda *leaves: jnp.stack(leaves), *((source.params, source.rest) for source in sources)
    )
    call = jax.jit(lambda p, r: apply(sources[0].graphdef, p, r, x))
    together, _ = jax.jit(jax.vmap(call))(params, rest)
    for index, source in enumerate(sources):
        alone, _ = call(source.params, source.rest)
        np.testing.assert_allclose(together.logits[index], alone.logits, rtol=1e-4, atol=1e-5)


def test_gradients_in_a_scan_are_finite_and_reach_every_parameter(untrained):
    source = untrained("conv4")
    x, labels = _images(n=8), jnp.arange(8)

    def loss_fn(params, rest):
        outputs, rest = apply(source.graphdef, params, rest, x, train=True)
        return optax.softmax_cross_entropy_with_integer_labels(outputs.logits, labels).mean(), rest

    def body(carry, _):
        params, rest = carry
        (loss, rest), grads = jax.value_and_grad(loss_fn, has_aux=True)(params, rest)
        return (jax.tree.map(lambda p, g: p - 0.1 * g, params, grads), rest), (loss, grads)

    _, (losses, grads) = jax.jit(lambda carry: jax.lax.scan(body, carry, length=3))(
        (source.params, source.rest)
    )
    assert losses[2] < losses[0]
    for leaf in jax.tree.leaves(grads):
        assert bool(jnp.isfinite(leaf).all())
        assert float(jnp.abs(leaf).max()) > 0
