"""The regression study from its command line; its retrained heads and images against others."""

import csv

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from experiments.regression import PENALTIES, TARGETS, _ridge, main, moved, ridge_r2


def test_images_are_moved_as_it_says():
    images = np.zeros((200, 28, 28, 1), np.uint8)
    images[:, 12:16, 8:20] = 200  # a bar about the centre
    out, done = moved(images, np.random.default_rng(0))
    x, y = np.meshgrid(np.arange(28) - 13.5, np.arange(28) - 13.5)
    mass = out[..., 0] / out.sum((1, 2, 3))[:, None, None]
    right, down = ((mass * axis).sum((1, 2)) for axis in (x, y))
    np.testing.assert_allclose(right, done[:, 1], atol=0.1)
    np.testing.assert_allclose(down, done[:, 2], atol=0.1)
    rx, ry = x - right[:, None, None], y - down[:, None, None]
    xx, yy, xy = ((mass * m).sum((1, 2)) for m in (rx**2, ry**2, rx * ry))
    angle = -np.rad2deg(np.arctan2(2 * xy, xx - yy) / 2)  # rows count downwards
    assert np.corrcoef(angle, done[:, 0])[0, 1] > 0.99
    assert np.abs(np.abs(angle) - np.abs(done[:, 0])).max() < 3
    np.testing.assert_allclose(out.max((1, 2, 3)), 200 * done[:, 4], atol=1)
    size = out.sum((1, 2, 3)) / done[:, 4]
    np.testing.assert_allclose(size / (48 * 200), done[:, 3] ** 2, rtol=0.1)
    np.testing.assert_allclose(done[:, 5], out.mean((1, 2, 3)) / 255)


def test_heads_are_scikit_learns():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(90, 6))
    y = x[:, :2] + 0.5 * rng.normal(size=(90, 2))
    unit = np.linalg.eigvalsh((x[:60] - x[:60].mean(0)).T @ (x[:60] - x[:60].mean(0))).mean()
    for penalty, said in zip(PENALTIES, _ridge(x[:60], y[:60], x[60:]), strict=True):
        expected = Ridge(penalty * unit).fit(x[:60], y[:60]).predict(x[60:])
        np.testing.assert_allclose(said, expected, atol=1e-8)
    r2 = ridge_r2(x, y, 60)
    residual = y[60:] - Ridge(0.01 * unit).fit(x[:60], y[:60]).predict(x[60:])
    near = 1 - np.square(residual).sum(0) / np.square(y[60:] - y[:60].mean(0)).sum(0)
    np.testing.assert_allclose(r2, near, atol=0.05)


def test_the_command_in_small_and_again(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("LEEPJAX_CACHE", str(tmp_path / "cache"))
    flags = ["--preset", "smoke", "--images", "30", "--test-images", "20"]
    main([*flags, "--output-dir", str(tmp_path / "run")])
    out = capsys.readouterr().out
    assert "Over sources: test R² lost by the choice" in out
    with open(tmp_path / "run" / "results.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3 * len(TARGETS) * 4
    assert {row["source"] for row in rows} == {"conv4 untrained", "pixels", "random", "noise"}
    ink = [float(r["test_r2"]) for r in rows if r["target"] == "ink" and r["source"] == "pixels"]
    assert min(ink) > 0.9
    main([*flags, "--output-dir", str(tmp_path / "run")])  # nothing runs again
    assert "class 1 of" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--weights-dir", "nowhere"], "--networks: wanted files named resnetN in --weights-dir"),
        (["--preset", "smoke", "--classes", "2"], "--classes: wanted at least 3, got 2"),
        (["--preset", "smoke", "--images", "999"], "--classes, --images: wanted 3 of 1039 images"),
    ],
)
def test_bad_input_is_one_clear_line(flags, message, tmp_path):
    with pytest.raises(SystemExit, match=message):
        main([*flags, "--output-dir", str(tmp_path / "run")])
