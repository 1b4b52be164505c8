"""What was computed is kept: outputs, terminals and caches that cannot be written."""

import csv
import io
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from leepjax import _store
from leepjax.__main__ import main
from leepjax._store import cache_dir

N = 60
LABELS = np.arange(N) % 3
NEAR = np.eye(3)[LABELS] * 0.7 + 0.1
ASKED = ["rank", "a.npz", "b.npz", "--labels", "y.npy", "--metrics", "leep", "--output"]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Two sources and labels, in the folder that the command runs in."""
    np.save(tmp_path / "y.npy", LABELS)
    np.savez(tmp_path / "a.npz", probs=np.full((N, 3), 1 / 3))
    np.savez(tmp_path / "b.npz", probs=NEAR)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def ranked(path):
    with open(path, newline="", encoding="utf-8") as file:
        return [row["source"] for row in csv.DictReader(file)]


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("folder.csv", "which is a folder"),
        ("device.csv", "which is a device"),
        ("models.csv", "wanted a file that is not read from"),
        ("link.csv", "wanted a file that is not read from"),
        ("no/r.csv", "in a folder that exists"),
        ("r.txt", "wanted a .csv or .json"),
        ("x" * 300 + ".csv", "cannot write"),
    ],
)
def test_an_output_that_cannot_be_is_known_before_the_work(output, message, folder, monkeypatch):
    (folder / "folder.csv").mkdir()
    (folder / "device.csv").symlink_to("/dev/null")
    (folder / "models.csv").write_text("model,parameters\na,1\nb,2\n")
    (folder / "link.csv").symlink_to("models.csv")
    monkeypatch.setattr("leepjax.commands.rank.rank", None)  # it is not reached
    with pytest.raises(SystemExit, match=f"^error: output: .*{message}"):
        main([*ASKED, output, "--models", "models.csv"])
    assert (folder / "models.csv").read_text().startswith("model,")


def test_a_link_stays_one_and_what_it_names_is_written(folder):
    (folder / "there").mkdir()
    (folder / "r.csv").symlink_to("there/r.csv")
    main([*ASKED, "r.csv"])
    assert (folder / "r.csv").is_symlink()
    assert ranked(folder / "there" / "r.csv") == ["b", "a"]
    assert os.listdir(folder / "there") == ["r.csv"]


def test_a_disk_that_fills_up_leaves_the_older_file_and_shows_the_result(
    folder, monkeypatch, capsys
):
    (folder / "r.csv").write_text("older")

    def half(path, content):
        with open(path, "wb") as file:
            file.write(content[: len(content) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(SystemExit, match=r"^error: output: cannot write .*r\.csv.*No space left"):
        main([*ASKED, "r.csv"])
    assert (folder / "r.csv").read_text() == "older"
    assert "2 sources on 60 samples" in capsys.readouterr().out
    assert not [name for name in os.listdir(folder) if name.startswith(".")]


def test_a_disk_that_is_full_from_the_first_source_on_takes_no_result(
    folder, monkeypatch, capsys, caplog
):
    main([*ASKED, "out"])
    before = (folder / "out" / "index.html").read_bytes()
    capsys.readouterr()

    def none(path, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", none)
    with pytest.raises(SystemExit, match=r"^error: output: cannot write .*out: No space left"):
        main([*ASKED, "out"])
    assert "2 sources on 60 samples" in capsys.readouterr().out
    assert caplog.messages == ["output: cannot write out: No space left on device"]  # a page so far
    assert (folder / "out" / "index.html").read_bytes() == before
    assert sorted(os.listdir("out")) == ["index.html", "ranking.csv", "ranking.json"]


class Full(io.RawIOBase):
    """A terminal, log or pipe that takes nothing."""

    def writable(self):
        return True

    def write(self, content):
        raise OSError(28, "No space left on device")


class Kept(io.BytesIO):
    def close(self):
        pass


@pytest.mark.parametrize("which", ["stdout", "stderr"])
def test_a_stream_that_takes_nothing_does_not_take_the_result(which, folder, monkeypatch):
    stream = io.TextIOWrapper(io.BufferedWriter(Full()), write_through=True)
    monkeypatch.setattr(sys, which, stream)
    if which == "stdout":
        with pytest.raises(SystemExit, match="No space left"):
            main([*ASKED, "r.csv"])
    else:
        main([*ASKED, "r.csv"])
    assert ranked(folder / "r.csv") == ["b", "a"]
    with pytest.raises(OSError, match="No space"):
        stream.close()


def test_without_streams(folder, monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    monkeypatch.setattr(sys, "stdout", None)
    main([*ASKED, "r.csv"])
    assert ranked(folder / "r.csv") == ["b", "a"]


def test_a_terminal_without_the_characters_shows_their_codes(folder, monkeypatch):
    shown = Kept()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(shown, encoding="ascii"))
    main([*ASKED, "r.csv"])
    assert rb"\xb1" in shown.getvalue()  # plus-minus
    assert ranked(folder / "r.csv") == ["b", "a"]


def test_names_that_are_no_text_are_written_too(folder):
    name = os.fsdecode(b"caf\xe9")
    (folder / "a.npz").rename(folder / f"{name}.npz")
    asked = ["rank", f"{name}.npz", *ASKED[2:]]
    main([*asked, "r.csv"])
    assert ranked(folder / "r.csv") == ["b", r"caf\udce9"]
    main([*asked, "r.json"])
    sources = json.loads((folder / "r.json").read_text())["sources"]
    assert [source["source"] for source in sources] == ["b", name]


@pytest.mark.parametrize("root", ["file", "file/inside", "~nobody-has-this-name/x"])
def test_without_a_cache_it_works_in_a_folder_of_its_own(root, folder, monkeypatch, caplog):
    (folder / "file").touch()
    monkeypatch.setenv("LEEPJAX_CACHE", root)
    path = cache_dir("outputs")
    (path / "kept").write_text("x")
    assert cache_dir("outputs") == path
    assert folder not in path.parents
    (line,) = caplog.messages
    assert "LEEPJAX_CACHE" in line
    assert "goes without" in line


def test_a_read_only_cache_is_read(folder, monkeypatch):
    (folder / "outputs").mkdir()
    (folder / "outputs" / "earlier").write_text("1")
    monkeypatch.setenv("LEEPJAX_CACHE", str(folder))
    monkeypatch.setattr(_store.os, "access", lambda path, mode: False)
    path = cache_dir("outputs")
    assert (path / "earlier").read_text() == "1"
    (path / "new").write_text("2")
    assert os.listdir(folder / "outputs") == ["earlier"]
