"""Data sets made of others: turned, shrunk, without some groups."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from leepjax.data.bank import Bank, Dataset

TURNS = 4  # quarter turns of an image, itself among them
_BATCH = 1024


def with_rotations(dataset: Dataset) -> Dataset:
    """Each image also turned by 90, 180 and 270 degrees, as a class of its own.

    Class ``c`` turned ``r`` times is class ``4 c + r``, named ``NAME@90`` and so on.

    Raises:
      ValueError: images that are not square.
    """

    def turned(bank: Bank) -> Bank:
        if bank.images.shape[1] != bank.images.shape[2]:
            raise ValueError(f"dataset: wanted square images, got {bank.images.shape[1:3]}")
        images = [np.rot90(bank.images, r, axes=(1, 2)) for r in range(TURNS)]
        labels = [TURNS * bank.labels + r for r in range(TURNS)]
        names = tuple(
            f"{name}@{90 * r}" if r else name for name in bank.class_names for r in range(TURNS)
        )
        return Bank(
            np.concatenate(images),
            np.concatenate(labels).astype(np.int32),
            np.tile(bank.groups, TURNS),
            names,
            bank.group_names,
        )

    return Dataset(*map(turned, dataset))


def with_copies(key: jax.Array, dataset: Dataset, copies: int, *, flip: bool, crop: int) -> Dataset:
    """So many copies of each training image, each mirrored or moved at random; same test images.

    Args:
      key: typed JAX key.
      dataset: the data set.
      copies: at least 1.
      flip: mirror each copy left to right with probability one half.
      crop: move each copy by up to so many pixels up or down, and left or right, within black.

    Raises:
      ValueError: fewer copies than one.
    """
    if copies < 1:
        raise ValueError(f"copies: wanted at least 1, got {copies}")
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    train = dataset.train
    images = np.concatenate([train.images] * copies)
    n, h, w, _ = images.shape
    if flip:
        mirrored = rng.random(n) < 0.5
        images[mirrored] = images[mirrored, :, ::-1]
    if crop:
        padded = np.pad(images, ((0, 0), (crop, crop), (crop, crop), (0, 0)))
        rows, columns = (rng.integers(0, 2 * crop + 1, n)[:, None] + np.arange(s) for s in (h, w))
        images = padded[np.arange(n)[:, None, None], rows[:, :, None], columns[:, None, :]]
    bank = dataclasses.replace(
        train,
        images=images,
        labels=np.tile(train.labels, copies),
        groups=np.tile(train.groups, copies),
    )
    return Dataset(bank, dataset.test)


def shrink(dataset: Dataset, size: int) -> Dataset:
    """Images whose longer side is more than ``size`` pixels, scaled down to it.

    Raises:
      ValueError: a size below 1.
    """
    if size < 1:
        raise ValueError(f"size: wanted at least 1, got {size}")

    def shrunk(bank: Bank) -> Bank:
        h, w, c = bank.images.shape[1:]
        if max(h, w) <= size:
            return bank
        to = (max(1, round(side * size / max(h, w))) for side in (h, w))
        shape = (*to, c)

        @jax.jit
        def resize(images: jax.Array) -> jax.Array:
            x = jax.image.resize(images / 255, (len(images), *shape), "linear", antialias=True)
            return jnp.round(255 * x).astype(jnp.uint8)

        parts = [
            np.asarray(resize(bank.images[i : i + _BATCH]))
            for i in range(0, len(bank.images), _BATCH)
        ]
        return dataclasses.replace(bank, images=np.concatenate(parts))

    return Dataset(*map(shrunk, dataset))


def without_groups(dataset: Dataset, names: tuple[str, ...]) -> Dataset:
    """Leave out the classes of some groups; the others are numbered anew.

    Raises:
      ValueError: nothing would be left.
    """
    train = dataset.train
    kept = [g for g, name in enumerate(train.group_names) if name not in names]
    if not kept:
        raise ValueError(f"names: wanted some other group to stay, got all: {', '.join(names)}")
    if len(kept) == len(train.group_names):
        return dataset
    return of_classes(dataset, np.unique(train.labels[np.isin(train.groups, kept)]))


def of_classes(dataset: Dataset, classes: np.ndarray) -> Dataset:
    """The images of some classes, ids ``[c]`` ascending; classes and groups are numbered anew."""
    train = dataset.train
    kept = np.unique(train.groups[np.isin(train.labels, classes)])

    def rest(bank: Bank) -> Bank:
        rows = np.isin(bank.labels, classes)
        return Bank(
            bank.images[rows],
            np.searchsorted(classes, bank.labels[rows]).astype(np.int32),
            np.searchsorted(kept, bank.groups[rows]).astype(np.int32),
            tuple(bank.class_names[c] for c in classes),
            tuple(bank.group_names[g] for g in kept),
        )

    return Dataset(*map(rest, dataset))
