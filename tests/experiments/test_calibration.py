"""Shelves with a known truth: the command in small, and how often the choice holds the best."""

import numpy as np
import pytest

from experiments.calibration import main, shelves


def test_the_command_prints_each_section_and_draws(tmp_path, capsys):
    main(["shelves", "noise", "shuffled", "--cases", "2", "--figure", str(tmp_path / "p.png")])
    out = capsys.readouterr().out
    assert "choice has least error" in out
    assert "frequency of being best" in out
    assert "noise was chosen in 0 of" in out
    assert "rank reports no information in" in out
    assert (tmp_path / "p.png").stat().st_size > 1000
    with pytest.raises(SystemExit, match="--cases: wanted at least 1, got 0"):
        main(["--cases", "0"])


@pytest.mark.slow
def test_the_choice_contains_the_best_as_often_as_it_says():
    """90 % of sixty shelves are wanted; fewer than 48 would be less likely than 1 in 1,000."""
    hits = [error.argmin() in chosen for _, _, error, _, chosen in shelves(60)]
    assert np.sum(hits) >= 48
