"""Forms for other platforms: the same numbers here, and no gather or scatter of rows there."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from leepjax.metrics import (
    _sums,
    h_score,
    leep,
    lfc,
    logme,
    platform,
    regularized_h_score,
    score,
    score_subsets,
    streaming,
)

from .support import C, S, conditioned_features, make_case

KEY = jax.random.key(0)
# Sums in another order round otherwise: by a few float32 roundings of values of about 1, that EM
# (nleep) and shrinkage (sfda, lda_score) may amplify to what the contract allows.
CLOSE = {"rtol": 1e-4, "atol": 1e-4}


def scores_of(features, probs, logits, labels, where):
    shared = {"num_classes": C, "where": where, "key": KEY}
    return score(labels, features=features, probs=probs, logits=logits, **shared)


def arrays(seed=0):
    case = make_case(seed)
    where = np.arange(len(case["labels"])) % 7 != 3
    rows = [jnp.asarray(case[name], jnp.float32) for name in ("features", "probs", "logits")]
    return *rows, jnp.asarray(case["labels"]), jnp.asarray(where)


@pytest.fixture(scope="module")
def both():
    """All scores of three cases at once, by a CPU's forms and by a TPU's."""
    cases = jax.tree.map(lambda *x: jnp.stack(x), *(arrays(seed) for seed in range(3)))
    program = jax.jit(jax.vmap(scores_of))
    found = [program(*cases)]
    with platform.programs_for("tpu"):
        found.append(program(*cases))
    return found


def test_all_scores_are_the_same_in_both_forms(both):
    cpu, other = both
    assert len(cpu) > 20
    for name, values in cpu.items():
        np.testing.assert_allclose(other[name], values, err_msg=name, **CLOSE)


def test_the_platform_is_part_of_what_programs_are_kept_by():
    _, probs, _, labels, _ = arrays()
    program = jax.jit(lambda probs, labels: leep(probs, labels, num_classes=C))
    for kind, scatters in (("cpu", True), ("tpu", False), ("cpu", True)):
        with platform.programs_for(kind):
            assert platform.target() == kind
            assert ("stablehlo.scatter" in program.lower(probs, labels).as_text()) == scatters
    assert platform.target() == jax.default_backend()


@pytest.mark.parametrize("condition", [10, 1e4])
def test_the_left_out_head_of_a_tpu(condition):
    # Small eigenvalues right to the largest one's rounding only, as LAPACK's are, must be enough.
    labels = np.arange(90) % C
    features = jnp.asarray(conditioned_features(labels, 12, condition), jnp.float32)
    program = jax.jit(partial(score, num_classes=C, metrics=("predictive_r2", "linear_probe")))
    expected = program(labels, features=features)
    with platform.programs_for("tpu"):
        found = program(labels, features=features)
    assert found["predictive_r2"] == pytest.approx(float(expected["predictive_r2"]), abs=1e-4)
    assert found["linear_probe"] == pytest.approx(float(expected["linear_probe"]), abs=1.5 / 90)


def test_gradients_are_the_same_in_both_forms():
    names = ("leep", "leep_gain", "cross_fitted_leep", "h_score", "regularized_h_score", "gbc")
    names += ("pactran_gamma",)
    features, probs, _, labels, where = arrays()

    def total(features, logits):
        given = {"features": features, "probs": jax.nn.softmax(logits), "where": where}
        return sum(score(labels, num_classes=C, metrics=names, **given).values())

    program = jax.jit(jax.grad(total, (0, 1)))
    expected = program(features, jnp.log(probs))
    with platform.programs_for("tpu"):
        found = program(features, jnp.log(probs))
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("length", [4, 8])
def test_blocks_of_rows_on_a_tpu_add_up(length, monkeypatch):
    features, _, _, labels, where = arrays()
    given = {"num_classes": C, "where": where[:29], "weights": jnp.arange(29) % 3 / 2}

    def values(features):  # of 29 rows: the last block is not full
        fns = (h_score, regularized_h_score, lfc, logme)
        return jnp.stack([fn(features, labels[:29], **given) for fn in fns])

    def both(features):
        return values(features), jax.grad(lambda features: values(features).sum())(features)

    expected = jax.jit(both)(features[:29])
    monkeypatch.setattr(_sums, "TPU_ROWS", length)
    with platform.programs_for("tpu"):
        found = jax.jit(both)(features[:29])
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-3, atol=1e-5)


def test_subsets_and_streams_are_the_same_in_both_forms():
    features, probs, _, labels, where = arrays()
    subsets = jnp.array([[True, True, False, True], [True, True, True, True]])

    def of_subsets():
        given = {"features": features, "probs": probs, "where": where}
        return score_subsets(labels, subsets, num_classes=C, **given)

    def of_stream():
        state = streaming.init(num_classes=C, num_source_classes=S, features=features)
        rows = {"features": features, "probs": probs, "where": where}
        state = streaming.second_pass(streaming.update(state, labels, **rows))
        return streaming.finalize(streaming.update(state, labels, **rows))

    for program in (of_subsets, of_stream):
        expected = program()
        with platform.programs_for("tpu"):
            found = program()
        for name, value in expected.items():
            np.testing.assert_allclose(found[name], value, err_msg=name, **CLOSE)


@pytest.mark.parametrize(
    ("row", "wanted"),
    [
        ([0.5, 0.6, 0, 0, 0, 0], "probabilities: rows >= 0 that sum to 1"),
        ([1.5, -0.5, 0, 0, 0, 0], "probabilities: rows >= 0 that sum to 1"),
        ([0, 0, 0, 0, 0, 0], "probabilities: rows >= 0 that sum to 1"),
        ([np.nan, 1, 0, 0, 0, 0], "finite numbers"),
        ([np.inf, 1, 0, 0, 0, 0], "finite numbers"),
    ],
)
@pytest.mark.parametrize("kind", ["cpu", "tpu"])
def test_probabilities_are_checked_where_the_check_rides_along(kind, row, wanted):
    _, probs, _, labels, where = arrays()
    bad = probs.at[5].set(jnp.array(row))
    with platform.programs_for(kind):
        expected = leep(probs, labels, num_classes=C, where=where.at[5].set(False))
        with pytest.raises(ValueError, match=f"^probs: wanted {wanted}.*; got .* at sample 5 "):
            leep(bad, labels, num_classes=C, where=where)
        assert np.isnan(jax.jit(leep, static_argnames="num_classes")(bad, labels, num_classes=C))
        # A sample that does not count may be anything.
        left_out = leep(bad, labels, num_classes=C, where=where.at[5].set(False))
    assert left_out == pytest.approx(float(expected), abs=1e-6)


def test_the_check_of_probabilities_is_no_pass_of_its_own():
    _, probs, _, labels, _ = arrays()
    with platform.programs_for("tpu"):
        text = jax.jit(partial(leep, num_classes=C)).lower(probs, labels).as_text()
    rows = [x for x in text.splitlines() if "stablehlo.reduce(" in x and "dimensions = [1]" in x]
    assert len(rows) == 1  # likelihoods, sums and least entries
    assert rows[0].count(" init: ") == 3


@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float32, jnp.bfloat16])
def test_double_precision(dtype, x64):
    _, probs, _, labels, _ = arrays()
    expected = leep(probs.astype(dtype), labels, num_classes=C)
    with platform.programs_for("tpu"):
        found = leep(probs.astype(dtype), labels, num_classes=C)
    assert found.dtype == jnp.float64
    assert float(found) == pytest.approx(float(expected), abs=1e-12)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_is_summed_in_single(dtype):
    _, probs, _, labels, _ = arrays()
    half = probs.astype(dtype)
    exact = half.astype(jnp.float32) / half.astype(jnp.float32).sum(1, keepdims=True)
    expected = leep(exact, labels, num_classes=C)
    with platform.programs_for("tpu"):
        found = leep(half, labels, num_classes=C)
    assert found.dtype == jnp.float32
    assert found == pytest.approx(float(expected), abs=1e-5)


@pytest.mark.parametrize(
    "names",
    [("leep", "leep_gain", "cross_fitted_leep", "nce"), ("h_score", "lfc")],
)
def test_no_program_for_a_tpu_gathers_or_scatters_rows(names):
    features, probs, _, labels, _ = arrays()
    given = {"probs": probs} if "leep" in names else {"features": features}
    program = jax.jit(partial(score, num_classes=C, metrics=names))

    def count(kind, operation):
        with platform.programs_for(kind):
            exported = export.export(program, platforms=("tpu",))(labels, **given)
        return exported.mlir_module().count(f'"stablehlo.{operation}"(')

    assert count("cpu", "scatter") >= 2
    assert count("tpu", "scatter") == 0
    # Of features 15 rows are taken, and a few of them, to say where they are.
    assert count("tpu", "gather") == (0 if "leep" in names else count("cpu", "gather"))


def test_an_unknown_platform():
    with pytest.raises(ValueError, match="platform: wanted one of cpu, gpu, tpu, got"):
        platform.programs_for("cuda")
