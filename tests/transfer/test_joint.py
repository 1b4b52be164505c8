"""Joint training is that of separate heads on one body."""

import dataclasses
from math import log

import jax
import numpy as np
import pytest
from flax import nnx

from leepjax.data import Bank
from leepjax.models import Conv4, Preprocess, SourceRecipe, make_source
from leepjax.transfer import accuracy_by_task, compute_outputs, joint_loss, train_jointly

TRAINING = SourceRecipe(steps=3, batch_size=5, learning_rate=1e-2)


@pytest.fixture(scope="module")
def bank():
    """Three tasks of two classes, ten images each."""
    labels = np.repeat(np.arange(6, dtype=np.int32), 10)
    images = np.random.default_rng(0).integers(0, 256, (60, 8, 8, 1), np.uint8)
    return Bank(images, labels, labels // 2, tuple("abcdef"), ("one", "two", "three"))


@pytest.fixture(scope="module")
def source(bank):
    conv4 = Conv4(6, channels=1, width=4, rngs=nnx.Rngs(0))
    return make_source(conv4, Preprocess(8, 1, mean=(0.5,), std=(0.5,)), bank.class_names)


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


def test_a_task_together_with_itself_is_the_task_alone(source, bank):
    alone, twice, other = (
        compute_outputs(train_jointly(source, bank, tasks, TRAINING, seed=3), bank.images).logits
        for tasks in ((1,), (1, 1), (1, 2))
    )
    assert np.abs(alone[:, 2:4]).max() > 0.05
    np.testing.assert_allclose(twice, alone, atol=1e-3)  # sums of twice as many images
    assert np.abs(other - alone).max() > 0.01


def test_a_task_is_learnt_and_judged_among_its_own_classes(source, bank):
    images = np.where(bank.labels % 2 == 1, 255, 0).astype(np.uint8)[:, None, None, None]
    easy = dataclasses.replace(bank, images=np.broadcast_to(images, bank.images.shape).copy())
    training = SourceRecipe(steps=40, batch_size=10, learning_rate=1e-2, warmup=0.0)
    trained = train_jointly(source, easy, (0, 2), training, seed=0)
    assert accuracy_by_task(trained, easy, (2, 0)) == [1, 1]
    logits = compute_outputs(trained, bank.images).logits
    right = [logits[20:40, 2:4].argmax(1) + 2 == bank.labels[20:40]]
    assert accuracy_by_task(trained, bank, (0, 1))[1] == pytest.approx(np.mean(right))


def test_outputs_do_not_depend_on_the_images_beside_them(source, bank):
    whole = compute_outputs(source, np.tile(bank.images, (6, 1, 1, 1)))  # more than one batch
    part = compute_outputs(source, bank.images[:7])
    assert whole.logits.shape == (360, 6)
    for found, expected in zip(part, whole, strict=True):
        np.testing.assert_allclose(found, expected[:7], atol=1e-5)
        np.testing.assert_allclose(expected[300:307], expected[:7], atol=1e-5)


def test_one_parameter_that_is_no_number_is_a_training_that_diverged(source, bank, monkeypatch):
    def update(*_):
        def broken(state, *_):
            head = state.params["head"]
            head = head | {"bias": head["bias"].at[1].set(np.nan)}
            return state._replace(params=state.params | {"head": head})

        return broken

    monkeypatch.setattr("leepjax.transfer.joint._update", update)
    with pytest.raises(ValueError, match=r"recipe\.learning_rate: training tasks 0 diverged"):
        train_jointly(source, bank, (0,), TRAINING, seed=0)


def test_bad_input(source, bank):
    def train(bank, tasks, rate=1e-2):
        training = dataclasses.replace(TRAINING, learning_rate=rate)
        return train_jointly(source, bank, tasks, training, seed=0)

    with pytest.raises(ValueError, match=r"tasks: wanted some of 0 1 2, got \(3,\)"):
        train(bank, (3,))
    with pytest.raises(ValueError, match=r"tasks: wanted some of 0 1 2, got \(\)"):
        train(bank, ())
    mixed = dataclasses.replace(bank, groups=np.arange(60, dtype=np.int32) % 3)
    with pytest.raises(ValueError, match=r"bank: wanted every class in one group, .* got 'a' in"):
        train(mixed, (0,))
    with pytest.raises(ValueError, match="bank: wanted the source's 6 classes, got 7 or others"):
        train(dataclasses.replace(bank, class_names=tuple("abcdefg")), (0,))
    with pytest.raises(ValueError, match=r"recipe\.learning_rate: training tasks 0 2 diverged"):
        train(bank, (0, 2), rate=1e38)
