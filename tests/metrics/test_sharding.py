"""Samples over eight devices: every score is what it is on one."""

import os
import subprocess
import sys

import jax
import numpy as np
import pytest

from leepjax.metrics import sharding

SCRIPT = """
import jax, numpy as np
from leepjax.metrics import METRICS, leep, score, sharding, uncertainty
from tests.metrics.support import C, make_case

assert jax.device_count() == 8
mesh = jax.make_mesh((8,), ("data",))
case = make_case(n=1003, d=24)  # eight devices do not divide it
arrays = {k: np.asarray(case[k], "f4") for k in ("features", "logits")}
arrays |= {"labels": case["labels"]}
key = jax.random.key(0)
one = score(num_classes=C, key=key, **arrays)
shards = sharding.shard(mesh, **arrays)
assert shards["features"].sharding.spec[0] == "data"
eight = score(num_classes=C, key=key, **shards)
assert len(one) >= 15
for name in one:
    tolerance = 1e-3 if METRICS[name].key else 2e-5  # a mixture's fit iterates
    np.testing.assert_allclose(one[name], eight[name], rtol=tolerance, atol=tolerance, err_msg=name)

# Arrays that the user sharded, over a mesh with explicit axes.
where = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
mine = {k: jax.device_put(v[:1000], where) for k, v in arrays.items()}
names = ["leep", "nce", "h_score", "logme"]
one = score(num_classes=C, metrics=names, **{k: v[:1000] for k, v in arrays.items()})
eight = score(num_classes=C, metrics=names, **mine)
jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5), one, eight)

probs = jax.nn.softmax(arrays["logits"])
shards = sharding.shard(mesh, probs=probs, labels=arrays["labels"])
error = uncertainty.influence(leep, *map(shards.get, ("probs", "labels")), num_classes=C,
                              where=shards["where"]).standard_error
alone = uncertainty.influence(leep, probs, arrays["labels"], num_classes=C).standard_error
np.testing.assert_allclose(error, alone, rtol=1e-4)
"""


@pytest.mark.slow
def test_eight_devices_equal_one():
    flags = os.environ["XLA_FLAGS"] + " --xla_force_host_platform_device_count=8"
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    subprocess.run([sys.executable, "-c", SCRIPT], env=environment, check=True, timeout=600)


def test_padding_is_masked():
    mesh = jax.make_mesh((1,), ("data",))
    shards = sharding.shard(mesh, labels=np.arange(5), where=np.arange(5) > 1)
    np.testing.assert_array_equal(shards["where"], np.arange(5) > 1)


@pytest.mark.parametrize(
    ("arrays", "blame"),
    [
        ({"a": np.ones(3), "axis": "model"}, "axis"),
        ({"a": np.ones(3), "b": np.ones(4)}, "arrays"),
        ({}, "arrays"),
    ],
)
def test_bad_input(arrays, blame):
    with pytest.raises(ValueError, match=f"^{blame}: wanted"):
        sharding.shard(jax.make_mesh((1,), ("data",)), **arrays)
