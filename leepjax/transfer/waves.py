"""A wave: the jobs that the devices hold at once, trained to their end."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, Sharding, SingleDeviceSharding
from jax.sharding import PartitionSpec as P

from leepjax.data import Dataset, Pixels
from leepjax.metrics.platform import target
from leepjax.models import Source
from leepjax.transfer._softmax_regression import Heads
from leepjax.transfer.jobs import Job, Rows, epoch_batches
from leepjax.transfer.memory import check_fits
from leepjax.transfer.recipe import Rates, Recipe
from leepjax.transfer.training import Batch, JobArrays, make_program

TEST_BATCH = 256  # images of a task in a forward pass
_PADDING = -2  # a label that no prediction equals


class Layout(NamedTuple):
    """Where jobs run: the devices, how many jobs each holds at once, and whether by ``vmap``."""

    mesh: Mesh
    chunk: int
    vmap: bool


class Waves:
    """Trains one wave after another; what they share is on the devices once.

    Args:
      key: typed JAX key.
      source: the network.
      dataset: the two banks.
      recipes: the settings that jobs refer to.
      heads: ``[t, d, k]``, what the head of each task starts from.
      scratch: start from fresh parameters.
      layout: where jobs run.
    """

    def __init__(
        self,
        key: jax.Array,
        source: Source,
        dataset: Dataset,
        recipes: Sequence[Recipe],
        heads: Heads,
        scratch: bool,
        layout: Layout,
    ):
        self.recipes, self.heads, self.key, self.layout = recipes, heads, key, layout
        self.recipe = recipes[0].static
        self.everywhere: Sharding = NamedSharding(layout.mesh, P())
        self.by_job: Sharding = NamedSharding(layout.mesh, P("data"))
        if layout.mesh.size == 1:
            self.everywhere = self.by_job = SingleDeviceSharding(layout.mesh.devices.flat[0])
        banks = (Pixels.of(bank.images) for bank in dataset)
        arrays = source.params, source.rest, *banks
        self.params, self.rest, self.train_images, self.test_images = jax.device_put(
            arrays, self.everywhere
        )
        self.program = make_program(
            source.graphdef,
            source.preprocess,
            self.recipe,
            scratch,
            layout.mesh,
            vmap=layout.vmap,
            platform=target(),
        )
        self.fits: set[str] = set()  # programs that were asked whether there is memory for them

    def run(self, wave: Sequence[Job], bar: Any) -> list[dict[str, Any]]:
        """Train and test the jobs of a wave: the curves of each, as plain numbers."""
        recipe, count = self.recipe, len(wave)
        size = self.layout.chunk * self.layout.mesh.size
        wave = [wave[i % count] for i in range(size)]  # the last one filled up by repetition
        jobs = self._jobs(wave)
        state = self.program.init(self.params, self.rest, jobs)
        steps = np.array([job.steps for job in wave])
        curves = _Curves(size)
        self._test(wave, jobs, state, curves)
        for epoch in range(1, recipe.epochs + 1):
            going = curves.going(recipe.patience)
            if not going.any():
                bar.update(
                    (recipe.epochs - epoch + 1) * int(steps[:count].sum()) * recipe.batch_size
                )
                break
            batches = self._batches(wave, epoch, going)
            state, losses = self._epoch(jobs, state, batches)
            loss = np.where(batches.live, losses, 0).sum(1) / np.maximum(batches.live.sum(1), 1)
            curves.loss.append(np.where(going, loss, np.nan))
            self._test(wave, jobs, state, curves, np.isfinite(loss) & going)
            for i in np.flatnonzero(going & ~np.isfinite(curves.test[-1])):
                curves.failed[i] = epoch
            shown = {"epoch": f"{epoch}/{recipe.epochs}", "loss": f"{np.mean(loss[going]):.3f}"}
            bar.set_postfix(shown, refresh=False)
            bar.update(int(steps[:count].sum()) * recipe.batch_size)
        return [
            {"task": job.task, "recipe": job.recipe, **curves.of(i)}
            for i, job in enumerate(wave[:count])
        ]

    def _jobs(self, wave: Sequence[Job]) -> JobArrays:
        seeds = np.array([job.seed for job in wave], np.uint32)
        rates = [self.recipes[job.recipe].rates for job in wave]
        tasks = np.array([job.task for job in wave])
        jobs = JobArrays(
            jax.vmap(jax.random.fold_in, (None, 0))(self.key, seeds),
            np.array([job.num_classes for job in wave], np.int32),
            np.array([job.steps * self.recipe.epochs for job in wave], np.int32),
            Rates(*np.array(rates, np.float32).T),
            Heads(*(np.asarray(a)[tasks] for a in self.heads)),
        )
        return jax.device_put(jobs, self.by_job)

    def _batches(self, wave: Sequence[Job], epoch: int, going: np.ndarray) -> Batch:
        """All batches of an epoch, ``[jobs, steps, ...]``; a job with fewer repeats its first."""
        most = max(job.steps for job in wave)
        rows, labels, number, live = [], [], [], []
        for job, goes in zip(wave, going, strict=True):
            take = np.arange(most) % job.steps
            drawn = epoch_batches(self.key, job, epoch, self.recipe.batch_size)
            rows.append(drawn[0][take])
            labels.append(drawn[1][take])
            number.append(epoch * job.steps + np.arange(most))
            live.append((np.arange(most) < job.steps) & goes)
        integers = [np.stack(a).astype(np.int32) for a in (rows, labels, number)]
        return Batch(integers[0], integers[1], integers[2], np.stack(live))

    def _epoch(self, jobs: JobArrays, state: Any, batches: Batch) -> tuple[Any, np.ndarray]:
        """An epoch in one dispatch, or in one for each step; the losses ``[jobs, steps]``."""
        steps = batches.live.shape[1]
        stride = steps if self.layout.vmap else 1
        losses = []
        for start in range(0, steps, stride):
            part = jax.tree.map(lambda a, s=start: a[:, s : s + stride], batches)
            part = jax.device_put(part, self.by_job)
            args = self.train_images, self.params, jobs, state, part
            state, info = self._fitting("train", *args)
            losses.append(info.loss)
        return state, np.concatenate(jax.device_get(losses), 1)

    def _fitting(self, name: str, *args: Any) -> Any:
        """Run a program of several jobs a device, the first time after it was asked for memory."""
        program = getattr(self.program, name)
        if self.layout.vmap and name not in self.fits:
            devices = list(self.layout.mesh.devices.flat)
            check_fits(program.lower(*args).compile(), self.layout.chunk, devices)
            self.fits.add(name)
        return program(*args)

    def _test(
        self,
        wave: Sequence[Job],
        jobs: JobArrays,
        state: Any,
        curves: "_Curves",
        counts: np.ndarray | bool = True,
    ) -> None:
        for images, name in ((self.test_images, "test"), (self.train_images, "validation")):
            splits: list[Rows] = [getattr(job, name) for job in wave]
            accuracy = self._accuracy(images, splits, jobs, state)
            getattr(curves, name).append(np.where(counts, accuracy, np.nan))

    def _accuracy(
        self, images: Pixels, splits: Sequence[Rows], jobs: JobArrays, state: Any
    ) -> np.ndarray:
        """``[jobs]`` share of right answers; NaN without images, or if a logit is not finite."""
        most = max(len(split.labels) for split in splits)
        if most == 0:
            return np.full(len(splits), np.nan)
        parts = -(-most // TEST_BATCH)
        batch = -(-most // (8 * parts)) * 8  # shapes rounded up, so that other draws compile alike
        rows = np.zeros((len(splits), parts * batch), np.int32)
        labels = np.full_like(rows, _PADDING)
        for i, split in enumerate(splits):
            rows[i, : len(split.labels)] = split.indices
            labels[i, : len(split.labels)] = split.labels
        predicted = []
        for i in range(parts):
            part = jax.device_put(rows[:, i * batch : (i + 1) * batch], self.by_job)
            predicted.append(self._fitting("predict", images, jobs, state, part))
        predicted, present = np.concatenate(jax.device_get(predicted), 1), labels != _PADDING
        with np.errstate(invalid="ignore"):
            share = (predicted == labels).sum(1) / present.sum(1)
        return np.where(((predicted < 0) & present).any(1), np.nan, share)


class _Curves:
    """The results of a wave's jobs, ``[epochs][jobs]``; tests begin before the first epoch."""

    def __init__(self, jobs: int):
        self.failed = [0] * jobs
        self.loss: list[np.ndarray] = []
        self.test: list[np.ndarray] = []
        self.validation: list[np.ndarray] = []

    def going(self, patience: int | None) -> np.ndarray:
        """``[jobs]`` which have neither failed nor been stopped."""
        going = np.array(np.isfinite(self.test).all(0))
        if patience is not None:
            best = np.nan_to_num(np.array(self.validation), nan=-1.0).argmax(0)
            going = going & (len(self.validation) - 1 - best < patience)
        return going

    def of(self, job: int) -> dict[str, Any]:
        """The curves of one job, and the first epoch whose loss was not finite, or 0."""
        curves = {
            name: [float(values[job]) for values in getattr(self, name)]
            for name in ("loss", "test", "validation")
        }
        return {"failed": self.failed[job], **curves}
