"""The forward pass over what tasks draw."""

import numpy as np
import pytest

from experiments.transfer_accuracy import source
from leepjax.data import load
from leepjax.models import Outputs
from leepjax.tasks import Split


@pytest.mark.parametrize(("number", "passed"), [(10, 20), (300, 540)])
def test_images_that_no_task_draws_are_left_out_if_they_are_most(number, passed, monkeypatch):
    seen = []

    def extract(source, bank, *, devices):
        seen.append(len(bank.images))
        rows = bank.images.reshape(len(bank.images), -1).astype(np.float32)
        return Outputs(rows, 1 + rows[:, :3])

    monkeypatch.setattr(source, "extract", extract)
    bank = load("digits").test
    indices = np.random.default_rng(0).permutation(len(bank.images)).astype(np.int32)
    padded = np.stack([indices[:number], np.zeros(number, np.int32)])
    where = np.array([[True], [False]]) & np.ones(number, bool)
    more = indices[None, number : 2 * number]
    splits = [Split(padded, 0 * padded, where), Split(more, 0 * more, more >= 0)]
    outputs = source.extract_drawn(None, bank, splits, [])
    assert seen == [passed]
    whole = extract(None, bank, devices=[])
    drawn = indices[: 2 * number]
    for values, wanted in zip(outputs, whole, strict=True):
        assert values.shape == wanted.shape
        np.testing.assert_array_equal(values[drawn], wanted[drawn])
    left = np.setdiff1d(np.arange(len(bank.images)), drawn)
    assert not outputs.logits[left].any() or passed == len(bank.images)
