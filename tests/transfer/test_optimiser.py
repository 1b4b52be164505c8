"""Optimisers of recipes against the papers' updates, written out in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from leepjax.transfer.optimiser import make_optimiser, schedule
from leepjax.transfer.recipe import RECIPES, Rates, Recipe, sweep

STEPS = 6
RATES = Rates(body=0.1, head=0.5, weight_decay=0.01)


def parameters(seed):
    rng = np.random.default_rng(seed)
    return {
        "conv": {"kernel": rng.normal(size=(3, 2))},
        "bn": {"scale": rng.normal(size=2), "bias": rng.normal(size=2)},
        "head": {"kernel": rng.normal(size=(2, 4)), "bias": rng.normal(size=4)},
    }


START, SOURCE = parameters(0), parameters(1)


def ours(recipe):
    optimiser = make_optimiser(recipe.static, RATES, jnp.int32(STEPS), SOURCE)
    params = jax.tree.map(jnp.float32, START)
    state = optimiser.init(params)
    for i in range(STEPS):
        grads = jax.tree.map(jnp.float32, parameters(10 + i))
        updates, state = optimiser.update(grads, state, params)
        params = optax.apply_updates(params, updates)
    return params


def by_hand(recipe, module, name):
    """One leaf, updated as the papers have it."""
    w, anchor = START[module][name].copy(), SOURCE[module][name]
    rate = RATES.head if module == "head" else RATES.body
    decay = RATES.weight_decay if name == "kernel" else 0.0
    if recipe.decay_towards == "zero" or module == "head":
        anchor = np.zeros_like(anchor)
    if recipe.batch_norm == "frozen" and module == "bn":
        return w
    m, v = np.zeros_like(w), np.zeros_like(w)
    for i in range(STEPS):
        g = parameters(10 + i)[module][name]
        lr = rate * factor(recipe, i / STEPS)
        if recipe.warmup:
            lr *= min(1, (i + 1) / (recipe.warmup * STEPS))
        if recipe.optimiser == "adamw":
            m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
            unbiased = m / (1 - 0.9 ** (i + 1)), v / (1 - 0.999 ** (i + 1))
            direction = unbiased[0] / (np.sqrt(unbiased[1]) + 1e-8) + decay * (w - anchor)
        else:
            g = g + decay * (w - anchor)
            m = recipe.momentum * m + g
            direction = g + recipe.momentum * m if recipe.nesterov else m
        w = w - lr * direction
    return w


def factor(recipe, share):
    if recipe.schedule == "cosine":
        return (1 + np.cos(np.pi * share)) / 2
    return 0.1 ** sum(share >= m for m in recipe.milestones)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"nesterov": False, "schedule": "constant", "warmup": 0.5},
        {"decay_towards": "source"},
        {"optimiser": "adamw", "schedule": "step", "milestones": (0.4, 0.9)},
        {"optimiser": "adamw", "decay_towards": "source"},
        {"batch_norm": "frozen"},
    ],
    ids=str,
)
def test_every_leaf_moves_as_the_papers_have_it(changes):
    recipe = Recipe(**changes)
    for module, leaves in ours(recipe).items():
        for name, leaf in leaves.items():
            expected = by_hand(recipe, module, name)
            np.testing.assert_allclose(leaf, expected, atol=2e-5, err_msg=f"{module} {name}")


def test_the_schedule_ends_where_the_steps_end():
    cosine = [schedule(Recipe(), jnp.int32(i), jnp.int32(100)) for i in (0, 50, 100)]
    np.testing.assert_allclose(cosine, [1, 0.5, 0], atol=1e-6)


def test_a_sweep_is_every_pair_and_keeps_the_heads_ratio():
    recipes = sweep(Recipe(head_learning_rate=0.3), (0.1, 0.2), (0.0, 1e-3))
    assert [r.rates for r in recipes] == [
        (0.1, pytest.approx(1.0), 0.0),
        (0.1, pytest.approx(1.0), 1e-3),
        (0.2, pytest.approx(2.0), 0.0),
        (0.2, pytest.approx(2.0), 1e-3),
    ]
    assert len({r.static for r in recipes}) == 1


@pytest.mark.parametrize("name", RECIPES)
def test_published_recipes_can_be_swept_by_one_program(name):
    recipes = RECIPES[name]
    assert len({r.static for r in recipes}) == 1
    assert len(recipes) == 1 or recipes[0].validation > 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optimiser": "lion"}, "optimiser: wanted one of sgd, adamw, got 'lion'"),
        ({"batch_norm": "eval"}, "batch_norm: wanted one of batch, running, frozen"),
        ({"learning_rate": float("nan")}, "learning_rate: wanted a finite number >= 0"),
        ({"head_learning_rate": -1.0}, "head_learning_rate: wanted a finite number"),
        ({"momentum": 1.0}, r"momentum: wanted a number in \[0, 1\)"),
        ({"learning_rate": "0.1"}, "learning_rate: wanted a finite number >= 0, got '0.1'"),
        ({"epochs": 0}, "epochs: wanted an int >= 1, got 0"),
        ({"crop": -1}, "crop: wanted an int >= 0, got -1"),
        ({"batch_size": 2.5}, "batch_size: wanted an int >= 1, got 2.5"),
        ({"patience": 2}, "patience: wanted a validation share > 0"),
        ({"schedule": "step"}, "milestones: wanted shares"),
        ({"milestones": (0.5,)}, "milestones: wanted shares"),
        ({"schedule": "step", "milestones": (1.5,)}, r"milestones: wanted shares in \(0, 1\)"),
    ],
)
def test_bad_recipes(changes, message):
    with pytest.raises(ValueError, match=message):
        Recipe(**changes)
