import dataclasses
import os
import subprocess
import sys

import jax
import numpy as np
import pytest

from leepjax.data.bank import Bank
from leepjax.models import accuracy, apply, extract, extraction


@pytest.fixture
def bank(digits):
    return _first(digits.test, 50)


@pytest.fixture
def count_computations(monkeypatch):
    calls = []
    compute = extraction._compute
    monkeypatch.setattr(extraction, "_compute", lambda *args: calls.append(args) or compute(*args))
    return calls


def _first(bank: Bank, n: int) -> Bank:
    return dataclasses.replace(
        bank, images=bank.images[:n], labels=bank.labels[:n], groups=bank.groups[:n]
    )


def test_it_is_apply_on_the_preprocessed_images(untrained, bank):
    source = untrained("conv4")
    x = source.preprocess(bank.images)
    wanted, _ = jax.jit(apply, static_argnums=0)(source.graphdef, source.params, source.rest, x)
    got = extract(source, bank)
    assert isinstance(got.features, np.ndarray)
    np.testing.assert_allclose(got.features, wanted.features, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(got.logits, wanted.logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 16, 50, 64])
def test_the_batch_size_does_not_matter(untrained, bank, batch_size, cache, monkeypatch):
    source = untrained("conv4")
    whole = extract(source, bank)
    monkeypatch.setenv("LEEPJAX_CACHE", str(cache / "other"))
    parts = extract(source, bank, batch_size=batch_size)
    assert parts.features.shape == (50, 64)
    np.testing.assert_allclose(parts.features, whole.features, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(parts.logits, whole.logits, rtol=1e-4, atol=1e-5)


def test_a_second_call_reads_the_cache(untrained, bank, count_computations):
    source = untrained("mlp")
    miss, hit = extract(source, bank), extract(source, bank, batch_size=7)
    assert len(count_computations) == 1
    for a, b in zip(miss, hit, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("damage", ["empty", "truncated", "flipped", "text"])
def test_a_damaged_cache_is_computed_anew(untrained, bank, cache, count_computations, damage):
    source = untrained("mlp")
    whole = extract(source, bank)
    (file,) = (cache / "outputs").iterdir()
    content = bytearray(file.read_bytes())
    content[-5] ^= 255
    file.write_bytes(
        {
            "empty": b"",
            "truncated": content[: len(content) // 2],
            "flipped": bytes(content),
            "text": b"not a tensor " * 9,
        }[damage]
    )
    again = extract(source, bank)
    assert len(count_computations) == 2
    np.testing.assert_array_equal(again.logits, whole.logits)
    extract(source, bank)
    assert len(count_computations) == 2


def test_what_changes_the_outputs_changes_the_key(untrained, bank, count_computations):
    source = untrained("mlp")
    kernel = source.params["hidden1"]["kernel"].at[0, 0].add(1e-3)
    params = source.params | {"hidden1": source.params["hidden1"] | {"kernel": kernel}}
    sources = [
        source,
        dataclasses.replace(source, params=params),
        untrained("mlp", mean=0.4),
        untrained("mlp", seed=1),
    ]
    assert len({source.digest for source in sources}) == 4
    for each in sources:
        extract(each, bank)
    extract(source, _first(bank, 49))
    assert len(count_computations) == 5


def test_the_computation_counts_where_the_parameters_are_equal(untrained):
    strided, pooled = untrained("conv4", size=16), untrained("conv4_max", size=16)
    same = dataclasses.replace(pooled, params=strided.params, rest=strided.rest)
    assert same.digest != strided.digest


def test_a_source_is_a_pytree(untrained):
    source = untrained("mlp")
    doubled = jax.tree.map(lambda leaf: 2 * leaf, source)
    assert doubled.preprocess == source.preprocess
    assert doubled.class_names == source.class_names
    assert doubled.digest != source.digest
    assert jax.jit(lambda s: s.params["head"]["bias"])(source).shape == (10,)


def test_no_recompilation_for_another_source_of_the_same_kind(untrained, bank):
    extract(untrained("conv4", seed=3), bank)
    before = extraction._forward._cache_size()
    extract(untrained("conv4", seed=4), bank)
    assert extraction._forward._cache_size() == before


def test_accuracy_needs_the_sources_own_classes(untrained, bank):
    source = untrained("mlp")
    predicted = extract(source, bank).logits.argmax(axis=1)
    assert accuracy(source, bank) == np.mean(predicted == bank.labels)
    with pytest.raises(ValueError, match="bank: wanted the source's 10 classes"):
        accuracy(source, dataclasses.replace(bank, class_names=tuple("abcdefghij")))


def test_errors_name_the_argument(untrained, bank):
    source = untrained("mlp")
    with pytest.raises(ValueError, match=r"bank\.images: wanted uint8 of shape"):
        extract(source, _first(bank, 0))
    with pytest.raises(ValueError, match="batch_size: wanted at least 1, got 0"):
        extract(source, bank, batch_size=0)
    with pytest.raises(ValueError, match="devices: wanted at least one"):
        extract(source, bank, devices=[])


_EIGHT_DEVICES = """
import sys
import jax, numpy as np
from flax import nnx
from leepjax.data.bank import Bank
from leepjax.models import Preprocess, extract, make_network, make_source

assert len(jax.devices()) == 8
network = make_network(sys.argv[2], 10, size=8, channels=1, rngs=nnx.Rngs(jax.random.key(0)))
source = make_source(network, Preprocess(8, 1, (0.5,), (0.5,)), tuple("0123456789"))
images = np.random.default_rng(0).integers(0, 256, (50, 8, 8, 1), dtype=np.uint8)
zeros = np.zeros(50, np.int32)
bank = Bank(images, zeros, zeros, source.class_names, ("one",))
outputs = extract(source, bank, batch_size=20, devices=jax.devices())
np.savez(sys.argv[1], digest=source.digest, images=images, **outputs._asdict())
"""


@pytest.mark.parametrize("name", ["mlp", pytest.param("conv4", marks=pytest.mark.slow)])
def test_eight_devices_give_what_one_gives(name, untrained, bank, tmp_path):
    flags = os.environ["XLA_FLAGS"] + " --xla_force_host_platform_device_count=8"
    environment = os.environ | {
        "XLA_FLAGS": flags,
        "JAX_PLATFORMS": "cpu",
        "LEEPJAX_CACHE": str(tmp_path / "eight"),
    }
    command = [sys.executable, "-c", _EIGHT_DEVICES, str(tmp_path / "eight.npz"), name]
    subprocess.run(command, env=environment, check=True, timeout=120)
    eight = np.load(tmp_path / "eight.npz")
    zeros = np.zeros(50, np.int32)
    one = extract(
        untrained(name),
        dataclasses.replace(bank, images=eight["images"], labels=zeros, groups=zeros),
    )
    np.testing.assert_allclose(eight["features"], one.features, atol=1e-5)
    np.testing.assert_allclose(eight["logits"], one.logits, atol=1e-5)
    # The key of a source is the same in another process.
    assert str(eight["digest"]) == untrained(name).digest
