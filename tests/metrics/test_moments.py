"""Moments in parts give what the whole data give, and every moment metric has both doors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from leepjax import metrics
from leepjax.metrics import METRICS, _moments, moments

from . import oracles
from .support import C, Compilations, D, N, conditioned_features, make_case, oracle_of

FROM_MOMENTS = ("h_score", "regularized_h_score", "logme", "lfc", "transrate")


def close(value, expected):
    np.testing.assert_allclose(value, expected, rtol=1e-9, atol=1e-11)


def of(case, begin=5, parts=3, **options):
    """Moments of the case in parts, begun from a few of its rows."""
    state = moments.init(case["features"][:begin], num_classes=C, **options)
    for rows in np.array_split(np.arange(N), parts):
        part = {k: case[k][rows] for k in ("where", "weights")}
        state = moments.update(state, case["features"][rows], case["labels"][rows], **part)
    return state


@pytest.mark.parametrize("name", FROM_MOMENTS)
@pytest.mark.parametrize("offset", [0.0, 1e3])
def test_both_doors_agree(name, offset, x64):
    case = make_case()
    case["features"] = case["features"] + offset
    whole = oracle_of(
        METRICS[name], case, ("where", "weights")
    )  # of features, as the contract has it
    door = getattr(metrics, f"{name}_from_moments")
    np.testing.assert_allclose(door(of(case, by_class=True)), whole, rtol=1e-8)
    if name != "transrate":
        np.testing.assert_allclose(door(of(case)), whole, rtol=1e-8)


def test_solving_takes_a_factor_where_the_rank_rule_keeps_all(x64):
    labels = np.arange(90) % C
    many = [conditioned_features(labels, 12, condition) for condition in (10, 1e4, 1e7)]
    many.append(np.concatenate([many[0][:, :11], many[0][:, :1]], 1))  # two columns are the same
    states = [moments.init(x[:5], num_classes=C) for x in many]
    states = [moments.update(s, x, labels) for s, x in zip(states, many, strict=True)]
    right = np.random.default_rng(0).normal(size=(12, 3))

    def both(state):
        spectrum = _moments.spectrum_of(state)
        by_rule = _moments.solve(state, right, spectrum)
        return _moments.solve(state, right), by_rule, spectrum.kept.sum()

    stacked = jax.tree.map(lambda *x: jnp.stack(x), *states)
    found, by_rule, kept = jax.jit(jax.vmap(both))(stacked)
    assert kept.tolist() == [12, 12, 10, 11]
    for i, state in enumerate(states):
        g = many[i] / float(state.unit)
        expected = np.linalg.pinv(np.cov(g.T, bias=True), rcond=1e-6) @ right
        scale = np.abs(expected).max()
        np.testing.assert_allclose(found[i], expected, rtol=1e-7, atol=1e-8 * scale)
        np.testing.assert_allclose(by_rule[i], expected, rtol=1e-7, atol=1e-8 * scale)


def test_regression_by_moments(x64):
    case = make_case()
    state = moments.init(case["features"][:5], num_targets=case["targets"].reshape(N, -1).shape[1])
    for rows in np.array_split(np.arange(N), 3):
        state = moments.update(state, case["features"][rows], targets=case["targets"][rows])
    whole = oracle_of(METRICS["logme_regression"], case)
    np.testing.assert_allclose(metrics.logme_regression_from_moments(state), whole, rtol=1e-8)


def test_one_target_needs_no_column(x64):
    case = make_case()
    target = case["targets"].reshape(N, -1)[:, 0]
    start = moments.init(case["features"][:5], num_targets=1)
    flat, column = (
        moments.update(start, case["features"], targets=t) for t in (target, target[:, None])
    )
    jax.tree.map(close, flat, column)
    two = moments.init(case["features"][:5], num_targets=2)
    with pytest.raises(ValueError, match=r"^targets: wanted shape \[n, 2\], got \[\d+\]"):
        moments.update(two, case["features"], targets=target)


def test_merge_is_update_with_both(x64):
    case = make_case()
    start = moments.init(case["features"], num_classes=C)
    halves = [
        moments.update(start, case["features"][rows], case["labels"][rows])
        for rows in (slice(0, 11), slice(11, N))
    ]
    whole = moments.update(start, case["features"], case["labels"])
    jax.tree.map(close, moments.merge(*halves), whole)
    jax.tree.map(close, jax.jit(moments.merge)(*halves), whole)
    with_first = jax.jit(lambda second: moments.merge(halves[0], second))
    jax.tree.map(close, with_first(halves[1]), whole)


def test_subset_is_the_samples_of_its_classes(x64):
    case = make_case()
    state = moments.init(case["features"], num_classes=C, by_class=True)
    state = moments.update(state, case["features"], case["labels"])
    mine = np.isin(case["labels"], [3, 1])
    alone = oracles.ORACLES["h_score"](
        case["features"][mine], (case["labels"][mine] == 1).astype(int), num_classes=2
    )
    close(metrics.h_score_from_moments(moments.subset(state, [3, 1])), alone)
    assert metrics.h_score_from_moments(state) != pytest.approx(alone)


def test_features_that_do_not_vary():
    state = moments.init(np.full((3, D), 7.1, np.float32), num_classes=2)
    state = moments.update(state, np.full((8, D), 7.1, np.float32), np.arange(8) % 2)
    for name in ("h_score", "regularized_h_score", "lfc"):
        assert getattr(metrics, f"{name}_from_moments")(state) == 0


def test_a_batch_that_is_masked_throughout_adds_nothing():
    case = make_case()
    state = of(case)
    for nothing in ({"where": np.zeros(N, bool)}, {"weights": np.zeros(N)}):
        for update in (moments.update, jax.jit(moments.update)):
            features = np.full((N, D), np.nan) if "where" in nothing else case["features"]
            after = update(state, features, case["labels"], **nothing)
            jax.tree.map(np.testing.assert_array_equal, after, state)


DOORS = [metrics.logme_regression_from_moments] + [
    getattr(metrics, f"{name}_from_moments") for name in FROM_MOMENTS
]


@pytest.mark.parametrize("door", DOORS, ids=[door.__name__ for door in DOORS])
def test_moments_of_no_samples_have_no_score(door, x64):
    state = empty(door)
    with pytest.raises(ValueError, match=r"^moments: wanted at least one sample .* got none"):
        door(state)
    with pytest.raises(ValueError, match=r"^moments: wanted .* got ndarray"):
        door(np.eye(3))


def empty(door):
    """Moments of no samples, of the shapes of all tests."""
    regression = door is metrics.logme_regression_from_moments
    options = {"num_targets": 2} if regression else {"num_classes": C, "by_class": True}
    return moments.init(make_case()["features"][:5], **options)


# The code that makes it NaN is shared: of the other doors it is only more to compile.
@pytest.mark.parametrize(
    "door",
    [
        pytest.param(d, marks=[pytest.mark.slow] * (d.__name__ != "h_score_from_moments"))
        for d in DOORS
    ],
    ids=[door.__name__ for door in DOORS],
)
def test_moments_of_no_samples_are_nan_under_jit(door, x64):
    assert np.isnan(jax.jit(door)(empty(door)))


def test_doors_compile_once(x64):
    first, second = (of(make_case(seed), by_class=True) for seed in range(2))
    for door in DOORS[1:]:
        door(first)
        with Compilations() as compiled:
            door(second)
        assert compiled == []


@pytest.mark.parametrize("d", [40, 600])
def test_large_data_go_by_blocks_and_columns(d):
    """Past 2^20 elements a CPU sums blocks of rows, and past 512 columns triangles."""
    rng = np.random.default_rng(0)
    n = 2**20 // d + 700
    features = (rng.normal(size=(n, d)) + 3).astype(np.float32)
    labels = rng.integers(0, C, n)
    state = moments.update(moments.init(features[:9], num_classes=C), features, labels)
    g = (features.astype(float) - np.asarray(state.shift, float)) / float(state.unit)
    np.testing.assert_allclose(state.gram, g.T @ g, rtol=1e-4, atol=1e-4 * n / state.unit**2)
    np.testing.assert_allclose(state.sums[1], g[labels == 1].sum(0), rtol=1e-3, atol=0.1)
    by_class = moments.init(features[:9], num_classes=C, by_class=True)
    by_class = moments.update(by_class, features, labels)
    np.testing.assert_allclose(
        by_class.gram[2], g[labels == 2].T @ g[labels == 2], rtol=1e-4, atol=1e-4 * n
    )


def test_gradient_of_large_data_is_that_of_the_plain_expression():
    rng = np.random.default_rng(0)
    n, d = 2**15, 40  # the loop over blocks
    features = (rng.normal(size=(n, d)) + rng.normal(size=(C, d))[np.arange(n) % C] / 4).astype(
        "f4"
    )
    labels, step = np.arange(n) % C, rng.normal(size=n).astype("f4")

    for fn in (metrics.h_score, metrics.transrate):

        @jax.jit
        @jax.value_and_grad
        def along(t, features, labels, step, fn=fn):
            return fn(features, labels, num_classes=C, weights=jnp.ones(n) + t * step)

        (above, _), (_, slope), (below, _) = (
            along(t, features, labels, step) for t in (1e-1, 0.0, -1e-1)
        )
        np.testing.assert_allclose(slope, (above - below) / 2e-1, rtol=2e-2, atol=1e-4)


def by_class(case):
    return moments.init(case["features"], num_classes=C, by_class=True)


@pytest.mark.parametrize(
    ("call", "blame"),
    [
        (lambda s, c: moments.update(s, c["features"][:, :2], c["labels"]), "features"),
        (lambda s, c: moments.update(s, c["features"], c["labels"] + C), "labels"),
        (lambda s, c: moments.update(s, c["features"]), "labels"),
        (lambda s, c: moments.update(s, c["features"], c["labels"], c["targets"]), "targets"),
        (lambda s, c: moments.merge(s, moments.init(c["features"], num_classes=C + 1)), "b"),
        (lambda s, c: moments.merge(s, moments.init(c["features"] + 1, num_classes=C)), "b"),
        (lambda s, c: moments.subset(s, [0]), "state"),
        (lambda s, c: moments.subset(by_class(c), [0.5]), "classes"),
        (lambda s, c: moments.subset(by_class(c), [0, C]), "classes"),
        (
            lambda s, c: moments.update(
                moments.init(c["features"], num_targets=3), c["features"], targets=c["targets"]
            ),
            "targets",
        ),
        (lambda s, c: moments.init(c["features"], num_classes=0), "num_classes"),
        (lambda s, c: moments.init(c["features"] * np.nan), "features"),
        (lambda s, c: metrics.transrate_from_moments(s), "moments"),
        (lambda s, c: metrics.transrate_from_moments(s, class_weights="same"), "class_weights"),
        (lambda s, c: metrics.lfc_from_moments(s, centering="none"), "centering"),
        (lambda s, c: metrics.logme_regression_from_moments(s), "moments"),
        (
            lambda s, c: metrics.lfc_from_moments(
                moments.update(s, c["features"], np.zeros(N, int))
            ),
            "labels",
        ),
    ],
)
def test_bad_input(call, blame):
    case = make_case()
    state = moments.init(case["features"], num_classes=C)
    with pytest.raises(ValueError, match=rf"^{blame}: wanted"):
        call(state, case)


def test_shrinkage_of_many_anisotropic_samples():
    """A small alpha beside a dominating direction: the published value, by scikit-learn."""
    from sklearn.covariance import ledoit_wolf

    rng = np.random.default_rng(0)
    n, d = 20000, 128
    labels = np.arange(n) % C
    features = rng.normal(size=(n, d)) + rng.normal(size=(C, d))[labels] / 2
    features[:, 0] *= 100
    features = features.astype(np.float32)
    covariance, alpha = ledoit_wolf(features.astype(float))
    means = np.stack([features[labels == c].mean(0, dtype=float) for c in range(C)])
    centred = means - features.mean(0, dtype=float)
    between = centred.T @ centred * (n / C) / (n - 1)
    wanted = np.trace(np.linalg.solve(covariance, (1 - alpha) * between))
    got = metrics.regularized_h_score(features, labels, num_classes=C)
    np.testing.assert_allclose(got, wanted, rtol=1e-4)
