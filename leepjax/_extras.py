"""What a part of the package needs beyond the base, and the extra that brings it."""

import importlib.util

# As in pyproject.toml: an extra, and the modules that it brings.
EXTRAS = {
    "networks": ("flax", "optax", "orbax"),
    "data": ("tensorflow_datasets", "array_record", "sklearn", "matplotlib", "PIL"),
    "figures": ("matplotlib",),
}


def require(extra: str) -> None:
    """Check that an extra is installed.

    Raises:
      ImportError: a module of it is missing; the message says what to install.
    """
    missing = [name for name in EXTRAS[extra] if importlib.util.find_spec(name) is None]
    if missing:
        raise ImportError(
            f'this part of leepjax needs {", ".join(missing)}: pip install "leepjax[{extra}]", or '
            '"leepjax[all]" for everything'
        )
