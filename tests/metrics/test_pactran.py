"""What is particular to PACTran-Dirichlet and -Gamma; the rest is in test_contract_*.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import digamma, gammaln

from leepjax.metrics._pactran import pactran_dirichlet, pactran_gamma

from . import oracles
from .support import C, S, assert_agrees, make_case, softmax

both = pytest.mark.parametrize("metric", [pactran_dirichlet, pactran_gamma])
CASE = make_case()


@both
@pytest.mark.parametrize("case", ["medium", "imbalanced"])
def test_golden(golden, metric, case):
    values, inputs = golden
    probs, labels = np.float32(inputs[f"{case}/predictions"]), inputs[f"{case}/labels"]
    value = metric(probs, labels, num_classes=int(labels.max()) + 1)
    loss = values[case][f"{metric.__name__}/pactran(alpha=1,on predictions)"]
    assert_agrees(value, -loss, 1e-6)


def test_one_source_class_is_the_exact_evidence(x64):
    # Nothing to infer but one Dirichlet: prod_y Gamma(a_y + n_y) / Gamma(a_y), over Gamma(1 + n).
    labels = np.array([0, 0, 0, 1, 1, 2])
    n_y = np.array([3, 2, 1])
    evidence = (gammaln(n_y / 6 + n_y) - gammaln(n_y / 6)).sum() - gammaln(7)
    value = pactran_dirichlet(np.ones((6, 1)), labels, num_classes=4)
    assert_agrees(value, evidence / 18, 1e-12)
    # Gamma: the shapes alone, and sum_y A_y = 7 for the normaliser of each sample.
    gain = (gammaln(n_y / 6 + n_y) - gammaln(n_y / 6)).sum() - n_y @ digamma(n_y / 6 + n_y)
    kl = -n_y @ digamma(n_y / 6 + n_y)  # of q's normaliser, which cancels that of its exponent
    value = pactran_gamma(np.ones((6, 1)), labels, num_classes=4)
    assert_agrees(value, (gain - kl - 6 * np.log(7) + 6) / 18 - 1, 1e-12)


def test_dirichlet_rises_with_what_the_source_knows():
    labels = np.arange(60) % 3
    scores = [
        float(pactran_dirichlet(softmax(k * np.eye(3))[labels], labels, num_classes=3))
        for k in (0.0, 1.0, 3.0, 10.0)
    ]
    assert scores == sorted(scores)
    assert scores[-1] <= 0
    probs = softmax(np.eye(3))[labels]
    one_class = pactran_dirichlet(probs, np.zeros(60, int), num_classes=3)
    assert_agrees(one_class, 0, 1e-5)


def with_gradient(metric, num_classes):
    """Value and gradient of one program."""
    return jax.jit(
        jax.value_and_grad(lambda probs, labels: metric(probs, labels, num_classes=num_classes))
    )


@both
def test_zero_probabilities_change_nothing_and_have_a_gradient(metric, x64):
    probs, labels, run = CASE["probs"], CASE["labels"], with_gradient(metric, C)
    value, _ = run(probs, labels)
    wide = np.insert(probs, [0, 3, S], 0, axis=1)
    np.testing.assert_allclose(metric(wide, labels, num_classes=C), value, rtol=1e-12)
    sparse, step = probs.copy(), np.zeros_like(probs)
    sparse[3] = [0.5, 0.5, 0, 0, 0, 0]
    step[3, [4, 0]] = 1e-6, -1e-6  # into the simplex
    value, gradient = run(sparse, labels)
    change = run(sparse + step, labels)[0] - value
    np.testing.assert_allclose((gradient * step).sum(), change, rtol=1e-3)
    _, gradient = run(np.eye(S)[CASE["source_labels"]], labels)
    assert jnp.isfinite(gradient).all()


@both
def test_rare_classes_do_not_underflow(metric):
    # psi(A) is about -1000 for a label of one sample in many, spread over many source classes.
    rng = np.random.default_rng(0)
    labels = np.where(np.arange(1200) < 5, np.arange(1200), 5)
    probs = softmax(rng.normal(size=(1200, 300)) * 0.1).astype(np.float32)
    expected = oracles.ORACLES[metric.__name__](probs, labels, num_classes=6)
    value, gradient = with_gradient(metric, 6)(probs, labels)
    assert_agrees(value, expected)
    assert jnp.isfinite(gradient).all()


@both
@pytest.mark.parametrize(  # a derivative computes the value too
    "derivative", [pytest.param(False, marks=pytest.mark.slow), True]
)
def test_memory_has_no_term_of_samples_times_classes_times_source_classes(metric, derivative):
    n, s, c = 2000, 300, 50

    def fn(probs, labels):
        return metric(probs, labels, num_classes=c)

    fn = jax.grad(fn) if derivative else fn
    lowered = jax.jit(fn).lower(jnp.zeros((n, s)), jnp.zeros(n, int))
    assert lowered.compile().memory_analysis().temp_size_in_bytes < 15 * n * s * 4
