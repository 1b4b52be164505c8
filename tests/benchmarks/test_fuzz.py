"""A few cases of all that is fuzzed; `python -m benchmarks fuzz` has as many as are wanted."""

import pytest

from benchmarks.fuzz import configurations, files, names, scores, tables, texts
from benchmarks.fuzz.target import Target, fuzz

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
