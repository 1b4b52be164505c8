"""Fine-tuning a ResNet20 beside PyTorch: same weights, same batches, the loss of every step.

In float32 two correct programs part after some steps, PyTorch from itself too: at the default rate
of 0.03 its two memory layouts differ by 1e-4 after six steps. So the default recipe is compared in
float64, and float32 at a rate where rounding stays small.
"""

import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh
from safetensors.numpy import load_file

from leepjax.data import load
from leepjax.models import load_resnet
from leepjax.tasks import sample_tasks
from leepjax.transfer import Recipe, fine_tune
from leepjax.transfer._softmax_regression import Heads
from leepjax.transfer.jobs import epoch_batches, make_jobs
from leepjax.transfer.recipe import Rates
from leepjax.transfer.training import Batch, JobArrays, make_program

torch = pytest.importorskip("torch")

from benchmarks.peers import torch_resnet  # noqa: E402  (needs torch)

pytestmark = pytest.mark.real_data

KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def weights():
    folder, data = os.environ.get("LEEPJAX_WEIGHTS_DIR"), os.environ.get("TFDS_DATA_DIR")
    if not folder or not data or not (Path(data) / "fashion_mnist").is_dir():
        pytest.skip("needs LEEPJAX_WEIGHTS_DIR, and fashion_mnist prepared in TFDS_DATA_DIR")
    return Path(folder) / "cifar10_resnet20.safetensors"


@pytest.fixture(scope="module")
def dataset(weights):
    return load("fashion_mnist")


@pytest.fixture(scope="module")
def tasks(dataset):
    """One task of 5 classes with 50 images: 10 batches of 25 an epoch."""
    return sample_tasks(KEY, dataset, num_tasks=1, ways=5, shots=50, test_shots=1)


def batches_of(dataset, tasks, recipe):
    """Rows and labels of all steps, ``[steps, batch]``."""
    (job,) = make_jobs(KEY, dataset, tasks, [recipe])
    epochs = range(1, recipe.epochs + 1)
    drawn = [epoch_batches(KEY, job, epoch, recipe.batch_size) for epoch in epochs]
    return [np.concatenate(a) for a in zip(*drawn, strict=True)]


def in_double(images):
    """The weights' preprocessing of 28×28 grey images; that of leepjax is always in float32."""
    x = jnp.pad(images / 255.0, ((0, 0), (2, 2), (2, 2), (0, 0)))
    return (x - jnp.array([0.485, 0.456, 0.406])) / jnp.array([0.229, 0.224, 0.225])


def ours(weights, dataset, tasks, recipe, steps, dtype):
    """The losses of the first steps, and the state after them."""
    source = load_resnet(weights, 20)
    preprocess = in_double if dtype == np.float64 else source.preprocess
    mesh = Mesh(np.array(jax.devices()[:1]), ("data",))
    options = {"scratch": False, "mesh": mesh, "vmap": False, "platform": "cpu"}
    program = make_program(source.graphdef, preprocess, recipe.static, **options)
    params, rest = jax.tree.map(lambda a: a.astype(dtype), (source.params, source.rest))
    rows, labels = batches_of(dataset, tasks, recipe)
    job = JobArrays(
        key=jax.random.split(KEY, 1),
        num_classes=np.array([5], np.int32),
        steps=np.array([len(rows)], dtype),
        rates=Rates(*(np.array([rate], dtype) for rate in recipe.rates)),
        head=Heads(np.zeros((1, 64, 5), dtype), np.zeros((1, 5), dtype)),
    )
    state, losses = program.init(params, rest, job), []
    for step in range(steps):
        batch = Batch(rows[step], labels[step], np.array(step), np.array(True))
        batch = jax.tree.map(lambda a: a[None, None], batch)  # of one job, one step
        state, info = program.train(dataset.train.images, params, job, state, batch)
        losses.append(info.loss[0, 0])
    return np.array(losses), jax.tree.map(lambda a: np.asarray(a[0]), state)


def theirs(weights, dataset, tasks, recipe, steps, dtype):
    """The same by PyTorch: the losses, and the network."""
    dtype = torch.from_numpy(np.empty(0, dtype)).dtype
    model = torch_resnet.transferred(load_file(weights), 5).to(dtype)
    preprocess = load_resnet(weights, 20).preprocess
    rows, labels = batches_of(dataset, tasks, recipe)
    batches = []
    for r, y in zip(rows[:steps], labels, strict=False):
        images = torch.tensor(dataset.train.images[r].transpose(0, 3, 1, 2), dtype=dtype)
        batches.append((torch_resnet.to_input(images, preprocess), torch.tensor(y).long()))
    optimiser = torch_resnet.make_optimiser(model, recipe)
    return torch_resnet.fit(model, optimiser, batches, len(rows), recipe).numpy(), model


# A weight decay that would show on anything but kernels.
FLOAT32 = Recipe(learning_rate=0.01, weight_decay=0.1, epochs=2)


def test_20_steps_of_sgd_in_float32(weights, dataset, tasks):
    """Nesterov, cosine, decay of kernels: and fine_tune reports the means of these losses."""
    args = (weights, dataset, tasks, FLOAT32, 20, np.float32)
    expected, _ = theirs(*args)
    assert expected[-5:].mean() < 0.85 * expected[0]  # it learns
    np.testing.assert_allclose(ours(*args)[0], expected, rtol=1e-4)
    result = fine_tune(KEY, load_resnet(weights, 20), dataset, tasks, FLOAT32)
    np.testing.assert_allclose(result.train_loss[0], expected.reshape(2, 10).mean(1), rtol=1e-4)


@pytest.mark.parametrize(
    ("recipe", "steps"),
    [
        pytest.param(Recipe(epochs=2), 20, id="default"),
        pytest.param(
            Recipe(optimiser="adamw", learning_rate=1e-3, weight_decay=0.1, epochs=2), 6, id="adamw"
        ),
        pytest.param(Recipe(label_smoothing=0.1, epochs=2), 6, id="label smoothing"),
    ],
)
def test_first_steps_in_float64(recipe, steps, weights, dataset, tasks, x64):
    args = (weights, dataset, tasks, recipe, steps, np.float64)
    losses, _ = ours(*args)
    assert losses.dtype == np.float64
    np.testing.assert_allclose(losses, theirs(*args)[0], rtol=1e-9)


def test_running_averages_but_for_bessels_correction(weights, dataset, tasks, x64):
    """PyTorch's running variance is that of batches of n pixels times n / (n - 1), Flax's is not.

    Losses in training do not depend on it; in tests it is a 1600th at most.
    """
    args = (weights, dataset, tasks, Recipe(epochs=2), 3, np.float64)
    rest, model = ours(*args)[1].rest, theirs(*args)[1]
    start = load_file(weights)
    for ours_, theirs_, name, pixels in (
        (rest["bn"], model.bn1, "bn1", 25 * 32 * 32),
        (rest["stage3_block2"]["bn2"], model.layer3[2].bn2, "layer3.2.bn2", 25 * 8 * 8),
    ):
        np.testing.assert_allclose(ours_["mean"], theirs_.running_mean.numpy(), rtol=1e-9)
        before = 0.9**3 * start[f"{name}.running_var"].astype(float)  # what is left of it
        corrected = before + (ours_["var"] - before) * pixels / (pixels - 1)
        np.testing.assert_allclose(corrected, theirs_.running_var.numpy(), rtol=1e-9)
        assert np.abs(ours_["var"] / theirs_.running_var.numpy() - 1).max() < 1 / 1600
