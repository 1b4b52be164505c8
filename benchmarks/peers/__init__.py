"""Other packages, and our own NumPy and PyTorch, that compute the same; which of them can run."""

import importlib
from types import ModuleType

import jax
from rich.console import Console


def available(name: str, console: Console) -> ModuleType | None:
    """A module of peers, if it can run on this device; why it is left out is printed."""
    try:
        module, reason = importlib.import_module(f"benchmarks.peers.{name}"), ""
    except (ImportError, OSError, RuntimeError) as error:
        module, reason = None, f'{error}; see pip install -e ".[bench]"'
    if module and jax.default_backend() == "gpu":
        on_gpu = hasattr(module, "torch") and module.torch.cuda.is_available()
        reason = "" if on_gpu else "cannot run on this GPU"
    if module and not reason:
        return module
    title = name.removesuffix("_scores")
    console.print(f"{title}: left out ({reason})", soft_wrap=True, markup=False)
    return None
