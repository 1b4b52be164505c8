"""The estimators of transformer-ranker, called as its own ranker calls them, on features at hand.

Its "HScore" is the regularised H-score. Both turn the features into float64 and run where the
tensor is.
"""

from importlib.metadata import version

import jax
import numpy as np
import torch  # pyright: ignore[reportMissingImports]
from transformer_ranker.embedder import Embedder  # pyright: ignore[reportMissingImports]
from transformer_ranker.estimators import HScore, LogME  # pyright: ignore[reportMissingImports]

NAME = f"transformer-ranker {version('transformer-ranker')}"


def prepare(array: np.ndarray) -> torch.Tensor:
    """A tensor on the device that JAX runs on."""
    return torch.from_numpy(array).to("cuda" if jax.default_backend() == "gpu" else "cpu")


def regularized_h_score(features: torch.Tensor, labels: torch.Tensor, num_classes: int) -> float:
    """``HScore``: pseudo-inverse of the shrunk covariance."""
    return HScore().fit(embeddings=features, labels=labels)


def logme(features: torch.Tensor, labels: torch.Tensor, num_classes: int) -> float:
    """``LogME``: a full SVD, then at most 11 fixed-point steps a class."""
    return LogME().fit(embeddings=features, labels=labels)


PEERS = {"regularized_h_score": regularized_h_score, "logme": logme}


def embed_layers(model: str, texts: list[str]) -> list[torch.Tensor]:
    """``[n, d]`` of each layer after the embeddings, as its ranker embeds texts for "bestlayer"."""
    return [*_embed(model, texts, "all").unbind(1)]


def last_layer(model: str, texts: list[str]) -> np.ndarray:
    """``[n, d]`` of what its ranker embeds for "lastlayer"."""
    return _embed(model, texts, "0")[:, 0].numpy()


def _embed(model: str, texts: list[str], layers: str) -> torch.Tensor:
    embedder = Embedder(model, layer_ids=layers, sentence_pooling="mean", layer_mean=False)
    return torch.stack(embedder.embed(texts, batch_size=32, show_progress=False))
