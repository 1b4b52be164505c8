"""`score`: every metric whose inputs are given, by the same call."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from leepjax.metrics import METRICS, metrics_of, score

from .oracles import WITHOUT_ORACLE
from .support import C, N, S, cast, evaluate, jit_vmap, make_case, oracle_of, stack

FROM_LABELS = {"neg_label_entropy"}
FROM_FEATURES = {
    "h_score",
    "regularized_h_score",
    "logme",
    "lfc",
    "transrate",
    "gbc",
    "lda_score",
    "energy",
    "sfda",
    "pactran_gaussian",
    "knn",
    "linear_probe",
    "predictive_r2",
}
FROM_FEATURES_AND_KEY = {"parc", "nleep"}
FROM_SOURCE_LABELS = {"nce"}
FROM_PROBS = {
    *("leep", "leep_gain", "cross_fitted_leep", "pactran_dirichlet", "pactran_gamma"),
    *FROM_SOURCE_LABELS,
}
FROM_LOGITS = {"leep_calibrated"} | FROM_PROBS


@pytest.fixture
def case():
    return cast(make_case(), np.float32)


def check(values, case, use=()):
    """Each value is that of the metric's own function, which is its oracle's."""
    for name, value in values.items():
        assert value.shape == ()
        metric = METRICS[name]
        if name in WITHOUT_ORACLE:
            np.testing.assert_allclose(value, evaluate(metric, case, use), rtol=1e-8, err_msg=name)
        else:
            np.testing.assert_allclose(
                value, oracle_of(metric, case, use), rtol=1e-8, atol=1e-10, err_msg=name
            )


def test_signature():
    parameters = inspect.signature(score).parameters
    assert [n for n, p in parameters.items() if p.kind is not p.KEYWORD_ONLY] == ["labels"]
    names = {"num_classes", "features", "probs", "logits", "source_labels", "where", "metrics"}
    assert names <= set(parameters)


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ((), FROM_LABELS),
        (("probs",), FROM_LABELS | FROM_PROBS),
        (("logits",), FROM_LABELS | FROM_LOGITS),
        (("source_labels",), FROM_LABELS | FROM_SOURCE_LABELS),
        (("features", "source_labels", "where"), FROM_LABELS | FROM_FEATURES | FROM_SOURCE_LABELS),
        (("features", "logits"), FROM_LABELS | FROM_FEATURES | FROM_LOGITS),
    ],
)
def test_all_metrics_whose_inputs_are_given(case, given, names):
    arrays = {name: case[name] for name in given}
    values = jax.eval_shape(lambda: score(case["labels"], num_classes=C, **arrays))
    assert set(values) == names
    # In the order of the registry: what eval_shape returns is sorted.
    assert metrics_of("labels", *given) == tuple(name for name in METRICS if name in names)


@pytest.fixture(scope="module")
def everything():
    """Of features, logits and a mask in float64: all that `score` computes, in one program."""

    def run(case):
        names = ("features", "logits", "where")
        return score(case["labels"], num_classes=C, **{name: case[name] for name in names})

    return run


def test_values(everything, x64):
    case = make_case()
    values = everything(case)
    assert list(values) == [n for n in METRICS if n in FROM_LABELS | FROM_FEATURES | FROM_LOGITS]
    check(values, case, ("where",))
    # Masked-out garbage is ignored, and so is the size of logits.
    garbage = {name: case[name].copy() for name in ("features", "logits", "labels")}
    for name, array in garbage.items():
        array[~case["where"]] = -1 if name == "labels" else np.nan
    garbage["logits"] += 500
    changed = everything(case | garbage)
    for name in values:
        np.testing.assert_allclose(changed[name], values[name], rtol=1e-8, err_msg=name)


def test_metrics_that_draw_need_a_key(case):
    arrays = {"labels": case["labels"], "num_classes": C, "features": case["features"]}
    names = sorted(FROM_FEATURES_AND_KEY)
    assert set(metrics_of("features", "labels", "key")) - set(metrics_of("features", "labels")) == {
        *names
    }
    values = score(metrics=names, key=jax.random.key(3), **arrays)
    for name in names:
        alone = METRICS[name].fn(jax.random.key(3), case["features"], case["labels"], num_classes=C)
        np.testing.assert_allclose(values[name], alone, rtol=1e-4)
    with pytest.raises(ValueError, match="'parc' needs"):
        score(metrics="parc", **arrays)
    with pytest.raises(ValueError, match=r"^key: wanted"):
        score(metrics="parc", key="a", **arrays)


def test_given_source_labels_and_probs_are_not_derived_again(x64):
    rng = np.random.default_rng(1)
    other = make_case() | {"source_labels": rng.integers(0, S, N)}
    arrays = {name: other[name] for name in ("probs", "source_labels")}
    # Logits of another model beside them change nothing.
    arrays |= {"logits": rng.normal(size=(N, S)), "metrics": ["leep", "nce"]}
    check(score(other["labels"], num_classes=C, **arrays), other)


@pytest.mark.parametrize("names", [["nce"], ("h_score", "leep"), []])
def test_chosen_metrics(names, x64):
    case = make_case()
    values = score(
        case["labels"],
        num_classes=C,
        features=case["features"],
        probs=case["probs"],
        metrics=names,
    )
    assert list(values) == list(names)
    check(values, case)


@pytest.mark.parametrize(
    ("names", "message"),
    [(["leep"], "leep.*probs"), (["h_score", "nce"], "nce"), (["accuracy"], "accuracy")],
)
def test_metrics_without_inputs_and_unknown_ones_are_refused(case, names, message):
    with pytest.raises(ValueError, match=f"(?s){message}"):
        score(case["labels"], num_classes=C, features=case["features"], metrics=names)


@pytest.mark.slow  # a second program of all metrics; a contract of each alone is quick
def test_transformations(everything, x64):
    cases = [make_case(seed) for seed in range(3)]
    values = jit_vmap(everything)(stack(cases))
    assert set(values) == FROM_LABELS | FROM_FEATURES | FROM_LOGITS
    for i, case in enumerate(cases):
        one = everything(case)
        for name, value in values.items():
            np.testing.assert_allclose(value[i], one[name], rtol=1e-5, atol=1e-6, err_msg=name)


def test_a_few_metrics_in_a_batch(x64):
    names = ("leep_calibrated", "h_score", "knn")

    def run(case):
        arrays = {name: case[name] for name in ("features", "logits", "where")}
        return score(case["labels"], num_classes=C, metrics=names, **arrays)

    cases = [make_case(seed) for seed in range(3)]
    values = jit_vmap(run)(stack(cases))
    for i, case in enumerate(cases):
        check({name: value[i] for name, value in values.items()}, case, ("where",))


def test_predictions_of_one_source(x64):
    case = make_case()
    array, labels = case["probs"].copy(), case["labels"].copy()
    array[~case["where"]], labels[~case["where"]] = np.nan, -1
    values = score(labels, num_classes=C, where=case["where"], probs=array)
    assert set(values) == FROM_LABELS | FROM_PROBS
    check(values, case, ("where",))


@pytest.mark.parametrize("name", ["features", "probs", "logits"])
def test_masked_in_garbage_is_refused(case, name):
    array = case[name].copy()
    array[~case["where"]] = np.nan
    names = ["h_score" if name == "features" else "nce", "neg_label_entropy"]
    with pytest.raises(ValueError, match=name):
        score(case["labels"], num_classes=C, metrics=names, **{name: array})


def test_predictions_of_another_length_are_refused(case):
    with pytest.raises(ValueError, match=r"logits|labels"):
        score(case["labels"], num_classes=C, logits=case["logits"][:-1])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metrics": None}, "metrics: wanted 'all'"),
        ({"logits": "a"}, "logits: wanted an array"),
        ({"logits": np.zeros((4, 0), np.float32)}, r"logits: wanted shape \[n, columns\]"),
        ({"logits": np.zeros((3, 2), np.float32)}, "logits: wanted one row for each of the 4"),
        (
            {"logits": np.zeros((4, 2), np.float32), "where": np.ones(3, bool)},
            r"where: wanted shape \[4\]",
        ),
        ({"source_labels": np.array(["a"] * 4)}, "source_labels: wanted integers"),
        ({"source_labels": np.zeros(3, int)}, r"source_labels: wanted shape \[4\]"),
        ({"source_labels": np.zeros(0, int)}, r"source_labels: wanted shape \[4\]"),
    ],
)
def test_arguments_of_score_itself(changes, message):
    with pytest.raises(ValueError, match=message):
        score(np.array([0, 0, 1, 1]), num_classes=2, **changes)


def test_source_labels_alone_while_tracing():
    labels, source_labels = jnp.array([0, 0, 1, 1]), jnp.array([0, 0, 0, 1])
    with pytest.raises(ValueError, match="num_source_classes: wanted while tracing"):
        jax.jit(lambda z: score(labels, num_classes=2, source_labels=z))(source_labels)
    traced = jax.jit(
        lambda z: score(labels, num_classes=2, source_labels=z, num_source_classes=2)["nce"]
    )
    assert traced(source_labels) == score(labels, num_classes=2, source_labels=source_labels)["nce"]


TOO_LARGE = [
    ("h_score", {"weights": np.full(N, 1e-37)}, "weights of 1e-37 to 1e-37"),
    ("logme", {"features": make_case()["features"] + 1e30}, r"features of 1e\+30 to 1e\+30"),
    ("transrate", {"features": make_case()["features"] * 1e18}, r"features of \S+ to \de\+18"),
]


@pytest.mark.parametrize(("name", "change", "got"), TOO_LARGE)
def test_numbers_whose_squares_float32_has_not_are_refused(name, change, got):
    case, use = cast(make_case() | change, np.float32), tuple(change.keys() & {"weights"})
    with pytest.raises(ValueError, match=rf"of which float32 holds the squares.*got .*{got}"):
        evaluate(METRICS[name], case, use)


@pytest.mark.parametrize(("name", "change", "got"), TOO_LARGE)
def test_float64_has_them(name, change, got, x64):
    use = tuple(change.keys() & {"weights"})
    assert np.isfinite(evaluate(METRICS[name], make_case() | change, use))
