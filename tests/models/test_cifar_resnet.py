"""The import against a forward pass written from the paper in float64 NumPy."""

import dataclasses
import os
import re
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from leepjax.data.bank import Bank
from leepjax.models import CIFAR10_CLASS_NAMES, accuracy, extract, load_resnet

MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


@pytest.fixture
def weights_dir():
    folder = os.environ.get("LEEPJAX_WEIGHTS_DIR")
    if not folder:
        pytest.skip("published weights need LEEPJAX_WEIGHTS_DIR, the folder with the safetensors")
    return Path(folder)


@pytest.fixture
def random_weights(tmp_path):
    """``random_weights(depth)``: tensors as PyTorch would name them, and a file with them."""

    def make(depth: int = 20, classes: int = 10):
        rng = np.random.default_rng(depth)
        tensors = {}

        def conv(name, outputs, inputs):
            tensors[f"{name}.weight"] = rng.normal(0, (9 * inputs) ** -0.5, (outputs, inputs, 3, 3))

        def norm(name, width):
            tensors[f"{name}.weight"] = rng.uniform(0.5, 1.5, width)
            tensors[f"{name}.bias"] = rng.normal(0, 0.2, width)
            tensors[f"{name}.running_mean"] = rng.normal(0, 0.2, width)
            tensors[f"{name}.running_var"] = rng.uniform(0.5, 2, width)

        conv("conv1", 16, 3)
        norm("bn1", 16)
        inputs = 16
        for layer, width in enumerate((16, 32, 64), start=1):
            for block in range((depth - 2) // 6):
                for index in (1, 2):
                    conv(f"layer{layer}.{block}.conv{index}", width, inputs)
                    norm(f"layer{layer}.{block}.bn{index}", width)
                    inputs = width
        tensors["linear.weight"] = rng.normal(0, 0.3, (classes, 64))
        tensors["linear.bias"] = rng.normal(0, 0.3, classes)
        tensors = {name: tensor.astype(np.float32) for name, tensor in tensors.items()}
        tensors["bn1.num_batches_tracked"] = np.array(7, np.int64)
        save_file(tensors, tmp_path / "weights.safetensors")
        return tensors, tmp_path / "weights.safetensors"

    return make


def _bank(images) -> Bank:
    zeros = np.zeros(len(images), np.int32)
    return Bank(images, zeros, zeros, CIFAR10_CLASS_NAMES, ("all",))


def _reference(tensors, images):
    """Features and logits; ``x`` is ``[n, channels, h, w]`` throughout, as in PyTorch."""
    w = {name: tensor.astype(np.float64) for name, tensor in tensors.items()}

    def conv(x, name, stride):
        kernel = w[f"{name}.weight"]
        n, _, height, width = x.shape
        framed = np.zeros((n, x.shape[1], height + 2, width + 2))
        framed[:, :, 1:-1, 1:-1] = x
        y = np.zeros((n, len(kernel), -(-height // stride), -(-width // stride)))
        for row in range(3):
            for column in range(3):
                seen = framed[:, :, row : row + height : stride, column : column + width : stride]
                y += np.einsum("nihw,oi->nohw", seen, kernel[:, :, row, column])
        return y

    def norm(x, name):
        def per_channel(key):
            return w[f"{name}.{key}"][None, :, None, None]

        centred = x - per_channel("running_mean")
        scale = per_channel("weight") / np.sqrt(per_channel("running_var") + 1e-5)
        return centred * scale + per_channel("bias")

    pixels = images.astype(np.float64) / 255
    if pixels.shape[-1] == 1:
        pixels = np.concatenate([pixels] * 3, axis=-1)
    frame = (32 - pixels.shape[1]) // 2
    x = np.zeros((len(pixels), 32, 32, 3))
    x[:, frame : 32 - frame, frame : 32 - frame] = pixels
    x = ((x - MEAN) / STD).transpose(0, 3, 1, 2)

    x = np.maximum(norm(conv(x, "conv1", 1), "bn1"), 0)
    blocks = [name[: -len(".conv1.weight")] for name in w if name.endswith(".conv1.weight")]
    for block in sorted(blocks):
        stride = 2 if re.fullmatch(r"layer[23]\.0", block) else 1
        y = np.maximum(norm(conv(x, f"{block}.conv1", stride), f"{block}.bn1"), 0)
        y = norm(conv(y, f"{block}.conv2", 1), f"{block}.bn2")
        extra = (y.shape[1] - x.shape[1]) // 2
        y[:, extra : y.shape[1] - extra] += x[:, :, ::stride, ::stride]
        x = np.maximum(y, 0)
    features = x.mean(axis=(2, 3))
    return features, features @ w["linear.weight"].T + w["linear.bias"]


def _assert_parity(source, tensors, images):
    features, logits = _reference(tensors, images)
    outputs = extract(source, _bank(images))
    assert np.abs(logits).max() > 0.5
    np.testing.assert_allclose(outputs.features, features, atol=1e-4)
    np.testing.assert_allclose(outputs.logits, logits, atol=1e-4)


@pytest.mark.parametrize("shape", [(3, 32, 32, 3), (3, 28, 28, 1)])
def test_random_weights_give_the_papers_forward_pass(random_weights, shape):
    tensors, path = random_weights()
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    _assert_parity(load_resnet(path, 20), tensors, images)


@pytest.mark.real_data
@pytest.mark.parametrize("depth", [20, 32])
def test_published_weights_give_the_papers_forward_pass(weights_dir, depth):
    path = weights_dir / f"cifar10_resnet{depth}.safetensors"
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    _assert_parity(load_resnet(path, depth), load_file(path), images)


@pytest.mark.slow
@pytest.mark.real_data
def test_resnet20_has_its_accuracy_on_cifar10(weights_dir):
    if not os.environ.get("TFDS_DATA_DIR"):
        pytest.skip("CIFAR-10 needs TFDS_DATA_DIR, a folder with prepared TFDS data sets")
    from leepjax.data import load

    source = load_resnet(weights_dir / "cifar10_resnet20.safetensors", 20)
    bank = load("cifar10").test
    few = dataclasses.replace(
        bank, **{name: getattr(bank, name)[:2000] for name in ("images", "labels", "groups")}
    )
    assert accuracy(source, few) == pytest.approx(0.8225, abs=0.002)  # of all: .810


def test_other_classes_can_be_named(random_weights):
    _, path = random_weights(classes=3)
    source = load_resnet(path, 20, class_names=("a", "b", "c"))
    assert source.class_names == ("a", "b", "c")
    assert source.params["head"]["kernel"].shape == (64, 3)


def _altered(random_weights, drop=(), **replace):
    tensors, path = random_weights()
    kept = {name: tensor for name, tensor in tensors.items() if name not in drop}
    save_file(kept | replace, path)
    return path


def test_missing_unexpected_and_misshapen_tensors_are_all_named(random_weights):
    path = _altered(
        random_weights,
        drop=("bn1.bias", "layer2.1.conv1.weight"),
        **{"fc.bias": np.zeros(3, np.float32), "linear.bias": np.zeros(3, np.float32)},
    )
    with pytest.raises(ValueError, match="path: wanted the tensors of a ResNet") as error:
        load_resnet(path, 20)
    assert "missing: bn1.bias, layer2.1.conv1.weight" in str(error.value)
    assert "unexpected: fc.bias" in str(error.value)
    assert "misshapen: linear.bias [3] (wanted [10])" in str(error.value)


def test_a_transposed_tensor_is_misshapen(random_weights):
    path = _altered(random_weights, **{"linear.weight": np.zeros((64, 10), np.float32)})
    with pytest.raises(ValueError, match=r"linear\.weight \[64, 10\] \(wanted \[10, 64\]\)"):
        load_resnet(path, 20)
    path = _altered(random_weights, **{"linear.weight": np.zeros(640, np.float32)})
    with pytest.raises(ValueError, match=r"linear\.weight \[640\]"):
        load_resnet(path, 20)


def test_the_wrong_depth_is_told_the_right_one(random_weights):
    _, path = random_weights(depth=32)
    with pytest.raises(ValueError, match=r"unexpected: layer1\.3\.bn1.* and 48 more.*depth 32"):
        load_resnet(path, 20)
    with pytest.raises(ValueError, match=r"missing: layer1\.5.*depth 32"):
        load_resnet(path, 44)
    with pytest.raises(ValueError, match="depth: wanted one of"):
        load_resnet(path, 50)


@pytest.mark.parametrize("damage", ["empty", "truncated", "pickle"])
def test_a_file_of_another_kind(random_weights, damage):
    _, path = random_weights()
    content = path.read_bytes()
    path.write_bytes(
        {"empty": b"", "truncated": content[: len(content) // 2], "pickle": b"\x80\x02}q\x00."}[
            damage
        ]
    )
    with pytest.raises(ValueError, match=r"path: wanted a safetensors file, but .* is damaged"):
        load_resnet(path, 20)


def test_no_file(tmp_path):
    with pytest.raises(ValueError, match="path: wanted a safetensors file, but there is none at"):
        load_resnet(tmp_path / "absent.safetensors", 20)
    with pytest.raises(ValueError, match="there is none at"):
        load_resnet(tmp_path, 20)


def test_whole_numbers_are_no_weights(random_weights):
    path = _altered(random_weights, **{"linear.weight": np.zeros((10, 64), np.int8)})
    with pytest.raises(ValueError, match=r"quantised networks have: linear\.weight \(int8\)"):
        load_resnet(path, 20)
