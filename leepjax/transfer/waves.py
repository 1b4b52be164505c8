"""A wave: the lanes that the devices hold at once, trained to their end."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, Sharding, SingleDeviceSharding
from jax.sharding import PartitionSpec as P

from leepjax.data import Dataset
from leepjax.models import Source
from leepjax.transfer._softmax_regression import Heads
from leepjax.transfer.lanes import HostLane, Rows, epoch_batches
from leepjax.transfer.memory import check_fits
from leepjax.transfer.recipe import Rates, Recipe
from leepjax.transfer.training import Batch, Lane, make_program

TEST_BATCH = 256  # images of a task in a forward pass
_PADDING = -2  # a label that no prediction equals


class Layout(NamedTuple):
    """Where lanes run: the devices, how many lanes each holds at once, and whether by ``vmap``."""

    mesh: Mesh
    chunk: int
    vmap: bool


class Waves:
    """Trains one wave after another; what they share is on the devices once.

    Args:
      key: typed JAX key.
      source: the network.
      dataset: the two banks.
      recipes: the settings that lanes refer to.
      heads: ``[t, d, k]``, what the head of each task starts from.
      scratch: start from fresh parameters.
      layout: where lanes run.
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
        self.by_lane: Sharding = NamedSharding(layout.mesh, P("data"))
        if layout.mesh.size == 1:
            self.everywhere = self.by_lane = SingleDeviceSharding(layout.mesh.devices.flat[0])
        arrays = source.params, source.rest, dataset.train.images, dataset.test.images
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
        )
        self.fits: set[str] = set()  # programs that were asked whether there is memory for them

    def run(self, wave: Sequence[HostLane], bar: Any) -> list[dict[str, Any]]:
        """Train and test the lanes of a wave: the curves of each, as plain numbers."""
        recipe, count = self.recipe, len(wave)
        size = self.layout.chunk * self.layout.mesh.size
        wave = [wave[i % count] for i in range(size)]  # the last one filled up by repetition
        lanes = self._lanes(wave)
        state = self.program.init(self.params, self.rest, lanes)
        steps = np.array([lane.steps for lane in wave])
        curves = _Curves(size)
        self._test(wave, lanes, state, curves)
        for epoch in range(1, recipe.epochs + 1):
            going = curves.going(recipe.patience)
            if not going.any():
                bar.update(
                    (recipe.epochs - epoch + 1) * int(steps[:count].sum()) * recipe.batch_size
                )
                break
            batches = self._batches(wave, epoch, going)
            state, losses = self._epoch(lanes, state, batches)
            loss = np.where(batches.live, losses, 0).sum(1) / np.maximum(batches.live.sum(1), 1)
            curves.loss.append(np.where(going, loss, np.nan))
            self._test(wave, lanes, state, curves, np.isfinite(loss) & going)
            for i in np.flatnonzero(going & ~np.isfinite(curves.test[-1])):
                curves.failed[i] = epoch
            shown = {"epoch": f"{epoch}/{recipe.epochs}", "loss": f"{np.mean(loss[going]):.3f}"}
            bar.set_postfix(shown, refresh=False)
            bar.update(int(steps[:count].sum()) * recipe.batch_size)
        return [
            {"task": lane.task, "recipe": lane.recipe, **curves.of(i)}
            for i, lane in enumerate(wave[:count])
        ]

    def _lanes(self, wave: Sequence[HostLane]) -> Lane:
        seeds = np.array([lane.seed for lane in wave], np.uint32)
        rates = [self.recipes[lane.recipe].rates for lane in wave]
        tasks = np.array([lane.task for lane in wave])
        lanes = Lane(
            jax.vmap(jax.random.fold_in, (None, 0))(self.key, seeds),
            np.array([lane.num_classes for lane in wave], np.int32),
            np.array([lane.steps * self.recipe.epochs for lane in wave], np.int32),
            Rates(*np.array(rates, np.float32).T),
            Heads(*(np.asarray(a)[tasks] for a in self.heads)),
        )
        return jax.device_put(lanes, self.by_lane)

    def _batches(self, wave: Sequence[HostLane], epoch: int, going: np.ndarray) -> Batch:
        """All batches of an epoch, ``[lanes, steps, ...]``; a lane with fewer repeats its first."""
        most = max(lane.steps for lane in wave)
        rows, labels, number, live = [], [], [], []
        for lane, goes in zip(wave, going, strict=True):
            take = np.arange(most) % lane.steps
            drawn = epoch_batches(self.key, lane, epoch, self.recipe.batch_size)
            rows.append(drawn[0][take])
            labels.append(drawn[1][take])
            number.append(epoch * lane.steps + np.arange(most))
            live.append((np.arange(most) < lane.steps) & goes)
        integers = [np.stack(a).astype(np.int32) for a in (rows, labels, number)]
        return Batch(integers[0], integers[1], integers[2], np.stack(live))

    def _epoch(self, lanes: Lane, state: Any, batches: Batch) -> tuple[Any, np.ndarray]:
        """An epoch in one dispatch, or in one for each step; the losses ``[lanes, steps]``."""
        steps = batches.live.shape[1]
        stride = steps if self.layout.vmap else 1
        losses = []
        for start in range(0, steps, stride):
            part = jax.tree.map(lambda a, s=start: a[:, s : s + stride], batches)
            part = jax.device_put(part, self.by_lane)
            args = self.train_images, self.params, lanes, state, part
            state, info = self._fitting("train", *args)
            losses.append(info.loss)
        return state, np.concatenate(jax.device_get(losses), 1)

    def _fitting(self, name: str, *args: Any) -> Any:
        """Run a program of several lanes a device, the first time after it was asked for memory."""
        program = getattr(self.program, name)
        if self.layout.vmap and name not in self.fits:
            devices = list(self.layout.mesh.devices.flat)
            check_fits(program.lower(*args).compile(), self.layout.chunk, devices)
            self.fits.add(name)
        return program(*args)

    def _test(
        self,
        wave: Sequence[HostLane],
        lanes: Lane,
        state: Any,
        curves: "_Curves",
        counts: np.ndarray | bool = True,
    ) -> None:
        for images, name in ((self.test_images, "test"), (self.train_images, "validation")):
            splits: list[Rows] = [getattr(lane, name) for lane in wave]
            accuracy = self._accuracy(images, splits, lanes, state)
            getattr(curves, name).append(np.where(counts, accuracy, np.nan))

    def _accuracy(
        self, images: jax.Array, splits: Sequence[Rows], lanes: Lane, state: Any
    ) -> np.ndarray:
        """``[lanes]`` share of right answers; NaN without images, or if a logit is not finite."""
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
            part = jax.device_put(rows[:, i * batch : (i + 1) * batch], self.by_lane)
            predicted.append(self._fitting("predict", images, lanes, state, part))
        predicted, present = np.concatenate(jax.device_get(predicted), 1), labels != _PADDING
        with np.errstate(invalid="ignore"):
            share = (predicted == labels).sum(1) / present.sum(1)
        return np.where(((predicted < 0) & present).any(1), np.nan, share)


class _Curves:
    """What a wave's lanes reached, ``[epochs][lanes]``; tests begin before the first epoch."""

    def __init__(self, lanes: int):
        self.failed = [0] * lanes
        self.loss: list[np.ndarray] = []
        self.test: list[np.ndarray] = []
        self.validation: list[np.ndarray] = []

    def going(self, patience: int | None) -> np.ndarray:
        """``[lanes]`` which have neither failed nor been stopped."""
        going = np.array(np.isfinite(self.test).all(0))
        if patience is not None:
            best = np.nan_to_num(np.array(self.validation), nan=-1.0).argmax(0)
            going = going & (len(self.validation) - 1 - best < patience)
        return going

    def of(self, lane: int) -> dict[str, Any]:
        """The curves of one lane, and the first epoch whose loss was not finite, or 0."""
        curves = {
            name: [float(values[lane]) for values in getattr(self, name)]
            for name in ("loss", "test", "validation")
        }
        return {"failed": self.failed[lane], **curves}
