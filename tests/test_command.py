"""The command ``leepjax``, as a user of another framework types it."""

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

import leepjax
from leepjax.__main__ import main
from leepjax.ranking import Ranking
from leepjax.report import read_table

ROOT = Path(leepjax.__file__).parent.parent

# What somebody who has never seen JAX would write; `images` stands for a data set.
IN_PYTORCH = """
import numpy as np, torch
torch.manual_seed(0)
labels = torch.randint(0, 4, (300,))
images = torch.rand(300, 64) + 0.6 * torch.nn.functional.one_hot(labels, 64)
for name, width in (("narrow", 4), ("wide", 32)):
    body = torch.nn.Sequential(torch.nn.Linear(64, width), torch.nn.ReLU())
    head = torch.nn.Linear(width, 10)
    with torch.no_grad():
        features = body(images)
        logits = 4 * head(features)
    np.savez(f"{name}.npz", features=features.numpy(), logits=logits.numpy())
np.save("labels.npy", labels.numpy())
"""

IN_PYTHON = """
import leepjax
ranking = leepjax.rank(["narrow.npz", "wide.npz"], "labels.npy")
print(ranking)
"""


def run(arguments, folder):
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": path, "COLUMNS": "100"},
        capture_output=True,
        text=True,
    )


def save(folder, *, sources=("a", "b")):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 80)
    for i, name in enumerate(sources):
        logits = rng.normal(size=(80, 4)) + (1 + i) * np.eye(3, 4)[labels]
        np.savez(folder / f"{name}.npz", logits=logits.astype("f4"))
        probs = np.exp(logits)
        np.save(folder / f"{name}.npy", probs / probs.sum(1, keepdims=True))
    np.save(folder / "labels.npy", labels)
    return [str(folder / f"{name}.npz") for name in sources]


def test_first_use_on_files_made_by_pytorch(tmp_path):
    """Three lines of Python and one command say the same."""
    pytest.importorskip("torch", reason="needs PyTorch")
    assert run(["-c", IN_PYTORCH], tmp_path).returncode == 0
    in_python = run(["-c", IN_PYTHON], tmp_path)
    assert in_python.returncode == 0, in_python.stderr
    command = ["-m", "leepjax", "rank", "narrow.npz", "wide.npz", "--labels", "labels.npy"]
    in_shell = run(command, tmp_path)
    assert in_shell.returncode == 0, in_shell.stderr
    assert "2 sources on 300 samples of 4 classes" in in_shell.stdout
    for shown in ("leep", "h_score", "logme", "knn *", " ± ", "P(best)"):
        assert shown in in_shell.stdout
    said = in_python.stdout.split()
    assert in_shell.stdout.split()[: len(said)] == said  # and what it took


def test_errors_are_one_line_and_a_status(tmp_path):
    """In a process of its own, as the status and the streams are what counts."""
    first, *_ = save(tmp_path)
    found = run(["-m", "leepjax", "rank", first, "--labels", "none.npy"], tmp_path)
    assert found.returncode == 1
    assert found.stdout == ""
    assert found.stderr.splitlines() == [
        "error: none.npy: cannot be read (No such file or directory)"
    ]
    found = run(["-m", "leepjax", "rank", "--lables", "x"], tmp_path)
    assert found.returncode == 2
    assert "Traceback" not in found.stderr


def test_the_help_is_there_and_names_all():
    found = run(["-m", "leepjax", "--help"], ROOT)
    assert found.returncode == 0
    for name in ("score", "rank", "audit"):
        assert name in found.stdout


def test_rank_writes_csv_and_json_with_the_failures(tmp_path, capsys):
    sources = save(tmp_path)
    (tmp_path / "bad.npz").write_bytes(b"PK\x03\x04 nothing")
    (tmp_path / "models.csv").write_text("model,parameters,seconds\na,1000,2.5\nb,,3\n")
    options = ["--labels", str(tmp_path / "labels.npy"), "--metrics", "leep", "nce"]
    options += ["--models", str(tmp_path / "models.csv")]
    for name in ("ranking.csv", "ranking.json"):
        output = ["--output", str(tmp_path / name)]
        main(["rank", *sources, str(tmp_path / "bad.npz"), *options, *output])
    shown = capsys.readouterr().out
    assert "Fine-tune b: with probability" in shown
    assert "Not scored: bad: damaged" in shown
    with open(tmp_path / "ranking.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["source"] for row in rows] == ["b", "a", "bad"]
    assert [row["rank"] for row in rows] == ["1", "2", ""]
    assert [row["chosen"] for row in rows] == ["True", "False", ""]
    assert float(rows[1]["behind"]) < 0 < float(rows[1]["behind_standard_error"])
    assert float(rows[1]["parameters"]) == 1000
    assert "damaged" in rows[2]["failure"]
    held = json.loads((tmp_path / "ranking.json").read_text())
    assert held["by"] == "cross_fitted_leep"
    assert held["sources"][0]["scores"]["leep"] == float(rows[0]["leep"])


def test_score_of_predictions_and_of_named_arrays(tmp_path, capsys):
    save(tmp_path)
    labels = np.load(tmp_path / "labels.npy")
    main(["score", str(tmp_path / "a.npy"), str(tmp_path / "labels.npy")])
    shown = capsys.readouterr().out
    value = leepjax.leep(np.load(tmp_path / "a.npy"), labels, num_classes=3)
    assert f" leep {value:.3f} (-" in " ".join(shown.split())
    for name in ("cross_fitted_leep", "leep_gain", "nce", "neg_label_entropy *"):
        assert name in shown
    assert "h_score" not in shown  # there are no features
    main(["score", str(tmp_path / "a.npz"), str(tmp_path / "labels.npy"), "--metrics", "leep"])
    assert f" leep {value:.3f} (-" in " ".join(capsys.readouterr().out.split())


def test_labels_that_are_no_classes(tmp_path, capsys):
    rng = np.random.default_rng(0)
    features, groups = rng.normal(size=(120, 5)), np.arange(120) // 6
    files = [str(tmp_path / name) for name in ("near.npz", "far.npz")]
    for file, noise in zip(files, (0.1, 2.0), strict=True):
        np.savez(file, features=features + noise * rng.normal(size=features.shape))
    labels = {
        "numbers": features[:, 0] * 3,
        "counts": np.round(features[:, 0] * 3),
        "several": features[:, :3] > 0,
        "tags": features[:, :3].argmax(1),
    }
    for name, y in {**labels, "groups": groups}.items():
        np.save(tmp_path / f"{name}.npy", y)
    said = {
        "numbers": ([], "of one number", "misses by"),
        "counts": (["--target", "regression"], "of one number", "misses by"),
        "several": ([], "of 3 labels each", "The most frequent value of each label"),
        "tags": (["--groups", str(tmp_path / "groups.npy")], "in 20 groups, of 3", "new groups"),
    }
    for name, (options, *shown) in said.items():
        given = str(tmp_path / f"{name}.npy")
        output = ["--output", str(tmp_path / f"{name}.json")]
        main(["rank", *files, "--labels", given, "--metrics", "logme", *options, *output])
        text = " ".join(capsys.readouterr().out.split())
        for line in (*shown, "Fine-tune near:"):
            assert line in text
        held = json.loads((tmp_path / f"{name}.json").read_text())
        assert held["num_groups"] == (20 if name == "tags" else None)
    main(["score", files[0], str(tmp_path / "numbers.npy"), "--metrics", "logme"])
    assert "logme_regression" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="ask for target='regression'"):
        main(["rank", *files, "--labels", str(tmp_path / "counts.npy")])


def test_rank_names_columns_that_are_no_facts_and_writes_no_formulas(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save(tmp_path, sources=("=a", "[bold]b"))
    Path("models.csv").write_text("model;parameters;licence\n=a;11M;MIT\n[bold]b;1,5M;GPL\n")
    command = ["rank", "=a.npz", "[bold]b.npz", "--labels", "labels.npy", "--metrics", "leep"]
    main([*command, "--models", "models.csv", "--output", "ranking.csv"])
    shown = capsys.readouterr().out
    assert "models.csv, not used: licence." in shown
    assert "[bold]b" in shown
    assert "\n=a" not in Path("ranking.csv").read_text()
    rows = {row["source"]: row for row in read_table(Path("ranking.csv"))}
    assert float(rows["=a"]["parameters"]) == 1.1e7
    assert float(rows["[bold]b"]["parameters"]) == 1.5e6
    Path("models.csv").write_text("model,licence\n=a,MIT\n")
    with pytest.raises(SystemExit, match=r"models\.csv: wanted a column parameters.*'licence'"):
        main([*command, "--models", "models.csv"])


def save_network(folder, seed, *, classes=3):
    """A tiny ConvNeXt of random arrays, as timm would write it."""
    rng, width = np.random.default_rng(seed), 4
    shapes = {
        "stem.0.weight": (width, 3, 4, 4),
        "stages.0.blocks.0.conv_dw.weight": (width, 1, 7, 7),
        "stages.0.blocks.0.mlp.fc1.weight": (4 * width, width),
        "stages.0.blocks.0.mlp.fc2.weight": (width, 4 * width),
        "head.fc.weight": (classes, width),
        **{f"{name}.bias": (width,) for name in ("stem.0", "stem.1", "head.norm")},
        **{f"{name}.weight": (width,) for name in ("stem.1", "head.norm")},
        **{f"stages.0.blocks.0.{name}.bias": (width,) for name in ("conv_dw", "norm", "mlp.fc2")},
        **{f"stages.0.blocks.0.{name}": (width,) for name in ("norm.weight", "gamma")},
        "stages.0.blocks.0.mlp.fc1.bias": (4 * width,),
        "head.fc.bias": (classes,),
    }
    folder.mkdir()
    save_file(
        {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()},
        folder / "model.safetensors",
    )
    config = {"architecture": "convnext_tiny", "num_classes": classes}
    config |= {"model_args": {"depths": [1], "dims": [width]}}
    config |= {"pretrained_cfg": {"input_size": [3, 16, 16]}}
    (folder / "config.json").write_text(json.dumps(config))


def test_rank_runs_pretrained_networks_and_lists_those_it_cannot(tmp_path, capsys, monkeypatch):
    """One of the hub's cache, two folders, and one of each way to fail."""
    constants = pytest.importorskip("huggingface_hub.constants", reason="needs leepjax[hub]")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("LEEPJAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    commit = "0123456789abcdef0123456789abcdef01234567"
    (tmp_path / "hub" / "models--some--net" / "snapshots").mkdir(parents=True)
    save_network(tmp_path / "hub" / "models--some--net" / "snapshots" / commit, 0)
    for i, name in enumerate(("mine", "pickled", "cut"), start=1):
        save_network(tmp_path / name, i)
    os.rename("pickled/model.safetensors", "pickled/pytorch_model.bin")
    os.truncate("cut/model.safetensors", 99)
    names = ["./cut", "./mine", "some/other", f"some/net@{commit}", "./pickled"]
    command = ["rank", "--hub", *names, "--data", "digits", "--samples", "200"]
    main([*command, "--metrics", "leep", "--output", "ranking.csv"])
    shown = " ".join(capsys.readouterr().out.split())
    assert "2 sources on 200 samples of 10 classes" in shown
    assert f"some/net@{commit} is commit {commit}." in shown
    assert "Not scored: cut: path: wanted a safetensors file, but" in shown
    assert "Not scored: pickled: wanted model.safetensors in" in shown
    assert "Not scored: some/other: some/other@main is not in the cache" in shown
    with open("ranking.csv", newline="") as file:
        rows = {row["source"]: row for row in csv.DictReader(file)}
    assert rows[f"some/net@{commit}"]["commit"] == commit
    assert rows["mine"]["commit"] == ""
    assert {float(rows[name]["parameters"]) for name in ("mine", f"some/net@{commit}")} == {587}
    assert float(rows["mine"]["seconds"]) > 0
    assert "weights_only=True" in rows["pickled"]["failure"]


def test_rank_on_a_folder_and_on_a_table_of_images(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("LEEPJAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    rows = ["file,kind"]
    for i in range(60):
        path = Path(f"images/{'ab'[i % 2]}/{i}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 128, (16, 16, 3), np.uint8) + np.uint8(99 * (i % 2))).save(
            path
        )
        rows.append(f"{path},{'ab'[i % 2]}")
    Path("images/a/broken.png").write_text("no image")
    Path("table.csv").write_text("\n".join([*rows, "images/a/broken.png,a"]))
    for i in range(2):
        save_network(tmp_path / f"net{i}", i)
    command = ["rank", "--hub", "./net0", "./net1", "--metrics", "leep", "--data"]
    columns = ["--image-column", "file", "--label-column", "kind"]
    for data in (["images"], ["table.csv", *columns]):
        with pytest.raises(SystemExit, match=r"1 of 61 .*broken.png \(no image\).*--skip-damaged"):
            main([*command, *data])
        main([*command, *data, "--skip-damaged"])
        shown = capsys.readouterr().out  # the broken file would have been trained or tested on
        assert re.match("2 sources on 4[23] samples of 2 classes", shown)


def test_rank_writes_a_page_while_it_runs_and_runs_no_network_twice(tmp_path, capsys, monkeypatch):
    pytest.importorskip("huggingface_hub", reason="needs leepjax[hub]")
    monkeypatch.setenv("LEEPJAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("leepjax.commands.rank.PAUSE", -1)
    for i, name in enumerate("abc"):
        save_network(tmp_path / name, i)
    pages, save = [], Ranking.save

    def follow(ranking, folder):
        save(ranking, folder)
        pages.append((folder / "index.html").read_text())

    monkeypatch.setattr(Ranking, "save", follow)
    names = ["./a", "./gone", "./b"]
    command = ["--data", "digits", "--samples", "200", "--metrics", "leep", "--output", "out"]
    main(["rank", "--hub", *names, *command, "--plot", "f.svg"])
    assert ["so far" in page for page in pages] == [True, True, False]
    assert "1 of 3 sources so far on 200 samples of 10 classes" in pages[0]
    assert "Still to come: ./gone, b." in pages[0]
    for said in (
        "leepjax rank --hub ./a ./gone ./b --data digits --samples 200 --metrics leep",
        "digits, train: 200 images",
        "forward (s)",
        "Fine-tuning would take ",
        "wanted a folder that exists",
    ):
        assert said in pages[-1]
    assert Path("f.svg").read_text().startswith("<?xml")
    captured = capsys.readouterr()
    assert "a: predictive_r2 " in captured.err
    assert "./gone: not scored: " in captured.err
    assert "The ranking took " in captured.out
    first = json.loads(Path("out/ranking.json").read_text())

    def scores():
        held = json.loads(Path("out/ranking.json").read_text())
        return {
            source["source"]: (source["scores"], source["seconds"]) for source in held["sources"]
        }

    before = scores()
    monkeypatch.setattr("leepjax.models.extraction.make_runner", None)  # no network can be run
    main(["rank", "--hub", *names, "./c", *command])
    assert scores() == before
    failed = json.loads(Path("out/ranking.json").read_text())["failures"]
    assert [failure["source"] for failure in failed] == ["./gone", "c"]
    assert len(first["failures"]) == 1


MODELS = """dataset,model,accuracy,leep,flat
pets,a1,0.5,1,0.3
pets,a2,0.7,2,0.3
pets,b1,0.6,3,0.3
pets,b2,,4,0.3
pets,c1,0.8,5,0.3
cars,a1,0.4,1,0.3
cars,a2,0.7,,0.3
"""


def audit(folder, text):
    (folder / "table.csv").write_text(text)
    main(["audit", str(folder / "table.csv"), "--output-dir", str(folder / "run")])


def test_audit_says_what_is_constant_or_failed_and_prints_no_nan(tmp_path, capsys):
    audit(tmp_path, MODELS)
    shown = capsys.readouterr().out
    assert "nan" not in shown.lower()
    assert "undefined" in shown
    assert "pets: 4 rows" in shown
    assert "left out: 1 more without an accuracy" in shown
    page = (tmp_path / "run" / "page.html").read_text()
    assert "table.csv, audited" in page
    for text in (page, " ".join(shown.split())):
        assert "score: leep (missing in 1 of 7 rows), flat." in text
    audit(tmp_path, MODELS)  # again, from what is there
    assert capsys.readouterr().out == shown


def test_audit_of_the_tasks_of_a_study(tmp_path, capsys):
    rng = np.random.default_rng(0)
    lines = ["setting,task,group,classes,num_classes,leep,neg_label_entropy,accuracy,gap"]
    for task in range(20):
        chosen = np.sort(rng.choice(8, 2 + task % 2, replace=False))
        leep, accuracy = rng.random(2).round(3)
        names = " ".join(map(str, chosen))
        lines.append(f"s,{task},,{names},{len(chosen)},{leep},-{len(chosen)},{accuracy},0")
    audit(tmp_path, "\n".join(lines))
    rows = read_table(tmp_path / "run" / "correlations.csv")
    assert {row["score"] for row in rows} == {"leep", "neg_label_entropy"}
    assert "pearson|num_classes" in {row["statistic"] for row in rows}
    assert {row["kind"] for row in read_table(tmp_path / "run" / "without.csv")} == {"classes"}
    assert "neg_label_entropy *" in capsys.readouterr().out


def test_audit_holds_a_summary_against_its_table(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [f"{t},m{i},{i + (i == 2) * t},{i}" for t in (0, 3) for i in range(5)]
    Path("summary.csv").write_text("dataset,measure,leep\n0,pearson,1\n3,pearson,-.9\n")
    Path("table.csv").write_text("\n".join(["dataset,model,accuracy,leep", *rows]))
    Path("facts.csv").write_text("model,parameters\nm0,5\nm1,4\nm2,6\nm3,7\nm4,8\n")
    main(["audit", "table.csv", "--summary", "summary.csv", "--models", "facts.csv"])
    shown = capsys.readouterr().out
    assert "of 2 values 1 follow from their columns to the last decimal" in shown
    assert "parameters *" in shown
    assert len(list(Path("runs/audit").iterdir())) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ((",2,", ",two,"), "error: table.csv, line 3, column 'leep': wanted a number, got 'two'"),
        (("accuracy", "reached"), "error: table.csv: wanted one column of accuracies"),
    ],
)
def test_bad_tables_are_one_clear_line(tmp_path, change, message):
    with pytest.raises(SystemExit, match=message):
        audit(tmp_path, MODELS.replace(*change))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rank", "--hub", "./no"], "data: wanted a labelled data set for --hub"),
        (["rank", "--hub", "./no", "--data", "digits"], "none could be scored: ./no: wanted a fol"),
        (["rank", "--hub", "./no", "./no", "--data", "digits"], "hub: wanted each network once"),
        (["rank", "--hub", "./no", "--data", "digits", "--samples", "0"], "samples: wanted at"),
        (["rank", "a.npz", "--hub", "./no", "--data", "digits"], "hub: wanted no files"),
        (["rank", "a.npz", "--data", "digits"], "data: wanted --hub too"),
        (["score", "logits.npy", "labels.npy"], "none could be scored: .*sum to 1.*--kind"),
        (["score", "a.npy"], "labels: wanted some"),
        (["score", "a\x1b[31m.npz"], r"a\\x1b\[31m.npz: cannot be read"),
        (["score", "a.npy", "a.npy"], "needs features; the source has probs.*labels are numbers"),
        (["rank", "a.npz", "--labels", "labels.npy", "--metrics", "leap"], "metrics: wanted names"),
        (["rank", "a.npz", "--labels", "labels.npy", "--output", "x.txt"], "output: wanted a .csv"),
        (["rank", "a.npz", "--labels", "labels.npy", "--output", "no/x.csv"], "output: wanted"),
        (
            ["rank", "a.npz", "--labels", "labels.npy", "--output", "no/x"],
            "output: wanted a folder",
        ),
        (["rank", "a.npz", "--labels", "labels.npy", "--output", "."], "which holds a.npy, a.npz"),
        (["rank", "a.npz", "--labels", "labels.npy", "--plot", "x.gif"], "plot: wanted a .png or"),
        (["rank", "a.npz", "--labels", "labels.npy", "--confidence", "1"], "confidence: wanted"),
        (["rank", "--labels", "labels.npy"], "sources: wanted at least one"),
        (["rank", "a.npz", "--labels", "labels.npy", "--models", "m.csv"], "no column 'model'"),
        (["rank", "a.npz", "--labels", "labels.npy", "--models", "n.csv"], "names of sources"),
    ],
)
def test_bad_input_is_one_clear_line(arguments, message, tmp_path, monkeypatch):
    save(tmp_path)
    np.save(tmp_path / "logits.npy", np.load(tmp_path / "a.npz")["logits"])
    (tmp_path / "m.csv").write_text("name,parameters\na,1\n")
    (tmp_path / "n.csv").write_text("model,parameters\nc,1\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=f"^error: .*{message}") as caught:
        main(arguments)
    assert "\n" not in str(caught.value.code)
