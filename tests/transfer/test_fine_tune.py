"""Training of whole networks on tasks: alone as among others, failing alone, resumed, refused."""

import dataclasses
import json
import os
import subprocess
import sys
from functools import cache, partial

import jax
import numpy as np
import pytest
from flax import nnx

from leepjax._store import Journal
from leepjax.data import Dataset, load
from leepjax.models import MLP, Conv4, Preprocess, apply, extract, make_source
from leepjax.models.batch_norm import BatchNorm
from leepjax.tasks import sample_tasks
from leepjax.transfer import Recipe, fine_tune, from_scratch, retrain_head, sweep, waves
from leepjax.transfer.jobs import epoch_batches, make_jobs
from leepjax.transfer.memory import check_fits

DIGITS = load("digits")
KEY = jax.random.key(5)
QUICK = Recipe(epochs=3, batch_size=8)
NAMES = tuple(map(str, range(10)))


@pytest.fixture(autouse=True)
def cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("LEEPJAX_CACHE", str(tmp_path / "cache"))


class Small(nnx.Module):
    """One convolution with its normalisation: compiled in a quarter of Conv4's time."""

    def __init__(self, rngs):
        self.conv1 = nnx.Conv(1, 8, (3, 3), strides=2, use_bias=False, rngs=rngs)
        self.bn1 = BatchNorm(8, momentum=0.9, epsilon=1e-5, rngs=rngs)
        self.head = nnx.Linear(8, 10, rngs=rngs)

    def __call__(self, x, *, train=False):
        features = nnx.relu(self.bn1(self.conv1(x), use_running_average=not train)).mean((1, 2))
        return features, self.head(features)


@cache
def network(kind):
    rngs = nnx.Rngs(0)
    make = {
        "mlp": lambda: MLP(10, inputs=64, width=16, rngs=rngs),
        "small": lambda: Small(rngs),
        "conv": lambda: Conv4(10, width=8, rngs=rngs),
    }
    return make_source(make[kind](), Preprocess(8, 1, (0.5,), (0.5,)), NAMES)


MLP_SOURCE = network("mlp")


def draw(**changes):
    options = {"num_tasks": 5, "ways": (2, 4), "shots": (8, 14), **changes}
    return sample_tasks(jax.random.key(2), DIGITS, **options)


def only(tasks, i):
    """One task, its classes not padded."""
    one = jax.tree.map(lambda a: a[i : i + 1], tasks)
    return one._replace(classes=one.classes[:, : tasks.num_classes[i]])


AUGMENTED = dataclasses.replace(QUICK, flip=True, crop=1, label_smoothing=0.1)


@cache
def together(kind, learner, strategy):
    """Ragged in classes and images, augmented, in chunks that do not divide the tasks."""
    options = {"strategy": strategy, "chunk": 3}
    return learner(KEY, network(kind), DIGITS, draw(), AUGMENTED, **options)


def case(kind, learner, strategy, others=(3,), *, slow=False):
    return pytest.param(kind, learner, strategy, others, marks=pytest.mark.slow if slow else ())


@pytest.mark.parametrize(
    ("kind", "learner", "strategy", "others"),
    [
        case("small", fine_tune, "loop"),
        case("small", fine_tune, "vmap"),
        case("small", from_scratch, "loop"),
        # The rest of the product compiles the same steps around another start, or a larger network.
        case("small", from_scratch, "vmap", slow=True),
        case("conv", fine_tune, "loop", (0, 3), slow=True),
        case("conv", fine_tune, "vmap", (0, 3), slow=True),
        case("conv", from_scratch, "loop", (0, 3), slow=True),
        case("conv", from_scratch, "vmap", (0, 3), slow=True),
    ],
)
def test_a_task_alone_is_what_it_is_among_others(kind, learner, strategy, others):
    result = together(kind, learner, strategy)
    for i in others:
        alone = only(draw(), i)
        alone = learner(KEY, network(kind), DIGITS, alone, AUGMENTED, strategy=strategy)
        np.testing.assert_allclose(result.train_loss[i], alone.train_loss[0], rtol=1e-3)
        assert abs(result.accuracy[i] - alone.accuracy[0]) < 0.03
    assert result.test_accuracy.shape == (5, 4)
    assert result.train_loss.shape == (5, 3)
    assert not np.allclose(result.train_loss[0], result.train_loss[1])


@pytest.mark.parametrize("kind", ["small", pytest.param("conv", marks=pytest.mark.slow)])
def test_a_loop_of_steps_is_a_scan_of_an_epoch(kind):
    loop, vmap = (together(kind, fine_tune, strategy) for strategy in ("loop", "vmap"))
    np.testing.assert_allclose(loop.train_loss, vmap.train_loss, rtol=1e-3)


DEVICES = """
import jax, numpy as np
from tests.transfer.test_fine_tune import DIGITS, KEY, QUICK, draw, network
from leepjax.transfer import fine_tune
assert jax.device_count() == 4
for strategy in ("loop", "vmap"):
    one, four = (
        fine_tune(KEY, network("conv"), DIGITS, draw(), QUICK, strategy=strategy, devices=d)
        for d in (jax.devices()[:1], jax.devices())
    )
    np.testing.assert_allclose(one.train_loss, four.train_loss, rtol=1e-4)
    np.testing.assert_allclose(one.accuracy, four.accuracy, atol=0.02)
"""


@pytest.mark.slow
def test_four_devices_equal_one():
    flags = os.environ["XLA_FLAGS"] + " --xla_force_host_platform_device_count=4"
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    subprocess.run([sys.executable, "-c", DEVICES], env=environment, check=True, timeout=600)


def test_batches_are_the_tasks_own_images_each_once_in_an_epoch():
    tasks = draw()
    for job in make_jobs(KEY, DIGITS, tasks, (dataclasses.replace(QUICK, validation=0.3),)):
        where = tasks.train.where[job.task]
        own = dict(
            zip(
                tasks.train.indices[job.task][where],
                tasks.train.labels[job.task][where],
                strict=True,
            )
        )
        parts = job.train.indices, job.validation.indices
        assert sorted(np.concatenate(parts)) == sorted(own)
        kept = np.bincount(job.train.labels, minlength=job.num_classes)
        counts = kept + np.bincount(job.validation.labels, minlength=job.num_classes)
        np.testing.assert_array_equal(counts - kept, np.round(0.3 * counts))
        orders = []
        for epoch in (1, 2):
            rows, labels = epoch_batches(KEY, job, epoch, 8)
            assert rows.shape == (len(job.train.indices) // 8, 8)
            assert len(set(rows.ravel())) == rows.size
            assert all(own[r] == y for r, y in zip(rows.ravel(), labels.ravel(), strict=True))
            orders.append(rows)
        assert not np.array_equal(*orders)


def final_state(recipe, scratch=False):
    """Parameters before and after training one task."""
    source, tasks = network("small"), draw(num_tasks=1)
    jobs = make_jobs(KEY, DIGITS, tasks, (recipe,))
    mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    heads = waves.Heads(np.zeros((1, 8, 4), np.float32), np.zeros((1, 4), np.float32))
    layout = waves.Layout(mesh, 1, False)
    run = waves.Waves(KEY, source, DIGITS, (recipe,), heads, scratch, layout)
    arrays = run._jobs(jobs)
    state = run.program.init(source.params, source.rest, arrays)
    start = jax.device_get(state)
    batches = run._batches(jobs, 1, np.array([True]))
    return source, start, jax.device_get(run._epoch(arrays, state, batches)[0])


def moved(a, b):
    return {
        jax.tree_util.keystr(path): not np.array_equal(x, y)
        for (path, x), y in zip(
            jax.tree_util.tree_leaves_with_path(a), jax.tree.leaves(b), strict=True
        )
    }


@pytest.mark.parametrize("mode", ["batch", "running", "frozen"])
def test_what_batch_normalisation_moves(mode):
    _, start, end = final_state(dataclasses.replace(QUICK, batch_norm=mode, head="zero"))
    params, rest = moved(start.params, end.params), moved(start.rest, end.rest)
    assert all(rest.values()) == any(rest.values()) == (mode == "batch")
    for name, did in params.items():
        assert did == (mode != "frozen" or "bn" not in name), name


@pytest.mark.parametrize("mode", ["batch", "running", "frozen"])
def test_what_batch_normalisation_normalises_by(mode):
    """The loss of the first batch: new heads are zero, so it takes one step to see the features."""
    source, tasks = network("small"), draw(num_tasks=1)
    recipe = Recipe(
        learning_rate=0.0,
        head_learning_rate=1.0,
        batch_norm=mode,
        epochs=1,
        batch_size=8,
        momentum=0.0,
        nesterov=False,
        weight_decay=0.0,
        schedule="constant",
    )
    (job,) = make_jobs(KEY, DIGITS, tasks, (recipe,))
    result = fine_tune(KEY, source, DIGITS, tasks, recipe)
    head, k, losses, rest = np.zeros((8, job.num_classes)), job.num_classes, [], source.rest
    bias, train = np.zeros(k), mode == "batch"
    run = jax.jit(partial(apply, source.graphdef, train=train))
    for rows, labels in zip(*epoch_batches(KEY, job, 1, 8), strict=True):
        x = source.preprocess(DIGITS.train.images[rows])
        outputs, rest = run(source.params, rest, x)
        f = np.asarray(outputs.features, np.float64)
        z = f @ head + bias
        p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
        losses.append(-np.log(p[np.arange(8), labels]).mean())
        error = (p - np.eye(k)[labels]) / 8
        head, bias = head - f.T @ error, bias - error.sum(0)
    assert len(losses) >= 3
    np.testing.assert_allclose(result.train_loss[0, 0], np.mean(losses), rtol=1e-4)


def test_fine_tuning_starts_from_the_source_and_scratch_does_not():
    source, start, _ = final_state(QUICK)
    np.testing.assert_array_equal(
        start.params["conv1"]["kernel"][0], source.params["conv1"]["kernel"]
    )
    _, fresh, _ = final_state(QUICK, scratch=True)
    kernel = fresh.params["conv1"]["kernel"][0]
    assert not np.allclose(kernel, source.params["conv1"]["kernel"])
    assert kernel.std() == pytest.approx(np.sqrt(2 / 9), rel=0.2)
    np.testing.assert_array_equal(fresh.params["bn1"]["scale"], 1)


def test_lp_ft_starts_at_the_retrained_head():
    tasks = draw(ways=3)
    # One number of classes, so one program for each; as if another task had a class more.
    tasks = tasks._replace(classes=np.pad(tasks.classes, ((0, 0), (0, 1)), constant_values=-1))
    recipe = Recipe(epochs=1, batch_size=8, head="optimum", learning_rate=0.0)
    result = fine_tune(KEY, MLP_SOURCE, DIGITS, tasks, recipe)
    train, test = (extract(MLP_SOURCE, bank).features for bank in DIGITS)
    heads = retrain_head(train, test, tasks)
    np.testing.assert_allclose(result.test_accuracy[:, 0], heads.accuracy, atol=0.01)
    np.testing.assert_allclose(result.test_accuracy[:, 1], heads.accuracy, atol=0.01)


def test_lp_ft_of_several_recipes_starts_all_at_the_same_heads():
    tasks = draw(ways=3, shots=20)
    recipe = Recipe(epochs=1, batch_size=8, head="optimum", validation=0.4)
    recipes = sweep(recipe, (0.0, 0.1))
    swept, alone = (fine_tune(KEY, MLP_SOURCE, DIGITS, tasks, r) for r in (recipes, recipes[0]))
    np.testing.assert_allclose(swept.test_accuracy[:, 0], alone.test_accuracy[:, 0], atol=0.01)


def test_the_best_epoch_on_validation_images_counts_and_patience_stops():
    tasks = draw(shots=20)
    recipe = Recipe(epochs=8, batch_size=8, validation=0.4, patience=2, learning_rate=0.1)
    result = fine_tune(KEY, MLP_SOURCE, DIGITS, tasks, recipe)
    for i in range(5):
        validation = result.validation_accuracy[i]
        ran = np.isfinite(validation).sum()
        best = int(np.argmax(validation[:ran]))
        assert result.epoch[i] == best
        assert result.accuracy[i] == result.test_accuracy[i, best]
        assert ran == min(best + 3, 9)
    assert np.isnan(result.validation_accuracy).any()


def test_a_sweep_takes_what_is_best_on_validation_images():
    tasks = draw(shots=20)
    recipe = dataclasses.replace(QUICK, validation=0.4)
    recipes = sweep(recipe, (0.0, 0.1))
    result = fine_tune(KEY, MLP_SOURCE, DIGITS, tasks, recipes)
    np.testing.assert_array_equal(result.recipe, 1)
    alone = fine_tune(KEY, MLP_SOURCE, DIGITS, tasks, recipes[1])
    np.testing.assert_allclose(result.train_loss, alone.train_loss, rtol=1e-5)


@pytest.mark.parametrize("strategy", ["loop", "vmap"])
def test_a_task_that_diverges_fails_alone(strategy):
    """Its own loss overflows; what the others reach is what they reach without it."""
    tasks = draw(ways=3, shots=20)  # as many steps for each, for few programs
    recipes = sweep(dataclasses.replace(QUICK, validation=0.4), (1e20, 0.1))
    options = {"strategy": strategy, "chunk": 4}
    mixed = fine_tune(KEY, MLP_SOURCE, DIGITS, tasks, recipes, **options)
    good = fine_tune(KEY, MLP_SOURCE, DIGITS, tasks, recipes[1], **options)
    np.testing.assert_allclose(mixed.train_loss, good.train_loss, rtol=1e-4)
    assert (mixed.failed == 0).all()
    tasks = draw(ways=3, shots=12)  # as many steps, without validation images
    wild = dataclasses.replace(QUICK, learning_rate=1e20)
    bad = fine_tune(KEY, MLP_SOURCE, DIGITS, tasks, wild, **options)
    assert (bad.failed >= 1).all()
    each = np.arange(5)
    np.testing.assert_array_equal(bad.epoch, bad.failed - 1)
    np.testing.assert_array_equal(bad.accuracy, bad.test_accuracy[each, bad.failed - 1])
    assert np.isfinite(bad.accuracy).all()
    assert np.isnan(bad.test_accuracy[each, bad.failed]).all()


def test_a_network_that_overflows_in_its_last_step_has_failed():
    """Two steps: the first moves the zero head alone, the second the body past all numbers."""
    recipe = Recipe(learning_rate=1e20, weight_decay=0.0, epochs=1, batch_size=8)
    result = fine_tune(KEY, MLP_SOURCE, DIGITS, draw(ways=2, shots=8), recipe)
    assert np.isfinite(result.train_loss).all()
    np.testing.assert_array_equal(result.failed, 1)
    np.testing.assert_array_equal(result.accuracy, result.test_accuracy[:, 0])


def interrupted(monkeypatch, after):
    run, calls = waves.Waves.run, []

    def stops(self, wave, bar):
        calls.append(wave)
        if len(calls) > after:
            raise KeyboardInterrupt
        return run(self, wave, bar)

    monkeypatch.setattr(waves.Waves, "run", stops)


def test_an_interrupted_run_goes_on_and_gives_the_same(tmp_path, monkeypatch):
    tasks, path = draw(), tmp_path / "some.journal"
    whole = fine_tune(KEY, MLP_SOURCE, DIGITS, tasks, QUICK)
    with monkeypatch.context() as patch:
        interrupted(patch, after=2)
        with pytest.raises(KeyboardInterrupt):
            fine_tune(KEY, MLP_SOURCE, DIGITS, tasks, QUICK, journal=path)
    assert len(path.read_text().splitlines()) == 3
    with open(path, "a") as file:
        file.write('{"task": 3, "rec')  # torn by a kill
    resumed = fine_tune(KEY, MLP_SOURCE, DIGITS, tasks, QUICK, journal=path)
    for a, b in zip(whole, resumed, strict=True):
        np.testing.assert_array_equal(a, b)
    assert len([json.loads(line) for line in path.read_text().splitlines()]) == 6
    with monkeypatch.context() as patch:
        interrupted(patch, after=0)  # nothing is trained again
        again = fine_tune(KEY, MLP_SOURCE, DIGITS, tasks, QUICK, journal=path)
    np.testing.assert_array_equal(again.accuracy, whole.accuracy)


def test_of_a_wave_only_what_is_missing_is_kept_again(tmp_path):
    tasks, path = draw(), tmp_path / "some.journal"
    options = {"strategy": "vmap", "chunk": 5, "journal": path}
    whole = fine_tune(KEY, MLP_SOURCE, DIGITS, tasks, QUICK, **options)
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:-1]))
    resumed = fine_tune(KEY, MLP_SOURCE, DIGITS, tasks, QUICK, **options)
    np.testing.assert_array_equal(resumed.accuracy, whole.accuracy)
    assert len(path.read_text().splitlines()) == len(lines)


def test_a_journal_of_another_configuration_is_refused(tmp_path):
    path = tmp_path / "some.journal"
    fine_tune(KEY, MLP_SOURCE, DIGITS, draw(), QUICK, journal=path)
    before = path.read_bytes()
    for learner, tasks, recipe, key, blame in (
        (fine_tune, draw(), dataclasses.replace(QUICK, epochs=4), KEY, r"recipes: .*epochs.*4"),
        (fine_tune, draw(num_tasks=4), QUICK, KEY, "tasks: there"),
        (fine_tune, draw(), QUICK, jax.random.key(6), "key: there"),
        (from_scratch, draw(), QUICK, KEY, "learner: there 'fine_tune', asked for 'from_scratch'"),
    ):
        with pytest.raises(ValueError, match=f"another configuration.*{blame}"):
            learner(key, MLP_SOURCE, DIGITS, tasks, recipe, journal=path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("text", ["chapter one\n", "chapter", '{"x": 1}\n{"y": 2}', "[1]\n"])
def test_a_file_that_is_no_journal_is_left_alone(text, tmp_path):
    path = tmp_path / "thesis.tex"
    path.write_text(text)
    with pytest.raises(ValueError, match="journal: wanted a file of earlier results"):
        fine_tune(KEY, MLP_SOURCE, DIGITS, draw(), QUICK, journal=path)
    assert path.read_text() == text


@pytest.mark.parametrize("length", [0, 9])
def test_a_journal_killed_in_its_first_line_starts_anew(length, tmp_path):
    path = tmp_path / "some.journal"
    Journal(path, {"a": 1})
    whole = path.read_bytes()
    path.write_bytes(whole[:length])
    Journal(path, {"a": 1}).append([{"row": 2}])
    assert path.read_bytes().startswith(whole)
    assert Journal(path, {"a": 1}).rows == [{"row": 2}]


def test_two_processes_do_not_write_one_journal(tmp_path):
    path = tmp_path / "some.journal"
    held = Journal(path, {"a": 1})
    with pytest.raises(ValueError, match=r"journal: .*another process is using it"):
        Journal(path, {"a": 1})
    del held
    Journal(path, {"a": 1})


def test_a_chunk_that_does_not_fit_is_told_one_that_would(monkeypatch):
    monkeypatch.setattr("leepjax.transfer.memory.free_bytes", lambda devices: 2**19)
    tasks = draw(num_tasks=40, ways=2, shots=8)
    source = network("small")
    with pytest.raises(ValueError, match=r"chunk: wanted what fits.*chunk=(\d+) would fit") as e:
        fine_tune(KEY, source, DIGITS, tasks, QUICK, strategy="vmap", chunk=40)
    fits = int(str(e.value).split("chunk=")[1].split()[0])
    assert 1 <= fits < 40
    fine_tune(KEY, source, DIGITS, tasks, QUICK, strategy="vmap", chunk=fits)


def test_memory_is_asked_of_a_real_program(monkeypatch):
    compiled = jax.jit(lambda x: x @ x.T).lower(np.ones((8, 8), np.float32)).compile()
    check_fits(compiled, 1, jax.devices())
    monkeypatch.setattr("leepjax.transfer.memory.free_bytes", lambda devices: 10)
    with pytest.raises(ValueError, match=r"chunk: .*5 tasks at once need .* no chunk would fit"):
        check_fits(compiled, 5, jax.devices())


def no_test_images():
    tasks = draw()
    where = tasks.test.where & (tasks.test.labels != 1)
    return {"tasks": tasks._replace(test=tasks.test._replace(where=where))}


BAD = [
    (fine_tune, {"recipe": Recipe(batch_size=33)}, "batch_size: wanted at most .* got 33"),
    (fine_tune, no_test_images(), r"tasks: wanted test images of every class, task \d has none of"),
    (fine_tune, {"recipe": "sgd"}, "recipe: wanted a Recipe or several"),
    (fine_tune, {"recipe": ()}, "recipe: wanted a Recipe or several"),
    (fine_tune, {"recipe": (QUICK, "sgd")}, "recipe: wanted a Recipe or several"),
    (fine_tune, {"recipe": sweep(QUICK, (0.1, 1.0))}, r"recipe.validation: wanted a share > 0"),
    (fine_tune, {"recipe": (QUICK, Recipe(epochs=9))}, "recipe: wanted recipes that differ"),
    (fine_tune, {"recipe": Recipe(validation=0.02)}, "recipe.validation: .* rounds to none of any"),
    (fine_tune, {"strategy": "pmap"}, "strategy: wanted auto or loop or vmap"),
    (fine_tune, {"chunk": 0}, "chunk: wanted an int >= 1, got 0"),
    (fine_tune, {"devices": []}, "devices: wanted at least one"),
    (fine_tune, {"key": 3}, "key: wanted a typed key"),
    (
        fine_tune,
        {"dataset": Dataset(DIGITS.train, jax.tree.map(lambda a: a[:9], DIGITS.test))},
        "tasks.test: wanted rows of the test bank, below 9",
    ),
    (from_scratch, {"recipe": Recipe(head="optimum")}, "recipe.head: wanted 'zero' from scratch"),
    (from_scratch, {"recipe": Recipe(batch_norm="frozen")}, "recipe.batch_norm: wanted 'batch'"),
    (from_scratch, {"recipe": Recipe(decay_towards="source")}, "recipe.decay_towards: wanted"),
]


@pytest.mark.parametrize(("learner", "changes", "message"), BAD, ids=[b[2][:30] for b in BAD])
def test_bad_input(learner, changes, message):
    arguments = {"source": MLP_SOURCE, "dataset": DIGITS, "tasks": draw(), "recipe": QUICK}
    with pytest.raises(ValueError, match=message):
        learner(**{**arguments, "key": KEY, **changes})
