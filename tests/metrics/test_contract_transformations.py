"""A registered metric inside a caller's ``jit``, ``vmap`` and ``grad``."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from .support import (
    REPRESENTATIVES,
    C,
    Compilations,
    D,
    N,
    S,
    cast,
    class_options,
    close,
    counted,
    differentiable_arguments,
    each,
    each_differentiable,
    evaluate,
    gradients_of,
    jit_vmap,
    make_case,
    named,
    optional,
    over,
    stack,
    taking,
)
from .test_contract_invariances import fill

# ------------------------------------------------------------------------------ jit and vmap


@over(named(*REPRESENTATIVES))  # the road to the kernels is one; all metrics: in a batch, below
def test_jit_equals_no_jit(metric, x64):
    case = make_case()
    use = optional(metric)
    close(evaluate(metric, case, use, jax.jit), evaluate(metric, case, use))


@each
def test_vmap_equals_a_loop(metric, x64):
    cases = [make_case(seed) for seed in range(3)]
    loop = [evaluate(metric, case, optional(metric)) for case in cases]
    close(evaluate(metric, stack(cases), optional(metric), jit_vmap), loop)


@over(named(*REPRESENTATIVES))
def test_vmap_outside_jit(metric, x64):
    cases, use = stack([make_case(seed) for seed in range(3)]), optional(metric)
    close(evaluate(metric, cases, use, jax.vmap), evaluate(metric, cases, use, jit_vmap))


def test_compilations_are_counted():
    ones = jnp.ones(3)
    with Compilations() as compiled:
        jax.jit(lambda x: 3 * x)(ones)
    assert len(compiled) == 1


@each
@pytest.mark.parametrize("use_optional", [False, True], ids=["plain", "where+weights"])
def test_second_call_compiles_nothing(metric, use_optional):
    use = optional(metric) if use_optional else ()
    first, second = (jax.tree.map(jnp.asarray, make_case(seed)) for seed in range(2))
    evaluate(metric, first, use)
    with Compilations() as compiled:
        evaluate(metric, second, use)
    assert compiled == []


# ------------------------------------------------------------------------------ gradients


def assert_gradients_are_differences(metric, case, smallest=0.0):
    """In every argument, along one direction, in float64."""
    step = 1e-5
    for name in differentiable_arguments(metric):
        start = case["logits"] if name == "probs" else case[name]
        direction = np.random.default_rng(2).normal(size=start.shape)

        def at(t, name=name, start=start, direction=direction):
            moved = start + t * direction
            return jax.nn.softmax(moved) if name == "probs" else moved

        use = optional(metric)
        high, low = (evaluate(metric, case | {name: at(t)}, use) for t in (step, -step))
        numeric = (high - low) / (2 * step)
        assert abs(numeric) >= smallest
        _, tangent = jax.jvp(at, (0.0,), (1.0,))
        gradient = gradients_of(metric, case | {name: at(0.0)})[name]
        assert np.isfinite(gradient).all()
        np.testing.assert_allclose((gradient * tangent).sum(), numeric, rtol=1e-6, atol=1e-9)


@each_differentiable
@pytest.mark.parametrize("absent", [False, True], ids=["plain", "absent-class"])
def test_gradients_equal_finite_differences(metric, absent, x64):
    case = make_case() | {"weights": np.random.default_rng(1).uniform(0.5, 2, N)}
    if absent:
        case["labels"][case["labels"] == 1] = 3
    assert_gradients_are_differences(metric, case, smallest=1e-4)


@each_differentiable
def test_masked_rows_have_no_gradient(metric, x64):
    case = make_case()
    masked = ~case["where"]
    filled = [fill(case, masked, garbage) for garbage in (False, True)]
    plain, zeros, garbage = (gradients_of(metric, each_case) for each_case in (case, *filled))
    for name in plain:
        for gradient in (plain[name], zeros[name], garbage[name]):
            assert (gradient[masked] == 0).all()
            close(gradient, plain[name])


@over(m for m in taking("features") if m.differentiable)
def test_gradient_where_eigenvalues_coincide(metric, x64):
    # Centred and uncentred covariance are multiples of I: eigenvectors are not smooth here.
    case, use = counted(make_case()), optional(metric)
    features = case["features"] - case["features"].mean(0)
    features = np.linalg.qr(features)[0] * N**0.5
    direction = np.random.default_rng(2).normal(size=features.shape)
    gradient = gradients_of(metric, case | {"features": features})["features"]
    assert np.isfinite(gradient).all()
    if metric.name != "gbc":  # principal axes are part of its definition
        high, low = (
            evaluate(metric, case | {"features": features + t * direction}, use)
            for t in (1e-5, -1e-5)
        )
        numeric = (high - low) / 2e-5
        np.testing.assert_allclose((gradient * direction).sum(), numeric, rtol=1e-5, atol=1e-8)


EXTREME = {
    "0-or-1": lambda case: {"probs": np.eye(S)[case["source_labels"]]},  # classes without mass
    "zero-column": lambda case: {"features": case["features"] * (np.arange(D) > 0)},
    "zero": lambda case: {"features": 0 * case["features"], "logits": 0 * case["logits"]},
    "alike": lambda case: {"features": np.ones((N, 1)) * case["features"][:1]},
    "fewer-samples-than-dimensions": lambda case: {"where": np.arange(N) < D - 1},
    "one-class": lambda case: {"labels": np.full(N, 2)},
}


@each_differentiable
@pytest.mark.parametrize("change", EXTREME.values(), ids=EXTREME)
def test_gradient_is_finite_on_extreme_inputs(metric, change, x64):
    check_finite_gradients(metric, case := make_case(), change(case))


@each_differentiable
@pytest.mark.slow  # the same in float32, a program more for each
@pytest.mark.parametrize("change", EXTREME.values(), ids=EXTREME)
def test_gradient_is_finite_in_float32_on_extreme_inputs(metric, change):
    case = make_case()
    check_finite_gradients(metric, cast(case, np.float32), cast(change(case), np.float32))


def check_finite_gradients(metric, case, change):
    case = case | change
    case["weights"][:2] = 0
    try:
        evaluate(metric, case, optional(metric))
    except ValueError:
        return  # no value, no gradient
    gradients = gradients_of(metric, case)
    # From a weight of nothing on, a score may rise steeply.
    case["weights"] = np.maximum(case["weights"], 1)
    gradients |= {k: v for k, v in gradients_of(metric, case).items() if k == "weights"}
    for gradient in gradients.values():
        assert jnp.isfinite(gradient).all()


@each_differentiable
@pytest.mark.slow  # a program more for each; quick is a class without samples, above
def test_absent_classes_leave_the_gradient_alone(metric, x64):
    case = make_case()
    case["weights"][:] = 1
    more = class_options(metric, num_classes=2 * C + 3)
    expected = gradients_of(metric, case)
    for name, gradient in gradients_of(metric, case, **more).items():
        assert jnp.isfinite(expected[name]).all()
        close(gradient, expected[name])
