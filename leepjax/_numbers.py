"""Foreign arrays as floating-point numbers that JAX supports, or the reason why that fails."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

_NO_NUMBERS = "OUSMmc"  # objects, text, dates, durations, complex numbers


def as_numbers(name: str, x: Any) -> Any:
    """An array of a floating-point dtype in this machine's byte order.

    Half and single precision stay as they are; longer ones, float8, whole numbers and booleans
    become JAX's default, single unless ``jax_enable_x64``. NumPy saves bfloat16 without its name,
    as two raw bytes (``V2``), which is read here.

    Args:
      name: of the argument, for the message.
      x: an array, or anything that NumPy converts to one.

    Raises:
      ValueError: it holds no real numbers, or its dtype does not name their format.

    Example:
      >>> print(as_numbers("features", np.array([1.5, 2.0], ">f4")).dtype)
      float32
    """
    if not isinstance(x, jax.Array):
        try:
            x = np.asarray(x)
        except (ValueError, TypeError) as error:
            raise ValueError(f"{name}: wanted an array of numbers, got {error}") from None
        x = x.view(np.dtype(jnp.bfloat16)) if x.dtype == np.dtype("V2") else x
    if x.dtype == object:
        raise ValueError(
            f"{name}: wanted numbers, got an array of objects; are its rows of one length?"
        )
    real = (jnp.floating, jnp.integer, jnp.bool_)
    if x.dtype.kind in _NO_NUMBERS or not any(jnp.issubdtype(x.dtype, kind) for kind in real):
        hint = "; name the format, as float16, or save as float32" if x.dtype.kind == "V" else ""
        raise ValueError(f"{name}: wanted numbers, got dtype {x.dtype}{hint}")
    if jnp.issubdtype(x.dtype, jnp.floating) and x.dtype.itemsize in (2, 4):
        return x if isinstance(x, jax.Array) else x.astype(x.dtype.newbyteorder("="), copy=False)
    with np.errstate(over="ignore"):  # what is then infinite is refused by value
        return x.astype(jnp.result_type(float))
