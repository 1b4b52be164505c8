"""The comparison from its command line, resumed and in parts, on scikit-learn's digits."""

import pytest

from experiments import comparison, transfer_accuracy
from experiments.comparison.grid import GRIDS, Setting
from experiments.transfer_accuracy import study
from leepjax.report import read_table

METRICS = ("leep", "nce", "h_score", "knn", "neg_label_entropy")
SMALL = {"source_data": "digits", "source_model": "mlp", "source_steps": 20}
SMALL |= {"target_data": "digits", "shots": (10,), "num_tasks": 8, "metrics": METRICS}


def setting(name, **options):
    return Setting(name, transfer_accuracy, transfer_accuracy.Config(**{**SMALL, **options}))


@pytest.fixture
def ran(monkeypatch):
    """The regimes of the studies that ran, in order."""
    regimes = []
    original = study._run

    def counted(run, config, *rest):
        regimes.append(config.regime)
        original(run, config, *rest)

    monkeypatch.setattr(study, "_run", counted)
    return regimes


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setenv("LEEPJAX_CACHE", str(tmp_path / "cache"))

    def of(settings, *arguments):
        monkeypatch.setitem(GRIDS, "glyphs", lambda weights_dir, seed: settings)
        directory = tmp_path / "run"
        flags = ["--devices", "1", "--output-dir", str(directory)]
        comparison.main([*flags, *arguments])
        return directory / "comparison"

    return of


def test_a_comparison_that_was_killed_goes_on(run, ran, monkeypatch, capsys):
    few = {"regime": "subsets", "ways": (2, 3)}
    settings = [setting("first"), setting("second", **few)]
    counted = study._run

    def killed(run, config, *rest):
        if config.regime == "subsets":
            raise KeyboardInterrupt
        counted(run, config, *rest)

    monkeypatch.setattr(study, "_run", killed)
    with pytest.raises(KeyboardInterrupt):
        run(settings)
    monkeypatch.setattr(study, "_run", counted)
    other = [setting("first"), setting("second", **few, num_tasks=9)]
    with pytest.raises(SystemExit, match=r"holds a run of another configuration .*second"):
        run(other)
    capsys.readouterr()
    path = run(settings)
    out = capsys.readouterr().out
    assert ran == ["small", "subsets"]  # the first ran once
    assert "setting 1 of 2: first (saved)" in out
    assert "setting 2 of 2: second\n" in out
    assert [row["setting"] for row in read_table(path / "verdicts.csv")] == ["first", "second"]
    assert "of 2 settings" in out
    assert "Given the number of classes" in out
    page = (path / "page.html").read_text()
    assert "neg_label_entropy *" in page  # every score
    assert "python -m experiments.transfer_accuracy --source-data digits" in page
    run(settings)
    assert ran == ["small", "subsets"]
    assert out.endswith(capsys.readouterr().out)  # all is shown again
    with pytest.raises(SystemExit, match="holds a run of another configuration"):
        run(other)
    run(settings, "--overwrite", "--only", "second")
    assert ran == ["small", "subsets", "subsets"]


def test_settings_that_cannot_run_are_listed_and_the_others_run(run, ran, tmp_path, capsys):
    weights = tmp_path / "cifar10_resnet20.safetensors"
    imported = {"source_model": "resnet20", "source_weights": weights}
    settings = [
        setting("too-many", shots=(1000,)),
        setting("unprepared", target_data="mnist"),
        setting("unweighted", **imported),
        setting("unknown", source_model="resnet18"),
        setting("fine"),
    ]
    path = run(settings, "--data-dir", str(tmp_path))
    assert ran == ["small", "small"]  # too-many began, and found out
    why = {row["setting"]: row["state"] for row in read_table(path / "settings.csv")}
    assert "shots: wanted at most" in why["too-many"]
    assert "'mnist' is not prepared" in why["unprepared"]
    assert "cifar10_resnet20.safetensors is not there" in why["unweighted"]
    assert "resnet18 is not among conv4" in why["unknown"]
    assert why["fine"] == "finished"
    assert [row["setting"] for row in read_table(path / "verdicts.csv")] == ["fine"]
    assert "Not in these tables: 4 of 5 settings" in (path / "page.md").read_text()
    assert "cannot run: shots: wanted at most" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="no setting could run"):
        run(settings[1:2], "--data-dir", str(tmp_path), "--output-dir", str(tmp_path / "none"))


def test_some_settings_now_and_the_others_later(run, ran):
    few = {"regime": "subsets", "ways": (2, 3)}
    settings = [setting("first"), setting("second", **few)]
    path = run(settings, "--only", "second")
    assert ran == ["subsets"]
    states = {row["setting"]: row["state"] for row in read_table(path / "settings.csv")}
    assert states == {"first": "not run yet (--only)", "second": "finished"}
    run(settings)
    assert ran == ["subsets", "small"]
    assert len(read_table(path / "verdicts.csv")) == 2
    with pytest.raises(SystemExit, match="--only: wanted some of first, second; got third"):
        run(settings, "--only", "third")


def test_the_plan_of_leep2020_says_what_is_missing(tmp_path, capsys):
    flags = ["--grid", "leep2020", "--data-dir", str(tmp_path), "--weights-dir", str(tmp_path)]
    comparison.main([*flags, "--dry-run", "--output-dir", str(tmp_path / "run")])
    out = capsys.readouterr().out
    assert "It counts 23 settings; this cross product is ours" in out
    assert (
        "setting 1 of 25: imagenet-cifar100-subsets-head (missing: data set cifar100, weights "
        "imagenet_resnet18.safetensors, network resnet18)\n"
        "    python -m experiments.transfer_accuracy --source-model resnet18 --source-weights"
    ) in out
    assert "25 settings: 0 finished, 0 can run" in out
    assert "missing: data set cifar100: 'cifar100' is not prepared" in out
    assert "experiments.meta_transfer --source-data mini_imagenet" in out
    assert not (tmp_path / "run").exists()


def test_the_plan_knows_what_is_finished_and_what_can_run(run, capsys):
    few = {"regime": "subsets", "ways": (2, 3)}
    settings = [setting("first"), setting("second", **few)]
    run(settings, "--only", "first")
    capsys.readouterr()
    run(settings, "--dry-run")
    out = capsys.readouterr().out
    assert "1 of 2: first (finished)" in out
    assert "2 of 2: second (can run)" in out


def test_smoke_is_of_the_default_grid():
    with pytest.raises(SystemExit, match="--preset: smoke is of --grid glyphs, got --grid real"):
        comparison.main(["--preset", "smoke", "--grid", "real", "--dry-run"])
