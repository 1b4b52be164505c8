"""The same network, its parameters drawn anew."""

from typing import Any

import jax
import jax.numpy as jnp

_KERNEL = jax.nn.initializers.he_normal()
_CONSTANTS = {"bias": 0.0, "scale": 1.0, "mean": 0.0, "var": 1.0}


def reinitialise(key: jax.Array, tree: Any) -> Any:
    """Draw the arrays of a network (``Source.params`` or ``Source.rest``) anew, by their names.

    Kernels are (truncated) normal with variance 2 / fan-in (K. He, X. Zhang, S. Ren, J. Sun:
    Delving Deep into Rectifiers, ICCV 2015), embeddings normal with standard deviation 0.02, as
    BERT's; biases and running means 0, scales and running variances 1.

    Args:
      key: typed JAX key.
      tree: nested dict of arrays, of which only names, shapes and dtypes count.

    Raises:
      ValueError: an array of another name, of which it is not known how it starts.
    """
    leaves, structure = jax.tree_util.tree_flatten_with_path(tree)
    drawn = []
    for i, (path, leaf) in enumerate(leaves):
        name = path[-1].key
        if leaf.size == 0:  # the head of a network without classes
            drawn.append(jnp.zeros(leaf.shape, leaf.dtype))
        elif name == "kernel":
            drawn.append(_KERNEL(jax.random.fold_in(key, i), leaf.shape, leaf.dtype))
        elif name == "embedding":
            drawn.append(0.02 * jax.random.normal(jax.random.fold_in(key, i), leaf.shape))
        elif name in _CONSTANTS:
            drawn.append(jnp.full(leaf.shape, _CONSTANTS[name], leaf.dtype))
        else:
            raise ValueError(
                f"tree: wanted arrays named kernel, embedding, {', '.join(_CONSTANTS)}, got "
                f"{jax.tree_util.keystr(path)}; there is no rule how it starts"
            )
    return jax.tree_util.tree_unflatten(structure, drawn)
