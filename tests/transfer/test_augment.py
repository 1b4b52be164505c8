"""Flips and crops: every image is itself, mirrored or moved, each at its own random."""

import jax
import numpy as np
import pytest

from leepjax.transfer.augment import augment

IMAGES = np.random.default_rng(0).integers(1, 256, (64, 5, 5, 2)).astype(np.uint8)
KEY = jax.random.key(0)


def variants(image, flip, crop):
    sides = [image, image[:, ::-1]] if flip else [image]
    for side in sides:
        padded = np.pad(side, ((crop, crop), (crop, crop), (0, 0)))
        for i in range(2 * crop + 1):
            for j in range(2 * crop + 1):
                yield padded[i : i + 5, j : j + 5]


@pytest.mark.parametrize(("flip", "crop"), [(True, 0), (False, 2), (True, 2)])
def test_images_are_mirrored_and_moved(flip, crop):
    result = np.asarray(augment(KEY, IMAGES, flip=flip, crop=crop))
    seen = set()
    for image, original in zip(result, IMAGES, strict=True):
        matches = [
            k for k, v in enumerate(variants(original, flip, crop)) if np.array_equal(v, image)
        ]
        assert matches
        seen.add(matches[0])
    possible = (2 if flip else 1) * (2 * crop + 1) ** 2
    assert len(seen) > 0.5 * min(possible, len(IMAGES))


def test_nothing_asked_for_changes_nothing():
    np.testing.assert_array_equal(augment(KEY, IMAGES, flip=False, crop=0), IMAGES)
