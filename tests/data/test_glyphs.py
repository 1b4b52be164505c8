"""Glyphs: what is drawn, from which faces, and that it is the same every time."""

import unicodedata
from collections import Counter

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt

from leepjax.data import load
from leepjax.data.glyphs import SCRIPTS, dataset
from leepjax.data.glyphs import images as images_module
from leepjax.data.glyphs.catalogue import Character, candidates, catalogue, distinct_faces
from leepjax.data.glyphs.drawing import (
    FACES,
    FIELD,
    draw,
    faces_with,
    fields,
    glyph,
    ink,
    signed_distance,
)
from leepjax.data.glyphs.images import IMAGES, divide_faces, images_of

COUNTS = {
    "latin": 43,
    "greek": 67,
    "cyrillic": 27,
    "armenian": 61,
    "georgian": 76,
    "digits": 9,
    "lao": 35,
    "arrows": 89,
    "hebrew": 22,
    "syllabics": 353,
    "braille": 183,
    "maths": 191,
    "arabic": 74,
    "nko": 24,
    "tifinagh": 36,
    "ogham": 25,
}
FEW = tuple(
    Character(char, script, distinct_faces(char, faces_with(char)))
    for char, script in [
        ("A", "latin"),
        ("g", "latin"),
        ("Ω", "greek"),
        ("Ж", "cyrillic"),
        ("ᐁ", "syllabics"),
        ("ߋ", "nko"),
    ]
)


@pytest.fixture
def few(tmp_path, monkeypatch):
    """The folder of Glyphs, in which it has six characters."""
    monkeypatch.setenv("LEEPJAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(dataset, "catalogue", lambda: FEW)
    return tmp_path / "cache" / "glyphs"


def test_catalogue():
    # Another FreeType rasterises a little differently, and moves characters over the thresholds.
    counts = Counter(c.script for c in catalogue())
    assert all(abs(counts[script] - count) <= 2 + count // 10 for script, count in COUNTS.items())
    assert list(COUNTS) == list(SCRIPTS)
    assert len({c.name for c in catalogue()}) == len(catalogue())
    first_seen = list(dict.fromkeys(c.script for c in catalogue()))
    assert first_seen == list(SCRIPTS)


def test_every_character_is_drawn_by_its_faces_and_not_decomposed():
    for c in catalogue():
        assert 2 <= len(c.faces) <= len(FACES)
        assert set(c.faces) <= set(faces_with(c.char))
        assert list(c.faces) == [face for face in FACES if face in c.faces]
        assert not unicodedata.decomposition(c.char)
        assert SCRIPTS[c.script][0] <= ord(c.char) <= SCRIPTS[c.script][1]


@pytest.mark.parametrize(
    ("kept", "dropped"),
    [("O", "oΟοОо"), ("A", "ΑА"), ("H", "ΗН"), ("J", "յ"), ("Γ", "Г"), ("З", "3")],
)
def test_homoglyphs_are_kept_once(kept, dropped):
    chars = {c.char for c in catalogue()}
    assert kept in chars
    assert not chars & set(dropped)
    assert set(dropped) <= {char for char, _ in candidates()}


def test_faces_without_the_character_or_with_the_same_drawing_are_dropped():
    assert faces_with("A") == FACES
    assert all(face.startswith("Sans") for face in faces_with("ߋ"))
    assert faces_with("漢") == ()
    assert distinct_faces("A", ("Sans", "Sans", "Serif")) == ("Sans", "Serif")


def test_fields_are_distances_to_the_outline():
    (square,) = fields("■", ("Sans",))
    assert square.shape == (FIELD, FIELD)
    assert square[32, 32] == pytest.approx(20.5, abs=0.3)  # half of the box, less half a pixel
    np.testing.assert_allclose(np.diff(square[32, 2:30]), 1, atol=0.3)
    np.testing.assert_allclose(square, square.T, atol=0.5)
    assert glyph(" ", "Sans").size == 0


@pytest.mark.parametrize(("char", "face"), [("I", "Sans"), ("—", "Serif"), ("ᐁ", "Sans-Bold")])
def test_the_box_around_the_ink_is_enough_for_the_distances(char, face):
    small = ink(glyph(char, face))
    margins = [((128 - side) // 2, 128 - side - (128 - side) // 2) for side in small.shape]
    whole = np.pad(small, margins).astype(float)
    inside = whole >= 0.5
    distance = np.where(
        inside, distance_transform_edt(inside) - 0.5, 0.5 - distance_transform_edt(~inside)
    )
    distance = np.where(np.abs(distance) < 1, whole - 0.5, distance)
    wanted = distance.reshape(FIELD, 2, FIELD, 2).mean((1, 3)) / 2
    np.testing.assert_allclose(signed_distance(small), wanted, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("m", range(2, 13))
def test_a_third_of_the_faces_is_for_testing(m):
    parts = divide_faces(Character("A", "latin", FACES[:m]))
    assert sorted(parts["train"] + parts["test"]) == sorted(FACES[:m])
    assert len(parts["test"]) == max(1, round(m / 3))


def test_no_face_is_shared_between_training_and_testing():
    tested = Counter()
    for c in catalogue():
        parts = divide_faces(c)
        assert parts["train"]
        assert parts["test"]
        assert not set(parts["train"]) & set(parts["test"])
        tested.update(parts["test"])
    assert set(tested) == set(FACES)  # no style is only ever trained on


@pytest.mark.parametrize("character", FEW, ids=lambda c: c.name)
def test_images(character, monkeypatch):
    drawn = []
    monkeypatch.setattr(images_module, "fields", lambda *of: drawn.append(of) or fields(*of))
    for split, n in IMAGES.items():
        images = images_of(character, split)
        assert drawn.pop() == (character.char, divide_faces(character)[split])
        assert images.shape == (n, 28, 28, 1)
        assert images.dtype == np.uint8
        assert len(np.unique(images.reshape(n, -1), axis=0)) == n
        # Ink is bright, lies in the middle, and none is blank: the border is noise on black.
        inner, border = images[:, 7:21, 7:21].mean((1, 2, 3)), images[:, [0, -1]].mean((1, 2, 3))
        assert (inner > 25).all()
        assert (inner > border).mean() > 0.95
        assert images.max((1, 2, 3)).min() > 120
        np.testing.assert_array_equal(images_of(character, split), images)


def test_noise_apart_an_image_is_its_character():
    clear = fields("A", ("Sans", "Serif"))
    images = draw(clear, 400, np.random.default_rng(0)).astype(float)[..., 0]
    for face in range(2):
        mean = images[face::2].mean(0)
        ink = (clear[face] > 0).astype(float).reshape(FIELD, FIELD)
        ink = ink[np.ix_(*2 * [((np.arange(28) + 0.5) * FIELD / 28).astype(int)])]
        assert np.corrcoef(mean.ravel(), ink.ravel())[0, 1] > 0.6


def test_generated_twice_the_bytes_are_the_same(few, tmp_path, monkeypatch):
    data = load("glyphs")
    monkeypatch.setenv("LEEPJAX_CACHE", str(tmp_path / "another"))
    again = load("glyphs")
    assert [bank.digest for bank in again] == [bank.digest for bank in data]


def test_images_do_not_depend_on_the_other_characters(few, tmp_path, monkeypatch):
    data = load("glyphs")
    monkeypatch.setattr(dataset, "catalogue", lambda: FEW[::-2])
    monkeypatch.setenv("LEEPJAX_CACHE", str(tmp_path / "another"))
    fewer = load("glyphs")
    for bank, part in zip(data, fewer, strict=True):
        for label, name in enumerate(part.class_names):
            whole = bank.images[bank.labels == bank.class_names.index(name)]
            np.testing.assert_array_equal(part.images[part.labels == label], whole)


def test_banks(few):
    data = load("glyphs")
    for bank, n in zip(data, IMAGES.values(), strict=True):
        assert bank.images.shape == (len(FEW) * n, 28, 28, 1)
        assert bank.class_names == tuple(c.name for c in FEW)
        assert bank.group_names == ("latin", "greek", "cyrillic", "syllabics", "nko")
        np.testing.assert_array_equal(bank.labels, np.repeat(np.arange(len(FEW)), n))
        scripts = np.array(bank.group_names)[bank.groups]
        assert all(FEW[label].script == s for label, s in zip(bank.labels, scripts, strict=True))
    np.testing.assert_array_equal(data.train.images[:90], images_of(FEW[0], "train"))


@pytest.mark.parametrize(
    ("selection", "scripts"),
    [
        ("latin", ("latin",)),
        ("nko+latin", ("latin", "nko")),
        ("-latin", ("greek", "cyrillic", "syllabics", "nko")),
        ("-syllabics-latin-nko", ("greek", "cyrillic")),
    ],
)
def test_selected_scripts(selection, scripts, few):
    everything, data = load("glyphs"), load(f"glyphs:{selection}")
    wanted = [c.name for c in FEW if c.script in scripts]
    for bank, whole in zip(data, everything, strict=True):
        assert bank.group_names == scripts
        assert bank.class_names == tuple(wanted)
        assert set(bank.labels) == set(range(len(wanted)))
        assert set(bank.groups) == set(range(len(scripts)))
        rows = np.isin(np.array(whole.class_names)[whole.labels], wanted)
        np.testing.assert_array_equal(bank.images, whole.images[rows])


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        ("latn", "no script 'latn'.*wanted A.B or -A-B of latin, greek, .*ogham"),
        ("latin+gothic", "no script 'gothic'"),
        ("latin-greek", "no script 'latin-greek'"),
        ("-", "no script ''"),
        ("-" + "-".join(SCRIPTS), "leaves no script"),
    ],
)
def test_unknown_scripts(selection, message, few):
    with pytest.raises(ValueError, match=message):
        load(f"glyphs:{selection}")
    assert not few.exists()  # said before anything is drawn


def test_what_is_asked_for_is_drawn_once(few, monkeypatch):
    def of_greek(character, split):
        assert character.script == "greek"
        return images_of(character, split)

    def drawn():
        return {tuple(file.name.split("-")[:2]) for file in few.glob("*.npy")}

    first = load("glyphs:latin")
    assert drawn() == {("latin", "train"), ("latin", "test")}
    monkeypatch.setattr(dataset, "catalogue", None)  # finding it again would fail
    monkeypatch.setattr(dataset, "images_of", of_greek)
    both = load("glyphs:latin+greek")
    assert drawn() == {(s, part) for s in ("latin", "greek") for part in ("train", "test")}
    monkeypatch.setattr(dataset, "images_of", None)
    again = load("glyphs:latin")
    assert isinstance(again.train.images, np.memmap)
    assert [bank.digest for bank in again] == [bank.digest for bank in first]
    assert [bank.digest for bank in load("glyphs:latin+greek")] == [bank.digest for bank in both]


def test_other_libraries_draw_anew(few, monkeypatch):
    load("glyphs:latin")
    monkeypatch.setattr(dataset.matplotlib, "__version__", "0.0")
    load("glyphs:latin")
    assert len(list(few.glob("*.npy"))) == 4


@pytest.mark.parametrize(
    ("char", "where", "kept"), [("g", "train", set()), ("A", "test", {"train"})]
)
def test_an_interruption_leaves_whole_files_only(char, where, kept, few, monkeypatch):
    def interrupted(character, split):
        if (character.char, split) == (char, where):
            raise KeyboardInterrupt
        return images_of(character, split)

    with monkeypatch.context() as patch:
        patch.setattr(dataset, "images_of", interrupted)
        with pytest.raises(KeyboardInterrupt):
            load("glyphs")
    assert {file.suffix for file in few.iterdir()} <= {".json", ".npy"}
    assert {file.name.split("-")[1] for file in few.glob("*.npy")} == kept
    data = load("glyphs")
    assert [len(bank.images) for bank in data] == [n * len(FEW) for n in IMAGES.values()]
    np.testing.assert_array_equal(data.train.images[90:180], images_of(FEW[1], "train"))


def test_a_disk_that_is_full_leaves_nothing_half_written(few, monkeypatch):
    def half(file, array):
        file.write(array.tobytes()[: array.size // 2])
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(dataset.np, "save", half)
        with pytest.raises(OSError, match="No space"):
            load("glyphs")
    assert [file.suffix for file in few.iterdir()] == [".json"]


def test_without_a_cache_the_images_are_the_same(few, monkeypatch, tmp_path):
    kept = load("glyphs")
    (tmp_path / "file").touch()  # where the cache would be
    monkeypatch.setenv("LEEPJAX_CACHE", str(tmp_path / "file"))
    assert (load("glyphs").train.images == kept.train.images).all()
    assert (tmp_path / "file").is_file()


def test_one_progress_bar_and_nothing_else(few, capfd):
    load("glyphs")
    out, err = capfd.readouterr()
    assert not out
    lines = [line for line in err.replace("\r", "\n").splitlines() if line.strip()]
    assert lines
    assert all(line.startswith("Drawing Glyphs (once)") for line in lines)


@pytest.mark.slow
def test_all_of_it(tmp_path, monkeypatch):
    monkeypatch.setenv("LEEPJAX_CACHE", str(tmp_path / "cache"))
    data = load("glyphs")
    for bank, n in zip(data, IMAGES.values(), strict=True):
        assert bank.images.shape == (len(catalogue()) * n, 28, 28, 1)
        assert (np.bincount(bank.labels) == n).all()
        assert bank.group_names == tuple(SCRIPTS)
        assert bank.images.max((1, 2, 3)).min() > 60
