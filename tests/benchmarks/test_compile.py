"""Programs by other platforms' compilers: what they say, and budgets that they must keep."""

import dataclasses
import importlib.util

import jax
import numpy as np
import pytest
from jax.sharding import Mesh
from rich.console import Console

from benchmarks import compile as bench
from benchmarks.programs import Sizes, programs

SMALL = Sizes(n=512, s=20, d=32, c=4)
CPU = Mesh(np.array(jax.devices("cpu")[:1]), ("data",))
# Of the arguments: the most bytes accessed, and the most memory beside them. LEEP must read its
# probabilities twice; an H-score reads its features for their centre, and once for each product.
BUDGETS = {
    "leep": (2.2, 0.05),
    "leep_gain": (2.2, 0.05),
    "nce": (9, 0.4),
    "h_score": (3.4, 0.05),
    "regularized_h_score": (5.4, 0.05),
    "lfc": (3.4, 0.05),
}


def test_what_the_compiler_says_of_a_program():
    found = bench.account(programs(SMALL, CPU)["leep"](), CPU, "cpu")
    assert found["argument_bytes"] == found["least_bytes"] == 4 * 512 * (20 + 1)
    assert found["bytes"] >= found["least_bytes"]
    assert found["flops"] > 512 * 20
    assert found["collectives"] == ""


def test_collectives_are_counted_with_their_bytes():
    text = """
      %a = f32[100,1000]{1,0} all-reduce(f32[100,1000]{1,0} %x), replica_groups={}
      %b = (f32[8]{0}, s32[2]{0}) all-reduce-start(f32[8]{0} %y, s32[2]{0} %z)
      %c = bf16[4]{0} all-gather(bf16[1]{0} %w)
      %d = f32[3]{0} add(f32[3]{0} %u, f32[3]{0} %v)
    """
    kinds, sent = bench._collectives(text)
    assert kinds == "1 all-gather 2 all-reduce"
    assert sent == 400_000 + 32 + 8 + 8


def test_the_command_writes_its_table_and_goes_on_after_a_failure(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bench, "programs", lambda sizes, mesh: programs(SMALL, mesh))
    real = bench.account
    monkeypatch.setattr(
        bench, "account", lambda p, m, k: real(p, m, k) if len(p.arguments) == 2 else 1 / 0
    )
    config = bench.Config(("neg_label_entropy", "leep"), platform="cpu", output_dir=tmp_path / "r")
    bench.run(config, Console(width=120))
    text = (tmp_path / "r" / "compile.md").read_text()
    assert "ZeroDivisionError: division by zero" in text
    assert "| leep |" in text
    assert (tmp_path / "r" / "compile.svg").stat().st_size > 1000
    assert "A compiler's account" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"names": ("leap",)}, r"names: wanted programs among leep, .*; got \['leap'\]"),
        ({"chips": 0}, "--chips: wanted 1 to "),
    ],
)
def test_bad_input(changes, message):
    config = dataclasses.replace(bench.Config(platform="cpu"), **changes)
    with pytest.raises(ValueError, match=message):
        bench.run(config, Console())


def test_a_machine_without_the_compiler(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="--platform: tpu needs its compiler, the package libtpu"):
        bench.devices_of(bench.Config())


@pytest.mark.slow  # 50 programs
@pytest.mark.parametrize("name", programs(SMALL, CPU))
def test_every_program_lowers_for_cuda(name):
    found = bench._one(programs(SMALL, CPU)[name], CPU, "cuda")
    assert found["failed"] == ""
    assert found["program_bytes"] > 1000


@pytest.fixture(scope="module")
def chips():
    if importlib.util.find_spec("libtpu") is None:
        pytest.skip('needs the TPU\'s compiler: pip install -e ".[tpu-compile]"')
    return bench.devices_of(bench.Config())


@pytest.mark.slow  # compiles for a TPU
@pytest.mark.parametrize("name", BUDGETS)
def test_budgets_on_a_tpu(name, chips):
    mesh = Mesh(np.array(chips[:1]), ("data",))
    found = bench._one(programs(Sizes(65_536, 1000, 512, 100), mesh)[name], mesh, "tpu")
    assert found["failed"] == ""
    most, temporary = BUDGETS[name]
    assert found["bytes"] <= most * found["least_bytes"]
    assert found["temporary_bytes"] <= temporary * found["argument_bytes"]


@pytest.mark.slow  # compiles for a TPU
def test_four_chips_share_the_bytes_and_send_what_does_not_grow_with_them(chips):
    four, one = (Mesh(np.array(chips[:k]), ("data",)) for k in (4, 1))
    alone = bench._one(programs(Sizes(65_536, 1000, 512, 100), one)["leep"], one, "tpu")
    sizes = [Sizes(n, 1000, 512, 100) for n in (262_144, 524_288)]
    few, many = (bench._one(programs(size, four)["leep"], four, "tpu") for size in sizes)
    assert few["least_bytes"] == alone["least_bytes"]  # a quarter of four times as many
    assert few["bytes"] == pytest.approx(alone["bytes"], rel=0.02)
    assert few["collectives"] == many["collectives"] != ""
    assert few["sent_bytes"] == many["sent_bytes"] < 500_000


@pytest.mark.slow  # asks libtpu
def test_a_topology_that_is_refused(chips):
    with pytest.raises(ValueError, match="--topology: libtpu refused 'v5e:1x1': "):
        bench.devices_of(bench.Config(topology="v5e:1x1"))
