"""Image files of every kind to arrays of one size: against pixels that are known, or by name."""

import logging
import os
import threading

import numpy as np
import pytest
from PIL import Image

from leepjax.data import images
from leepjax.data.images import decode

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (6, 8, 3), np.uint8)  # h, w
GREY = RNG.integers(0, 256, (6, 8), np.uint8)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LEEPJAX_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "banks"


def read(*files, size=None):
    keys = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    return decode("mine", [*map(str, files)], keys, size)


def one(file, size=None):
    found = read(file, size=size)
    assert not found.wrong
    assert found.images.dtype == np.uint8
    return found.images[0]


def test_colour_and_grey_are_as_they_were_written(tmp_path):
    Image.fromarray(COLOUR).save(tmp_path / "c.png")
    Image.fromarray(GREY).save(tmp_path / "g.png")
    np.testing.assert_array_equal(one(tmp_path / "c.png"), COLOUR)
    np.testing.assert_array_equal(one(tmp_path / "g.png"), GREY[..., None])
    both = read(tmp_path / "g.png", tmp_path / "c.png").images
    np.testing.assert_array_equal(both, [np.repeat(GREY[..., None], 3, axis=2), COLOUR])


def test_a_palette(tmp_path):
    palette = Image.fromarray(COLOUR).quantize(16)
    palette.save(tmp_path / "p.png")
    np.testing.assert_array_equal(one(tmp_path / "p.png"), palette.convert("RGB"))
    palette.save(tmp_path / "p.gif")
    np.testing.assert_array_equal(one(tmp_path / "p.gif"), palette.convert("RGB"))


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_are_scaled_not_cut(suffix, tmp_path, caplog):
    deep = RNG.integers(0, 65536, (6, 8)).astype(np.uint16)
    deep[0, :2] = 0, 65535
    Image.fromarray(deep).save(tmp_path / f"deep.{suffix}")
    found = one(tmp_path / f"deep.{suffix}")
    np.testing.assert_array_equal(found[..., 0], np.round(deep / 257))
    assert found[0, 0] == 0
    assert found[0, 1] == 255
    assert "1 of 1 images have 16 bits" in caplog.text


def test_one_bit(tmp_path):
    Image.fromarray(GREY > 99).save(tmp_path / "bit.png")
    np.testing.assert_array_equal(one(tmp_path / "bit.png")[..., 0], 255 * (GREY > 99))


def test_what_is_transparent_lies_on_white(tmp_path, caplog):
    alpha = np.zeros((6, 8, 1), np.uint8)
    alpha[:3] = 255
    Image.fromarray(np.concatenate([COLOUR, alpha], axis=2)).save(tmp_path / "rgba.png")
    expected = np.where(alpha == 255, COLOUR, 255)
    np.testing.assert_array_equal(one(tmp_path / "rgba.png"), expected)
    Image.fromarray(np.stack([GREY, alpha[..., 0]], axis=2), "LA").save(tmp_path / "la.png")
    expected = np.where(alpha == 255, GREY[..., None], 255)
    np.testing.assert_array_equal(one(tmp_path / "la.png"), expected)
    assert "transparent parts are laid on white" in caplog.text


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turns_upright(orientation, tmp_path):
    turned = {
        1: COLOUR,
        2: COLOUR[:, ::-1],
        3: COLOUR[::-1, ::-1],
        4: COLOUR[::-1],
        5: COLOUR.swapaxes(0, 1),
        6: np.rot90(COLOUR, -1),
        7: COLOUR[::-1, ::-1].swapaxes(0, 1),
        8: np.rot90(COLOUR),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(COLOUR).save(tmp_path / "turned.png", exif=exif)
    np.testing.assert_array_equal(one(tmp_path / "turned.png"), turned)


@pytest.mark.parametrize("suffix", ["gif", "png", "webp", "tif"])
def test_of_an_animation_the_first_frame(suffix, tmp_path, caplog):
    frames = [Image.new("RGB", (8, 6), colour) for colour in ((200, 0, 0), (0, 0, 200))]
    options = {"lossless": True} if suffix == "webp" else {}
    frames[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=frames[1:], **options)
    np.testing.assert_array_equal(one(tmp_path / f"a.{suffix}"), np.array(frames[0]))
    assert "1 of 1 images are animated or have pages: the first is taken" in caplog.text


def test_of_several_photographs_in_one_file_the_first(tmp_path, caplog):
    """As telephones write them: for the reader it is one photograph."""
    first, other = Image.new("RGB", (8, 6), (200, 0, 0)), Image.new("RGB", (8, 6), (0, 0, 200))
    first.save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=[other])
    assert one(tmp_path / "a.jpg")[0, 0, 0] > 190
    assert "animated" not in caplog.text


def test_cmyk(tmp_path):
    Image.new("CMYK", (8, 6), (0, 255, 255, 0)).save(tmp_path / "c.tif")
    assert one(tmp_path / "c.tif")[0, 0].tolist() == [255, 0, 0]


def test_ranges_that_are_not_known_are_refused(tmp_path):
    Image.fromarray(RNG.normal(size=(6, 8)).astype(np.float32)).save(tmp_path / "f.tif")
    Image.fromarray(np.arange(48, dtype=np.int32).reshape(6, 8)).save(tmp_path / "i.tif")
    assert read(tmp_path / "f.tif", tmp_path / "i.tif").wrong == dict.fromkeys(
        (0, 1), "32 bits a pixel, whose range is not known; save it with 8 or 16"
    )


def test_what_is_no_image_is_named_and_the_others_are_read(tmp_path):
    names = ["a.png", "text.png", "cut.png", "empty.png", "b.png"]
    files = [tmp_path / name for name in names]
    for file in files:
        Image.fromarray(COLOUR).save(file)
    files[1].write_text("no image")
    files[2].write_bytes(files[0].read_bytes()[:-60])
    files[3].write_bytes(b"")
    for _ in range(2):  # decoded, and from the cache
        found = read(*files)
        assert sorted(found.wrong) == [1, 2, 3]
        assert found.wrong[1] == found.wrong[3] == "no image"
        assert "truncated" in found.wrong[2]
        np.testing.assert_array_equal(found.images, [COLOUR, COLOUR])


def test_a_file_that_cannot_be_opened_is_an_error(tmp_path):
    with pytest.raises(ValueError, match=r"name: cannot read .*lost.png.: No such file"):
        decode("mine", [str(tmp_path / "lost.png")], ["lost"], None)


def test_mixed_sizes_have_the_median_of_shorter_sides(tmp_path, caplog):
    sizes = [(30, 40), (20, 20), (50, 24)]  # w, h
    ramps = [np.linspace(0, 255, w)[None].repeat(h, 0).astype(np.uint8) for w, h in sizes]
    files = [tmp_path / f"{i}.png" for i in range(3)]
    for file, ramp in zip(files, ramps, strict=True):
        Image.fromarray(ramp).save(file)
    found = read(*files).images
    assert found.shape == (3, 24, 24, 1)
    assert "3 of 3 images are resized to 24 x 24: shorter side, then the centre" in caplog.text
    # of the last, 50 x 24, the 24 columns in the middle as they were
    np.testing.assert_array_equal(found[2, :, :, 0], ramps[2][:, 13:37])


def test_photographs_become_224_and_jpeg_may_be_decoded_smaller(tmp_path):
    y, x = np.mgrid[:1200, :1600]
    smooth = np.stack([255 * x / 1599, 255 * y / 1199, 128 + 0 * x], axis=2).astype(np.uint8)
    Image.fromarray(smooth).save(tmp_path / "p.jpg", quality=95)
    found = one(tmp_path / "p.jpg").astype(int)
    assert found.shape == (224, 224, 3)
    full = Image.open(tmp_path / "p.jpg").crop((200, 0, 1400, 1200))
    expected = np.asarray(full.resize((224, 224), Image.Resampling.BICUBIC)).astype(int)
    assert abs(found - expected).max() <= 3
    assert one(tmp_path / "p.jpg", size=100).shape == (100, 100, 3)


def test_colour_that_was_not_seen_beforehand(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "SAMPLE", 2)  # the first and the last
    files = [tmp_path / f"{i}.png" for i in range(3)]
    for file, array in zip(files, (GREY, COLOUR, GREY), strict=True):
        Image.fromarray(array).save(file)
    np.testing.assert_array_equal(read(*files).images[1], COLOUR)


def test_the_order_is_kept_by_threads_and_memory_by_what_is_ahead(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    monkeypatch.setattr(images, "GROUP", 2)
    pixels = np.arange(40, dtype=np.uint8)
    files = [tmp_path / f"{i}.png" for i in pixels]
    for file, value in zip(files, pixels, strict=True):
        Image.fromarray(np.full((2, 2), value)).save(file)
    real, threads = images._read, set()

    def slow(*arguments):
        threads.add(threading.get_ident())
        return real(*arguments)

    monkeypatch.setattr(images, "_read", slow)
    np.testing.assert_array_equal(read(*files).images[:, 0, 0, 0], pixels)
    assert threading.main_thread().ident not in threads


def test_the_cache(tmp_path, cache, caplog):
    caplog.set_level(logging.WARNING, "leepjax")
    file = tmp_path / "c.png"
    Image.fromarray(COLOUR).save(file)
    first = one(file)
    assert isinstance(first, np.memmap)
    assert "1 images of 6 x 8 x 3 need 0.0 MB of disk" in caplog.text
    caplog.clear()
    one(file)
    assert not caplog.text  # nothing is decoded again
    (stored,) = cache.glob("*.npy")
    stored.write_bytes(stored.read_bytes()[:-1] + b"\xff")
    with pytest.warns(UserWarning, match=r"is damaged.*made again"):
        np.testing.assert_array_equal(one(file), COLOUR)
    Image.fromarray(COLOUR[::-1]).save(file)  # another file of that name
    os.utime(file, ns=(1, 1))
    np.testing.assert_array_equal(one(file), COLOUR[::-1])


def test_an_interruption_leaves_nothing(tmp_path, cache, monkeypatch):
    Image.fromarray(COLOUR).save(tmp_path / "c.png")
    with monkeypatch.context() as patch:
        patch.setattr(images, "seal", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            one(tmp_path / "c.png")
    for stored in cache.glob("*.npy"):
        stored.write_bytes(b"half")
    np.testing.assert_array_equal(one(tmp_path / "c.png"), COLOUR)


def test_too_little_room_is_said_before_it_is_taken(tmp_path, monkeypatch):
    Image.fromarray(COLOUR).save(tmp_path / "c.png")
    usage = images.shutil.disk_usage(tmp_path)._replace(free=100)
    monkeypatch.setattr(images.shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(ValueError, match=r"6 x 8 x 3 need 0\.0 MB.* where 0\.0 MB are free"):
        one(tmp_path / "c.png")
    with pytest.raises(ValueError, match="size: wanted at least 1, got 0"):
        one(tmp_path / "c.png", size=0)
