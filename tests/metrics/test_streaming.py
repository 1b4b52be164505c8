"""A stream gives the scores of all data at once."""

import jax
import numpy as np
import pytest

from leepjax.metrics import METRICS, streaming

from .support import C, N, S, make_case, oracle_of


def batches(case, parts=3):
    for rows in np.array_split(np.arange(N), parts):
        yield {name: array[rows] for name, array in case.items()}


def feed(state, case, names=("features", "probs", "where"), parts=3):
    for batch in batches(case, parts):
        state = streaming.update(state, batch["labels"], **{name: batch[name] for name in names})
    return state


def begin(case, **options):
    return streaming.init(
        num_classes=C, num_source_classes=S, features=case["features"][:4], **options
    )


def check(got, case, use=()):
    """Each score is its oracle's, as that of all data at once is."""
    for name, value in got.items():
        wanted = oracle_of(METRICS[name], case, use)
        np.testing.assert_allclose(value, wanted, rtol=1e-8, atol=1e-10, err_msg=name)


@pytest.mark.parametrize("outputs", ["probs", "logits"])
def test_equals_all_at_once(outputs, x64):
    case = make_case()
    names = ("features", outputs, "where")
    state = feed(begin(case, by_class=True), case, names)
    first = streaming.finalize(state)
    assert "leep" not in first
    state = feed(streaming.second_pass(state), case, (outputs, "where"))
    got = streaming.finalize(state)
    assert first.keys() < got.keys()
    check(got, case, ("where",))


def test_merged_parts_equal_one_stream(x64):
    case = make_case()
    names = ("features", "probs", "where")

    def of_parts(start, names):
        """One stream of the first third, another of the rest; the same programs as above."""
        first, *rest = batches(case)
        states = []
        for parts in ([first], rest):
            state = start
            for part in parts:
                arrays = {name: part[name] for name in names}
                state = streaming.update(state, part["labels"], **arrays)
            states.append(state)
        return streaming.merge(*states)

    state = of_parts(begin(case, by_class=True), names)
    check(streaming.finalize(of_parts(streaming.second_pass(state), names[1:])), case, ("where",))


def test_a_batch_that_is_masked_throughout_adds_nothing(x64):
    case = make_case()
    names = ("features", "probs", "where")
    nothing = case | {"where": np.zeros(N, bool), "features": case["features"] * np.nan}
    state = feed(begin(case, by_class=True), case, names)
    jax.tree.map(np.testing.assert_array_equal, feed(state, nothing, names), state)
    second = feed(streaming.second_pass(state), case, names[1:])
    jax.tree.map(np.testing.assert_array_equal, feed(second, nothing, names[1:]), second)


def test_one_class_leaves_out_what_it_has_no_limit_for():
    case = make_case() | {"labels": np.full(N, 2)}
    scores = streaming.finalize(feed(begin(case), case))
    assert "lfc" not in scores
    assert all(np.isfinite(value) for value in scores.values())


def test_under_jit():
    case = make_case()
    arrays = {name: case[name] for name in ("features", "probs")}
    state = jax.jit(streaming.update)(begin(case), case["labels"], **arrays)
    assert np.isfinite(streaming.finalize(state)["nce"])


def again(state, case, parts):
    """In the second pass after so many parts of three."""
    for batch in [*batches(case, 3)][:parts]:
        arrays = {name: batch[name] for name in ("features", "probs", "where")}
        state = streaming.update(state, batch["labels"], **arrays)
    return streaming.second_pass(state)


@pytest.mark.parametrize(
    ("call", "blame"),
    [
        (lambda s, c: streaming.update(s, c["labels"], probs=c["probs"]), "features"),
        (lambda s, c: streaming.update(s, c["labels"], features=c["features"]), "probs"),
        (lambda s, c: streaming.finalize(s), "state"),
        (lambda s, c: streaming.second_pass(streaming.init(num_classes=C)), "state"),
        (lambda s, c: streaming.merge(s, streaming.init(num_classes=C)), "b"),
        (lambda s, c: streaming.merge(*(again(begin(c), c, n) for n in (1, 2))), "b"),
        (
            lambda s, c: streaming.finalize(streaming.second_pass(feed(s, c))),
            "state",
        ),
        (
            lambda s, c: streaming.update(
                s, c["labels"], features=c["features"], probs=np.ones((N, 1))
            ),
            "probs",
        ),
    ],
)
def test_bad_input(call, blame):
    case = make_case()
    with pytest.raises(ValueError, match=rf"^{blame}: wanted"):
        call(begin(case), case)
