"""Programs by other platforms' compilers: what they say, and budgets that they must keep."""

import dataclasses
import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh
from rich.console import Console

from benchmarks import compile as bench
from benchmarks.programs import Sizes, programs
from benchmarks.traffic import memory_traffic

SMALL = Sizes(n=512, s=20, d=32, c=4)
CPU = Mesh(np.array(jax.devices("cpu")[:1]), ("data",))
# Of the arguments: the most bytes from and to memory, and the most memory beside them. LEEP must
# read its probabilities twice; of features, one pass is for their centre, and one for all the sums.
BUDGETS = {
    "leep": (2.05, 0.01),
    "leep_gain": (2.05, 0.01),
    "h_score": (2.05, 0.01),
    "regularized_h_score": (2.05, 0.01),
    "logme": (2.05, 0.01),
    "lfc": (2.05, 0.01),
    "score": (2.1, 0.02),
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


def test_bytes_of_main_memory_and_loops():
    text = """
%cond (p.1: (s32[], f32[8,16])) -> pred[] {
  %p.1 = (s32[]{:T(128)}, f32[8,16]{1,0:T(8,128)}) parameter(0)
  %i.1 = s32[]{:T(128)S(1)} get-tuple-element(%p.1), index=0
  %n = s32[]{:T(128)S(1)} constant(5)
  ROOT %lt = pred[]{:T(512)S(1)} compare(%i.1, %n), direction=LT
}

%until (p.9: (s32[], pred[])) -> pred[] {
  %p.9 = (s32[]{:T(128)}, pred[]) parameter(0)
  ROOT %go = pred[] get-tuple-element(%p.9), index=1
}

%part (q.1: f32[8,16], q.2: s32[]) -> f32[2,16] {
  %q.1 = f32[8,16]{1,0:T(8,128)} parameter(0)
  %q.2 = s32[]{:T(128)S(1)} parameter(1)
  ROOT %slice = f32[2,16]{1,0:T(8,128)S(1)} dynamic-slice(%q.1, %q.2, %q.2)
}

%body (p.2: (s32[], f32[8,16])) -> (s32[], f32[8,16]) {
  %p.2 = (s32[]{:T(128)}, f32[8,16]{1,0:T(8,128)}) parameter(0)
  %i.2 = s32[]{:T(128)S(1)} get-tuple-element(%p.2), index=0
  %x.2 = f32[8,16]{1,0:T(8,128)} get-tuple-element(%p.2), index=1
  %rows = f32[2,16]{1,0:T(8,128)S(1)} fusion(%x.2, %i.2), kind=kLoop, calls=%part
  %more = f32[2,16]{1,0:T(8,128)S(1)} add(%rows, %rows)
  ROOT %out = (s32[]{:T(128)}, f32[8,16]{1,0:T(8,128)}) tuple(%i.2, %x.2)
}

ENTRY %main (x: f32[8,16]) -> f32[8,16] {
  %x = f32[8,16]{1,0:T(8,128)} parameter(0)
  %zero = s32[]{:T(128)} constant(0)
  %start = (s32[]{:T(128)}, f32[8,16]{1,0:T(8,128)}) tuple(%zero, %x)
  %loop = (s32[], f32[8,16]) while(%start), condition=%cond, body=%body
  %again = (s32[], f32[8,16]) while(%start), condition=%until, body=%body
  ROOT %sum = bf16[8,16]{1,0:T(8,128)} add(%x, %x)
}
"""
    # Five parts and one of 2 x 16 floats; both operands of the last line, and its result.
    assert memory_traffic(text) == (6 * 128 + 2 * 512 + 256, 1)


def test_bytes_of_a_program_without_loops_are_those_of_the_compiler():
    program = jax.jit(lambda x, y: (jnp.exp(x) @ y, x.sum(0)))
    compiled = program.lower(np.ones((64, 32), np.float32), np.ones((32, 8), np.float32)).compile()
    moved, loops = memory_traffic(compiled.as_text())
    assert loops == 0
    assert moved == pytest.approx(compiled.cost_analysis()["bytes accessed"], rel=0.01)


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
