"""Four source models of PyTorch's, as files that leepjax ranks: an example of the documents.

    python docs/examples/pytorch_sources.py FOLDER

They are trained on scikit-learn's digits 0 to 4, one of them not at all. What they say about 200
labelled digits 5 to 9 is saved: features and logits, one .npz each, and labels.npy. Then the truth
is printed that a ranking is meant to predict: each network fine-tuned on the 200, with a new head,
and its accuracy on the 696 digits that are left, mean of ten seeds.
"""

import copy
import sys
from pathlib import Path

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
from sklearn.datasets import load_digits

NETWORKS = {"untrained": (64, 0), "short": (64, 60), "narrow": (8, 600), "wide": (256, 600)}
LABELLED, SEEDS = 200, 10


def train(body, head, images, labels, steps, rate):
    """Adam on the whole batch."""
    optimiser = torch.optim.Adam([*body.parameters(), *head.parameters()], rate)
    for _ in range(steps):
        loss = torch.nn.functional.cross_entropy(head(body(images)), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


def fine_tuned(body, images, labels, seed):
    """Accuracy on the images that come after the labelled ones."""
    torch.manual_seed(seed)
    body, head = copy.deepcopy(body), torch.nn.Linear(body[0].out_features, 5)
    train(body, head, images[:LABELLED], labels[:LABELLED], 200, 1e-3)
    with torch.no_grad():
        predicted = head(body(images[LABELLED:])).argmax(1)
    return float((predicted == labels[LABELLED:]).float().mean())


def main(folder: Path) -> None:
    """Train the networks, write what each says about the target, and fine-tune them."""
    torch.manual_seed(0)
    images, digit = map(torch.tensor, load_digits(return_X_y=True))
    images = images.float() / 16
    order = torch.randperm(int((digit >= 5).sum()))
    target, labels = images[digit >= 5][order], digit[digit >= 5][order].long() - 5
    np.save(folder / "labels.npy", labels[:LABELLED].numpy())
    for name, (width, steps) in NETWORKS.items():
        body = torch.nn.Sequential(torch.nn.Linear(64, width), torch.nn.ReLU())
        head = torch.nn.Linear(width, 5)
        train(body, head, images[digit < 5], digit[digit < 5].long(), steps, 1e-2)
        with torch.no_grad():
            features = body(target[:LABELLED])
            logits = head(features)
        parameters = sum(p.numel() for part in (body, head) for p in part.parameters())
        np.savez(
            folder / f"{name}.npz",
            features=features.numpy(),
            logits=logits.numpy(),
            parameters=parameters,
        )
        reached = [fine_tuned(body, target, labels, seed) for seed in range(SEEDS)]
        print(f"{name:10} fine-tuned {np.mean(reached):.3f} ± {np.std(reached, ddof=1):.3f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
