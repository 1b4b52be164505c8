"""The golden values."""

import json
import os
from pathlib import Path

import jax
import numpy as np
import pytest


@pytest.fixture(scope="session")
def golden():
    """Values of independent references, and their inputs, from ``$LEEPJAX_GOLDEN_DIR``."""
    folder = os.environ.get("LEEPJAX_GOLDEN_DIR")
    if not folder:
        pytest.skip("golden values need LEEPJAX_GOLDEN_DIR, the folder with golden.json")
    folder = Path(folder)
    with np.load(folder / "inputs.npz") as arrays:
        inputs = dict(arrays)
    return json.loads((folder / "golden.json").read_text())["values"], inputs


@pytest.fixture(autouse=True)
def strict_promotion():
    """Metrics run inside projects that forbid implicit rank promotion."""
    with jax.numpy_rank_promotion("raise"):
        yield
