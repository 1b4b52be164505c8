"""Data sets by name: what is read, how it is divided, and what is said when that cannot be."""

import io
import os
import shutil
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from leepjax.data import Dataset, check_prepared, load, records

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (40, 6, 5, 3), np.uint8)
LABELS = np.arange(40) % 4  # of 5 classes: the last has no image
SPLITS = {
    "train": range(24),
    "test": range(24, 40),
    "zeros": range(0, 40, 4),
    "ones": range(1, 40, 4),
}


class Tiny(tfds.core.GeneratorBasedBuilder):
    """Forty images of noise; subclasses change the features or the splits."""

    VERSION = tfds.core.Version("1.2.3")
    SPLITS = SPLITS

    def features(self) -> dict:
        names = ["north", "east", "south", "west", "nowhere"]
        return {
            "image": tfds.features.Tensor(shape=(6, 5, 3), dtype=np.uint8),
            "label": tfds.features.ClassLabel(names=names),
        }

    def example(self, i: int) -> dict:
        return {"image": IMAGES[i], "label": int(LABELS[i])}

    def _info(self):
        features = tfds.features.FeaturesDict(self.features())
        return tfds.core.DatasetInfo(builder=self, features=features, disable_shuffling=True)

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(rows) for split, rows in self.SPLITS.items()}

    def _generate_examples(self, rows):
        for i in rows:
            yield i, self.example(i)


class Encoded(Tiny):
    """The same images as PNG files, without names for the classes."""

    def features(self) -> dict:
        return {
            "image": tfds.features.Image(shape=(6, 5, 3)),
            "label": tfds.features.ClassLabel(num_classes=5),
        }

    def example(self, i: int) -> dict:
        file = io.BytesIO()
        Image.fromarray(IMAGES[i]).save(file, "PNG")
        file.seek(0)
        return {"image": file, "label": int(LABELS[i])}


class Disjoint(Tiny):
    """Training and test splits of different classes, as in few-shot sets."""

    SPLITS = {"train": SPLITS["zeros"], "test": SPLITS["ones"]}  # noqa: RUF012


class Single(Tiny):
    """One split only."""

    SPLITS = {"everything": range(40)}  # noqa: RUF012


class Unlabelled(Tiny):
    """A third of the images have no label."""

    def example(self, i: int) -> dict:
        return {"image": IMAGES[i], "label": -1 if i % 3 == 0 else int(LABELS[i])}


class Imageless(Tiny):
    """Numbers instead of images."""

    def features(self) -> dict:
        return {"x": tfds.features.Scalar(np.int32)}

    def example(self, i: int) -> dict:
        return {"x": i}


class Floating(Tiny):
    """Images that are not uint8."""

    def features(self) -> dict:
        image = tfds.features.Tensor(shape=(6, 5, 3), dtype=np.float32)
        return {**super().features(), "image": image}

    def example(self, i: int) -> dict:
        return {**super().example(i), "image": IMAGES[i].astype(np.float32)}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LEEPJAX_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "banks"


def prepared(builder: type[Tiny], root: Path) -> Path:
    builder(data_dir=os.fspath(root), file_format="array_record").download_and_prepare()
    return root


def check(data: Dataset):
    """What holds for every data set."""
    for bank in data:
        n = len(bank.images)
        assert bank.images.dtype == np.uint8
        assert bank.images.ndim == 4
        assert bank.labels.dtype == bank.groups.dtype == np.int32
        assert bank.labels.shape == bank.groups.shape == (n,)
        assert bank.class_names == data.train.class_names
        assert bank.group_names == data.train.group_names
    labels, groups = (np.concatenate([getattr(b, f) for b in data]) for f in ("labels", "groups"))
    assert set(labels) == set(range(data.train.num_classes))
    assert set(groups) == set(range(len(data.train.group_names)))


def test_digits():
    data = load("digits")
    check(data)
    assert data.train.images.shape == (1257, 8, 8, 1)
    assert data.test.images.shape == (540, 8, 8, 1)
    assert data.train.class_names == tuple("0123456789")
    assert data.train.images.max() == 255
    shares = [np.bincount(bank.labels) / len(bank.labels) for bank in data]
    np.testing.assert_allclose(*shares, atol=0.002)
    assert load("digits").test.digest == data.test.digest


def test_official_splits(tmp_path):
    data = load("tiny", data_dir=prepared(Tiny, tmp_path))
    check(data)
    for bank, rows in zip(data, (SPLITS["train"], SPLITS["test"]), strict=True):
        np.testing.assert_array_equal(bank.images, IMAGES[rows])
        np.testing.assert_array_equal(bank.labels, LABELS[rows])
    assert data.train.class_names == ("north", "east", "south", "west")  # "nowhere" has no image
    assert data.train.group_names == ("tiny",)


def test_data_dir_from_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(prepared(Tiny, tmp_path)))
    assert len(load("tiny").train.images) == 24


def test_one_split_is_divided_by_class_in_stored_order(tmp_path):
    prepared(Tiny, tmp_path)
    data = load("tiny:train", data_dir=tmp_path)
    check(data)
    for c in range(4):
        stored = IMAGES[[i for i in SPLITS["train"] if LABELS[i] == c]]  # 6 of each class
        np.testing.assert_array_equal(data.train.images[data.train.labels == c], stored[:4])
        np.testing.assert_array_equal(data.test.images[data.test.labels == c], stored[4:])
    ones = load("tiny:ones", data_dir=tmp_path)
    assert ones.train.class_names == ("east",)
    assert (len(ones.train.images), len(ones.test.images)) == (7, 3)
    assert not ones.test.labels.any()


def test_the_only_split_needs_no_name(tmp_path):
    data = load("single", data_dir=prepared(Single, tmp_path))
    assert (len(data.train.images), len(data.test.images)) == (28, 12)


def test_png_and_classes_without_names(tmp_path):
    data = load("encoded", data_dir=prepared(Encoded, tmp_path))
    np.testing.assert_array_equal(data.train.images, IMAGES[:24])
    assert data.train.class_names == ("label 0", "label 1", "label 2", "label 3")


def test_cached_reading_equals_uncached(tmp_path, cache, monkeypatch):
    prepared(Tiny, tmp_path)
    first = load("tiny", data_dir=tmp_path)
    files = sorted(cache.iterdir())
    assert [file.suffix for file in files] == [".npy", ".npy", ".json"] * 2
    monkeypatch.setattr(records, "_decoded", None)  # a second decoding would fail
    second = load("tiny", data_dir=tmp_path)
    assert isinstance(second.train.images, np.memmap)
    assert [bank.digest for bank in first] == [bank.digest for bank in second]
    assert sorted(cache.iterdir()) == files


def test_a_set_prepared_anew_is_read_anew(tmp_path, cache):
    prepared(Tiny, tmp_path)
    load("tiny", data_dir=tmp_path)
    record = next((tmp_path / "tiny/1.2.3").glob("*train.array_record*"))
    os.utime(record, ns=(1, 1))
    load("tiny", data_dir=tmp_path)
    assert len(list(cache.iterdir())) == 9


def test_interruption_leaves_nothing_behind(tmp_path, cache, monkeypatch):
    def interrupted(*_):
        yield records.Records(IMAGES[:3], LABELS[:3], LABELS[:3])
        raise KeyboardInterrupt

    prepared(Tiny, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(records, "_decoded", interrupted)
        with pytest.raises(KeyboardInterrupt):
            load("tiny", data_dir=tmp_path)
    assert not list(cache.iterdir())
    assert len(load("tiny", data_dir=tmp_path).train.images) == 24


@pytest.mark.parametrize("name", ["", "tiny:", ":train", "tiny train"])
def test_malformed_names(name, tmp_path):
    with pytest.raises(
        ValueError, match="name: wanted NAME or NAME:SPLIT, or a folder or table th"
    ):
        load(name, data_dir=tmp_path)


def test_unknown_name(tmp_path):
    prepared(Tiny, tmp_path)
    with pytest.raises(ValueError, match=r"got 'tinny'.*Did you mean 'tiny'.*Prepared in .*: tiny"):
        load("tinny", data_dir=tmp_path)
    with pytest.raises(ValueError, match=r"Did you mean.*'cifar100'.*: none"):
        load("cifar101", data_dir=tmp_path / "empty")


class Configured(Tiny):
    name = "emnist"  # as a set that TFDS has
    BUILDER_CONFIGS: ClassVar = [tfds.core.BuilderConfig(name=n) for n in ("byclass", "letters")]


def test_a_set_with_configurations_is_named_with_one(tmp_path):
    prepared(Configured, tmp_path)  # its first, as the command of the message does
    with pytest.raises(ValueError, match=r"'emnist' has configurations, .*'emnist/byclass'"):
        load("emnist", data_dir=tmp_path)
    check(load("emnist/byclass", data_dir=tmp_path))
    for other in ("emnist/letters", "emnist/byklass"):
        with pytest.raises(ValueError, match=f"'{other}' is not.*, which has 'emnist/byclass'"):
            check_prepared(other, data_dir=tmp_path)
    with pytest.raises(ValueError, match=r"got 'emnits'.*Prepared in .*: emnist/byclass"):
        load("emnits", data_dir=tmp_path)


def test_known_but_not_prepared(tmp_path, monkeypatch):
    command = (
        'pip install "leepjax[prepare]" && python -c "import tensorflow_datasets as tfds; '
        "tfds.builder('mnist', file_format='array_record', data_dir='{}').download_and_prepare()\""
    )
    with pytest.raises(ValueError, match="not prepared") as error:
        load("mnist", data_dir=tmp_path)
    assert command.format(tmp_path) in str(error.value)
    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(ValueError, match="not prepared") as error:
        load("mnist")
    assert command.replace(", data_dir='{}'", "") in str(error.value)


def test_what_is_there_can_be_asked_without_reading(tmp_path, monkeypatch):
    """The same answer as of loading, where loading would say that a set is missing."""
    monkeypatch.setattr("leepjax.data.prepared.read", None)
    for name in ("digits", "glyphs", "glyphs:latin"):
        check_prepared(name, data_dir=tmp_path)
    for name in ("omniglot", "omniglot:small2", "nonsense", "a b"):
        with pytest.raises(ValueError, match="name: ") as asked:
            check_prepared(name, data_dir=tmp_path)
        with pytest.raises(ValueError, match="name: ") as loaded:
            load(name, data_dir=tmp_path)
        assert str(asked.value) == str(loaded.value)


def test_unknown_split(tmp_path):
    prepared(Tiny, tmp_path)
    with pytest.raises(ValueError, match="no split 'trian'; wanted one of ones, test, train, zer"):
        load("tiny:trian", data_dir=tmp_path)
    with pytest.raises(ValueError, match="digits has no splits"):
        load("digits:train")


@pytest.mark.parametrize(
    ("builder", "message"),
    [
        (Disjoint, "share no classes.*disjoint:train or disjoint:test"),
        (Unlabelled, "images without a label"),
        (Imageless, r"has the features \['x'\]; wanted an image set"),
        (Floating, r"shape \(6, 5, 3\) and dtype float32; wanted uint8"),
    ],
)
def test_sets_that_are_not_labelled_images(builder, message, tmp_path):
    prepared(builder, tmp_path)
    with pytest.raises(ValueError, match=message):
        load(builder.name, data_dir=tmp_path)


def test_no_train_and_test_split(tmp_path, monkeypatch):
    monkeypatch.setattr(Tiny, "SPLITS", {"a": range(8), "b": range(8)})
    prepared(Tiny, tmp_path)
    with pytest.raises(ValueError, match=r"no train and test split.*tiny:a, tiny:b"):
        load("tiny", data_dir=tmp_path)


def test_another_file_format(tmp_path):
    prepared(Tiny, tmp_path)
    info = tmp_path / "tiny/1.2.3/dataset_info.json"
    info.write_text(info.read_text().replace("array_record", "tfrecord"))
    with pytest.raises(ValueError, match="stored as tfrecord, wanted array_record"):
        load("tiny", data_dir=tmp_path)


def truncate(file: Path):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def scribble(file: Path):
    whole = bytearray(file.read_bytes())
    for i in range(100, len(whole), 500):
        whole[i] ^= 0xFF
    file.write_bytes(whole)


@pytest.mark.parametrize("harm", [truncate, scribble, Path.unlink])
@pytest.mark.parametrize("pattern", ["*test.array_record*", "features.json"])
def test_damaged_records(harm, pattern, tmp_path, cache):
    prepared(Tiny, tmp_path)
    harm(next((tmp_path / "tiny/1.2.3").glob(pattern)))
    with pytest.raises(
        ValueError, match=r"'tiny' cannot be read from .*Delete that folder and pre"
    ):
        load("tiny", data_dir=tmp_path)
    assert not [file for file in cache.glob("*") if "test" in file.name]


def real(name: str) -> Path:
    root = Path(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()
    if not (root / name).exists():
        pytest.skip(f"{name} is not prepared in {root}: set TFDS_DATA_DIR")
    return root


@pytest.mark.real_data
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "train", "test"),
    [
        ("fashion_mnist", (60_000, 28, 28, 1), (10_000, 28, 28, 1)),
        ("cifar10", (50_000, 32, 32, 3), (10_000, 32, 32, 3)),
    ],
)
def test_real_official_splits(name, train, test):
    data = load(name, data_dir=real(name))
    check(data)
    assert (data.train.images.shape, data.test.images.shape) == (train, test)
    for bank in data:
        assert (np.bincount(bank.labels) == len(bank.labels) // 10).all()
    assert {"Sneaker", "frog"} & set(data.train.class_names)


@pytest.mark.real_data
@pytest.mark.parametrize(("split", "characters"), [("small1", 136), ("small2", 156)])
def test_real_omniglot(split, characters):
    data = load(f"omniglot:{split}", data_dir=real("omniglot"))
    check(data)
    assert data.train.images.shape == (14 * characters, 105, 105, 1)
    assert data.test.images.shape == (6 * characters, 105, 105, 1)
    for bank, each in zip(data, (14, 6), strict=True):
        assert (np.bincount(bank.labels) == each).all()
        assert len(bank.group_names) == 5
        assert len(set(zip(bank.labels, bank.groups, strict=True))) == characters
        assert bank.images.mean() < 40  # bright ink on black


@pytest.mark.real_data
def test_a_single_record_file_missing(tmp_path):
    shutil.copytree(real("omniglot") / "omniglot", tmp_path / "omniglot")
    folder = tmp_path / "omniglot/3.0.0"
    folder.chmod(0o755)
    next(folder.glob("*small1*")).unlink()
    with pytest.raises(ValueError, match="'omniglot' cannot be read"):
        load("omniglot:small1", data_dir=tmp_path)
