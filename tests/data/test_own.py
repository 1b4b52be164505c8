"""Folders and tables of one's own: what is read, what is left out, and what is said of it."""

import csv
import json
import sys

import numpy as np
import pytest
from PIL import Image

from leepjax.data import TextBank, check_bank, check_prepared, load

COLOURS = {"blue": (0, 0, 200), "green": (0, 200, 0), "red": (200, 0, 0)}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LEEPJAX_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "banks"


def paint(path, colour, size=(8, 6)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)


def painted(folder, per_class=10, classes=COLOURS):
    for name in classes:
        for i in range(per_class):
            paint(folder / name / f"{i:02}.png", tuple(c + i for c in COLOURS[name]))
    return folder


def table(path, rows):
    if path.suffix == ".csv":
        with open(path, "w", newline="") as file:
            writer = csv.DictWriter(file, rows[0].keys())
            writer.writeheader()
            writer.writerows(rows)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        pa, parquet = (pytest.importorskip(name) for name in ("pyarrow", "pyarrow.parquet"))
        parquet.write_table(pa.Table.from_pylist(rows), path)
    return path


def texts(n=20):
    return [{"text": f"text {i}", "label": ("good", "bad")[i % 2]} for i in range(n)]


def shade(bank, row):
    """The class that a painted image shows."""
    return list(COLOURS)[2 - int(np.argmax(bank.images[row, 0, 0]))]


def test_a_folder_of_classes(tmp_path, caplog):
    data = load(str(painted(tmp_path / "colours")))
    assert data.train.images.shape == (21, 6, 8, 3)
    assert data.test.images.shape == (9, 6, 8, 3)
    for bank in data:
        check_bank("bank", bank)
        assert bank.class_names == ("blue", "green", "red")
        assert bank.group_names == ("colours",)
        assert isinstance(bank.images, np.memmap)
        for row, label in enumerate(bank.labels):
            assert shade(bank, row) == bank.class_names[label]
    assert np.bincount(data.test.labels).tolist() == [3, 3, 3]
    both = np.concatenate([bank.images.reshape(len(bank.images), -1) for bank in data])
    assert len(np.unique(both, axis=0)) == 30  # each image once
    assert "3 classes: 0 blue, 1 green, 2 red; written to" in caplog.text
    again = load(str(tmp_path / "colours"))
    assert [bank.digest for bank in again] == [bank.digest for bank in data]


def test_the_mapping_is_saved(tmp_path, cache):
    load(str(painted(tmp_path / "colours")))
    (names,) = cache.glob("own-colours-*-names.json")
    assert json.loads(names.read_text())["numbers"] == {"blue": 0, "green": 1, "red": 2}


def test_splits_of_a_folder(tmp_path, caplog):
    painted(tmp_path / "set/train", 4)
    painted(tmp_path / "set/validation", 3)
    painted(tmp_path / "set/test", 2)
    data = load(str(tmp_path / "set"))
    assert (len(data.train.images), len(data.test.images)) == (12, 6)
    assert "left out 1 other entries: 'validation'" in caplog.text
    assert len(load(str(tmp_path / "set/train")).train.images) == 9  # 3 of 4, divided


def test_a_test_split_without_classes_is_not_used(tmp_path):
    painted(tmp_path / "set/train", 10)
    paint(tmp_path / "set/test/unknown.png", (1, 2, 3))
    assert len(load(str(tmp_path / "set")).test.images) == 9


def test_an_empty_class_and_other_files_are_left_out_and_named(tmp_path, caplog):
    folder = painted(tmp_path / "colours")
    (folder / "yellow").mkdir()
    (folder / "red/notes.txt").write_text("warm")
    (folder / "red/.DS_Store").write_text("")
    paint(folder / "loose.png", (1, 2, 3))
    assert load(str(folder)).train.class_names == ("blue", "green", "red")
    assert "left out 1 class folders without an image: 'yellow'" in caplog.text
    assert "left out 2 other entries: 'red/notes.txt', 'loose.png'" in caplog.text


def test_the_folder_one_is_in(tmp_path, monkeypatch, caplog):
    folder = painted(tmp_path / "colours")
    (folder / "red/lost.png").symlink_to("nowhere.png")
    (folder / "red/notes.txt").write_text("warm")
    monkeypatch.chdir(folder)
    with pytest.raises(ValueError, match=r"'colours' .*: red/lost.png \(there is no such file\)"):
        load(".")
    assert load(".", skip_damaged=True).train.group_names == ("colours",)
    assert "colours: left out 1 other entries: 'red/notes.txt'" in caplog.text
    monkeypatch.chdir(folder / "red")
    assert load("..", skip_damaged=True).train.group_names == ("colours",)


def test_one_class(tmp_path):
    with pytest.raises(ValueError, match="name: wanted two classes or more, got 'red' alone in"):
        load(str(painted(tmp_path / "colours", classes=["red"])))


def test_a_file_that_is_no_image(tmp_path, caplog):
    folder = painted(tmp_path / "colours")
    (folder / "red/00.png").write_text("no image")
    (folder / "red/01.png").write_bytes(b"")
    with pytest.raises(
        ValueError,
        match=r"2 of 30 samples of 'colours' cannot be used: red/00.png \(no image\), "
        r"red/01.png \(no image\). Mend them, or leave them out by skip_damaged=True \(--skip-",
    ):
        load(str(folder))
    data = load(str(folder), skip_damaged=True)
    assert sum(len(bank.images) for bank in data) == 28
    assert sum((bank.labels == 2).sum() for bank in data) == 8
    for bank in data:
        assert [shade(bank, i) for i in range(len(bank.labels))] == [
            bank.class_names[label] for label in bank.labels
        ]
    assert "red/01.png (no image); left out" in caplog.text


def test_a_class_whose_images_are_all_damaged(tmp_path):
    folder = painted(tmp_path / "colours", per_class=4)
    for file in (folder / "green").iterdir():
        file.write_text("no image")
    assert load(str(folder), skip_damaged=True).train.class_names == ("blue", "red")
    for file in folder.glob("*/*"):
        file.write_text("no image")
    with pytest.raises(ValueError, match=r"12 of 12 samples .* Nothing would be left"):
        load(str(folder), skip_damaged=True)


def test_folders_that_are_numbers(tmp_path):
    for i in (0, 1, 2, 10):
        for j in range(3):
            paint(tmp_path / f"set/{i}/{j}.png", (i, j, 0))
    assert load(str(tmp_path / "set")).train.class_names == ("0", "1", "2", "10")


@pytest.mark.parametrize(("name", "got"), [("empty", "no files"), ("flat", "nothing but 'a.png'")])
def test_a_folder_without_classes(name, got, tmp_path):
    (tmp_path / name).mkdir()
    if name == "flat":
        paint(tmp_path / "flat/a.png", (1, 2, 3))
    with pytest.raises(
        ValueError, match=rf"wanted a subfolder of images .*, got {got} in '/.*/{name}'"
    ):
        load(str(tmp_path / name))


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_a_table_of_images(suffix, tmp_path):
    painted(tmp_path / "colours")
    files = sorted((tmp_path / "colours").glob("*/*.png"))
    rows = [
        {"file": str(f.relative_to(tmp_path)), "kind": f.parent.name, "other": 1} for f in files
    ]
    path = table(tmp_path / f"mine{suffix}", rows)
    data = load(str(path), image_column="file", label_column="kind")
    assert len(data.train.images) == 21
    assert [shade(data.test, i) for i in range(9)] == [
        data.test.class_names[label] for label in data.test.labels
    ]


def test_images_beside_labels_csv(tmp_path):
    painted(tmp_path / "colours")
    files = sorted((tmp_path / "colours").glob("*/*.png"))
    rows = [
        {"image": f"{f.parent.name}/{f.name}", "label": 7.0 + i % 2} for i, f in enumerate(files)
    ]
    table(tmp_path / "colours/labels.csv", rows)
    data = load(str(tmp_path / "colours"))
    assert data.train.class_names == ("7", "8")
    assert data.train.group_names == ("colours",)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_a_table_of_texts(suffix, tmp_path):
    data = load(str(table(tmp_path / f"mine{suffix}", texts())))
    assert isinstance(data.train, TextBank)
    assert (len(data.train.texts), len(data.test.texts)) == (14, 6)
    assert data.train.class_names == ("bad", "good")
    assert data.train.pairs is None
    for bank in data:
        for text, label in zip(bank.texts, bank.labels, strict=True):
            assert bank.class_names[label] == ("good", "bad")[int(text.split()[1]) % 2]
    assert load(str(tmp_path / f"mine{suffix}")).train.digest == data.train.digest


def test_pairs_of_texts(tmp_path):
    rows = [{"a": f"a {i}", "b": f"b {i}", "same": str(i % 2)} for i in range(10)]
    path = table(tmp_path / "pairs.csv", rows)
    bank = load(str(path), text_column=("a", "b"), label_column="same").train
    assert bank.pairs == tuple(f"b{text[1:]}" for text in bank.texts)


def test_separators_quotes_and_line_breaks(tmp_path):
    path = tmp_path / "excel.csv"
    path.write_bytes('\ufefftext;label\r\n"one; two\r\nthree";x\r\nb;y\r\nc;x\r\nd;y\r\n'.encode())
    assert any("one; two\r\nthree" in bank.texts for bank in load(str(path)))


def test_empty_and_repeated_rows_are_left_out(tmp_path, caplog):
    path = table(tmp_path / "mine.csv", [*texts(), *texts(3), {"text": "text 0", "label": "bad"}])
    with open(path, "a") as file:
        file.write("\n,\n")
    data = load(str(path))
    assert sum(len(bank.texts) for bank in data) == 21
    assert "mine.csv: left out 2 empty rows" in caplog.text
    assert "mine.csv: left out 3 rows that repeat an earlier one" in caplog.text
    assert "mine.csv: 1 rows label an input otherwise than an earlier one" in caplog.text


def test_rows_that_are_damaged(tmp_path, caplog):
    path = table(tmp_path / "mine.csv", texts())
    with open(path, "a") as file:
        file.write("no label,\n,good\none,two,three\n")
    with pytest.raises(
        ValueError,
        match=r"3 of 23 samples of 'mine' cannot be used: line 22 \(no label\), "
        r"line 23 \(no text\), line 24 \(3 cells, wanted 2 like the header\)",
    ):
        load(str(path))
    assert sum(len(bank.texts) for bank in load(str(path), skip_damaged=True)) == 20
    lines = table(tmp_path / "mine.jsonl", texts())
    lines.write_text(lines.read_text() + "[1]\n{\n")
    with pytest.raises(ValueError, match=r"line 21 \(no JSON object\), line 22 \(no JSON object\)"):
        load(str(lines))


def test_images_that_are_not_there(tmp_path):
    painted(tmp_path / "colours")
    files = sorted((tmp_path / "colours").glob("*/*.png"))
    rows = [{"image": str(f.relative_to(tmp_path)), "label": f.parent.name} for f in files]
    rows += [{"image": "lost.png", "label": "red"}, {"image": "", "label": "red"}]
    path = table(tmp_path / "mine.csv", rows)
    with pytest.raises(
        ValueError, match=r"line 32, lost.png \(there is no such file\), line 33,  \(no image\)"
    ):
        load(str(path))
    assert len(load(str(path), skip_damaged=True).train.images) == 21


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"label_column": "lable"},
            "label_column: mine.csv has no column 'lable'; did you mean 'la",
        ),
        ({"image_column": "file"}, "image_column: mine.csv has no column 'file'"),
        ({"text_column": ("text", "b")}, "text_column: mine.csv has no column 'b'"),
        ({"label_column": "text"}, "wanted each column once, got 'text', 'text'"),
        ({"text_column": ("text", "label", "x")}, "text_column: mine.csv has no column 'x'"),
        ({"target": "classes"}, "target: wanted one of class, multilabel, regression"),
    ],
)
def test_columns_that_are_not_there(options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        load(str(table(tmp_path / "mine.csv", texts())), **options)


def test_a_table_without_usual_names(tmp_path):
    path = table(tmp_path / "mine.csv", [{"review": "x", "label": 1}])
    with pytest.raises(
        ValueError, match=r"image_column or text_column: wanted a column of mine.csv"
    ):
        load(str(path))
    with pytest.raises(
        ValueError, match=r"label_column: wanted a column of mine.csv: 'text', 'stars"
    ):
        load(str(table(tmp_path / "mine.csv", [{"text": "x", "stars": 1}])))


def test_targets_that_are_no_classes(tmp_path):
    rows = [{"text": f"{i}", "x": i / 7, "y": i, "red": i % 2, "big": 1} for i in range(10)]
    path = str(table(tmp_path / "mine.csv", rows))
    numbers = load(path, label_column="x", target="regression")
    assert numbers.train.labels.dtype == np.float32
    assert numbers.train.class_names == ("x",)
    both = load(path, label_column=("x", "y"), target="regression")
    assert both.test.labels.shape == (3, 2)
    several = load(path, label_column=("red", "big"), target="multilabel").train
    assert several.labels.dtype == np.uint8
    assert several.class_names == ("red", "big")
    for bank in (numbers.train, several):
        for text, label in zip(bank.texts, bank.labels, strict=True):
            assert np.allclose(label, [int(text) % 2, 1] if bank is several else int(text) / 7)


def test_names_that_lead_nowhere(tmp_path, monkeypatch):
    (tmp_path / "notes.txt").write_text("")
    for name in ("./flowers", str(tmp_path / "flowers"), "flowers.csv"):
        with pytest.raises(
            ValueError, match=r"wanted a folder or a table \(.csv.*which is not ther"
        ):
            load(name)
        with pytest.raises(ValueError, match=r"wanted a folder or a table"):
            check_prepared(name)
    (tmp_path / "set").mkdir()
    with pytest.raises(ValueError, match="not there; a split of a folder is named by its own fold"):
        load(f"{tmp_path}/set:train")
    with pytest.raises(ValueError, match=r"notes.txt', which is another file"):
        load(str(tmp_path / "notes.txt"))
    with pytest.raises(ValueError, match=r"name: columns, target and size are for a folder, a tab"):
        load("digits", label_column="label")
    with pytest.raises(ValueError, match=r"label_column: .* is no table"):
        load(str(painted(tmp_path / "colours")), label_column="label")
    monkeypatch.chdir(tmp_path)
    check_prepared("colours")
    assert load("colours").train.num_classes == 3
    painted(tmp_path / "digits")
    assert load("digits").train.num_classes == 10  # a set that comes with the package
    assert load("./digits").train.num_classes == 3


def test_tables_that_cannot_be_read(tmp_path):
    (tmp_path / "latin.csv").write_bytes(b"text,label\ncaf\xe9,1\n")
    with pytest.raises(ValueError, match=r"name: cannot read .*latin.csv: .*utf-8"):
        load(str(tmp_path / "latin.csv"))
    (tmp_path / "none.csv").write_text("")
    with pytest.raises(ValueError, match=r"wanted a column of none.csv"):
        load(str(tmp_path / "none.csv"))
    (tmp_path / "head.csv").write_text("text,label\n")
    with pytest.raises(ValueError, match="wanted a table with rows, got none"):
        load(str(tmp_path / "head.csv"))
    (tmp_path / "twice.csv").write_text("text,label,label\na,b,c\n")
    with pytest.raises(ValueError, match=r"wanted each column of twice.csv once"):
        load(str(tmp_path / "twice.csv"))
    pytest.importorskip("pyarrow")
    (tmp_path / "no.parquet").write_text("no")
    with pytest.raises(ValueError, match=r"name: cannot read .*no.parquet"):
        load(str(tmp_path / "no.parquet"))


def test_extras_that_are_missing(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    monkeypatch.setitem(sys.modules, "datasets", None)
    (tmp_path / "x.parquet").write_text("")
    with pytest.raises(ValueError, match=r"x.parquet: .*pip install 'leepjax\[parquet\]'"):
        load(str(tmp_path / "x.parquet"))
    with pytest.raises(ValueError, match=r"'hf:rotten' needs .*pip install 'leepjax\[datasets\]'"):
        load("hf:rotten")
