"""Meta-gradients: against finite differences, against unrolled loops, tasks alone and together."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from leepjax.meta import ALGORITHMS, Meta, make_learner, meta_gradient
from leepjax.meta.learner import cross_entropy
from leepjax.meta.network import body, convolution_by_product, feature_function, linear
from leepjax.models import Conv4, make_source
from tests.meta.support import (
    NAMES,
    WAYS,
    double,
    double_source,
    flat,
    moved,
    normal,
    some_episodes,
    source,
)

# Two inner steps at a gentle rate: a rough landscape would amplify rounding.
OPTIONS = {
    name: {"steps": 2, "rate": 0.05}
    for name in ALGORITHMS
    if name not in ("mtl", "protonet", "ridge")
}
OPTIONS["mtl"] = {"steps": 2}
QUICK = ("maml", "mtl", "ridge")  # the others take minutes together
EACH = [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in ALGORITHMS]


def gradient(learner, meta, episodes, strategy="loop", progress=0.5, shots=(1, 3)):
    run = partial(meta_gradient, learner, shots=shots, progress=progress, strategy=strategy)
    return jax.jit(run)(meta, episodes)


@pytest.fixture
def made(x64):
    def make(name, **options):
        learner = make_learner(name, double_source(), WAYS, **{**OPTIONS.get(name, {}), **options})
        meta = Meta(*map(double, learner.init(jax.random.key(1))))
        return learner, moved(meta)

    return make


@pytest.mark.parametrize("name", EACH)
def test_a_batch_of_tasks_is_a_loop_and_the_gradient_is_the_difference(name, made):
    learner, meta = made(name)
    episodes = some_episodes()
    shots = (3,) if name == "maml" else (1, 3)  # a second loss would double the largest program
    run = jax.jit(partial(meta_gradient, learner, shots=shots, progress=0.5, strategy="loop"))
    grads, info = run(meta, episodes)
    together, info_together = gradient(learner, meta, episodes, strategy="vmap", shots=shots)
    scale = np.abs(flat(grads)).max()
    np.testing.assert_allclose(flat(together), flat(grads), rtol=0, atol=1e-7 * scale)
    np.testing.assert_allclose(info_together.loss, info.loss, rtol=1e-9)
    # The second task alone, in a batch of its copies: the same program.
    alone = jax.tree.map(lambda a: jnp.stack([a[1], a[1]]), episodes)
    np.testing.assert_allclose(run(meta, alone)[1].loss, info.loss[jnp.array([1, 1])], rtol=1e-9)

    if name in ("fomaml", "reptile"):
        return  # not the gradient of their loss: tests of their own below
    direction = moved(Meta(jax.tree.map(jnp.zeros_like, meta.params), ()), seed=3, size=1.0).params

    def loss(size):
        at = jax.tree.map(lambda a, d: a + size * d, meta.params, direction)
        return run(meta._replace(params=at), episodes)[1].loss.mean()

    step = 1e-7  # far enough from rounding, too short to cross the kinks of ReLU
    difference = (loss(step) - loss(-step)) / (2 * step)
    np.testing.assert_allclose(flat(grads) @ flat(direction), difference, rtol=1e-4)


def by_hand(meta, episode, steps, rate, second_order):
    """MAML written out: the query loss after so many gradient steps on everything."""
    src = double_source()
    features = feature_function(src, "batch", in_loop=False)

    def loss(params, images, labels):
        x = features(params["body"], meta.fixed, src.preprocess(images))
        return cross_entropy(linear(params["head"], x), labels)

    def outer(params):
        at = params
        for _ in range(steps):
            grads = jax.grad(loss)(at, episode.support, episode.support_labels)
            if not second_order:
                grads = jax.lax.stop_gradient(grads)
            at = jax.tree.map(lambda a, g: a - rate * g, at, grads)
        return loss(at, episode.query, episode.query_labels)

    return jax.jit(jax.value_and_grad(outer))(meta.params)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["maml", "fomaml"])
def test_inner_steps_are_those_written_out(name, made):
    learner, meta = made(name, steps=3)
    episodes = some_episodes(number=1)
    grads, info = gradient(learner, meta, episodes, shots=(3,))
    one = jax.tree.map(lambda a: a[0], episodes)
    value, wanted = by_hand(meta, one, 3, 0.05, second_order=name == "maml")
    np.testing.assert_allclose(info.loss[0], value, rtol=1e-7)  # pixels are float32
    np.testing.assert_allclose(flat(grads), flat(wanted), rtol=0, atol=1e-7)


@pytest.mark.slow
def test_without_the_second_order_term_maml_is_fomaml(made):
    episodes, (second, meta), (first, _) = some_episodes(), made("maml"), made("fomaml")
    exact, info = gradient(second, meta, episodes)
    rough, same = gradient(first, meta, episodes)
    np.testing.assert_allclose(info.loss, same.loss, rtol=1e-12)
    apart = np.linalg.norm(flat(exact) - flat(rough))
    assert apart > 1e-3 * np.linalg.norm(flat(exact))
    annealed, meta = made("maml", order="annealed")
    early, _ = gradient(annealed, meta, episodes, progress=0.1)
    late, _ = gradient(annealed, meta, episodes, progress=0.9)
    np.testing.assert_allclose(flat(early), flat(rough), rtol=0, atol=1e-9)
    np.testing.assert_allclose(flat(late), flat(exact), rtol=0, atol=1e-9)


@pytest.mark.slow
def test_reptile_moves_towards_where_training_ends(made):
    learner, meta = made("reptile")
    episodes = some_episodes(number=1)
    grads, _ = gradient(learner, meta, episodes, shots=(3,))
    images = jnp.concatenate([episodes.support[0], episodes.query[0]])
    labels = jnp.concatenate([episodes.support_labels[0], episodes.query_labels[0]])
    end = jax.jit(learner.adapt)(meta, learner.embed(meta, images), labels)
    wanted = flat(meta.params) - flat(end)
    assert np.abs(wanted).max() > 1e-3
    np.testing.assert_allclose(flat(grads), wanted, rtol=0, atol=1e-9)


@pytest.mark.slow
def test_multi_step_loss_ends_as_the_last_alone(made):
    learner, meta = made("maml", multi_step=True)
    plain, _ = made("maml")
    episodes = some_episodes()
    at_end = gradient(learner, meta, episodes, progress=0.5)
    np.testing.assert_allclose(at_end[1].loss, gradient(plain, meta, episodes)[1].loss, rtol=1e-9)
    at_start = gradient(learner, meta, episodes, progress=0.0)[1].loss
    one_step, _ = made("maml", steps=1)
    first = gradient(one_step, meta, episodes)[1].loss
    np.testing.assert_allclose(at_start, (first + at_end[1].loss) / 2, rtol=1e-6)


def test_products_are_convolutions():
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.standard_normal((2, 9, 7, 3)), jnp.float32)
    kernel = jnp.asarray(rng.standard_normal((3, 3, 3, 5)), jnp.float32)
    paddings = "SAME", "VALID", ((1, 1), (1, 1)), ((0, 2), (1, 0))
    options = {"dimension_numbers": ("NHWC", "HWIO", "NHWC")}

    @partial(jax.jit, static_argnums=0)  # all cases in one program
    def every(convolution, x, kernel):
        return [
            convolution(x, kernel, strides, padding, **options)
            for strides in ((1, 1), (2, 2))
            for padding in paddings
        ]

    wanted = every(jax.lax.conv_general_dilated, x, kernel)
    for got, value in zip(every(convolution_by_product, x, kernel), wanted, strict=True):
        np.testing.assert_allclose(got, value, atol=1e-4)


def test_a_network_in_a_loop_is_the_network():
    src = source()
    x = src.preprocess(some_episodes(1).support[0])
    for mode in ("batch", "running"):
        inside, outside = (
            jax.jit(feature_function(src, mode, in_loop=flag)) for flag in (True, False)
        )
        args = body(src.params), src.rest, x
        np.testing.assert_allclose(inside(*args), outside(*args), atol=1e-5)


def conv4():
    return source(8, partial(Conv4, len(NAMES)))


def compiled(name, steps, tasks, strategy="loop", **options):
    learner = make_learner(name, conv4(), WAYS, steps=steps, **options)
    meta, episodes = learner.init(jax.random.key(0)), some_episodes(tasks)
    run = partial(meta_gradient, learner, shots=(3,), strategy=strategy)
    return jax.jit(run).lower(meta, episodes).compile()


def scratch(*arguments, **options):
    return compiled(*arguments, **options).memory_analysis().temp_size_in_bytes


@pytest.mark.slow
def test_memory_grows_neither_with_tasks_nor_with_the_activations_of_inner_steps():
    few = scratch("maml", steps=2, tasks=2)
    assert scratch("maml", steps=2, tasks=16) < 1.2 * few
    assert scratch("maml", steps=2, tasks=16, strategy="vmap") > 3 * few  # what it is held against
    # A step more keeps its parameters, not its activations; also where each is judged.
    size = 4 * len(flat(make_learner("maml", conv4(), WAYS).init(jax.random.key(0)).params))
    assert scratch("maml", steps=10, tasks=2) - few < 8 * 1.5 * size
    judged = [scratch("maml", steps=steps, tasks=2, multi_step=True) for steps in (2, 10)]
    assert judged[1] - judged[0] < 8 * 1.5 * size


@pytest.mark.slow
def test_first_order_costs_first_order():
    flops = [
        compiled(name, steps=4, tasks=1).cost_analysis()["flops"] for name in ("fomaml", "maml")
    ]
    assert flops[0] < 0.75 * flops[1]


class Grouped(nnx.Module):
    """A network with a convolution in groups, and one that is dilated."""

    def __init__(self, rngs):
        conv = partial(nnx.Conv, kernel_size=(3, 3), kernel_init=normal, rngs=rngs)
        self.conv1 = conv(1, 4)
        self.conv2 = conv(4, 8, feature_group_count=2)
        self.conv3 = conv(8, 6, kernel_dilation=2)
        self.head = nnx.Linear(6, 3, kernel_init=normal, rngs=rngs)

    def __call__(self, x, *, train=False):
        for layer in (self.conv1, self.conv2, self.conv3):
            x = nnx.relu(layer(x))
        return x.mean((1, 2)), self.head(x.mean((1, 2)))


def test_convolutions_with_groups_or_dilation_stay_what_they_are():
    src = make_source(Grouped(nnx.Rngs(0)), source().preprocess, tuple("abc"))
    x = src.preprocess(some_episodes(1).support[0])
    inside, outside = (
        jax.jit(feature_function(src, "running", in_loop=flag)) for flag in (True, False)
    )
    args = body(src.params), src.rest, x
    np.testing.assert_allclose(inside(*args), outside(*args), atol=1e-5)
