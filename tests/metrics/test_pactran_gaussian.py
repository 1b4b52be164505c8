"""What is particular to PACTran-Gaussian; the rest is in test_contract_*.py."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest

from leepjax.metrics._pactran_gaussian import pactran_gaussian
from leepjax.metrics._softmax_regression import _line_search, _Problem, fit

from . import oracles
from .support import assert_agrees, make_case, softmax


@pytest.mark.parametrize("case", ["medium", "imbalanced"])
@pytest.mark.parametrize(
    ("key", "scale"), [("pactran(lda=1,s2=100/D)", 100.0), ("pac_opt(lda=1)", 0.0)]
)
def test_golden(golden, case, key, scale):
    values, inputs = golden
    features, labels = np.float32(inputs[f"{case}/features"]), inputs[f"{case}/labels"]
    classes = int(labels.max()) + 1
    value = pactran_gaussian(features, labels, num_classes=classes, posterior_scale=scale)
    assert_agrees(value, -values[case][f"pactran_gauss/{key}"], 5e-5)  # theirs stops early


def test_features_that_do_not_vary():
    labels = np.array([0, 0, 0, 1, 1, 2])
    p = np.array([3, 2, 1]) / 6
    entropy = -(p * np.log(p)).sum()
    # p is the class frequencies; d = 2, c = 3, n = 6: 6 samples of trace sum_c p (1 - p).
    sharpness = 100 * 3 / (2 * 6) * np.log1p(6 / 6 * 6 * (1 - p @ p))
    for features in (np.zeros((6, 2)), np.full((6, 2), 7.3)):
        value = pactran_gaussian(np.float32(features), labels, num_classes=5)
        assert_agrees(value, -entropy - sharpness, 1e-6)
    one_class = pactran_gaussian(np.eye(6, 2, dtype=np.float32), np.zeros(6, int), num_classes=5)
    assert_agrees(one_class, 0, 1e-30)


@pytest.mark.slow  # a program of this shape alone; the contract masks all samples but one
def test_one_sample():
    assert_agrees(pactran_gaussian(np.ones((1, 2)), [0], num_classes=2), 0, 1e-30)


def test_more_directions_than_samples_and_separable_classes():
    # Where classes are separable 1 - p is tiny, and the trace of the Hessian is made of it.
    rng = np.random.default_rng(0)
    labels = np.arange(40) % 4
    features = 30 * rng.normal(size=(40, 100)) + 1000
    features = np.float32(features)
    exact = oracles.ORACLES["pactran_gaussian"](features, labels, num_classes=4)
    assert_agrees(pactran_gaussian(features, labels, num_classes=4), exact, 1e-5)
    assert -pactran_gaussian(features, labels, num_classes=4, posterior_scale=0.0) < 1e-3


@pytest.mark.parametrize("x64_or_not", [np.float32, np.float64])
def test_solver_ends_where_the_gradient_vanishes(x64_or_not, x64):
    rng = np.random.default_rng(1)
    n, r, c, penalty = 80, 10, 3, x64_or_not(0.01)
    x = rng.normal(size=(n, r)) * np.geomspace(1, 0.01, r)
    x, labels = (x - x.mean(0)).astype(x64_or_not), rng.integers(0, c, n)
    right, share = np.eye(c, dtype=bool)[labels], np.full((n, 1), 1 / n, x64_or_not)
    objective, p, wrong = jax.jit(fit)(x, right, share, np.ones(c, bool), penalty)
    np.testing.assert_allclose(wrong, 1 - p[right], rtol=1e-3, atol=1e-6)
    # At the minimum W = -x'(p - y) / (n penalty), and the biases' gradient is zero.
    slope = (np.float64(p) - right) / n
    assert abs(slope.sum(0)).max() < 1e-5
    w = -np.float64(x).T @ slope / np.float64(penalty)
    # The dual bound: -sum p log p / n - penalty |W|^2 / 2 is below the least objective.
    dual = -(np.float64(p) * np.log(np.float64(p))).sum() / n - penalty * (w * w).sum() / 2
    assert abs(float(objective) - dual) < (1e-12 if x64_or_not is np.float64 else 1e-5)


@pytest.mark.parametrize(
    ("option", "value"),
    [("prior_variance", 0.0), ("prior_variance", "x"), ("posterior_scale", -1.0)],
)
def test_options_are_checked(option, value):
    case = make_case()
    with pytest.raises(ValueError, match=rf"{option}: wanted a finite number.*got"):
        pactran_gaussian(case["features"], case["labels"], num_classes=4, **{option: value})


@pytest.mark.parametrize("length", [0.1, 10.0, 1e3, 1e5])
def test_a_line_search_ends_where_the_slope_is_a_tenth(length, x64):
    rng = np.random.default_rng(0)
    x, right = rng.normal(size=(40, 4)), np.eye(3, dtype=bool)[np.arange(40) % 3]
    share, penalty = np.full((40, 1), 1 / 40), 1e-3
    p = np.full((40, 3), 1 / 3)
    gradient = x.T @ (share * (p - right)), (share * (p - right)).sum(0)
    w, b = (-length * part for part in gradient)
    scores = x @ w + b
    problem = _Problem(x, right, share, np.ones(3, bool), penalty, x.var(0))
    state = SimpleNamespace(w=np.zeros((4, 3)), scores=np.zeros((40, 3)))

    def slope(t):
        residual = share * (softmax(t * scores) - right)
        return np.sum(residual * scores) + penalty * t * np.sum(w * w)

    t = _line_search(problem, state, w, scores, -slope(0.0))
    assert abs(slope(t)) <= 0.1 * -slope(0.0)
