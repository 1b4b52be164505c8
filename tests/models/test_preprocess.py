import jax
import numpy as np
import pytest
from PIL import Image

from leepjax.models import Preprocess, ResizeCrop


def _bytes(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def test_padding_comes_before_normalising():
    images = _bytes(2, 28, 28, 1)
    x = np.asarray(Preprocess(32, 3, (0.1, 0.2, 0.3), (0.5, 0.25, 2.0))(images))
    wanted = np.zeros((2, 32, 32, 3))
    wanted[:, 2:30, 2:30] = images / 255.0
    wanted = (wanted - [0.1, 0.2, 0.3]) / [0.5, 0.25, 2.0]
    assert x.dtype == np.float32
    np.testing.assert_allclose(x, wanted, atol=1e-6)
    np.testing.assert_allclose(x[0, 0, 0], [-0.2, -0.8, -0.15], rtol=1e-6)


def test_odd_differences_put_the_extra_pixel_last():
    x = np.asarray(Preprocess(6, 1, (0.0,), (1.0,))(np.full((1, 3, 6, 1), 255, np.uint8)))
    np.testing.assert_array_equal(x[0, :, 0, 0], [0, 1, 1, 1, 0, 0])


def test_colour_is_averaged_to_grey():
    images = _bytes(2, 5, 5, 3)
    x = Preprocess(5, 1, (0.0,), (1.0,))(images)
    np.testing.assert_allclose(x[..., 0], images.mean(axis=-1) / 255, rtol=1e-5)


@pytest.mark.parametrize(("h", "w"), [(105, 105), (40, 40), (64, 32)])
def test_larger_images_are_shrunk_as_pillow_shrinks_them(h, w):
    image = _bytes(h, w)
    small = (28, round(28 * w / h))
    pillow = Image.fromarray((image / 255).astype(np.float32), mode="F")
    wanted = np.asarray(pillow.resize(small[::-1], Image.Resampling.BILINEAR))
    x = np.asarray(Preprocess(28, 1, (0.0,), (1.0,))(image[None, ..., None]))[0, ..., 0]
    left = (28 - small[1]) // 2
    np.testing.assert_allclose(x[:, left : left + small[1]], wanted, atol=1e-5)
    assert not x[:, :left].any()
    assert not x[:, left + small[1] :].any()


def _centre(image, size, half):
    """The centre of a Pillow image, as bytes."""
    left, top = (half((side - size) / 2) for side in image.size)
    return np.asarray(image.crop((left, top, left + size, top + size)))


@pytest.mark.parametrize(
    ("h", "w", "resize", "interpolation"),
    [
        (28, 28, 40, "bilinear"),
        (90, 70, 41, "bicubic"),
        (50, 73, 32, "lanczos"),
        (64, 64, (32, 37), "bilinear"),
    ],
)
def test_resizing_is_pillows_to_a_byte(h, w, resize, interpolation):
    image = _bytes(h, w, 3)
    sides = resize if isinstance(resize, tuple) else [resize * side // min(h, w) for side in (h, w)]
    method = Image.Resampling[interpolation.upper()]
    resized = Image.fromarray(image).resize(sides[::-1], method)
    for half, rounding in (("even", round), ("down", int)):
        preprocess = ResizeCrop(
            32, 3, (0.0,) * 3, (1.0,) * 3, resize=resize, interpolation=interpolation, half=half
        )
        x = 255 * np.asarray(jax.jit(preprocess)(image[None])[0])
        off = np.abs(x - _centre(resized, 32, rounding))
        assert off.max() < 1.01
        assert off.mean() < 0.1  # ties, which fixed point and float round apart


def test_what_is_smaller_after_resizing_is_padded():
    full = np.full((1, 8, 16, 1), 255, np.uint8)
    x = np.asarray(ResizeCrop(7, 1, (0.0,), (1.0,), resize=4)(full))
    np.testing.assert_array_equal(x[0, :, 3, 0], [0, 1, 1, 1, 1, 0, 0])
    assert x.shape == (1, 7, 7, 1)


def test_it_is_static():
    one, other = (Preprocess(28, 1, (0.5,), (0.5,)) for _ in range(2))
    assert one == other
    assert hash(one) == hash(other)
    images = _bytes(2, 28, 28, 1)
    jitted = jax.jit(lambda preprocess, x: preprocess(x), static_argnums=0)
    np.testing.assert_allclose(jitted(one, images), one(images), atol=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Preprocess(0, 1, (0.0,), (1.0,)), "size: .*0"),
        (lambda: Preprocess(8, 3, (0.0,), (1.0,) * 3), "mean: wanted 3 values"),
        (lambda: ResizeCrop(8, 1, (0.0,), (1.0,), resize=0), "resize: .*0"),
        (lambda: ResizeCrop(8, 1, (0.0,), (1.0,), resize=(8, 8, 1)), "resize: wanted one side"),
        (lambda: ResizeCrop(8, 1, (0.0,), (1.0,), interpolation="x"), "interpolation: wanted one"),
        (lambda: ResizeCrop(8, 1, (0.0,), (1.0,), half="up"), "half: wanted one of even, down"),
        (lambda: Preprocess(8, 1, (0.0,), ()), "std: wanted 1 values"),
        (lambda: Preprocess(8, 1, (0.0,), (1.0,))(np.zeros((1, 8, 8, 1))), "uint8.*float64"),
        (lambda: Preprocess(8, 1, (0.0,), (1.0,))(np.zeros((8, 8, 1), np.uint8)), r"\[8, 8, 1\]"),
        (
            lambda: Preprocess(8, 3, (0.0,) * 3, (1.0,) * 3)(np.zeros((1, 8, 8, 2), np.uint8)),
            "wanted 1 or 3 channels, got 2",
        ),
    ],
)
def test_errors_name_the_argument(call, message):
    with pytest.raises(ValueError, match=message):
        call()
