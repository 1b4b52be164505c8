"""Data sets of the Hugging Face hub, from what its library has written on this machine."""

import numpy as np
import pytest
from PIL import Image

from leepjax.data import load

datasets = pytest.importorskip("datasets")


@pytest.fixture(autouse=True)
def offline(tmp_path, monkeypatch):
    monkeypatch.setenv("LEEPJAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "hf"))


def texts(rows, labels=(0, 1)):
    values = {"text": [f"text {i}" for i in rows], "label": [labels[i % 2] for i in rows]}
    label = datasets.ClassLabel(names=["pos", "neg"])
    features = datasets.Features({"text": datasets.Value("string"), "label": label})
    return datasets.Dataset.from_dict(values, features=features)


def saved(path, **splits):
    datasets.DatasetDict(splits).save_to_disk(path)
    return f"hf:{path}"


def test_texts(tmp_path):
    name = saved(tmp_path / "set", train=texts(range(12)), test=texts(range(12, 16)))
    data = load(name)
    assert data.train.texts == tuple(f"text {i}" for i in range(12))
    assert data.test.texts[0] == "text 12"
    assert data.train.class_names == ("pos", "neg")  # as the set numbers them
    assert data.train.labels[:2].tolist() == [0, 1]
    assert len(load(f"{name}:test").train.texts) == 2  # of four, divided


def test_a_split_without_labels_is_not_taken(tmp_path):
    hidden = {"train": texts(range(8)), "test": texts(range(4), (-1, -1))}
    assert len(load(saved(tmp_path / "a", **hidden)).test.texts) == 2
    whole = load(saved(tmp_path / "b", **hidden, validation=texts(range(20, 26))))
    assert whole.test.texts[0] == "text 20"
    with pytest.raises(ValueError, match=r"4 of 4 samples.*\(no label\).*Nothing would be left"):
        load(f"hf:{tmp_path / 'a'}:test")


def test_images(tmp_path, caplog):
    pixels = np.arange(20, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 5, 3), np.uint8)
    label = datasets.ClassLabel(names=["even", "odd"])
    features = datasets.Features({"img": datasets.Image(), "fine": label})
    rows = {"img": [Image.fromarray(p) for p in pixels], "fine": [i % 2 for i in range(20)]}
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(tmp_path / "set")
    for again in (False, True):
        caplog.clear()
        data = load(f"hf:{tmp_path / 'set'}")
        assert data.train.images.shape == (14, 4, 5, 3)
        assert data.train.class_names == ("even", "odd")
        np.testing.assert_array_equal(data.test.images[:, 0, 0, 0] % 2, data.test.labels)
        assert ("MB of disk" in caplog.text) != again  # decoded once


def test_files_that_the_library_reads(tmp_path, caplog):
    (tmp_path / "csv").mkdir()
    (tmp_path / "csv/train.csv").write_text(
        "text,label\n" + "".join(f"text {i},{'ab'[i % 2]}\n" for i in range(10))
    )
    assert load(f"hf:{tmp_path / 'csv'}").train.class_names == ("a", "b")
    for name in ("cat", "dog"):
        for i in range(4):
            path = tmp_path / f"pets/{name}/{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (6, 6), i).save(path)
    data = load(f"hf:{tmp_path / 'pets'}")
    assert data.train.class_names == ("cat", "dog")
    assert data.train.images.shape == (6, 6, 6, 1)
    caplog.clear()
    load(f"hf:{tmp_path / 'pets'}")
    assert "MB of disk" not in caplog.text


def test_several_labels(tmp_path):
    tags = datasets.Sequence(datasets.ClassLabel(names=["z", "a", "m"]))
    features = datasets.Features({"text": datasets.Value("string"), "tags": tags})
    rows = {"text": [str(i) for i in range(10)], "tags": [[0, 2], [1]] * 5}
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(tmp_path / "set")
    bank = load(f"hf:{tmp_path / 'set'}", label_column="tags", target="multilabel").train
    assert bank.class_names == ("z", "a", "m")
    for text, row in zip(bank.texts, bank.labels, strict=True):
        assert row.tolist() == ([0, 1, 0] if int(text) % 2 else [1, 0, 1])


def test_what_is_not_there(tmp_path):
    name = saved(tmp_path / "set", train=texts(range(12)), test=texts(range(12, 16)))
    with pytest.raises(ValueError, match=r"has no split 'tset'; did you mean 'test'\?"):
        load(f"{name}:tset")
    with pytest.raises(ValueError, match=r"label_column: 'hf:.*' has no column 'stars'"):
        load(name, label_column="stars")
    with pytest.raises(ValueError, match=r"image_column: 'text' of 'hf:.*' holds no images"):
        load(name, image_column="text")
    with pytest.raises(ValueError, match=r"name: cannot load 'hf:nobody/nothing': \w+Error: "):
        load("hf:nobody/nothing")
    parts = saved(tmp_path / "parts", a=texts(range(12)), b=texts(range(12, 16)))
    with pytest.raises(ValueError, match=r"has no split train. Choose one, .*parts:a'"):
        load(parts)
