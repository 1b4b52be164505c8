"""A cache of its own for every test, and the smallest real data set."""

import jax
import numpy as np
import pytest
from flax import nnx
from sklearn.datasets import load_digits

from leepjax.data.bank import Bank, Dataset
from leepjax.models import Preprocess, make_network, make_source


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LEEPJAX_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def digits() -> Dataset:
    """1,797 handwritten digits of 8×8 pixels; the last 597 are the test bank."""
    data = load_digits()
    images = np.round(data.images[..., None] * 255 / 16).astype(np.uint8)

    def bank(part: slice) -> Bank:
        labels = data.target[part].astype(np.int32)
        names = tuple(str(digit) for digit in range(10))
        return Bank(images[part], labels, np.zeros_like(labels), names, ("digits",))

    return Dataset(bank(slice(0, 1200)), bank(slice(1200, None)))


@pytest.fixture(scope="session")
def untrained():
    """``untrained(name)``: a fresh source for grey images of ten classes."""

    def make(name: str, seed: int = 0, size: int = 8, mean: float = 0.5):
        rngs = nnx.Rngs(jax.random.key(seed))
        network = make_network(name, 10, size=size, channels=1, rngs=rngs)
        return make_source(network, Preprocess(size, 1, (mean,), (0.5,)), tuple("0123456789"))

    return make
