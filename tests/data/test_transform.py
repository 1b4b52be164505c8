"""Data sets made of others."""

import dataclasses

import jax
import numpy as np
import pytest

from leepjax.data import load, of_classes, shrink, with_copies, with_rotations, without_groups
from tests.meta.support import NAMES, dataset


def test_turned_classes_hold_the_turned_images():
    before, after = dataset(), with_rotations(dataset())
    for plain, turned in zip(before, after, strict=True):
        assert turned.num_classes == 4 * plain.num_classes
        for r in range(4):
            rows = np.flatnonzero(turned.labels % 4 == r)
            np.testing.assert_array_equal(turned.labels[rows] // 4, plain.labels)
            for row, image in zip(rows[::7], plain.images[::7], strict=True):
                np.testing.assert_array_equal(turned.images[row], np.rot90(image, r))
            np.testing.assert_array_equal(turned.groups[rows], plain.groups)
    assert after.train.class_names[:5] == ("a", "a@90", "a@180", "a@270", "b")
    flat = dataset()._replace(train=load("digits").train)
    assert with_rotations(flat).train.num_classes == 40


def test_shrinking_keeps_means_and_small_images():
    data = dataset()
    small = shrink(data, 6).train
    assert small.images.shape[1:] == (6, 6, 1)
    assert small.images.dtype == np.uint8
    means = [bank.images.mean((1, 2, 3), dtype=float) for bank in (small, data.train)]
    np.testing.assert_allclose(*means, atol=3)
    assert shrink(data, 12).train is data.train
    with pytest.raises(ValueError, match="size: wanted at least 1"):
        shrink(data, 0)


def test_a_class_has_the_group_of_its_images_and_without_any_none():
    bank = dataset().train
    np.testing.assert_array_equal(bank.class_groups, [0, 1] * 4)
    rows = bank.labels != 3
    some = dataclasses.replace(
        bank, images=bank.images[rows], labels=bank.labels[rows], groups=bank.groups[rows]
    )
    np.testing.assert_array_equal(some.class_groups, [0, 1, 0, -1, 0, 1, 0, 1])


def test_groups_are_left_out_and_the_rest_numbered_anew():
    rest = without_groups(dataset(), ("group 0",))
    assert rest.train.group_names == ("group 1",)
    assert rest.train.class_names == NAMES[1::2]
    assert set(rest.test.labels) == {0, 1, 2, 3}
    odd = dataset().train.labels % 2 == 1
    np.testing.assert_array_equal(rest.train.images, dataset().train.images[odd])
    np.testing.assert_array_equal(rest.train.labels, dataset().train.labels[odd] // 2)
    same = dataset()
    assert without_groups(same, ("unknown",)) is same
    with pytest.raises(ValueError, match="wanted some other group to stay"):
        without_groups(dataset(), ("group 0", "group 1"))


def test_copies_are_mirrored_or_moved():
    data = dataset()
    key, n = jax.random.key(0), len(data.train.images)
    for flip, crop in ((True, 0), (False, 1)):
        after = with_copies(key, data, 3, flip=flip, crop=crop)
        assert after.test is data.test
        np.testing.assert_array_equal(after.train.labels, np.tile(data.train.labels, 3))
        moved = 0
        for i, image in enumerate(after.train.images):
            plain = data.train.images[i % n]
            h, w, _ = plain.shape
            padded = np.pad(plain, ((1, 1), (1, 1), (0, 0)))
            shifts = [padded[r : r + h, c : c + w] for r in range(3) for c in range(3)]
            wanted = [plain, plain[:, ::-1]] if flip else shifts
            assert any(np.array_equal(image, w) for w in wanted)
            moved += not np.array_equal(image, plain)
        assert 0.3 * 3 * n < moved < (0.7 if flip else 1) * 3 * n
    with pytest.raises(ValueError, match="copies: wanted at least 1"):
        with_copies(key, data, 0, flip=True, crop=0)


def test_some_classes_are_kept_and_numbered_anew():
    data = dataset()
    part = of_classes(data, np.array([1, 2]))
    assert part.train.class_names == data.train.class_names[1:3]
    for plain, few in zip(data, part, strict=True):
        rows = np.isin(plain.labels, [1, 2])
        np.testing.assert_array_equal(few.images, plain.images[rows])
        np.testing.assert_array_equal(few.labels, plain.labels[rows] - 1)
