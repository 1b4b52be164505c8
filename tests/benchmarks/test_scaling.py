"""Weak scaling: a device's work stays the same as devices, and what there is to do, grow."""

import os
import subprocess
import sys

import pytest

SCRIPT = """
import jax
jax.config.update("jax_num_cpu_devices", 8)
from benchmarks.scaling import operations
for name, (one, eight) in operations((1, 8)).items():
    assert 1e4 < eight < 1.01 * one, (name, one, eight)  # fewer where one device has another form
"""


@pytest.mark.slow
def test_eight_devices_do_as_much_each_as_one():
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    subprocess.run([sys.executable, "-c", SCRIPT], env=environment, check=True, timeout=600)
