"""``leepjax.metrics.contrib`` against float64 NumPy, published code's values, and its contract.

Compiling takes the time. So nearly all cases have one of two shapes, as many classes, and masks.
"""

import functools
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import linalg, optimize, special

from leepjax.metrics.contrib import (
    emms,
    ncti,
    ncti_centres,
    ncti_compactness,
    ncti_geometry,
    otce,
    ped,
)

from . import oracles
from .support import WIDE, C, assert_agrees, hard_cases, make_case

# ------------------------------------------------------------------------------ oracles


def nuclear(matrix):
    return linalg.svdvals(matrix).sum()


def ncti_oracle(f, labels, num_components=64):
    f = np.asarray(f, np.float64)
    _, labels = np.unique(labels, return_inverse=True)
    n, c = len(f), labels.max() + 1
    u, sizes, _ = linalg.svd(f - f.mean(0), full_matrices=False)
    k = min(num_components, n - 1, np.sum(sizes**2 > 1e-6 * sizes[0] ** 2))
    z = u[:, :k] * sizes[:k]
    s = max(np.exp(-(sizes[: min(32, k)] ** 2).sum() / max(n - 1, 1)), 1e-6)
    one_hot = np.eye(c)[labels]
    share = one_hot.mean(0)
    means = (one_hot.T @ z) / one_hot.sum(0)[:, None]
    within = (z - means[labels]).T @ (z - means[labels]) / n
    diagonal = max(np.trace(within), 1e-6 * (z**2).sum() / n) / k
    within = (1 - s) * within + s * diagonal * np.eye(k)
    between = (means.T * share) @ means
    _, directions = linalg.eigh(between, within)
    low = z @ directions[:, ::-1][:, : min(c - 1, k)]
    coefficients = np.linalg.solve(within, means.T)
    scores = z @ coefficients - (means.T * coefficients).sum(0) / 2 + np.log(share)
    posterior = special.softmax(scores, axis=1)
    return (
        nuclear(low),
        posterior[np.arange(n), labels].mean(),
        -np.log(sum(nuclear(posterior[labels == y]) for y in range(c))),
    )


def emms_oracle(f, labels, embeddings=None):
    f = np.asarray(f, np.float64)
    if embeddings is None:
        embeddings = np.eye(labels.max() + 1)[None]
    z = np.float64(embeddings)[:, labels]
    z = z - z.mean(1, keepdims=True)
    varies = (np.abs(z).max(1) > 1e-12).any(0)
    z = z[:, :, varies]
    deviation = z.std(1, keepdims=True)
    z = z / np.where(deviation > 1e-12, deviation, np.inf)
    f = f - f.mean(0)
    u, sizes, _ = linalg.svd(f, full_matrices=False)
    u = u[:, (sizes**2 > 1e-6 * sizes[0] ** 2) & (np.arange(len(sizes)) < len(f) - 1)]
    residuals = (z - u @ (u.T @ z)).reshape(len(z), -1)
    q = residuals @ residuals.T / (len(f) * varies.sum())
    k = len(q)
    best = optimize.minimize(
        lambda t: t @ q @ t,
        np.full(k, 1 / k),
        jac=lambda t: 2 * q @ t,
        bounds=[(0, 1)] * k,
        constraints={"type": "eq", "fun": lambda t: t.sum() - 1},
        options={"ftol": 1e-14, "maxiter": 1000},
    )
    return -min(best.fun, *np.diag(q))


def ped_oracle(f, labels, scale=1.0, radius=0.6, time_step=0.1, num_steps=6):
    f = np.array(f, np.float64)
    _, labels = np.unique(labels, return_inverse=True)
    classes, first = range(labels.max() + 1), None
    for _ in range(num_steps):
        z = f / scale
        means = [z[labels == y].mean(0) for y in classes]
        radii = [radius * np.sqrt(z[labels == y].var(0).sum()) for y in classes]
        moved = np.zeros((len(means), f.shape[1]))
        for a in classes:
            for b in classes:
                apart = means[a] - means[b]
                distance = np.linalg.norm(apart)
                if distance > 0:
                    overlap = max(radii[a] + radii[b] - distance, 0)
                    moved[a] += min(time_step**2 / 2, 1) * overlap * apart / distance
        length = np.abs(moved).sum()
        first = length if first is None else first
        if length <= first / 2:
            break
        f = f + (moved * scale)[labels]
    return oracles.ORACLES["sfda"](f, labels, num_classes=len(classes))


def coupling_score(coupling, g, z, f, y):
    """Minus (W, CE) of a coupling."""
    cost = ((np.float64(g)[:, None] - np.float64(f)[None]) ** 2).sum(2)
    joint = np.eye(z.max() + 1)[z].T @ coupling @ np.eye(y.max() + 1)[y]
    return -(coupling * cost).sum(), special.xlogy(joint, joint).sum() - special.xlogy(
        joint.sum(1), joint.sum(1)
    ).sum()


def regularized_coupling(g, f, regularization):
    g, f = np.float64(g), np.float64(f)
    epsilon = regularization * (g.var(0).sum() + f.var(0).sum())
    kernel = -((g[:, None] - f[None]) ** 2).sum(2) / epsilon
    v, before = np.zeros(len(f)), np.inf
    while np.abs(v - before).max() > 1e-9:
        before = v
        u = -special.logsumexp(kernel + v - np.log(len(f)), axis=1)
        v = -special.logsumexp(kernel + u[:, None] - np.log(len(g)), axis=0)
    return np.exp(kernel + u[:, None] + v) / (len(f) * len(g))


def make_two(seed=0, m=25, n=30, offset=0.0):
    source, target = make_case(seed, n=m), make_case(seed + 1, n=n)
    rng = np.random.default_rng(seed)
    return {
        "source_features": np.float32(source["features"] + offset),
        "source_labels": source["labels"] % 3,
        "features": np.float32(target["features"]),
        "labels": target["labels"],
        "source_where": rng.permutation(np.arange(m) % 3 > 0),
        "where": target["where"],
    }


ARRAYS = ("source_features", "source_labels", "features", "labels")


def otce_parts(two, **options):
    """Minus (W, CE), with every optional array and more classes than there are."""
    arrays = [two[name] for name in ARRAYS]
    everything = {"source_where": np.ones(len(arrays[0]), bool)}
    everything |= {"where": np.ones(len(arrays[2]), bool)}
    options = {"num_source_classes": 9, "num_classes": 7} | everything | options
    return tuple(otce(*arrays, domain_weight=w, task_weight=1 - w, **options) for w in (1.0, 0.0))


def one_hot_emms(f, labels):
    return emms_oracle(f, np.unique(labels, return_inverse=True)[1])


SCALARS = {  # of features and labels
    "geometry": (ncti_geometry, lambda f, y: ncti_oracle(f, y)[0]),
    "centres": (ncti_centres, lambda f, y: ncti_oracle(f, y)[1]),
    "compactness": (ncti_compactness, lambda f, y: ncti_oracle(f, y)[2]),
    "emms": (emms, one_hot_emms),
    "ped": (ped, ped_oracle),
}
each = pytest.mark.parametrize("name", SCALARS)
CLASSES = 8  # so many may be


def evaluate(fn, f, labels, where=None, **options):
    """With a mask and `CLASSES`: of one shape and options one program."""
    where = np.ones(len(labels), bool) if where is None else where
    return fn(f, labels, num_classes=CLASSES, where=where, **options)


# ------------------------------------------------------------------------------ values


@pytest.mark.parametrize("case", ["medium", "imbalanced"])
def test_golden(golden, case):
    values, inputs = golden
    values = values[case]
    f, y = np.float32(inputs[f"{case}/features"]), inputs[f"{case}/labels"]
    c = int(y.max()) + 1
    # The code adds 1e-8 to deviations, and multiplies by c where it means to divide.
    assert_agrees(c**2 * emms(f, y, num_classes=c), values["emms/emms(F-label=one-hot)"], 1e-6)
    if case == "medium":  # of the other it says that it wants 64 features
        parts = ncti(f, y, num_classes=c)
        assert_agrees(parts.geometry, values["ncti/ncti[all_nuc]"], 1e-5)
        assert_agrees(parts.centres, values["ncti/ncti[cls_score]"], 1e-5)
        assert_agrees(parts.compactness, -values["ncti/ncti[log_cls_nuc]"], 1e-5)
    # The source features that it was computed with are not kept; SFDA is far off (0.65, 0.81).
    published = values["ped/ped(SFDA,step0.1,nsigma0.6)"]
    assert_agrees(ped(f, y, num_classes=c), published, 2e-3)


@pytest.mark.parametrize("hard", hard_cases())
@each
def test_float32(name, hard):
    case = hard_cases()[hard]()
    f = np.float32(case["features"])
    fn, oracle = SCALARS[name]
    assert_agrees(evaluate(fn, f, case["labels"]), oracle(f, case["labels"]), 1e-4)


@pytest.mark.parametrize("unit", [0.03, 0.3, 1.0])
@each
def test_unit(name, unit, x64):
    case = make_case(n=80, d=6)
    f, y = unit * case["features"], case["labels"]
    fn, oracle = SCALARS[name]
    assert_agrees(evaluate(fn, f, y), oracle(f, y), 1e-6)


def test_ncti_of_many_classes():
    rng = np.random.default_rng(0)
    y = np.sort(rng.integers(0, 70, size=1500))  # rows of a class: more and fewer than sizes
    y[:300] = 0
    f = np.float32(rng.normal(size=(1500, 90)) + 0.8 * rng.normal(size=(70, 90))[y])
    parts = ncti(f, y, num_classes=75)
    for fn, part in zip((ncti_geometry, ncti_centres, ncti_compactness), parts, strict=True):
        np.testing.assert_array_equal(fn(f, y, num_classes=75), part)  # of 64 components too
    for value, expected in zip(parts, ncti_oracle(f, y), strict=True):
        assert_agrees(value, expected, 1e-4)


def test_ncti_of_few_components():
    case = make_case(n=500, d=48)
    f, y = np.float32(case["features"]), case["labels"]
    parts = evaluate(ncti, f, y, num_components=5)
    for value, expected in zip(parts, ncti_oracle(f, y, 5), strict=True):
        assert_agrees(value, expected, 1e-4)


def test_emms_of_embeddings():
    case = make_case(n=60, d=5)
    f, y = np.float32(case["features"]), case["labels"]
    for seed in range(3):
        rng = np.random.default_rng(seed)
        embeddings = np.float32(rng.normal(size=(5, C, 7)) + 10)
        embeddings[:, :, 0] = 3  # does not vary
        embeddings[0, :, 1] = 3  # nor in the first embedding
        values = []
        for some in (embeddings[:1], embeddings):
            values.append(emms(f, y, num_classes=C, label_embeddings=some))
            assert_agrees(values[-1], emms_oracle(f, y, some), 1e-5)
        assert values[1] >= values[0] - 1e-3


def test_gradient_of_emms(x64):
    case = make_case(n=20, d=3)
    embeddings = np.random.default_rng(0).normal(size=(2, C, 3))

    @jax.jit
    @functools.partial(jax.value_and_grad, argnums=(0, 1))
    def fn(f, w):
        return emms(f, case["labels"], num_classes=C, label_embeddings=embeddings, weights=w)

    f, w = jnp.asarray(case["features"]), jnp.asarray(case["weights"] + 0.5)
    rng = np.random.default_rng(1)
    steps = [1e-5 * rng.normal(size=x.shape) for x in (f, w)]
    for gradient, step, (df, dw) in zip(fn(f, w)[1], steps, [(1, 0), (0, 1)], strict=True):
        df, dw = df * steps[0], dw * steps[1]
        change = (fn(f + df, w + dw)[0] - fn(f - df, w - dw)[0]) / 2
        np.testing.assert_allclose(change, (gradient * step).sum(), rtol=2e-3)
    one_hot = jax.jit(jax.grad(lambda w: emms(f, case["labels"], num_classes=C + 2, weights=w)))
    assert np.isfinite(one_hot(w)).all()


def test_emms_of_weights_is_of_repetitions():
    case = make_case()
    f, y, w = np.float32(case["features"]), case["labels"], case["weights"]
    rows = np.repeat(np.arange(len(y)), w.astype(int))
    assert_agrees(emms(f, y, num_classes=C, weights=w), one_hot_emms(f[rows], y[rows]), 1e-5)


@pytest.mark.parametrize("radius", [pytest.param(0.3, marks=pytest.mark.slow), 2.0])
def test_ped_of_source_features(radius):
    case = make_case(n=60)
    f, y = np.float32(case["features"]), case["labels"]
    source = np.float32(np.random.default_rng(0).normal(size=(40, 5)) * [1, 2, 3, 4, 0] + 50)
    scale = np.maximum(source.std(0), 1e-3 * source.std(0).max())
    padded = np.concatenate([source, np.full((3, 5), np.nan, np.float32)])
    options = {"radius": radius, "num_steps": 9, "time_step": 0.4}
    wanted = ped_oracle(f, y, scale, radius, 0.4, 9)
    for arrays in (
        {"source_features": source},
        {"source_features": padded, "source_where": np.arange(43) < 40},
    ):
        assert_agrees(evaluate(ped, f, y, **arrays, **options), wanted, 1e-4)


def test_ped_is_sfda_where_classes_are_apart():
    case = make_case(n=500, d=48)
    rng = np.random.default_rng(0)
    f, y = np.zeros((500, 48), np.float32), case["labels"]
    f[:, 7] = rng.normal(size=500) + 2.5 * y  # further apart than two radii, and not told apart
    wanted = oracles.ORACLES["sfda"](f, y, num_classes=C)
    assert wanted < 0.95
    assert_agrees(evaluate(ped, f, y), wanted, 1e-4)


@pytest.mark.parametrize("offset", [0.0, 100.0])
@pytest.mark.parametrize("regularization", [0.01, 0.1, 2.0])
def test_otce(regularization, offset):
    two = make_two(offset=offset)
    coupling = regularized_coupling(
        two["source_features"] - np.float64(offset), two["features"], regularization
    )
    expected = coupling_score(coupling, *(two[name] for name in ARRAYS))
    for value, part in zip(otce_parts(two, regularization=regularization), expected, strict=True):
        assert_agrees(value, part, 1e-4)
    weights = {"domain_weight": 0.5, "task_weight": 3}
    options = {"num_source_classes": 9, "num_classes": 7, "regularization": regularization}
    options |= {"source_where": np.ones(25, bool), "where": np.ones(30, bool)}
    both = otce(*(two[name] for name in ARRAYS), **options, **weights)
    assert_agrees(both, 0.5 * expected[0] + 3 * expected[1], 1e-4)


def test_otce_nears_the_least_cost(x64):
    two = make_two(m=12, n=9)
    g, z, f, y = (two[name] for name in ARRAYS)
    cost = ((np.float64(g)[:, None] - np.float64(f)[None]) ** 2).sum(2)
    marginals = np.concatenate([np.kron(np.eye(12), np.ones(9)), np.kron(np.ones(12), np.eye(9))])
    mass = np.concatenate([np.full(12, 1 / 12), np.full(9, 1 / 9)])
    plan = optimize.linprog(cost.ravel(), A_eq=marginals, b_eq=mass, method="highs").x
    expected = coupling_score(plan.reshape(12, 9), g, z, f, y)
    errors = [
        np.abs(np.subtract(otce_parts(two, regularization=r), expected)) for r in (0.1, 0.01, 0.001)
    ]
    assert errors[0][0] > errors[1][0] > errors[2][0]
    assert errors[2].max() < 2e-2


def test_otce_of_pot():
    ot = pytest.importorskip("ot")
    two = make_two()
    g, f = np.float64(two["source_features"]), np.float64(two["features"])
    epsilon = 0.05 * (g.var(0).sum() + f.var(0).sum())
    plan = ot.bregman.sinkhorn_log(
        ot.unif(25), ot.unif(30), ot.dist(g, f), epsilon, numItermax=10000, stopThr=1e-10
    )
    expected = coupling_score(plan, *(two[name] for name in ARRAYS))
    for value, part in zip(otce_parts(two, regularization=0.05), expected, strict=True):
        assert_agrees(value, part, 1e-4)


def test_otce_of_many_rows():
    two = make_two(m=300, n=270)
    coupling = regularized_coupling(two["source_features"], two["features"], 0.05)
    expected = coupling_score(coupling, *(two[name] for name in ARRAYS))
    for value, part in zip(otce_parts(two, regularization=0.05), expected, strict=True):
        assert_agrees(value, part, 1e-4)


# ------------------------------------------------------------------------------ contract


@each
def test_masked_is_filtered(name):
    case = make_case(n=500, d=48)
    f, y, where = np.float32(case["features"]), case["labels"], case["where"]
    fn, oracle = SCALARS[name]
    expected = oracle(f[where], y[where])
    f, y = np.where(where[:, None], f, np.nan), np.where(where, y, -7)
    value = evaluate(fn, f, y, where)
    assert_agrees(value, expected, 1e-4)
    # The names of classes do not matter, nor those that are absent, nor the order of samples.
    names = np.array([6, 1, 4, 0])
    order = np.random.default_rng(0).permutation(len(y))
    again = evaluate(fn, f[order], np.where(where, names[y % 4], -7)[order], where[order])
    assert_agrees(again, float(value), 1e-5)


def test_masked_is_filtered_otce():
    two = make_two()
    s, t = two["source_where"], two["where"]
    g, z, f, y = (two[k][s if k.startswith("source") else t] for k in ARRAYS)
    expected = coupling_score(regularized_coupling(g, f, 0.05), g, z, f, y)
    two["source_features"] = np.where(s[:, None], two["source_features"], np.nan)
    two["features"] = np.where(t[:, None], two["features"], np.inf)
    two["labels"] = np.where(t, two["labels"], -1)
    options = {"source_where": s, "where": t, "regularization": 0.05}
    values = otce_parts(two, **options)
    for value, part in zip(values, expected, strict=True):
        assert_agrees(value, part, 1e-4)
    two["labels"] = np.where(t, np.array([5, 1, 0, 3])[two["labels"] % 4], -1)
    two["source_labels"] = two["source_labels"] + 4
    for value, part in zip(otce_parts(two, **options), values, strict=True):
        assert_agrees(value, float(part), 1e-5)


def test_jit_and_vmap():
    cases = [make_case(seed, **WIDE) for seed in range(2)]
    f = np.stack([np.float32(case["features"]) for case in cases])
    y = np.stack([case["labels"] for case in cases])
    f, y = np.concatenate([f, np.nan * f[:1]]), np.concatenate([y, y[:1]])
    kernels = (ncti, emms, ped)
    values = jax.jit(jax.vmap(lambda f, y: [fn(f, y, num_classes=C) for fn in kernels]))(f, y)
    for fn, value in zip(kernels, values, strict=True):
        value = np.transpose(value)
        for i in range(2):
            alone = evaluate(fn, f[i], y[i])
            np.testing.assert_allclose(value[i], alone, rtol=1e-5, atol=1e-5, err_msg=fn.__name__)
        assert np.isnan(value[2]).all()


def test_jit_and_vmap_otce():
    twos = [make_two(seed) for seed in range(2)]
    arrays = [np.stack([two[name] for two in twos] + [twos[0][name]]) for name in ARRAYS]
    arrays[1][2, 0] = 3  # no such source class
    classes = {"num_source_classes": 3, "num_classes": C, "domain_weight": 0.0}
    values = jax.jit(jax.vmap(lambda *x: otce(*x, **classes)))(*arrays)
    for i in range(2):
        assert_agrees(values[i], float(otce_parts(twos[i])[1]), 1e-4)
    assert np.isnan(values[2])


def six(f, labels):
    """Six samples or fewer, in the shape `WIDE`: masked rows and constant columns say nothing."""
    arrays = np.full((9, 12), np.nan, np.float32), np.full(9, -1), np.arange(9) < len(labels)
    arrays[0][: len(f)] = 0.7
    arrays[0][: len(f), : f.shape[1]], arrays[1][: len(f)] = f, labels
    return arrays


def test_degenerate():
    y = np.array([0, 0, 0, 1, 1, 2])
    one_hot = np.eye(3, dtype=np.float32)[y]
    constant = np.full((6, 2), 7.3, np.float32)
    share = np.array([3, 2, 1]) / 6
    rows = [np.outer(np.ones(k), share) for k in (3, 2, 1)]
    parts = evaluate(ncti, *six(constant, y))
    assert parts.geometry == 0
    assert_agrees(parts.centres, (share**2).sum(), 1e-6)
    assert_agrees(parts.compactness, -np.log(sum(map(nuclear, rows))), 1e-6)
    assert_agrees(evaluate(emms, *six(constant, y)), -1, 1e-6)
    assert_agrees(evaluate(ped, *six(constant, y)), (share**2).sum(), 1e-6)

    assert_agrees(evaluate(emms, *six(one_hot, y)), 0, 1e-6)
    assert_agrees(evaluate(ped, *six(one_hot, y)), 1, 1e-6)
    parts = evaluate(ncti, *six(one_hot, y))
    assert np.isfinite(parts).all()
    assert_agrees(parts.centres, 1, 1e-6)
    assert_agrees(parts.compactness, -np.log(3**0.5 + 2**0.5 + 1), 1e-5)

    for n in (1, 6):  # one class
        one_class = six(one_hot[:n], np.zeros(n, int))
        np.testing.assert_allclose(evaluate(ncti, *one_class), (0, 1, -np.log(n) / 2), atol=1e-5)
        assert_agrees(evaluate(ped, *one_class), 1, 1e-6)
        with pytest.raises(ValueError, match=r"^labels: wanted .* got one class"):
            evaluate(emms, *one_class)
    # Every sample a class of its own; coinciding means; copies.
    noise = np.float32(np.random.default_rng(0).normal(size=(6, 9)))
    for f in (noise, np.zeros((6, 1), np.float32), noise[[0, 1, 0, 1, 0, 1]]):
        for labels in (np.arange(6), np.arange(6) % 2, np.arange(6) // 2):
            arrays = six(f, labels)
            assert np.isfinite(evaluate(ncti, *arrays)).all()
            assert np.isfinite(evaluate(emms, *arrays))
            assert np.isfinite(evaluate(ped, *arrays, radius=3))
    assert_agrees(evaluate(emms, *six(noise, np.arange(6) % 3)), 0, 1e-5)  # n <= d


@pytest.mark.slow  # programs of these shapes alone; `test_degenerate` masks all samples but one
@pytest.mark.parametrize("n", [1, 6])
def test_one_column(n):
    f, y = np.float32(np.random.default_rng(0).normal(size=(n, 1))), np.zeros(n, int)
    parts = ncti(f, y, num_classes=3)
    np.testing.assert_allclose(parts, (0, 1, -np.log(n) / 2), atol=1e-5)
    assert_agrees(ped(f, y, num_classes=3), 1, 1e-6)


def test_degenerate_otce():
    y = np.array([0, 0, 0, 1, 1, 2])
    constant = np.full((6, 2), 7.3, np.float32)
    entropy = special.entr(np.array([3, 2, 1]) / 6).sum()

    def parts(g, z, f, y, **options):
        """(W + CE), of masked samples of the shape of all others."""
        two = {
            "source_features": np.full((25, 5), np.nan, np.float32),
            "source_labels": np.full(25, -1),
            "features": np.full((30, 5), np.nan, np.float32),
            "labels": np.full(30, -1),
        }
        for name, values in zip(ARRAYS, (g, z, f, y), strict=True):
            if name.endswith("features"):
                two[name][: len(values)] = 0
                two[name][: len(values), :2] = values
            else:
                two[name][: len(values)] = values
        masks = {"source_where": np.arange(25) < len(g), "where": np.arange(30) < len(f)}
        return sum(otce_parts(two, **masks, **options))

    assert_agrees(parts(constant, y, constant, y), -entropy, 1e-6)
    assert_agrees(parts(constant[:1], y[:1], constant + 1, y), -2 - entropy, 1e-6)
    assert_agrees(parts(constant, y, constant, 0 * y), 0, 1e-6)
    f = np.float32(np.random.default_rng(0).normal(size=(6, 2)))
    assert_agrees(parts(f, y, f, y, regularization=1e-3), 0, 1e-3)
    far = 1e4 * np.float32(np.arange(6) == 5)[:, None] * f + f  # one outlier
    assert np.isfinite(parts(f, y, far, y))
    assert np.isfinite(parts(f[:1], y[:1], f[:1], y[:1]))


BAD = {
    "num_components": (ncti, {"num_components": 0}),
    "num_classes": (ncti, {"num_classes": 2.0}),
    "label_embeddings": (emms, {"label_embeddings": np.zeros((2, 3, 4))}),
    "label_embeddings: wanted floating": (emms, {"label_embeddings": np.zeros((1, C, 4), int)}),
    "label_embeddings: wanted finite": (emms, {"label_embeddings": np.full((1, C, 4), np.nan)}),
    "labels: wanted samples whose": (emms, {"label_embeddings": np.ones((1, C, 4))}),
    "radius": (ped, {"radius": 0}),
    "time_step": (ped, {"time_step": "fast"}),
    "num_steps": (ped, {"num_steps": 0}),
    "source_features": (ped, {"source_features": np.zeros(4)}),
    "source_features: wanted as many": (ped, {"source_features": np.zeros((4, 2))}),
    "source_features: wanted finite": (ped, {"source_features": np.full((4, 5), np.inf)}),
    "source_where": (ped, {"source_where": np.ones(30, bool)}),
    "where": (ped, {"where": np.ones(29, bool)}),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_input(message):
    fn, options = BAD[message]
    case = make_case()
    with pytest.raises(ValueError, match=f"^{message}"):
        fn(np.float32(case["features"]), case["labels"], **({"num_classes": C} | options))


BAD_OTCE = {
    "source_features: wanted finite": {"source_features": np.full((25, 5), np.nan)},
    "source_features: wanted as many": {"source_features": np.zeros((25, 4))},
    "source_labels: wanted integers": {"source_labels": np.full(25, 3)},
    "source_where: ": {"source_where": np.zeros(25, bool)},
    "features: wanted floating": {"features": np.zeros((30, 5), int)},
    "labels: wanted integers": {"labels": np.full(30, -1)},
    "num_source_classes": {"num_source_classes": None},
    "num_classes": {"num_classes": 0},
    "regularization": {"regularization": 0.0},
    "domain_weight": {"domain_weight": -1},
    "task_weight": {"task_weight": np.nan},
}


@pytest.mark.parametrize("message", BAD_OTCE)
def test_bad_input_otce(message):
    two = make_two() | {"source_where": None, "where": None}
    two |= {"num_source_classes": 3, "num_classes": C} | BAD_OTCE[message]
    with pytest.raises(ValueError, match=f"^{message}"):
        otce(**two)


def test_is_not_imported_by_metrics():
    code = "import sys, leepjax.metrics; print([m for m in sys.modules if 'contrib' in m])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "leepjax" not in out.stdout
