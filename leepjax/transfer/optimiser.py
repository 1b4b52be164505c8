"""A recipe as an optax optimiser, its rates traced numbers.

Every leaf of the parameters has a factor on the learning rate: the body's rate, the head's, or zero
if it is frozen. So the choice of trained parameters is a tree of numbers, not another program.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from leepjax.transfer.recipe import Rates, Recipe


def make_optimiser(
    recipe: Recipe, rates: Rates, steps: jax.Array, source: Any
) -> optax.GradientTransformation:
    """The optimiser of one task.

    Args:
      recipe: its static part.
      rates: scalars, which may be traced.
      steps: ``[]`` number of steps in all, for the schedule.
      source: the source's parameters, towards which L2-SP decays.
    """
    decay = _decay(rates.weight_decay, source if recipe.decay_towards == "source" else None)
    scale = _scale(recipe, rates, steps)
    if recipe.optimiser == "adamw":
        return optax.chain(optax.scale_by_adam(), decay, scale)
    momentum = optax.trace(recipe.momentum, nesterov=recipe.nesterov)
    return optax.chain(decay, momentum, scale)


def schedule(recipe: Recipe, step: jax.Array, steps: jax.Array) -> jax.Array:
    """The factor on the learning rate in the step that follows ``step`` steps of ``steps``."""
    share = step / steps
    factor = jnp.ones_like(share)
    if recipe.schedule == "cosine":
        factor = 0.5 * (1 + jnp.cos(jnp.pi * share))
    for milestone in recipe.milestones:
        factor = factor * jnp.where(share >= milestone, 0.1, 1.0)
    if recipe.warmup:
        factor = factor * jnp.minimum(1.0, (step + 1) / (recipe.warmup * steps))
    return factor


def _scale(recipe: Recipe, rates: Rates, steps: jax.Array) -> optax.GradientTransformation:
    def update(updates, state, params=None, **extra):
        del params, extra
        factor = -schedule(recipe, state, steps)

        def leaf(path, u):
            names = [entry.key for entry in path]
            if recipe.batch_norm == "frozen" and _is_norm(names, updates):
                return jnp.zeros_like(u)
            return factor * (rates.head if names[0] == "head" else rates.body) * u

        return jax.tree_util.tree_map_with_path(leaf, updates), state + 1

    return optax.GradientTransformation(lambda params: jnp.zeros((), jnp.int32), update)


def _decay(rate: jax.Array, source: Any) -> optax.GradientTransformation:
    """Add ``rate * (parameter - anchor)`` to the gradient of every kernel."""

    def update(updates, state, params=None, **extra):
        del extra

        def leaf(path, u, p):
            if p.ndim < 2:
                return u
            towards_zero = source is None or path[0].key == "head"
            return u + rate * (p if towards_zero else p - _at(source, path))

        return jax.tree_util.tree_map_with_path(leaf, updates, params), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def _is_norm(names: list[str], tree: Any) -> bool:
    """A normalisation's scale or shift: the module it belongs to has a scale."""
    for name in names[:-1]:
        tree = tree[name]
    return "scale" in tree


def _at(tree: Any, path: Any) -> Any:
    for entry in path:
        tree = tree[entry.key]
    return tree
