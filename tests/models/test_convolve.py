"""What makes networks fast on a CPU changes nothing, and is there."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from leepjax.fit import init
from leepjax.models import Preprocess, convolve, make_network, make_source
from leepjax.models.batch_norm import BatchNorm
from leepjax.models.source import apply
from leepjax.models.train import make_step

NHWC = ("NHWC", "HWIO", "NHWC")
ON_CPU = pytest.mark.skipif(jax.default_backend() != "cpu", reason="these are forms for a CPU")

# Images, height and width, channels in and out, kernel, strides, padding.
CASES = {
    "16 channels": (6, (8, 8), 16, 16, (3, 3), (1, 1), ((1, 1), (1, 1))),
    "colours": (3, (8, 8), 3, 16, (3, 3), (1, 1), ((1, 1), (1, 1))),
    "odd width": (5, (6, 9), 4, 8, (3, 3), (1, 1), ((1, 1), (1, 1))),
    "prime width": (2, (6, 7), 16, 8, (3, 3), (1, 1), ((1, 1), (1, 1))),
    "even kernel": (4, (8, 9), 3, 5, (2, 4), (1, 1), ((0, 0), (1, 2))),
    "much padding": (1, (5, 5), 8, 8, (3, 3), (1, 1), ((3, 2), (0, 4))),
    "strided": (9, (9, 8), 16, 32, (3, 3), (2, 2), ((1, 1), (1, 1))),
    "strides differ": (4, (8, 12), 2, 4, (3, 3), (1, 2), ((1, 1), (1, 1))),
    "of one pixel": (7, (6, 6), 16, 8, (1, 1), (1, 1), ((0, 0), (0, 0))),
    "by name": (4, (8, 8), 3, 8, (3, 3), (2, 2), "SAME"),
    "no images": (0, (8, 8), 3, 8, (3, 3), (1, 1), "VALID"),
    "no outputs": (2, (2, 8), 3, 8, (3, 3), (1, 1), "VALID"),
    "many images": (70, (3, 4), 2, 4, (3, 3), (1, 1), ((1, 1), (1, 1))),
}


def numbers(case):
    images, shape, inputs, outputs, kernel_size, strides, padding = CASES[case]
    rng = np.random.default_rng(0)
    x = rng.normal(size=(images, *shape, inputs)).astype(np.float32)
    kernel = rng.normal(size=(*kernel_size, inputs, outputs)).astype(np.float32)
    return x, kernel, strides, padding


def by_definition(x, kernel, strides, padding):
    """The result y, and the gradients of the sum of sin(y) by images and kernel, in float64."""
    if isinstance(padding, str):
        padding = jax.lax.padtype_to_pads(x.shape[1:3], kernel.shape[:2], strides, padding)
    x, kernel = np.pad(x.astype(float), ((0, 0), *padding, (0, 0))), kernel.astype(float)
    size = [(x.shape[1 + i] - kernel.shape[i]) // strides[i] + 1 for i in range(2)]

    def seen(a, b):  # by the place (a, b) of the kernel
        rows, columns = (
            slice(start, start + step * (many - 1) + 1 if many else start, step)
            for start, step, many in zip((a, b), strides, size, strict=True)
        )
        return (slice(None), rows, columns)

    places = list(np.ndindex(kernel.shape[:2]))
    y = np.zeros((len(x), *size, kernel.shape[3]))
    for place in places:
        y += x[seen(*place)] @ kernel[place]
    of_x, of_kernel = np.zeros_like(x), np.zeros_like(kernel)
    for place in places:
        of_x[seen(*place)] += np.cos(y) @ kernel[place].T
        of_kernel[place] = np.einsum("nhwi,nhwo->io", x[seen(*place)], np.cos(y))
    inside = (slice(low, of_x.shape[1 + i] - high) for i, (low, high) in enumerate(padding))
    return of_x[(slice(None), *inside)], of_kernel, y


def value(function, x, kernel, strides, padding):
    y = function(x, kernel, strides, padding, dimension_numbers=NHWC)
    return jnp.sum(jnp.sin(y)), y


IN_PARTS = {"strided", "many images"}  # of 4 and 8 images; the others are in the same parts anyhow


@pytest.mark.parametrize(
    ("case", "part_bytes"),
    [(case, convolve._PART_BYTES) for case in CASES] + [(case, 1) for case in sorted(IN_PARTS)],
)
def test_convolves_and_differentiates_as_defined(case, part_bytes, monkeypatch):
    monkeypatch.setattr(convolve, "_PART_BYTES", part_bytes)
    x, kernel, strides, padding = numbers(case)

    @jax.jit
    def run(x, kernel):
        of = jax.grad(value, (1, 2), has_aux=True)
        return of(convolve.convolve, x, kernel, strides, padding)

    (of_x, of_kernel), y = run(x, kernel)
    for ours, wanted in zip((of_x, of_kernel, y), by_definition(*numbers(case)), strict=True):
        assert ours.shape == wanted.shape
        scale = np.abs(wanted).max(initial=1e-6)
        np.testing.assert_allclose(ours, wanted, rtol=0, atol=2e-5 * scale)


def also_slow(cases, quick):
    return [pytest.param(c, marks=[pytest.mark.slow] * (c not in quick)) for c in cases]


# Twice is ten times as much to compile as once: one case of each stride is quick.
@pytest.mark.parametrize("part_bytes", also_slow([1, convolve._PART_BYTES], [1]))
@pytest.mark.parametrize("case", also_slow(CASES, ["16 channels", "strided"]))
def test_differentiates_twice_as_lax(case, part_bytes, monkeypatch):
    monkeypatch.setattr(convolve, "_PART_BYTES", part_bytes)
    x, kernel, strides, padding = numbers(case)

    def run(function):
        def of_gradients(x, kernel):
            of = jax.grad(value, (1, 2), has_aux=True)
            gradients, _ = of(function, x, kernel, strides, padding)
            return optax.tree.norm(gradients, squared=True)

        return jax.jit(jax.grad(of_gradients, (0, 1)))(x, kernel)

    for ours, theirs in zip(run(convolve.convolve), run(jax.lax.conv_general_dilated), strict=True):
        scale = np.abs(theirs).max(initial=1e-6)
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-5 * scale)


def convolutions(function, *arguments):
    """Shapes of the results of all convolutions that a function asks for."""
    jaxpr = str(jax.make_jaxpr(function)(*arguments))
    return [
        tuple(map(int, s.split(","))) for s in re.findall(r":f32\[([\d,]+)\] = conv_general", jaxpr)
    ]


@ON_CPU
def test_outputs_are_computed_together_and_kernel_gradients_in_parts(monkeypatch):
    x, kernel = jnp.zeros((70, 8, 8, 16)), jnp.zeros((3, 3, 16, 16))

    def run(x, kernel):
        return convolve.convolve(x, kernel, (1, 1), ((1, 1), (1, 1)), dimension_numbers=NHWC).sum()

    assert convolutions(run, x, kernel) == [(70, 8, 4, 32)]
    together = [(70, 8, 4, 32)] * 2  # of the result, and of the gradient by x
    all_images = [s for s in convolutions(jax.grad(run, (0, 1)), x, kernel) if s not in together]
    assert len(all_images) == 2  # 68 of them, and a rest of 2
    monkeypatch.setattr(convolve, "_PART_BYTES", 16 * x[0].nbytes)
    parts = [s for s in convolutions(jax.grad(run, (0, 1)), x, kernel) if s not in together]
    assert len(parts) == 6  # 16, 16, 16, 16, 4, 2
    monkeypatch.setattr(convolve, "_PART_BYTES", 1)
    parts = [s for s in convolutions(jax.grad(run, (0, 1)), x, kernel) if s not in together]
    assert len(parts) == 10  # of 8 images, so that there are no more than 16 parts; 4, 2


LAX_CAN = pytest.mark.skipif(
    jax.__version_info__ < (0, 8), reason="jax 0.7 cannot differentiate its own to wider numbers"
)


@pytest.mark.parametrize("wide", [pytest.param(jnp.float32, marks=LAX_CAN), None])
def test_a_wider_result_and_narrow_numbers_are_differentiated_as_lax_does(wide):
    x = jax.random.normal(jax.random.key(0), (5, 8, 8, 16), jnp.bfloat16)
    kernel = jax.random.normal(jax.random.key(1), (3, 3, 16, 16), jnp.bfloat16)

    def run(function):
        def value(x, kernel):
            options = {"dimension_numbers": NHWC, "preferred_element_type": wide}
            return function(x, kernel, (1, 1), ((1, 1), (1, 1)), **options).astype(float).mean()

        return jax.jit(jax.grad(value, (0, 1)))(x, kernel)

    wanted = run(jax.lax.conv_general_dilated)
    for ours, theirs in zip(run(convolve.convolve), wanted, strict=True):
        assert ours.dtype == theirs.dtype == jnp.bfloat16
        ours, theirs = np.asarray(ours, float), np.asarray(theirs, float)
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-2 * np.abs(theirs).max())


def test_a_source_is_the_same_on_every_backend(monkeypatch):
    def key():
        network = make_network("conv4", 2, size=8, channels=1, rngs=nnx.Rngs(0))
        return make_source(network, Preprocess(8, 1, (0.5,), (0.5,)), ("a", "b")).digest

    here = key()
    monkeypatch.setattr(convolve.jax, "default_backend", lambda: "gpu")
    assert key() == here


@pytest.mark.parametrize(
    "options",
    [{"kernel_dilation": 2}, {"feature_group_count": 4}, {"kernel_size": (3,)}],
    ids=["dilated", "grouped", "of sequences"],
)
def test_other_convolutions_stay_what_they_are(options):
    module = nnx.Conv(4, 8, **({"kernel_size": (3, 3)} | options), rngs=nnx.Rngs(0))
    shape = (2, *(9, 9)[: len(module.kernel_size)], 4)
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)

    def gradient():  # a new function: the module is part of the program
        return jax.jit(jax.grad(lambda x: jnp.sum(module(x) ** 2)))(x)

    wanted = gradient()
    convolve.use_fast_convolutions(module)
    assert module.conv_general_dilated is convolve.convolve
    np.testing.assert_allclose(gradient(), wanted, rtol=1e-5, atol=1e-5)


def test_a_convolution_of_its_own_is_kept():
    module = nnx.Conv(1, 1, (3, 3), conv_general_dilated=min, rngs=nnx.Rngs(0))
    convolve.use_fast_convolutions(module)
    assert module.conv_general_dilated is min


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


@ON_CPU
def test_training_keeps_what_convolutions_read():
    network = make_network("conv4", 2, size=8, channels=1, rngs=nnx.Rngs(0))
    source = make_source(network, Preprocess(8, 1, (0.5,), (0.5,)), ("a", "b"))
    optimiser = optax.sgd(0.1)
    update = make_step(source.graphdef, source.preprocess, optimiser)
    state = init(source.params, source.rest, optimiser)
    images, labels = np.zeros((4, 8, 8, 1), np.uint8), np.zeros(4, np.int32)
    compiled = update.lower(state, np.arange(4), images, labels).compile().as_text()
    assert compiled.count(" opt-barrier(") >= 4  # one for each convolution


@pytest.mark.slow  # a network's; of one convolution they are among the quick tests
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
