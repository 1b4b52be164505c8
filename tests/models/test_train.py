import dataclasses
import json
import os
import warnings

import jax
import numpy as np
import pytest

from leepjax.data import load
from leepjax.data.bank import Dataset
from leepjax.models import SourceRecipe, accuracy, extract, train, train_checkpoints, train_source

SHORT = SourceRecipe(steps=12, batch_size=32)


@pytest.fixture
def count_trainings(monkeypatch):
    calls = []
    original = train._train
    monkeypatch.setattr(train, "_train", lambda *args: calls.append(args) or original(*args))
    return calls


@pytest.fixture
def count_instant_trainings(monkeypatch):
    """For what is kept and when: training that returns the fresh network."""
    calls = []
    monkeypatch.setattr(
        train,
        "_train",
        lambda key, name, fresh, *args: calls.append(name) or dict.fromkeys(args[-1], fresh),
    )
    return calls


def _assert_equal(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("name", "steps"), [("mlp", 120), pytest.param("conv4", 40, marks=pytest.mark.slow)]
)
def test_it_learns_digits(digits, cache, name, steps):
    source = train_source(name, digits, SourceRecipe(steps=steps))
    measured = accuracy(source, digits.test)
    assert measured > 0.8  # by chance 0.1; rounding moves it by a few images
    (record,) = (cache / "sources").glob("*/source.json")
    record = json.loads(record.read_text())
    assert record["test_accuracy"] == measured
    assert record["recipe"]["steps"] == steps


def test_what_is_kept_is_what_was_trained():
    digits = load("glyphs:digits")
    source = train_source("mlp", digits, SourceRecipe(steps=100))
    assert accuracy(source, digits.train) > 0.9  # .15 where donated parameters were overwritten


def test_a_second_call_does_not_train(digits, count_trainings):
    first = train_source("mlp", digits, SHORT)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        second = train_source("mlp", digits, SHORT)
    assert len(count_trainings) == 1
    _assert_equal(first, second)
    assert first.digest == second.digest
    np.testing.assert_array_equal(
        extract(first, digits.test).logits, extract(second, digits.test).logits
    )


def test_the_same_recipe_gives_the_same_source(digits, cache, monkeypatch):
    first = train_source("mlp", digits, SHORT)
    monkeypatch.setenv("LEEPJAX_CACHE", str(cache / "other"))
    _assert_equal(first, train_source("mlp", digits, SHORT))


def test_checkpoints_are_moments_of_one_training(digits, count_trainings):
    early, middle, last = train_checkpoints("mlp", digits, SHORT, (1, 5, 12))
    assert len(count_trainings) == 1
    _assert_equal(last, train_source("mlp", digits, SHORT))  # which finds it
    assert len(count_trainings) == 1
    (again,) = train_checkpoints("mlp", digits, SHORT, (5,))
    assert len(count_trainings) == 1
    _assert_equal(middle, again)
    kernels = [np.asarray(s.params["head"]["kernel"]) for s in (early, middle, last)]
    assert np.abs(kernels[0] - kernels[1]).max() > 1e-3 < np.abs(kernels[1] - kernels[2]).max()


def test_a_checkpoint_does_not_depend_on_the_others(digits, cache, monkeypatch):
    middle, _ = train_checkpoints("mlp", digits, SHORT, (5, 12))
    monkeypatch.setenv("LEEPJAX_CACHE", str(cache / "other"))
    (alone,) = train_checkpoints("mlp", digits, SHORT, (5,))
    _assert_equal(middle, alone)


@pytest.mark.parametrize("at", [(), (0, 3), (5, 3), (3, 3), (13,)])
def test_checkpoints_are_within_the_training(at, digits):
    with pytest.raises(ValueError, match="at: wanted ascending numbers from 1 to 12"):
        train_checkpoints("mlp", digits, SHORT, at)


def test_what_determines_the_source_is_in_the_key(digits, count_instant_trainings):
    other = dataclasses.replace(digits.train, images=digits.train.images[::-1])
    for _ in range(2):
        train_source("mlp", digits, SHORT)
        train_source("conv4", digits, SHORT)
        train_source("mlp", digits, dataclasses.replace(SHORT, seed=1))
        train_source("mlp", digits, dataclasses.replace(SHORT, weight_decay=0.0))
        train_source("mlp", Dataset(other, digits.test), SHORT)
    assert len(count_instant_trainings) == 5


@pytest.mark.parametrize("moment", ["checkpoint", "record"])
def test_an_interrupted_save_is_not_taken_for_complete(
    digits, count_instant_trainings, monkeypatch, moment
):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if moment == "checkpoint":
            patch.setattr(train.ocp.StandardCheckpointer, "save", interrupt)
        else:
            patch.setattr(train, "_write_record", interrupt)
        with pytest.raises(KeyboardInterrupt):
            train_source("mlp", digits, SHORT)
    train_source("mlp", digits, SHORT)
    train_source("mlp", digits, SHORT)
    assert len(count_instant_trainings) == 2


@pytest.mark.parametrize("damage", ["emptied", "flipped", "lost", "record", "exchanged"])
def test_a_damaged_checkpoint_is_trained_anew(digits, cache, count_instant_trainings, damage):
    source = train_source("mlp", digits, SHORT)
    (folder,) = (cache / "sources").iterdir()
    biggest = max(
        next(folder.glob("checkpoint-*")).rglob("*"), key=lambda file: file.stat().st_size
    )
    if damage == "emptied":
        biggest.write_bytes(b"")
    elif damage == "flipped":
        content = bytearray(biggest.read_bytes())
        content[len(content) // 2] ^= 255
        biggest.write_bytes(content)
    elif damage == "lost":
        os.rename(next(folder.glob("checkpoint-*")), folder / "elsewhere")
    elif damage == "record":
        (folder / "source.json").write_text("{")
    else:  # intact, but another's
        record = json.loads((folder / "source.json").read_text())
        (folder / "source.json").write_text(json.dumps(record | {"arrays": "0" * 16}))
    with pytest.warns(UserWarning, match="is damaged and trained anew"):
        again = train_source("mlp", digits, SHORT)
    _assert_equal(source, again)
    train_source("mlp", digits, SHORT)
    assert len(count_instant_trainings) == 2


def test_a_loss_that_is_not_finite_stops_at_once(digits, cache):
    recipe = SourceRecipe(steps=10_000, learning_rate=1e30, warmup=0.0)
    with pytest.raises(ValueError, match=r"learning_rate: the loss of mlp became .* lower it"):
        train_source("mlp", digits, recipe)
    assert not any((cache / "sources").iterdir())


def test_every_image_is_seen_once_an_epoch():
    recipe = SourceRecipe(steps=7, batch_size=6)
    index = np.concatenate(list(train._batches(jax.random.key(0), 14, recipe)))
    assert index.shape == (42,)
    for epoch in range(3):
        assert sorted(index[14 * epoch : 14 * (epoch + 1)]) == list(range(14))
    assert not np.array_equal(index[:14], index[14:28])


def test_a_batch_may_exceed_the_bank():
    recipe = SourceRecipe(steps=4, batch_size=30)
    first, *_ = train._batches(jax.random.key(0), 8, recipe)
    # Three whole permutations of the eight images, and six images of a fourth.
    assert sorted(np.bincount(first)) == [3] * 2 + [4] * 6


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("steps", 0),
        ("batch_size", 0),
        ("learning_rate", -1.0),
        ("learning_rate", float("nan")),
        ("weight_decay", -1.0),
        ("warmup", 1.0),
    ],
)
def test_configurations_out_of_range_are_refused(field, value):
    with pytest.raises(ValueError, match=f"{field}: wanted"):
        SourceRecipe(**{field: value})


def test_errors_name_the_argument(digits):
    empty = dataclasses.replace(
        digits.test, images=digits.test.images[:0], labels=digits.test.labels[:0]
    )
    with pytest.raises(ValueError, match=r"dataset\.test\.images: wanted uint8"):
        train_source("mlp", Dataset(digits.train, empty), SHORT)
    with pytest.raises(ValueError, match="name: wanted one of"):
        train_source("vgg", digits, SHORT)
