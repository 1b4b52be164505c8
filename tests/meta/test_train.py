"""Meta-training: learns, goes on where it was stopped, stops where it diverges, refuses."""

import dataclasses
import os
import subprocess
import sys
from functools import cache, partial

import jax
import numpy as np
import pytest

from leepjax.meta import (
    EpisodeShape,
    MetaRecipe,
    adapt_tasks,
    episode_bank,
    episodes,
    make_learner,
    meta_gradient,
    meta_train,
)
from leepjax.meta import train as training_module
from leepjax.tasks import sample_tasks
from tests.meta.support import WAYS, bank, dataset, flat, source

KEY = jax.random.key(2)
SHAPE = EpisodeShape(ways=WAYS, shots=2, queries=3)
QUICK = MetaRecipe(steps=30, tasks=2, episode=SHAPE, learning_rate=3e-3)


@pytest.fixture(autouse=True)
def short_chunks(monkeypatch):
    monkeypatch.setattr(training_module, "CHUNK", 10)


def protonet():
    return make_learner("protonet", source(), WAYS)


def train(learner=None, recipe=QUICK, **options):
    return meta_train(KEY, learner or protonet(), bank(), recipe, **options)


@cache
def plain():
    """What training ends with where nothing interferes."""
    return train()


@pytest.mark.parametrize("name", ["protonet", "mtl"])
def test_training_makes_unseen_tasks_easier(name):
    learner = make_learner(name, source(), WAYS)
    meta, info = train(learner, dataclasses.replace(QUICK, steps=60, learning_rate=1e-2))
    assert info.loss.shape == (60,)
    assert info.loss[-10:].mean() < 0.8 * info.loss[:10].mean()
    tasks = sample_tasks(
        jax.random.key(0), dataset(), num_tasks=8, ways=WAYS, shots=2, test_shots=4
    )
    before = adapt_tasks(learner, learner.init(KEY), dataset(), tasks)
    after = adapt_tasks(learner, meta, dataset(), tasks)
    assert after.loss.mean() < before.loss.mean()
    if name == "mtl":  # bit-identical, whatever training did
        np.testing.assert_array_equal(flat(meta.fixed), flat(learner.init(KEY).fixed))


class Killed(Exception):
    pass


def test_stopped_in_the_middle_it_ends_as_if_it_had_not_been(tmp_path, monkeypatch):
    whole, course = plain()
    run = training_module._runner

    def dies_after_two(*arguments):
        steps, calls = run(*arguments), []

        def chunk(*args):
            calls.append(1)
            if len(calls) == 3:
                raise Killed
            return steps(*args)

        return chunk

    monkeypatch.setattr(training_module, "_runner", dies_after_two)
    with pytest.raises(Killed):
        train(checkpoint=tmp_path / "part")
    monkeypatch.setattr(training_module, "_runner", run)
    resumed, same = train(checkpoint=tmp_path / "part")
    np.testing.assert_array_equal(flat(resumed), flat(whole))
    np.testing.assert_array_equal(same.loss, course.loss)

    def not_again(*arguments):
        raise Killed  # what has ended is read

    monkeypatch.setattr(training_module, "meta_step", not_again)
    again, _ = train(checkpoint=tmp_path / "part")
    np.testing.assert_array_equal(flat(again), flat(whole))


def test_a_checkpoint_of_another_configuration_is_refused_and_kept(tmp_path):
    train(checkpoint=tmp_path)
    other = dataclasses.replace(QUICK, learning_rate=1e-3)
    with pytest.raises(ValueError, match=r"another configuration \(training: .*0.003.*0.001"):
        train(recipe=other, checkpoint=tmp_path)
    with pytest.raises(ValueError, match="another configuration"):
        train(make_learner("ridge", source(), WAYS), checkpoint=tmp_path)
    train(checkpoint=tmp_path)  # still there
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="checkpoint: cannot write"):
        train(checkpoint=tmp_path / "file" / "below")


@pytest.mark.parametrize("field", ["loss", "norm"])
def test_what_is_not_finite_stops_at_the_last_good_checkpoint(field, tmp_path, monkeypatch):
    step = training_module.meta_step

    def diverges(key, learner, recipe, state, *rest, **options):
        new, info = step(key, learner, recipe, state, *rest, **options)
        return new, info._replace(
            **{field: jax.numpy.where(state.step == 13, np.nan, getattr(info, field))}
        )

    monkeypatch.setattr(training_module, "meta_step", diverges)
    message = r"meta-step 14 of protonet is .*nan.* learning rate .*0.003.* step 10, is in"
    with pytest.raises(ValueError, match=message):
        train(checkpoint=tmp_path)
    monkeypatch.setattr(training_module, "meta_step", step)
    resumed, _ = train(checkpoint=tmp_path)  # from step 10, with the cause gone
    np.testing.assert_array_equal(flat(resumed), flat(plain()[0]))


def test_a_rate_that_is_too_high_is_named():
    wild = dataclasses.replace(QUICK, learning_rate=1e30)
    with pytest.raises(ValueError, match="lower it from 1e\\+30"):
        train(recipe=wild)


def test_steps_in_one_scan_are_the_steps_one_by_one(monkeypatch):
    """What runs on accelerators, on this backend."""
    course = plain()[1]
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    np.testing.assert_allclose(train()[1].loss, course.loss, rtol=1e-3)


DEVICES = """
import dataclasses, jax, numpy as np, pytest
from leepjax.meta import adapt_tasks, make_learner, meta_train
from leepjax.tasks import sample_tasks
from tests.meta.support import WAYS, bank, dataset, flat, source
from tests.meta.test_train import KEY, QUICK
assert jax.device_count() == 4
several = jax.devices()[:1], jax.devices()
recipe = dataclasses.replace(QUICK, steps=8, tasks=4, hard_every=3)
tasks = sample_tasks(KEY, dataset(), num_tasks=10, ways=WAYS, shots=2, test_shots=4)
for name, strategy in (("fomaml", "loop"), ("mtl", "vmap")):
    learner = make_learner(name, source(), WAYS)
    (one, course), (four, same) = (
        meta_train(KEY, learner, bank(), recipe, strategy=strategy, devices=d) for d in several
    )
    # A mean over four devices is another order of sums of float32, eight times over.
    np.testing.assert_allclose(course.loss, same.loss, rtol=1e-4)
    np.testing.assert_allclose(course.deviation, same.deviation, atol=1e-6)
    np.testing.assert_allclose(flat(one), flat(four), atol=1e-4)
    alone, shared = (
        adapt_tasks(learner, one, dataset(), tasks, strategy=strategy, chunk=2, devices=d)
        for d in several
    )
    np.testing.assert_allclose(alone.loss, shared.loss, rtol=1e-4)
with pytest.raises(ValueError, match="tasks: wanted a multiple of 4, the devices .*, got 6"):
    meta_train(KEY, learner, bank(), dataclasses.replace(recipe, tasks=6), devices=several[1])
"""


def test_four_devices_equal_one():
    flags = os.environ["XLA_FLAGS"] + " --xla_force_host_platform_device_count=4"
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    subprocess.run([sys.executable, "-c", DEVICES], env=environment, check=True, timeout=600)


def test_hard_batches_are_of_classes_that_failed(monkeypatch):
    drawn = []
    real = training_module.episodes

    def spy(key, data, shape, number, among=None):
        batch = real(key, data, shape, number, among)
        jax.debug.callback(lambda a, c: drawn.append((a, c)), among, batch.classes, ordered=True)
        return batch

    monkeypatch.setattr(training_module, "episodes", spy)
    train(recipe=dataclasses.replace(QUICK, tasks=4, hard_every=3))
    jax.effects_barrier()
    hard = [(set(np.flatnonzero(a)), set(np.ravel(c).tolist())) for a, c in drawn]
    named = [(among, classes) for among, classes in hard if len(among) >= WAYS]
    assert all(not among for i, (among, _) in enumerate(hard) if i % 3 != 2)
    assert named
    assert all(classes <= among for among, classes in named)


def test_bad_training_is_named():
    for field, value in {
        "steps": 0,
        "tasks": 0,
        "hard_every": -1,
        "shots": (2, 1),
        "learning_rate": 0.0,
        "clip": np.inf,
        "optimiser": "lion",
    }.items():
        with pytest.raises(ValueError, match=field):
            dataclasses.replace(QUICK, **{field: value})
    with pytest.raises(ValueError, match="shots: wanted ascending ones, the last 2, got"):
        dataclasses.replace(QUICK, shots=(1, 3))
    with pytest.raises(ValueError, match="wanted episodes of 4 ways, the learner's"):
        train(make_learner("protonet", source(), 4))


def test_tasks_of_another_shape_are_refused():
    learner = protonet()
    meta = learner.init(KEY)
    options = {"num_tasks": 4, "test_shots": 4}
    wide = sample_tasks(KEY, dataset(), ways=4, shots=2, **options)
    with pytest.raises(ValueError, match=r"tasks: wanted 3 classes, .* got \[4\]"):
        adapt_tasks(learner, meta, dataset(), wide)
    ragged = sample_tasks(KEY, dataset(), ways=WAYS, shots=(1, 4), **options)
    with pytest.raises(ValueError, match=r"tasks\.train: wanted the same number of images"):
        adapt_tasks(learner, meta, dataset(), ragged)


@pytest.mark.parametrize("name", ["protonet", "fomaml"])
def test_adapting_to_many_tasks_is_adapting_to_each(name):
    learner = make_learner(name, source(), WAYS)
    meta, data = learner.init(KEY), dataset()
    tasks = sample_tasks(KEY, data, num_tasks=3, ways=WAYS, shots=2, test_shots=4)
    result = adapt_tasks(learner, meta, data, tasks)
    n = WAYS * 2

    @jax.jit
    def predicted(images, labels):
        x = learner.embed(meta, images)
        return learner.predict(meta, learner.adapt(meta, x[:n], labels), x[n:]).argmax(1)

    for i in range(3):
        images = [
            bank.images[split.indices[i]]
            for bank, split in zip(data, (tasks.train, tasks.test), strict=True)
        ]
        guess = predicted(np.concatenate(images), tasks.train.labels[i])
        right = np.asarray(guess) == tasks.test.labels[i]
        np.testing.assert_allclose(result.accuracy[i], right.mean(), atol=1e-6)
    assert (result.failed == 0).all()


def test_predictions_that_are_not_finite_are_failures():
    learner = protonet()
    meta = learner.init(KEY)
    broken = meta._replace(params=jax.tree.map(lambda a: a * np.nan, meta.params))
    tasks = sample_tasks(KEY, dataset(), num_tasks=2, ways=WAYS, shots=2, test_shots=4)
    assert (adapt_tasks(learner, broken, dataset(), tasks).failed == 1).all()


def test_each_step_draws_anew_and_marks_the_class_that_does_worst(monkeypatch):
    recipe = dataclasses.replace(QUICK, tasks=3, hard_every=3)
    learner, drawn = protonet(), episode_bank(bank(), SHAPE)
    meta = learner.init(KEY)
    state = training_module.init_state(meta.params, recipe, bank().num_classes)
    draw = jax.jit(lambda step: episodes(jax.random.fold_in(KEY, step), drawn, SHAPE, 3))
    batch = draw(0)
    _, info = jax.jit(partial(meta_gradient, learner, shots=(2,)))(meta, batch)
    right = np.asarray(info.right)
    shares = [
        [right[i, np.asarray(batch.query_labels[i]) == way].mean() for way in range(WAYS)]
        for i in range(3)
    ]
    worst = {int(batch.classes[i, np.argmin(share)]) for i, share in enumerate(shares)}
    assert any(len(set(share)) > 1 for share in shares)

    def step(state):
        return training_module.meta_step(KEY, learner, recipe, state, meta.fixed, drawn)

    after, _ = jax.jit(step)(state)
    marked = set(np.flatnonzero(after.failed).tolist())
    assert (
        marked <= {c for c, s in zip(worst, shares, strict=False)} | worst
    )  # a class drawn again later in the batch may be cleared
    assert marked
    later = draw(1)
    assert (np.asarray(later.classes) != np.asarray(batch.classes)).any()

    def drawn_batch(learner, recipe, state, fixed, batch, **options):
        return batch

    monkeypatch.setattr(training_module, "meta_update", drawn_batch)
    seen = jax.jit(lambda state: step(state))(after)
    np.testing.assert_array_equal(seen.classes, later.classes)
