"""What scores hold in memory, and how often they go over the data."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import memory
from leepjax.metrics import score

from .support import class_options, each, make_case

N, D, C, S = 1_200, 8, 41, 30  # n c s is above n^2, all else below
MOMENTS = ("h_score", "regularized_h_score", "logme", "lfc")


def equations(jaxpr):
    """All operations, also of loops, branches and functions within."""
    for equation in jaxpr.eqns:
        yield equation
        inner = jax.tree.leaves(
            list(equation.params.values()), is_leaf=lambda x: hasattr(x, "eqns")
        )
        for one in inner:
            if hasattr(one, "eqns"):
                yield from equations(getattr(one, "jaxpr", one))


@pytest.fixture(scope="module")
def case():
    return make_case(n=N, d=D, c=C, s=S)


@each
def test_no_array_of_all_pairs_of_samples_or_of_samples_and_both_classes(metric, case):
    key = (jax.random.key(0),) if metric.key else ()
    arrays = [jnp.asarray(case[name]) for name in metric.inputs]
    options = class_options(metric, num_classes=C, num_source_classes=S)
    program = jax.make_jaxpr(lambda *arrays: metric.fn(*key, *arrays, **options))(*arrays)
    largest = max(np.size(x.aval) for e in equations(program.jaxpr) for x in e.outvars)
    assert largest < N * N


def test_moment_scores_share_one_gram_and_one_eigendecomposition(case):
    def together(features, labels):
        return score(labels, num_classes=C, features=features, metrics=MOMENTS)

    program = jax.make_jaxpr(together)(case["features"], case["labels"])
    every = list(equations(program.jaxpr))
    assert sum(e.primitive.name == "eigh" for e in every) == 1
    over_samples = [
        e
        for e in every
        if e.primitive.name == "dot_general" and any(N in x.aval.shape for x in e.invars)
    ]
    assert len(over_samples) == 1


def growth(masked):
    """Memory at the peak of all moment scores above that before, over the features' own."""
    n, d, c = 30_000, 1_024, 20
    rng = np.random.default_rng(0)
    labels = np.arange(n) % c
    features = jnp.asarray(rng.standard_normal((n, d), np.float32))
    where = {"where": jnp.arange(n) % 10 > 0} if masked else {}

    def call():
        return score(labels, num_classes=c, features=features, metrics=MOMENTS, **where)

    return memory.peak_growth(call) / features.nbytes


@pytest.mark.slow
@pytest.mark.skipif(not memory.measurable(), reason="needs Linux, and scores on the CPU")
@pytest.mark.parametrize("masked", [False, True])
def test_moment_scores_peak_below_one_and_a_half_times_the_features(masked):
    assert memory.in_fresh_process(growth, masked) < 0.5
