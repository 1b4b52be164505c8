"""Sums of billions of samples, in float32: nothing that matters is lost, in any order."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from leepjax.metrics import moments, score, streaming
from leepjax.metrics._pairs import add_pairs, no_rest

C, S, D = 3, 4, 5


def total(state, name):
    """A sum and its rest, in float64, which holds both."""
    return np.asarray(getattr(state, name), float) + np.asarray(getattr(state.rest, name), float)


@pytest.mark.parametrize("jit", [False, True])
def test_a_batch_after_a_billion_samples_is_counted(jit):
    """Without the rests the counts gain 64,000 and 32,000."""
    update = jax.jit(streaming.update) if jit else streaming.update
    state = streaming.init(num_classes=2)
    state = update(state, jnp.array([0, 1]), weights=jnp.array([2.0, 1.0]) * 2**30 / 3)
    before = total(state, "counts")
    labels = (np.arange(1000) % 1000 >= 666).astype(np.int32)
    for _ in range(100):
        state = update(state, labels)
    np.testing.assert_array_equal(total(state, "counts") - before, [66600, 33400])


def batches(number=16, n=32):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, C, (number, n))
    features = rng.normal(size=(number, n, D)) + labels[..., None] / 2
    logits = 2 * rng.normal(size=(number, n, S)) + 2 * np.eye(C, S)[labels]
    weights = rng.uniform(0.5, 1.5, (number, n)) * 2.0**11
    probs = np.array(jax.nn.softmax(logits.astype("f4")))
    return labels, features.astype("f4"), probs, weights.astype("f4")


def test_sums_of_2_34_samples():
    """2^34 by weight, in 2^18 updates under jit; the parts' own rounding is all that is left."""
    labels, features, probs, weights = batches()
    rounds = 2**14
    assert weights.sum() * rounds == pytest.approx(2**34, rel=0.05)
    state = streaming.init(
        num_classes=C, num_source_classes=S, features=features.reshape(-1, D)[:9]
    )

    @jax.jit
    def passes(state):
        def one(state, batch):
            y, f, p, w = batch
            given = {"features": f} if state.conditional is None else {}
            return streaming.update(state, y, probs=p, weights=w, **given), None

        def all_once(_, state):
            return jax.lax.scan(one, state, (labels, features, probs, weights))[0]

        return jax.lax.fori_loop(0, rounds, all_once, state)

    state = passes(streaming.second_pass(passes(state)))
    w, y = weights.reshape(-1).astype(float), np.eye(C)[labels.reshape(-1)]
    g = (features.reshape(-1, D).astype(float) - np.asarray(state.moments.shift, float)) / float(
        state.moments.unit
    )
    joint = (w[:, None] * y).T @ probs.reshape(-1, S).astype(float)
    likelihood = (y @ (joint / joint.sum(0)) * probs.reshape(-1, S)).sum(1)
    for got, wanted in [
        (total(state, "counts"), w @ y),
        (total(state.moments, "gram"), (w[:, None] * g).T @ g),
        (total(state.moments, "sums"), (w[:, None] * y).T @ g),
        (state.moments.squared_norms, w * (g**2).sum(1) ** 2 @ y),
        (state.predictions.soft, joint),
        (state.predictions.log_likelihood, w @ np.log(likelihood)),
    ]:
        size = np.abs(wanted).max()
        np.testing.assert_allclose(got, rounds * wanted, rtol=1e-6, atol=1e-6 * size * rounds)
    got = streaming.finalize(state)
    assert got["leep"] == pytest.approx(w @ np.log(likelihood) / w.sum(), rel=1e-6)


def test_any_order_gives_one_sum():
    labels, features, probs, weights = batches()
    start = streaming.init(num_classes=C, num_source_classes=S, features=moments.about(features[0]))
    parts = [
        streaming.update(start, y, features=f, probs=p, weights=w * 3.0**i)
        for i, (y, f, p, w) in enumerate(zip(labels, features, probs, weights, strict=True))
    ]
    orders = []
    for seed in range(3):
        waiting = [parts[i] for i in np.random.default_rng(seed).permutation(len(parts))]
        while len(waiting) > 1:  # a tree, of another shape each time
            a, b = waiting.pop(), waiting.pop(seed % len(waiting))
            waiting.insert(0, streaming.merge(a, b))
        orders.append(waiting[0])
    for other in orders[1:]:
        np.testing.assert_allclose(total(orders[0], "counts"), total(other, "counts"), rtol=1e-13)
        a, b = (total(s.moments, "gram") for s in (orders[0], other))
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12 * np.abs(a).max())


def test_psum_adds_pairs():
    """Leaf by leaf, as over devices; that rounds once for each device, whatever was summed."""
    batches = jnp.full((4, 1000), 12345.0)

    def device(x):
        start = jnp.float32(2**30)
        pair, _ = jax.lax.scan(
            lambda pair, x: (add_pairs(pair, (x, None)), None), (start, no_rest(start)), x
        )
        return add_pairs(jax.lax.psum(pair, "devices"), (jnp.float32(0), None))

    sums, rests = jax.vmap(device, axis_name="devices")(batches)
    wanted = 4.0 * (2**30 + 1000 * 12345)
    assert float(sums[0]) + float(rests[0]) == pytest.approx(wanted, rel=2e-7)


def test_a_sum_is_differentiated_as_a_sum():
    labels, features, *_ = batches(2)
    start = moments.init(features[0], num_classes=C)

    def trace(scale):
        state = start
        for y, f in zip(labels, features, strict=True):
            state = moments.update(state, scale * f, y)
        return jnp.trace(state.scatter)

    value, slope = jax.value_and_grad(trace)(1.0)
    np.testing.assert_allclose(slope, 2 * value, rtol=1e-5)  # a quadratic form


def test_a_worker_needs_the_conditional_alone():
    """Scores of two workers that each see half, the second pass from a [c, s] that was sent."""
    labels, features, probs, _ = batches(2)
    about = moments.about(features[0])

    def work(start, half, **arrays):
        return streaming.update(start, labels[half], probs=probs[half], **arrays)

    def begin(**options):
        return streaming.init(num_classes=C, num_source_classes=S, **options)

    first = [work(begin(features=about), h, features=features[h]) for h in range(2)]
    merged = streaming.second_pass(streaming.merge(*first))
    second = [work(begin(conditional=merged.conditional), h) for h in range(2)]
    flat = labels.reshape(-1), features.reshape(-1, D), probs.reshape(-1, S)
    for order in ([merged, *second], [second[1], merged, second[0]], [*second, merged]):
        state = streaming.merge(streaming.merge(order[0], order[1]), order[2])
        got = streaming.finalize(state)
        wanted = score(flat[0], num_classes=C, features=flat[1], probs=flat[2], metrics=sorted(got))
        for name, value in got.items():
            np.testing.assert_allclose(value, wanted[name], rtol=1e-5, atol=1e-6, err_msg=name)


@pytest.mark.parametrize(
    "options",
    [
        {"conditional": np.ones((C, S + 1))},
        {"conditional": np.ones((C, S)), "features": np.ones((2, D), np.float32)},
    ],
)
def test_bad_conditional(options):
    with pytest.raises(ValueError, match=r"^conditional: wanted"):
        streaming.init(num_classes=C, num_source_classes=S, **options)
