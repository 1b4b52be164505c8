"""Episodes hold what they say: classes, images, turns, groups; and refuse what cannot be drawn."""

import dataclasses
from functools import cache

import jax
import numpy as np
import pytest

from leepjax.meta import EpisodeShape, episode_bank, episodes
from tests.meta.support import NAMES, bank

KEY = jax.random.key(3)


@cache
def drawing(shape):
    return jax.jit(lambda key, data, among: episodes(key, data, shape, 40, among))


def draw(shape, key=KEY, among=None):
    return jax.device_get(drawing(shape)(key, episode_bank(bank(), shape), among))


def classes_of(images, data):
    """``(class, turns, row)`` of each image, by looking it up."""
    found = {}
    for row, image in enumerate(data.images):
        for turns in range(4):
            found[np.rot90(image, turns).tobytes()] = int(data.labels[row]), turns, row
    return [found[np.asarray(image).tobytes()] for image in images]


@pytest.mark.parametrize("rotations", [False, True])
def test_images_are_of_their_classes_and_support_and_query_apart(rotations):
    data = bank()
    shape = EpisodeShape(ways=3, shots=2, queries=4, rotations=rotations)
    drawn = draw(shape)
    copies = 4 if rotations else 1
    for i in range(40):
        classes = np.asarray(drawn.classes[i])
        assert len(set(classes.tolist())) == 3
        rows = []
        for images, labels in (
            (drawn.support[i], drawn.support_labels[i]),
            (drawn.query[i], drawn.query_labels[i]),
        ):
            for (c, turns, row), label in zip(classes_of(images, data), labels, strict=True):
                assert classes[label] == (copies * c + turns if rotations else c)
                rows.append((row, turns))
        assert len(set(rows)) == len(rows)
        # One image of each class, then the next: fewer shots are a prefix.
        np.testing.assert_array_equal(drawn.support_labels[i], [0, 1, 2, 0, 1, 2])
    assert len(np.unique(drawn.classes)) == copies * len(NAMES)  # every class is drawn


def test_the_same_key_gives_the_same_and_another_others():
    shape = EpisodeShape(ways=3, shots=1, queries=1)
    first, again, other = draw(shape), draw(shape), draw(shape, key=jax.random.key(4))
    np.testing.assert_array_equal(first.support, again.support)
    assert (np.asarray(first.classes) != np.asarray(other.classes)).any()


def test_images_are_moved_by_so_many_pixels_and_black_comes_in():
    shape = EpisodeShape(ways=3, shots=1, queries=1)
    moves = set()
    moved = draw(dataclasses.replace(shape, shift=2))
    for image, label, classes in zip(
        moved.support[:, 0], moved.support_labels[:, 0], moved.classes, strict=True
    ):
        mine = bank().images[bank().labels == classes[label]]
        around = np.pad(mine, ((0, 0), (2, 2), (2, 2), (0, 0)))
        for i, j in np.ndindex(5, 5):
            if (around[:, i : i + 12, j : j + 12] == image).all((1, 2, 3)).any():
                moves.add((i, j))
                break
        else:
            pytest.fail("no image of the class, moved by at most two pixels")
    assert len(moves) > 10


def test_classes_of_one_group_or_of_any():
    for within, share in ((1.0, 1.0), (0.0, None)):
        drawn = draw(EpisodeShape(ways=3, shots=1, queries=1, within=within))
        same = (np.asarray(drawn.classes) % 2 == np.asarray(drawn.classes[:, :1]) % 2).all(1)
        assert same.mean() == share if share else 0 < same.mean() < 0.6


def test_among_names_the_classes_unless_too_few():
    shape = EpisodeShape(ways=3, shots=1, queries=1)
    chosen = np.isin(np.arange(len(NAMES)), [1, 4, 6, 7])
    assert np.isin(draw(shape, among=chosen).classes, [1, 4, 6, 7]).all()
    few = np.isin(np.arange(len(NAMES)), [1, 4])
    assert len(np.unique(draw(shape, among=few).classes)) == len(NAMES)


def test_what_cannot_be_drawn_is_refused_before_anything_is():
    with pytest.raises(ValueError, match=r"ways: wanted at most 8, .* got 9"):
        episode_bank(bank(), EpisodeShape(ways=9, shots=1, queries=1))
    with pytest.raises(ValueError, match=r"ways: wanted at most 4, the classes in one group"):
        episode_bank(bank(), EpisodeShape(ways=5, shots=1, queries=1, within=0.5))
    with pytest.raises(ValueError, match=r"shots \+ queries: wanted at most 8, .* got 5 \+ 4"):
        episode_bank(bank(), EpisodeShape(ways=3, shots=5, queries=4))
    flat = dataclasses.replace(bank(), images=bank().images[:, :6])
    with pytest.raises(ValueError, match="rotations: wanted square images"):
        episode_bank(flat, EpisodeShape(ways=3, shots=1, queries=1, rotations=True))
    for field, value in {"ways": 1, "shots": 0, "queries": 0, "shift": -1, "within": 1.5}.items():
        with pytest.raises(ValueError, match=field):
            EpisodeShape(**{field: value})
