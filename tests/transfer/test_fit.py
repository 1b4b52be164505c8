"""The training loop: a scan is a loop, and steps that do not count change nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from leepjax.fit import fit, init, step


def loss(params, rest, batch):
    x, y = batch
    error = x @ params["w"] - y
    return jnp.mean(error**2), ({"seen": rest["seen"] + 1}, jnp.mean(error > 0))


def problem(steps=5):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(steps, 8, 3)), rng.normal(size=(steps, 8))
    batches = jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.float32)
    optimiser = optax.sgd(0.1, momentum=0.9)
    return optimiser, init({"w": jnp.ones(3)}, {"seen": 0}, optimiser), batches


def test_a_scan_is_a_loop():
    optimiser, state, batches = problem()
    scanned, info = fit(loss, optimiser, state, batches)
    losses = []
    for i in range(5):
        state, one = step(loss, optimiser, state, jax.tree.map(lambda a, i=i: a[i], batches))
        losses.append(one.loss)
    np.testing.assert_allclose(info.loss, losses, rtol=1e-6)
    np.testing.assert_allclose(scanned.params["w"], state.params["w"], rtol=1e-6)
    assert scanned.rest["seen"] == 5


def test_steps_that_are_not_live_change_nothing():
    optimiser, state, batches = problem()
    live = jnp.array([True, False, True, False, False])
    masked, _ = fit(loss, optimiser, state, batches, live)
    kept, _ = fit(loss, optimiser, state, jax.tree.map(lambda a: a[live], batches))
    for a, b in zip(jax.tree.leaves(masked), jax.tree.leaves(kept), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_the_first_steps_by_hand():
    """w1 = w0 - r g0; w2 = w1 - r (g1 + m g0)."""
    optimiser, state, (x, y) = problem(2)
    last, _ = fit(loss, optimiser, state, (x, y))
    w, trace = np.ones(3), np.zeros(3)
    for xi, yi in zip(np.float64(x), np.float64(y), strict=True):
        trace = 2 / 8 * xi.T @ (xi @ w - yi) + 0.9 * trace
        w = w - 0.1 * trace
    np.testing.assert_allclose(last.params["w"], w, rtol=1e-5)
