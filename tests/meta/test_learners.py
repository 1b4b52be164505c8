"""What each learner computes, against algebra by hand; what it leaves alone; what it refuses."""

import dataclasses
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from leepjax.meta import ALGORITHMS, Meta, make_learner, meta_gradient
from leepjax.meta.learner import cross_entropy
from leepjax.meta.mtl import modulated
from leepjax.meta.network import body, feature_function
from leepjax.models import Preprocess, ResNet, make_source
from tests.meta.support import WAYS, flat, moved, some_episodes, source

RNG = np.random.default_rng(0)
X, Q = (jnp.asarray(RNG.standard_normal(shape), jnp.float32) for shape in ((6, 4), (5, 4)))
LABELS = jnp.array([0, 1, 2, 0, 1, 2])


@cache
def jitted(name, **options):
    """A learner whose functions are compiled, each once for all tests."""
    learner = make_learner(name, source(), WAYS, **options)
    functions = {part: jax.jit(getattr(learner, part)) for part in ("init", "embed", "predict")}
    return learner._replace(**functions, adapt=jax.jit(learner.adapt))


def ready(name, **options):
    learner = jitted(name, **options)
    return learner, learner.init(jax.random.key(0))


def test_protonet_measures_distances_to_class_means():
    learner, meta = ready("protonet")
    logits = learner.predict(meta, learner.adapt(meta, X, LABELS), Q)
    for i, q in enumerate(np.asarray(Q)):
        for c in range(3):
            mean = (np.asarray(X)[c] + np.asarray(X)[c + 3]) / 2
            np.testing.assert_allclose(logits[i, c], -np.sum((q - mean) ** 2), rtol=1e-5)


def test_ridge_solves_the_normal_equations():
    learner, meta = ready("ridge")
    meta.params["log_lambda"] = jnp.float32(-0.7)
    logits = learner.predict(meta, learner.adapt(meta, X, LABELS), Q)
    x, q = np.asarray(X, float), np.asarray(Q, float)
    mean = x.mean(0)
    length = np.sqrt(((x - mean) ** 2).sum(1).mean())
    x, q = (np.c_[(a - mean) / length, np.ones(len(a))] for a in (x, q))
    y = np.eye(3)[np.asarray(LABELS)]
    w = np.linalg.solve(x.T @ x + np.exp(-0.7) * np.eye(5), x.T @ y)  # the d x d form
    np.testing.assert_allclose(logits, np.e * q @ w, rtol=1e-4, atol=1e-5)


def test_proto_maml_starts_as_the_nearest_mean_classifier():
    learner, meta = ready("proto_maml", steps=1, rate=1e-9)
    nearest, means_meta = ready("protonet", batch_norm="batch")
    episodes = some_episodes(1)
    support, query = episodes.support[0], episodes.query[0]
    x, q = learner.embed(meta, support), learner.embed(meta, query)
    logits = learner.predict(meta, learner.adapt(meta, x, episodes.support_labels[0]), q)
    # The prototypes see the support's own statistics, the queries theirs.
    fx, fq = nearest.embed(means_meta, support), nearest.embed(means_meta, query)
    at = nearest.adapt(means_meta, fx, episodes.support_labels[0])
    wanted = nearest.predict(means_meta, at, fq)
    shift = (logits - wanted)[:, :1]  # |x|^2, the same for every class
    np.testing.assert_allclose(logits - shift, wanted, rtol=1e-3, atol=1e-3)


def test_mtl_is_the_source_to_begin_with_and_leaves_its_kernels_alone():
    learner, meta = ready("mtl")
    src, images = source(), some_episodes(1).support[0]
    params, rest = modulated(meta)
    np.testing.assert_array_equal(flat(params), flat(body(src.params)))
    np.testing.assert_array_equal(flat(rest), flat(src.rest))
    features = jax.jit(feature_function(src, "running", in_loop=False))
    wanted = features(params, rest, src.preprocess(images))
    np.testing.assert_allclose(learner.embed(meta, images), wanted, rtol=1e-5, atol=1e-6)
    gradient = jax.jit(partial(meta_gradient, learner, shots=(3,)))
    grads, _ = gradient(meta, some_episodes())
    assert set(grads) == {"scale", "shift", "head", "rate", "gain"}
    assert min(np.abs(flat(part)).max() for part in grads.values()) > 0
    for name in ("conv1", "conv3"):
        np.testing.assert_array_equal(
            meta.fixed["params"][name]["kernel"], src.params[name]["kernel"]
        )


def test_mtl_scales_kernels_and_shifts_what_convolutions_give():
    learner, meta = ready("mtl")
    meta = moved(meta, size=0.3)
    src, images = source(), some_episodes(1).support[0]
    x = src.preprocess(images)
    for i in (1, 3):
        kernel = src.params[f"conv{i}"]["kernel"] * meta.params["scale"][f"conv{i}"]
        options = {"dimension_numbers": ("NHWC", "HWIO", "NHWC")}
        x = jax.lax.conv_general_dilated(x, kernel, (2, 2), ((1, 1), (1, 1)), **options)
        x = x + meta.params["shift"][f"conv{i}"]
        rest, bn = src.rest[f"bn{i}"], src.params[f"bn{i}"]
        x = (x - rest["mean"]) / jnp.sqrt(rest["var"] + 1e-5) * bn["scale"] + bn["bias"]
        x = jax.nn.relu(x)
    np.testing.assert_allclose(learner.embed(meta, images), x.mean((1, 2)), rtol=1e-3, atol=1e-4)


def test_mtl_finds_the_convolutions_of_a_residual_network():
    shapes = nnx.eval_shape(lambda: ResNet(20, 4, channels=1, rngs=nnx.Rngs(0)))
    graphdef, state = nnx.split(shapes)
    state = jax.tree.map(lambda a: jnp.asarray(RNG.random(a.shape), a.dtype), state)
    network = nnx.merge(graphdef, state)
    src = make_source(network, Preprocess(8, 1, (0.5,), (0.5,)), tuple("abcd"))
    meta = make_learner("mtl", src, WAYS).init(jax.random.key(0))
    assert len(jax.tree.leaves(meta.params["scale"])) == 19
    params, rest = modulated(meta)
    np.testing.assert_array_equal(flat(params), flat(body(src.params)))
    np.testing.assert_array_equal(flat(rest), flat(src.rest))


# The others are configurations of maml's file; protonet and ridge take no steps.
QUICK = ("anil", "boil", "cavia", "maml", "mtl", "reptile")
STEPPING = sorted({*ALGORITHMS} - {"protonet", "ridge"})
EACH = [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in STEPPING]


@pytest.mark.parametrize("name", EACH)
def test_steps_lower_the_loss_of_the_support(name):
    few, many = {"steps": 1, "rate": 1e-9}, {"steps": 3, "rate": 0.05}
    if name == "mtl":  # its rate is learnt
        few, many = {"steps": 1}, {"steps": 20}
    images, labels = (some_episodes(1)[i][0] for i in (0, 1))
    learners = [make_learner(name, source(), WAYS, **options) for options in (few, many)]

    @jax.jit
    def losses(meta):
        x = learners[1].embed(meta, images)
        adapted = [learner.adapt(meta, x, labels) for learner in learners]
        return [cross_entropy(learners[1].predict(meta, at, x), labels) for at in adapted]

    start, end = losses(learners[1].init(jax.random.key(0)))
    assert end < start


def test_a_learner_says_whether_queries_are_judged_together():
    episodes = some_episodes(1)
    for name in ("protonet", "anil"):
        for mode in ("batch", "running"):
            learner, meta = ready(name, batch_norm=mode)
            both = jnp.concatenate([episodes.support[0], episodes.query[0]])
            alone = learner.embed(meta, both[:-1])[0]
            same = np.allclose(learner.embed(meta, both)[0], alone, atol=1e-6)
            assert same != learner.transductive
            assert learner.transductive == (mode == "batch")


def test_bad_arguments_are_named_before_anything_is_compiled():
    src = source()
    for name in ALGORITHMS:
        if name not in ("protonet", "ridge"):
            with pytest.raises(ValueError, match="steps: wanted an int >= 1 of inner steps, got 0"):
                make_learner(name, src, WAYS, steps=0)
    headless = dataclasses.replace(src, params=body(src.params))
    for name in ALGORITHMS:
        with pytest.raises(ValueError, match="linear head is its attribute 'head'"):
            make_learner(name, headless, WAYS)
    with pytest.raises(ValueError, match=r"algorithm: wanted one of maml, .* got 'mamba'"):
        make_learner("mamba", src, WAYS)
    with pytest.raises(ValueError, match="ways: wanted an int >= 2, got 1"):
        make_learner("maml", src, 1)
    with pytest.raises(ValueError, match="rate: wanted a finite inner learning rate > 0, got -1"):
        make_learner("maml", src, WAYS, rate=-1)
    with pytest.raises(ValueError, match="order: wanted one of"):
        make_learner("maml", src, WAYS, order=3)
    with pytest.raises(ValueError, match=r"layer: wanted a normalisation .* got 'bn9'; it has bn1"):
        make_learner("cavia", src, WAYS, layer="bn9")
    with pytest.raises(ValueError, match="batch_norm: wanted batch or running, got 'frozen'"):
        make_learner("protonet", src, WAYS, batch_norm="frozen")


def test_meta_is_a_pytree_of_what_is_learnt_and_what_is_not():
    for name in ALGORITHMS:
        _, meta = ready(name)
        assert isinstance(meta, Meta)
        assert np.isfinite(flat(meta)).all()
