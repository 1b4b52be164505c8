"""The allowed seeds, for every function and flag that takes one."""


def check_seed(name: str, seed: object, more: int = 0) -> None:
    """Check that JAX and NumPy both accept the seed, and the ``more`` seeds after it.

    Raises:
      ValueError: they do not.
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**32 - more:
        end = f"2^32 - {more}" if more else "2^32"
        raise ValueError(f"{name}: wanted an int in [0, {end}), got {seed!r}")
