"""Fine-tuning and from-scratch training of many tasks: the whole network is trained, not its head.

Jobs (a task with a recipe) run in waves, as many as the devices hold at once. A wave is trained to
its end, tested after every epoch, and saved. Memory holds one wave, whatever the number of tasks.
The order of a job's images is drawn on the host from the task's own images. So it is the same
alone, in any wave, and on any number of devices.
"""

import dataclasses
from collections.abc import Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from leepjax import distributed
from leepjax._progress import progress
from leepjax._store import digest
from leepjax.cluster import connect, has_gpus, run_all
from leepjax.data import Dataset, check_bank
from leepjax.models import Source, Tokens, extract
from leepjax.tasks import Strategy, Tasks, check_chunk, task_mesh, use_vmap
from leepjax.transfer._retrain_head import fit_heads
from leepjax.transfer._softmax_regression import Heads
from leepjax.transfer.jobs import Job, make_jobs, make_split
from leepjax.transfer.recipe import Recipe
from leepjax.transfer.waves import Layout, Waves

DEFAULT = Recipe()
CHUNK = 32  # jobs a device holds at once, by vmap


class NetworkResult(NamedTuple):
    """The results of training a network on each of t tasks.

    Attributes:
      accuracy: ``[t]`` share of the test images with a correct prediction, after epoch ``epoch``.
      epoch: ``[t]`` the epoch that counts: the best on validation images if there are any, else
        the last; for a failed task, the one before.
      failed: ``[t]`` the first epoch whose loss was not finite; 0 where there was none.
      recipe: ``[t]`` which of several recipes was best on validation images.
      test_accuracy: ``[t, epochs + 1]`` after each epoch, at first before any; NaN where a task has
        failed or was stopped.
      train_loss: ``[t, epochs]`` mean over an epoch's batches.
      validation_accuracy: ``[t, epochs + 1]``; NaN where there are no validation images.
    """

    accuracy: np.ndarray
    epoch: np.ndarray
    failed: np.ndarray
    recipe: np.ndarray
    test_accuracy: np.ndarray
    train_loss: np.ndarray
    validation_accuracy: np.ndarray


def fine_tune(
    key: jax.Array,
    source: Source,
    dataset: Dataset,
    tasks: Tasks,
    recipe: Recipe | Sequence[Recipe] = DEFAULT,
    *,
    strategy: Strategy = "auto",
    chunk: int | None = None,
    devices: Sequence[Any] | None = None,
    journal: Path | None = None,
    cluster: str | None = None,
) -> NetworkResult:
    """Train the whole source network, with a new head, on each task.

    Args:
      key: typed JAX key, of the order of images, the augmentation and the validation split.
      source: where training starts.
      dataset: the two banks that the tasks are of; of texts their tokens, as
        :func:`leepjax.models.tokenize` makes them.
      tasks: t tasks.
      recipe: how; or several, which differ in rates and weight decay alone: each task is trained
        with all of them, and the best on its validation images counts.
      strategy: ``"loop"``: a device trains one task at a time, a dispatch a step; ``"vmap"``:
        ``chunk`` tasks at a time, a dispatch an epoch; ``"auto"``: ``"loop"`` on CPUs, where XLA
        slows convolutions down inside loops and for several kernels at once, else ``"vmap"``.
      chunk: tasks that a device holds at once with ``"vmap"``; default 32.
      devices: the devices that share the tasks; default this process's first. With those of several
        processes the call is joint (``leepjax.distributed``): they share each wave of tasks, and
        process 0 writes the journal.
      journal: a file that keeps what is finished; a call that names it again does the rest, with
        the same result.
      cluster: divide the tasks over a Ray cluster: ``"local:N"``, ``"auto"`` or ``HOST:PORT``, as
        of :func:`leepjax.cluster.connect`; each worker trains on its own first device.

    Raises:
      ValueError: an argument is of another kind or out of its range; a class of a task has no test
        image; a batch is larger than a task; a chunk does not fit in memory (the message names one
        that does); the journal holds another configuration; the cluster does not answer, or some
        tasks failed there (the others are in the journal).

    Example:
      >>> import jax
      >>> from leepjax import fine_tune, load, sample_tasks, train_source
      >>> from leepjax.models import SourceRecipe
      >>> from leepjax.transfer import Recipe
      >>> digits = load("digits")
      >>> source = train_source("mlp", digits, SourceRecipe(steps=50))
      >>> tasks = sample_tasks(jax.random.key(0), digits, num_tasks=4, ways=3, shots=10)
      >>> result = fine_tune(jax.random.key(1), source, digits, tasks, Recipe(epochs=5))
      >>> result.test_accuracy.shape, bool(result.accuracy.mean() > 0.8)
      ((4, 6), True)
    """
    recipes = check_recipes(recipe)
    where = strategy, chunk, devices, journal, cluster
    return _train(key, source, dataset, tasks, recipes, *where, scratch=False)


def from_scratch(
    key: jax.Array,
    source: Source,
    dataset: Dataset,
    tasks: Tasks,
    recipe: Recipe | Sequence[Recipe] = DEFAULT,
    *,
    strategy: Strategy = "auto",
    chunk: int | None = None,
    devices: Sequence[Any] | None = None,
    journal: Path | None = None,
    cluster: str | None = None,
) -> NetworkResult:
    """Train the source's network on each task from random parameters, to compare transfer with.

    Arguments, result and errors are those of :func:`fine_tune`. The source's parameters are not
    used, so a recipe cannot decay towards them, normalise by their averages, or start from a
    retrained head.
    """
    recipes = check_recipes(recipe)
    first = recipes[0]
    for name, value in {"decay_towards": "zero", "batch_norm": "batch", "head": "zero"}.items():
        if getattr(first, name) != value:
            raise ValueError(
                f"recipe.{name}: wanted {value!r} from scratch, where there is no source, got "
                f"{getattr(first, name)!r}"
            )
    where = strategy, chunk, devices, journal, cluster
    return _train(key, source, dataset, tasks, recipes, *where, scratch=True)


def _train(
    key: jax.Array,
    source: Source,
    dataset: Dataset,
    tasks: Tasks,
    recipes: tuple[Recipe, ...],
    strategy: Strategy,
    chunk: int | None,
    devices: Sequence[Any] | None,
    journal: Path | None,
    cluster: str | None,
    *,
    scratch: bool,
) -> NetworkResult:
    recipe, learner = recipes[0].static, "from_scratch" if scratch else "fine_tune"
    for split, bank in zip(dataset._fields, dataset, strict=True):
        check_bank(f"dataset.{split}", bank)
        if isinstance(source.preprocess, Tokens):
            source.preprocess.check(bank.images)
    if isinstance(source.preprocess, Tokens) and (recipe.flip or recipe.crop):
        raise ValueError("recipe.flip, crop: wanted none for texts, whose bytes are no pixels")
    if not (isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)):
        raise ValueError(f"key: wanted a typed key such as jax.random.key(0), got {key!r}")
    jobs = make_jobs(key, dataset, tasks, recipes)
    here = None if cluster else devices
    part = distributed.part_of(here)
    identity = {
        "learner": learner,
        "source": source.digest,
        "train": dataset.train.digest,
        "test": dataset.test.digest,
        "tasks": digest(*jax.tree.leaves(tasks)),
        "key": digest(jax.random.key_data(key)),
        "recipes": [dataclasses.asdict(r) for r in recipes],
    }
    if part.joint:
        layout = _layout(strategy, chunk, part, len(jobs))
        distributed.check_same(
            learner, **identity, layout=[layout.chunk, layout.mesh.size, layout.vmap]
        )
    record, rows = None, []
    if journal is not None:
        record, rows = distributed.open_journal(learner, journal, identity, here)
    done = {(row["task"], row["recipe"]) for row in rows}
    heads = _heads(source, dataset, tasks, jobs, recipe, devices)
    training = _Training(
        (key, source, dataset, recipes, heads, scratch), (strategy, chunk, here, len(jobs))
    )
    # Jobs of about equal length together; formed before what is done is left out, so that a wave
    # is the same whether a run was interrupted or not.
    jobs.sort(key=lambda job: (job.steps, job.recipe, job.task))
    images = recipe.epochs * recipe.batch_size
    total = images * sum(job.steps for job in jobs)
    bar = progress(total=total, desc=f"{learner} {len(tasks.classes)} tasks", unit="image")
    with connect(cluster), bar:
        size = min(chunk or CHUNK, len(jobs)) if has_gpus() else training.size
        size *= jax.process_count() if part.joint else 1
        waves = [jobs[start : start + size] for start in range(0, len(jobs), size)]
        missing = [w for w in waves if any((job.task, job.recipe) not in done for job in w)]
        left = images * sum(job.steps for wave in missing for job in wave)
        bar.update(total - left)
        training.bar = None if cluster else bar
        train = partial(_share, learner, training) if part.joint else training
        for i, results in run_all(train, missing, cluster=cluster, what=learner):
            results = [row for row in results if (row["task"], row["recipe"]) not in done]
            if record is None:
                rows += results
            else:
                record.append(results)
            if cluster:
                bar.update(images * sum(job.steps for job in missing[i]))
    return _collect(rows, len(tasks.classes), len(recipes), recipe.epochs)


def _share(learner: str, training: "_Training", wave: Sequence[Job]) -> list[dict[str, Any]]:
    """A wave of all processes: what all of them reached, of which this one trains its part."""
    each = training.size
    parts = [wave[i : i + each] for i in range(0, len(wave), each)]
    mine = parts[min(jax.process_index(), len(parts) - 1)]  # of a short wave some is done twice
    results = distributed.gather_plain(learner, lambda: training(mine))
    return [row for rows in results[: len(parts)] for row in rows]


@dataclasses.dataclass
class _Training:
    """Trains the jobs of a wave, here or on a worker, which has devices and programs of its own.

    Attributes:
      what: the first arguments of ``Waves``.
      where: strategy, chunk, devices, and how many jobs there are.
      bar: of this process; not sent.
    """

    what: Any
    where: Any
    bar: Any = None

    def __call__(self, jobs: Sequence[Job]) -> list[dict[str, Any]]:
        bar = self.bar or progress(desc=None, unit="image")
        parts = [jobs[start : start + self.size] for start in range(0, len(jobs), self.size)]
        return [row for part in parts for row in self.waves.run(part, bar)]

    @property
    def size(self) -> int:
        """Jobs that the devices hold at once."""
        return self.layout.chunk * self.layout.mesh.size

    @cached_property
    def layout(self) -> Layout:
        strategy, chunk, devices, jobs = self.where
        return _layout(strategy, chunk, distributed.part_of(devices), jobs)

    @cached_property
    def waves(self) -> Waves:
        key, source, dataset, recipes, heads, scratch = self.what
        return Waves(key, source, dataset, recipes, heads, scratch, self.layout)

    def __getstate__(self) -> dict[str, Any]:
        return {"what": self.what, "where": self.where}


def check_recipes(recipe: Recipe | Sequence[Recipe]) -> tuple[Recipe, ...]:
    """One or several recipes, as a tuple of what can be trained by one program.

    Raises:
      ValueError: they are of another kind, differ in more than their rates, or cannot be chosen
        from for lack of validation images.
    """
    recipes = (recipe,) if isinstance(recipe, Recipe) else tuple(recipe)
    if not recipes or not all(isinstance(r, Recipe) for r in recipes):
        raise ValueError(f"recipe: wanted a Recipe or several, got {recipe!r}")
    if any(r.static != recipes[0].static for r in recipes):
        raise ValueError("recipe: wanted recipes that differ in rates and weight decay alone")
    if len(recipes) > 1 and recipes[0].validation == 0:
        raise ValueError(
            f"recipe.validation: wanted a share > 0 to choose among {len(recipes)} recipes by, "
            "got 0; choosing by test accuracy would flatter"
        )
    return recipes


def _layout(strategy: Strategy, chunk: int | None, part: distributed.Part, jobs: int) -> Layout:
    check_chunk(chunk)
    mesh = task_mesh(part.devices)
    vmap = use_vmap(strategy, mesh.devices.flat[0].platform)
    jobs = len(part.rows(jobs))
    return Layout(mesh, min(chunk or CHUNK, -(-jobs // mesh.size)) if vmap else 1, vmap)


def _heads(
    source: Source,
    dataset: Dataset,
    tasks: Tasks,
    jobs: Sequence[Job],
    recipe: Recipe,
    devices: Sequence[Any] | None,
) -> Heads:
    """What the head of each task starts from, ``[t, d, k]``: zero, or its optimum (LP-FT)."""
    if recipe.head == "optimum":
        features = extract(source, dataset.train, devices=devices).features
        first = [job.train for job in jobs if job.recipe == 0]  # without validation images
        return fit_heads(features, tasks._replace(train=make_split(first)), devices=devices)
    size, shape = source.params["head"]["kernel"].shape[0], tasks.classes.shape
    return Heads(np.zeros((shape[0], size, shape[1]), np.float32), np.zeros(shape, np.float32))


def _collect(
    rows: Sequence[dict[str, Any]], tasks: int, recipes: int, epochs: int
) -> NetworkResult:
    """The best recipe of each task, and of that the epoch that counts."""
    shape = tasks, recipes, epochs + 1
    test, validation = np.full(shape, np.nan), np.full(shape, np.nan)
    loss = np.full((tasks, recipes, epochs), np.nan)
    failed = np.zeros((tasks, recipes), int)
    for row in rows:
        failed[row["task"], row["recipe"]] = row["failed"]
        for array, name in ((test, "test"), (validation, "validation"), (loss, "loss")):
            array[row["task"], row["recipe"], : len(row[name])] = row[name]
    last = np.isfinite(test).sum(2) - 1
    # Epochs count while the network is finite; without validation images the last of them.
    merit = np.where(np.isfinite(test), np.nan_to_num(validation, nan=-1.0), -2.0)
    held_out = np.isfinite(validation).any(2)
    epoch = np.where(held_out, merit.argmax(2), last)
    chosen = merit.max(2).argmax(1)
    each = np.arange(tasks)
    epoch = epoch[each, chosen]
    return NetworkResult(
        test[each, chosen, epoch],
        epoch,
        failed[each, chosen],
        chosen,
        test[each, chosen],
        loss[each, chosen],
        validation[each, chosen],
    )
