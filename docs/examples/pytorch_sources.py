"""Four source models of PyTorch's, as files that leepjax ranks: an example of the documents.

    python docs/examples/pytorch_sources.py FOLDER

They are trained on scikit-learn's digits 0 to 4 (one is not trained at all), and what they say
about digits 5 to 9 is saved: features and logits, one .npz each, and labels.npy.
"""

import sys
from pathlib import Path

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
from sklearn.datasets import load_digits

NETWORKS = {"untrained": (64, 0), "short": (64, 60), "narrow": (8, 600), "wide": (256, 600)}


def main(folder: Path) -> None:
    """Train the networks, and write what each says about the digits that it has not seen."""
    torch.manual_seed(0)
    images, digit = map(torch.tensor, load_digits(return_X_y=True))
    images = images.float() / 16
    target = digit >= 5
    for name, (width, steps) in NETWORKS.items():
        body = torch.nn.Sequential(torch.nn.Linear(64, width), torch.nn.ReLU())
        head = torch.nn.Linear(width, 5)
        optimiser = torch.optim.Adam([*body.parameters(), *head.parameters()], 1e-2)
        for _ in range(steps):
            logits = head(body(images[~target]))
            loss = torch.nn.functional.cross_entropy(logits, digit[~target])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        with torch.no_grad():
            features = body(images[target])
            logits = head(features)
        parameters = sum(p.numel() for part in (body, head) for p in part.parameters())
        np.savez(
            folder / f"{name}.npz",
            features=features.numpy(),
            logits=logits.numpy(),
            parameters=parameters,
        )
    np.save(folder / "labels.npy", digit[target].numpy())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
