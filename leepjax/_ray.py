"""Ray, imported late, and what is the same on all nodes: versions and settings."""

import functools
import importlib
import os
import platform
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from leepjax._store import digest

# Of this process's environment: what decides digits, and where caches and data are.
_PASSED_ON = ("JAX_", "XLA_", "LEEPJAX_", "TFDS_")
_OF_THIS_MACHINE = ("JAX_PLATFORMS", "JAX_COORDINATOR_ADDRESS")


@functools.cache
def versions() -> dict[str, str]:
    """What has to be the same here and on a worker; of leepjax the code too, as of a checkout."""
    root = Path(__file__).parent
    code = [path.read_bytes().hex() for path in sorted(root.rglob("*.py"))]
    return {
        "leepjax": f"{importlib.import_module('leepjax').__version__} ({digest(code)})",
        "jax": importlib.import_module("jax").__version__,
        "Python": platform.python_version(),
    }


def check_versions(wanted: Mapping[str, str]) -> None:
    """Check on a worker that it runs what the process that sent the work runs.

    Raises:
      ValueError: it has another version.
    """
    differ = [
        f"{name} {own} there, {wanted[name]} here"
        for name, own in versions().items()
        if own != wanted[name]
    ]
    if differ:
        node = socket.gethostname()
        raise ValueError(
            f"cluster: wanted the same versions on {node} as here: {'; '.join(differ)}"
        )


def environment() -> dict[str, Any]:
    """``runtime_env`` of workers: quiet, with this process's settings and its shared folders."""
    variables = {
        name: os.path.abspath(value) if name.endswith(("_CACHE", "_DIR")) and value else value
        for name, value in os.environ.items()
        if name.startswith(_PASSED_ON) and name not in _OF_THIS_MACHINE
    }
    jax = sys.modules.get("jax")
    if jax is not None and jax.config.jax_enable_x64:
        variables["JAX_ENABLE_X64"] = "true"
    return {"env_vars": {**variables, "TQDM_DISABLE": "1"}}


def import_ray() -> Any:
    """The module ``ray``.

    Raises:
      ValueError: it is not installed.
    """
    try:
        return importlib.import_module("ray")
    except ImportError:
        raise ValueError("cluster: it needs Ray: pip install 'leepjax[ray]'") from None


def one_line(error: BaseException) -> str:
    """The first line of an error that says something."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), repr(error))
