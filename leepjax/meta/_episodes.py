"""Few-shot episodes, drawn from a bank on the device: small tasks to learn adapting from.

O. Vinyals, C. Blundell, T. Lillicrap, K. Kavukcuoglu, D. Wierstra: Matching Networks for One Shot
Learning, NeurIPS 2016. A quarter turn of every image of a class makes another class (A. Santoro,
S. Bartunov, M. Botvinick, D. Wierstra, T. Lillicrap: Meta-Learning with Memory-Augmented Neural
Networks, ICML 2016).
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from leepjax.data import Bank, Pixels, check_bank
from leepjax.data.transform import TURNS


@dataclasses.dataclass(frozen=True)
class EpisodeShape:
    """The shape of an episode.

    Attributes:
      ways: its classes.
      shots: labelled images of each, to adapt to.
      queries: further images of each, to judge the adapted model by.
      rotations: whether a character turned by 90, 180 or 270 degrees is another class.
      shift: each image is moved by up to so many pixels, up or down and left or right, padded with
        black; it is then a new image of its class.
      within: share in ``[0, 1]`` of episodes whose classes come from one group (script, alphabet).

    Raises:
      ValueError: a field out of its range.
    """

    ways: int = 5
    shots: int = 5
    queries: int = 10
    rotations: bool = False
    shift: int = 0
    within: float = 0.0

    def __post_init__(self):
        for name, least in (("ways", 2), ("shots", 1), ("queries", 1), ("shift", 0)):
            value = getattr(self, name)
            if not isinstance(value, int) or value < least:
                raise ValueError(f"{name}: wanted an int >= {least}, got {value!r}")
        if not 0 <= self.within <= 1:
            raise ValueError(f"within: wanted a share in [0, 1], got {self.within}")


class Episodes(NamedTuple):
    """A batch of t episodes, or one without the leading axis.

    Attributes:
      support: ``[t, shots * ways, h, w, channels]`` uint8; the first image of every class, then
        the second of every class, ..., so that fewer shots are a prefix.
      support_labels: ``[t, shots * ways]`` int32 in ``0..ways-1``.
      query: ``[t, queries * ways, h, w, channels]`` uint8.
      query_labels: ``[t, queries * ways]`` int32.
      classes: ``[t, ways]`` int32, which classes they are: ids of the bank, times 4 plus the
        number of quarter turns where rotations are classes.
    """

    support: Any
    support_labels: Any
    query: Any
    query_labels: Any
    classes: Any


class EpisodeBank(NamedTuple):
    """A bank as episodes are drawn from it.

    Attributes:
      images: ``Pixels`` of n images.
      rows: ``[C, m]`` rows of each class's images, padded with 0.
      counts: ``[C]`` how many images a class has.
      groups: ``[C]`` the group of each class.
      drawable: ``[G]`` whether a group has enough classes for an episode.
    """

    images: Any
    rows: Any
    counts: Any
    groups: Any
    drawable: Any


def episode_bank(bank: Bank, shape: EpisodeShape) -> EpisodeBank:
    """Make a bank ready for :func:`episodes`.

    Raises:
      ValueError: more ways than classes (in one group, where some episodes are ``within``), more
        shots and queries than the images of some class, or rotations of images that are not square.
    """
    check_bank("bank", bank)
    counts = np.bincount(bank.labels, minlength=bank.num_classes)
    copies = TURNS if shape.rotations else 1
    groups = bank.class_groups
    in_group = np.bincount(groups[counts > 0], minlength=len(bank.group_names)) * copies
    most = in_group.max() if shape.within > 0 else copies * bank.num_classes
    if shape.ways > most:
        where = "in one group of the bank" if shape.within > 0 else "in the bank"
        raise ValueError(f"ways: wanted at most {most}, the classes {where}, got {shape.ways}")
    if shape.shots + shape.queries > counts.min():
        raise ValueError(
            f"shots + queries: wanted at most {counts.min()}, the images of class "
            f"{bank.class_names[counts.argmin()]!r}, got {shape.shots} + {shape.queries}"
        )
    height, width = bank.images.shape[1:3]
    if shape.rotations and height != width:
        raise ValueError(f"rotations: wanted square images to turn, got {height} x {width}")
    rows = np.zeros((bank.num_classes, counts.max()), np.int32)
    order = np.argsort(bank.labels, kind="stable")
    place = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    rows[bank.labels[order], place] = order
    pixels, drawable = Pixels.of(bank.images), in_group >= shape.ways
    return jax.tree.map(jnp.asarray, EpisodeBank(pixels, rows, counts, groups, drawable))


def episodes(
    key: jax.Array,
    bank: EpisodeBank,
    shape: EpisodeShape,
    number: int,
    among: jax.Array | None = None,
) -> Episodes:
    """Draw episodes; pure, for use inside jitted code. The same key gives the same episodes.

    Args:
      key: typed JAX key.
      bank: from :func:`episode_bank`, for the same shape.
      shape: classes and images of each.
      number: how many, t.
      among: ``[C]`` bool (``[4 C]`` where rotations are classes), which classes to draw from,
        whatever their groups; ignored where it names fewer than ``ways``.
    """

    def one(key: jax.Array) -> Episodes:
        which, group, pick, draw, move = jax.random.split(key, 5)
        copies = TURNS if shape.rotations else 1
        of_class = jnp.repeat(bank.groups, copies)
        weight = bank.drawable / bank.drawable.sum()
        group = jax.random.choice(group, len(bank.drawable), p=weight)
        within = jax.random.uniform(which) < shape.within
        allowed = jnp.where(within, of_class == group, True)
        if among is not None:
            allowed = jnp.where(among.sum() >= shape.ways, among, allowed)
        classes = _choose(pick, allowed, shape.ways)
        real = classes // copies
        each = shape.shots + shape.queries
        there = jnp.arange(bank.rows.shape[1]) < bank.counts[real, None]
        keys = jax.random.split(draw, shape.ways)
        chosen = jax.vmap(lambda k, w: _choose(k, w, each))(keys, there)  # [ways, each]
        images = bank.images[jnp.take_along_axis(bank.rows[real], chosen, 1)]
        if shape.rotations:
            images = _turned(images, classes % copies)
        if shape.shift:
            images = _moved(move, images, shape.shift)
        images = images.swapaxes(0, 1)  # [each, ways, h, w, c]
        labels = jnp.broadcast_to(jnp.arange(shape.ways), images.shape[:2])
        parts = slice(None, shape.shots), slice(shape.shots, None)
        flat = [(_merge(images[part]), labels[part].reshape(-1)) for part in parts]
        return Episodes(*flat[0], *flat[1], classes)

    return jax.vmap(one)(jax.random.split(key, number))


def _choose(key: jax.Array, allowed: jax.Array, number: int) -> jax.Array:
    """``number`` different places where ``allowed [n]``, in random order."""
    scores = jnp.where(allowed, jax.random.uniform(key, allowed.shape), -1.0)
    return jax.lax.top_k(scores, number)[1]


def _turned(images: jax.Array, turns: jax.Array) -> jax.Array:
    """``images [ways, each, h, w, c]``, those of each class turned so often by 90 degrees."""
    every = jnp.stack([jnp.rot90(images, k, axes=(2, 3)) for k in range(TURNS)])
    return jnp.take_along_axis(every, turns[None, :, None, None, None, None], axis=0)[0]


def _moved(key: jax.Array, images: jax.Array, most: int) -> jax.Array:
    """``images [ways, each, h, w, c]``, each moved by a draw of its own."""
    flat = _merge(images)
    around = jnp.pad(flat, ((0, 0), (most, most), (most, most), (0, 0)))
    corners = jax.random.randint(key, (len(flat), 2), 0, 2 * most + 1)

    def window(image: jax.Array, corner: jax.Array) -> jax.Array:
        return jax.lax.dynamic_slice(image, (corner[0], corner[1], 0), flat.shape[1:])

    return jax.vmap(window)(around, corners).reshape(images.shape)


def _merge(x: jax.Array) -> jax.Array:
    return x.reshape(-1, *x.shape[2:])
