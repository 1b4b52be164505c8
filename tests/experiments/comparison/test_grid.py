"""The grids of a comparison: a command is all that a setting is."""

import dataclasses
import shlex
from pathlib import Path

import pytest
import tyro

from experiments import meta_transfer, transfer_accuracy
from experiments.comparison.grid import GRIDS, command


@pytest.mark.parametrize("grid", GRIDS)
def test_commands_say_the_whole_configuration(grid):
    settings = GRIDS[grid](Path("some where"), 3)
    assert len({s.name for s in settings}) == len(settings)
    for one in settings:
        words = shlex.split(command(one))
        assert words[:2] == ["python", "-m"]
        assert words[-2:] == ["--seed", "3"]  # flags of all experiments last, in old runs as well
        parsed = tyro.cli(type(one.config), args=words[3:])
        assert dataclasses.replace(parsed, preset=one.config.preset) == one.config
    assert {s.experiment for s in settings} == {transfer_accuracy, meta_transfer}
