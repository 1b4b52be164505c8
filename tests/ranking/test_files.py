"""Sources and labels from files: the formats, and one clear line for everything that is wrong."""

import builtins
import pickle
import zipfile

import numpy as np
import pytest
from safetensors.numpy import save_file

from leepjax.ranking import rank
from leepjax.ranking.files import read_array, read_labels, read_source
from tests.metrics.support import skip_unless_compiled

RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 3, 60)
ARRAYS = {
    "features": (RNG.normal(size=(60, 4)) + LABELS[:, None]).astype("f4"),
    "logits": RNG.normal(size=(60, 5)).astype("f4"),
}
FAST = {"metrics": ["leep"], "nulls": ()}


def write_parquet(path, columns):
    pa = pytest.importorskip("pyarrow", reason="needs pyarrow (leepjax[parquet])")
    import pyarrow.parquet as pq

    pq.write_table(pa.table({k: list(v) for k, v in columns.items()}), path)


WRITERS = {
    ".npz": lambda path, arrays: np.savez(path, **arrays),
    ".safetensors": lambda path, arrays: save_file(arrays, path),
    ".parquet": write_parquet,
}


@pytest.mark.parametrize("suffix", WRITERS)
def test_every_format_holds_the_same(suffix, tmp_path):
    path = tmp_path / f"net{suffix}"
    WRITERS[suffix](path, ARRAYS | {"label": LABELS, "ignored": LABELS})
    got = read_source(path)
    assert got.keys() == {"features", "logits", "labels"}
    for name, array in (ARRAYS | {"labels": LABELS}).items():
        np.testing.assert_array_equal(got[name], array)
        assert got[name].shape == array.shape
    labels = read_labels(path)
    assert labels is not None
    np.testing.assert_array_equal(labels, LABELS)
    found = rank([path], **FAST)  # with its own labels
    assert found.names == ("net",)
    expected = rank({"net": ARRAYS}, LABELS, **FAST)
    assert found.scores["leep"] == pytest.approx(expected.scores["leep"])


def test_compressed_and_half_precision_files_and_facts(tmp_path):
    skip_unless_compiled("float16")
    halves = {k: v.astype("f2") for k, v in ARRAYS.items()}
    np.savez_compressed(tmp_path / "a.npz", **halves, parameters=12e6, seconds=3.5)
    np.save(tmp_path / "labels.npy", LABELS)
    found = rank([tmp_path / "a.npz"], tmp_path / "labels.npy", **FAST)
    assert found.facts["parameters"] == [12e6]
    assert found.facts["seconds"] == [3.5]
    full = rank({"a": ARRAYS}, LABELS, **FAST)
    assert found.scores["leep"] == pytest.approx(full.scores["leep"], abs=1e-3)


class Spy:
    """Unpickling it writes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def bad_files(folder):
    """``{name: (path, what the line says)}``."""

    def put(name, content):
        (folder / name).write_bytes(content)
        return folder / name

    spy = Spy(folder / "spied")
    pickled = pickle.dumps({"features": spy})
    objects = np.empty(1, object)
    objects[0] = spy
    np.savez(folder / "objects.npz", features=objects)
    np.savez(folder / "empty.npz", images=ARRAYS["features"])
    np.savez(folder / "good.npz", **ARRAYS)
    whole = (folder / "good.npz").read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 3] ^= 255
    with zipfile.ZipFile(folder / "torch.npz", "w") as file:
        file.writestr("archive/data.pkl", pickled)
    with zipfile.ZipFile(folder / "open.npz", "w") as file:
        file.writestr("features.npy", b"\x93NUMPY\x01\x00\x02\x00{\0")  # TokenError
    np.save(folder / "array.npy", ARRAYS["features"])
    save_file({"weights": ARRAYS["features"]}, folder / "model.safetensors")
    return {
        "pickled.npz": (put("pickled.npz", pickled), r"pickle can run any code.*np.savez"),
        "net.pt": (put("net.pt", pickled), r"pickle can run any code.*safetensors"),
        "net.pkl": (put("net.pkl", pickled), "pickle can run any code"),
        "objects.npz": (folder / "objects.npz", "array of objects, which is a pickle.*np.stack"),
        "torch.npz": (folder / "torch.npz", "PyTorch's format under another name"),
        "empty.npz": (folder / "empty.npz", r"wanted arrays named features.*got 'images'"),
        "cut.npz": (put("cut.npz", whole[:-200]), "damaged"),
        "flipped.npz": (put("flipped.npz", bytes(flipped)), "damaged"),
        "open.npz": (folder / "open.npz", "damaged"),
        "text.npz": (put("text.npz", b"1 2 3"), "another kind of file"),
        "none.npz": (put("none.npz", b""), "damaged"),
        "array.npy": (folder / "array.npy", r"wanted a file .npz.*has a name there"),
        "array.npz": (put("array.npz", (folder / "array.npy").read_bytes()), "another kind"),
        "model.safetensors": (folder / "model.safetensors", "got 'weights'"),
        "cut.safetensors": (
            put("cut.safetensors", (folder / "model.safetensors").read_bytes()[:-9]),
            "damaged, or no safetensors",
        ),
        "text.parquet": (put("text.parquet", b"a,b"), "another kind of file|needs pyarrow"),
        "missing.npz": (folder / "missing.npz", "cannot be read .No such file"),
        "table.csv": (put("table.csv", b"a"), "got '.csv'"),
    }


NAMES = [
    *("pickled.npz", "net.pt", "net.pkl", "objects.npz", "torch.npz", "empty.npz", "cut.npz"),
    *(
        "flipped.npz",
        "open.npz",
        "text.npz",
        "none.npz",
        "array.npy",
        "array.npz",
        "model.safetensors",
    ),
    *("cut.safetensors", "text.parquet", "missing.npz", "table.csv"),
]


@pytest.mark.parametrize("name", NAMES)
def test_a_bad_file_is_one_line_and_the_others_are_ranked(name, tmp_path):
    path, reason = bad_files(tmp_path)[name]
    with pytest.raises(ValueError, match=reason) as caught:
        read_source(path)
    assert "\n" not in str(caught.value)
    found = rank({name: path, "good": tmp_path / "good.npz"}, LABELS, **FAST)
    assert found.names == ("good",)
    assert [failure.source for failure in found.failures] == [name]
    assert f"Not scored: {name}: {found.failures[0].reason}" in " ".join(str(found).split())
    assert not (tmp_path / "spied").exists()  # nothing was unpickled


def test_bad_parquet_columns(tmp_path):
    ragged = [[1.0, 2.0], [3.0]]
    for columns, reason in (
        ({"features": [1.0, 2.0]}, "features: wanted a column of lists"),
        ({"features": ragged}, "lists of one length"),
        ({"features": [[1.0], [None]]}, "nulls"),
        ({"features": [[1.0], None]}, "a value in every row"),
        ({"features": [[1.0], [2.0]], "label": [1, None]}, "label: wanted a value in every row"),
        ({"image": [1.0]}, "wanted arrays named features"),
    ):
        write_parquet(tmp_path / "bad.parquet", columns)
        with pytest.raises(ValueError, match=reason):
            read_source(tmp_path / "bad.parquet")
    write_parquet(tmp_path / "cut.parquet", {"features": [[1.0], [2.0]]})
    content = (tmp_path / "cut.parquet").read_bytes()
    (tmp_path / "cut.parquet").write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match="damaged, or no Parquet"):
        read_source(tmp_path / "cut.parquet")


def test_without_pyarrow_the_error_says_how_to_get_it(tmp_path, monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ValueError, match=r"pip install 'leepjax\[parquet\]'"):
        read_source(tmp_path / "net.parquet")


def test_bad_label_files(tmp_path):
    np.savez(tmp_path / "net.npz", **ARRAYS)
    np.save(tmp_path / "objects.npy", np.array([1, None]), allow_pickle=True)
    (tmp_path / "pickled.npy").write_bytes(pickle.dumps(LABELS))
    (tmp_path / "cut.npy").write_bytes(b"\x93NUMPY\x01\x00")
    (tmp_path / "open.npy").write_bytes(b"\x93NUMPY\x01\x00\x02\x00{\0")  # TokenError
    np.savez(tmp_path / "unnamed.npz", y=LABELS)
    for name, reason in (
        ("objects.npy", "array of objects"),
        ("pickled.npy", "pickle can run any code"),
        ("cut.npy", "damaged"),
        ("open.npy", "damaged"),
        ("unnamed.npz", "wanted an array named labels"),
        ("none.npy", "cannot be read"),
    ):
        with pytest.raises(ValueError, match=reason):
            rank([tmp_path / "net.npz"], tmp_path / name, **FAST)
    np.save(tmp_path / "scores.npy", ARRAYS["features"])
    np.testing.assert_array_equal(read_array(tmp_path / "scores.npy"), ARRAYS["features"])


def test_the_documented_name_wins_over_its_alias(tmp_path):
    labels = np.arange(4) % 2
    np.savez(tmp_path / "a.npz", probs=np.eye(2)[labels], labels=labels, label=1 - labels)
    np.testing.assert_array_equal(read_labels(tmp_path / "a.npz"), labels)
    np.testing.assert_array_equal(read_source(tmp_path / "a.npz")["labels"], labels)


def test_a_file_of_labels_of_another_kind_is_named(tmp_path):
    np.savetxt(tmp_path / "l.txt", np.arange(3))
    with pytest.raises(
        ValueError, match=r"l\.txt: wanted labels in a file \.npy, \.npz, .*'\.txt'"
    ):
        read_labels(tmp_path / "l.txt")


@pytest.mark.parametrize("kind", ["nested", "text", "flags"])
def test_parquet_lists_of_other_things_are_named(tmp_path, kind):
    pa = pytest.importorskip("pyarrow", reason="needs leepjax[parquet]")
    rows = {"nested": [[[0.5]], [[0.5]]], "text": [["a"], ["b"]], "flags": [[True], [False]]}
    path = tmp_path / "a.parquet"
    pa.parquet.write_table(pa.table({"features": rows[kind]}), path)
    with pytest.raises(ValueError, match="features: wanted a column of lists of numbers, got list"):
        read_source(path)
