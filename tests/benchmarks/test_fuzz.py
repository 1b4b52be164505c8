"""A few cases of all that is fuzzed; `python -m benchmarks fuzz` has as many as are wanted."""

import dataclasses
import sys

import numpy as np
import pytest

from benchmarks.fuzz import configurations, files, names, scores, tables, texts
from benchmarks.fuzz.target import Target, fuzz
from leepjax import metrics

CASES = 40
# One program for each metric: that which its contract is tested with, too.
METRICS = scores.targets(layouts=("tall",), through=("function",))
OTHERS = [
    target
    for module in (files, texts, tables, configurations, names)
    for target in module.targets()
]


@pytest.mark.parametrize("target", [*METRICS, *OTHERS], ids=lambda target: target.name)
def test_a_result_or_a_value_error(target):
    if target.name == "parquet":
        pytest.importorskip("pyarrow", reason="needs leepjax[parquet]")
    found = fuzz(target, CASES)
    if found.error is not None:
        raise found.error
    assert found.outcomes.total() >= CASES // target.share


def test_a_failing_case_is_the_smallest_and_said_in_full():
    def check(case):
        assert case < 100, "too large"
        return "value"

    target = Target("metric", "none", scores.st.integers(0, 10**6), check)
    found = fuzz(target, 1000)
    assert "check(\n    case=100,\n)" in "\n".join(found.error.__notes__)
    assert fuzz(target, 1000).outcomes == found.outcomes  # the same cases again


def raises(error):
    raise error


def changes(x):
    if isinstance(x, np.ndarray) and x.flags.writeable:
        x[:] = 0
    return metrics.leep(x, np.zeros(len(x), int), num_classes=1)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (lambda probs: np.nan, "wanted a finite value, got nan"),
        (lambda probs: np.zeros(2), "wanted a scalar"),
        (lambda probs: 0.5, "accepted, as 0.5"),
        (lambda probs: raises(ValueError("no")), "valid input refused: no"),
        (lambda probs: raises(TypeError("no")), "TypeError"),
        (changes, "was changed"),
    ],
)
def test_a_faulty_metric_is_found(fault, said):
    def fn(probs, labels, *, num_classes, where=None, weights=None):
        return fault(probs)

    metric = metrics.METRICS["leep"]._replace(fn=fn)
    cases = scores.cases_of(metric, layouts=("tall",), through=("function",))
    target = Target("metric", "leep", cases, lambda case: scores.check(metric, case))
    error = fuzz(target, 100).error
    errors = getattr(error, "exceptions", [error])
    assert any(said in f"{type(e).__name__} {e}" for e in errors), errors


def forgets(path):
    return {name: x * 0 for name, x in files.read_source(path).items()}


def believes(path):  # whatever a header claims
    return {"features": np.ones((10**8, 1), np.uint8)}


no_peak = pytest.mark.skipif(sys.platform != "linux", reason="only Linux knows a peak of memory")


@pytest.mark.parametrize(
    ("reader", "said"),
    [(forgets, "features: wrote"), pytest.param(believes, "bytes for a file of", marks=no_peak)],
)
def test_a_faulty_reader_is_found(reader, said):
    form = dataclasses.replace(files.FORMATS["safetensors"], readers=(reader,))
    with pytest.raises(AssertionError, match=said):
        files.check_file(form, files.File((("features", "f4", (6, 4)),)))
