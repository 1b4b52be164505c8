"""Joint training is that of separate heads on one body."""

from math import log

import jax
import numpy as np
import pytest

from experiments.multitask_groups.joint import joint_loss, outputs, train_group
from experiments.multitask_groups.study import network
from leepjax.models import SourceRecipe

TRAINING = SourceRecipe(steps=3, batch_size=5, learning_rate=1e-2)


def test_the_masked_loss_is_that_of_separate_heads():
    rng = np.random.default_rng(0)
    of_class = np.array([0, 0, 1, 1, 1])
    x, labels, task = rng.normal(size=(6, 3)), np.array([0, 1, 0, 4, 2, 3]), np.repeat([0, 1], 3)
    heads = rng.normal(size=(3, 2)), rng.normal(size=(3, 3))
    expected = []
    for row, label, t in zip(x, labels, task, strict=True):
        logits = row @ heads[t]
        own = label - 2 * t
        expected.append(log(sum(np.exp(logits))) - logits[own])
    loss = joint_loss(x @ np.concatenate(heads, 1), labels, task, of_class)
    assert float(loss) == pytest.approx(np.mean(expected), rel=1e-5)
    grad = jax.grad(joint_loss)(np.float32(x @ np.concatenate(heads, 1)), labels, task, of_class)
    np.testing.assert_array_equal(np.asarray(grad)[:3, 2:], 0)
    assert np.isfinite(grad).all()


def test_a_task_together_with_itself_is_the_task_alone(drawn):
    train, test = drawn.dataset
    source = network(train, width=4)
    alone, twice = (train_group(source, train, group, TRAINING, 3) for group in ((1,), (1, 1)))
    found, expected = outputs(twice, test.images).logits, outputs(alone, test.images).logits
    assert np.abs(expected[:, 2:4]).max() > 0.05
    np.testing.assert_allclose(found, expected, atol=1e-3)
    other = outputs(train_group(source, train, (1, 2), TRAINING, 3), test.images).logits
    assert np.abs(other - expected).max() > 0.01
