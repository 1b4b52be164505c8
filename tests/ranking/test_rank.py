"""Ranking of sources: what it says of their order, what it refuses, and what it keeps."""

import dataclasses
import json
import weakref
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import kendalltau, norm

import leepjax
from leepjax import metrics
from leepjax.models import Outputs, SourceRecipe
from leepjax.ranking import Ranking, rank
from leepjax.ranking.best import less, probability_best, smallest_set

N, C = 480, 3


def softmax(x):
    e = np.exp(x - x.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def make_source(seed, signal):
    """Features and logits that share their samples' noise between sources, as real ones do."""
    noise = np.random.default_rng(99).normal(size=(N, 6))
    rng = np.random.default_rng(seed)
    features = noise + 0.5 * rng.normal(size=(N, 6)) + signal * np.eye(C, 6)[LABELS]
    return Outputs(features.astype("f4"), (2 * features[:, :5]).astype("f4"))


LABELS = np.random.default_rng(0).integers(0, C, N)
SOURCES = {f"s{i}": make_source(i, s) for i, s in enumerate((0.5, 1.5, 1.4, 0.9))}


@pytest.fixture(scope="module")
def ranking() -> Ranking:
    facts = {"s0": {"parameters": 1e6, "seconds": 2.5}, "s1": {"parameters": 2e6}}
    return rank(SOURCES, LABELS, facts=facts)


# ------------------------------------------------------------------- oracles, none of them ours


def leep_by_hand(probs, labels):
    joint = np.array([probs[labels == y].sum(0) for y in range(C)])
    given = joint / joint.sum(0)
    return np.mean(np.log((given[labels] * probs).sum(1)))


def h_score_by_hand(features, labels):
    f = features - features.mean(0)
    means = np.array([f[labels == y].mean(0) for y in range(C)])
    return np.trace(np.linalg.pinv(f.T @ f / len(f)) @ np.cov(means[labels].T, bias=True))


def jackknife(statistic):
    """Delete-one covariance ``[m, m]`` of the statistics ``[m]``, sample by sample."""
    left_out = np.array([statistic(np.arange(N) != i) for i in range(N)])
    centred = left_out - left_out.mean(0)
    return (N - 1) / N * centred.T @ centred


BY_HAND = {
    "leep": lambda o, k: leep_by_hand(softmax(o.logits[k].astype(float)), LABELS[k]),
    "h_score": lambda o, k: h_score_by_hand(o.features[k].astype(float), LABELS[k]),
}


@pytest.mark.parametrize("metric", BY_HAND)
def test_errors_and_paired_differences_are_those_of_a_brute_force_jackknife(metric):
    by_hand, found = BY_HAND[metric], rank(SOURCES, LABELS, by=metric, metrics=(), nulls=())
    everything = np.ones(N, bool)
    expected = [by_hand(o, everything) for o in SOURCES.values()]
    np.testing.assert_allclose(found.scores[metric], expected, rtol=1e-3)
    covariance = jackknife(lambda kept: [by_hand(o, kept) for o in SOURCES.values()])
    errors = np.sqrt(np.diag(covariance))
    np.testing.assert_allclose(found.standard_error, errors, rtol=0.05)
    for i, a in enumerate(SOURCES):
        for j, b in enumerate(SOURCES):
            if i != j:
                difference = found.difference(a, b)
                assert difference.value == pytest.approx(expected[i] - expected[j], rel=2e-2)
                variance = covariance[i, i] + covariance[j, j] - 2 * covariance[i, j]
                assert difference.standard_error == pytest.approx(np.sqrt(variance), rel=0.07)
    apart = np.hypot(errors[1], errors[2])
    assert found.difference("s1", "s2").standard_error < 0.8 * apart


def test_probability_best_by_numpys_own_normal(ranking):
    scores = ranking.scores[ranking.by]
    drawn = np.random.default_rng(7).multivariate_normal(scores, ranking.covariance, 200_000)
    expected = np.bincount(drawn.argmax(1), minlength=4) / 200_000
    np.testing.assert_allclose(ranking.probability_best(), expected, atol=0.015)
    assert ranking.probability_best().sum() == pytest.approx(1)


def test_two_sources_have_the_normal_probability():
    scores, covariance = np.array([0.3, 0.1]), np.array([[0.05, 0.02], [0.02, 0.04]])
    found = less(scores, np.diag(covariance), covariance[:, 1], 1)[0]
    expected = norm.cdf(0.2 / np.sqrt(0.05))
    assert found.standard_error == pytest.approx(np.sqrt(0.05))
    assert probability_best(scores, covariance)[0] == pytest.approx(expected, abs=0.012)


def test_the_smallest_set_has_the_confidence_asked_for():
    p = np.array([0.05, 0.5, 0.3, 0.15])
    assert [list(smallest_set(p, c)) for c in (0.4, 0.5, 0.8, 0.9)] == [
        [1],
        [1],
        [1, 2],
        [1, 2, 3],
    ]
    assert list(smallest_set(np.full(4, 0.25), 0.9)) == [0, 1, 2, 3]


def test_agreement_is_scipys_kendall(ranking):
    agreement = ranking.agreement()
    for other, tau in agreement.items():
        if other in ranking.scores:
            expected = kendalltau(ranking.scores[ranking.by], ranking.scores[other]).statistic
            assert tau == pytest.approx(expected)
    assert np.isnan(agreement["parameters"])  # of two sources alone


def test_twins_share_and_are_both_chosen():
    twins = rank({"a": SOURCES["s1"], "b": SOURCES["s1"], "c": SOURCES["s0"]}, LABELS)
    assert twins.difference("a", "b") == (0, 0)
    first = twins.probability_best()
    assert first[0] == first[1] == pytest.approx(0.5, abs=0.01)
    assert twins.choice == ("a", "b")


# ------------------------------------------------------------------------------ what it says


def test_what_is_held_out_decides_and_others_stand_beside(ranking):
    assert ranking.by == "predictive_r2"
    assert ranking.metrics[1:] == (
        *("cross_fitted_leep", "leep", "nce", "h_score", "regularized_h_score", "logme"),
    )
    assert ranking.nulls == ("knn", "linear_probe")
    assert set(ranking.best[:2]) == {"s1", "s2"}
    assert ranking.informative
    assert ranking.behind()[list(ranking.names).index(ranking.best[0])] == (0, 0)
    assert all(behind.value <= 0 for behind in ranking.behind())
    other = rank(SOURCES, LABELS, by="nce", metrics=["leep"], nulls=())
    assert (other.by, other.nulls, other.informative) == ("nce", (), None)
    np.testing.assert_allclose(other.scores["leep"], ranking.scores["leep"])
    probe = rank(SOURCES, LABELS, by="knn", metrics=(), nulls=("linear_probe",))
    assert (probe.by, probe.nulls) == ("knn", ("linear_probe",))


def test_scores_and_those_of_shuffled_labels_are_the_metrics_own(ranking):
    for i, outputs in enumerate(SOURCES.values()):
        given = {"features": outputs.features, "logits": outputs.logits, "num_classes": C}
        expected = metrics.score(LABELS, metrics=list(ranking.scores), **given)
        for name, value in expected.items():
            assert ranking.scores[name][i] == pytest.approx(float(value), rel=1e-4, abs=1e-5)
    assert (np.abs(ranking.shuffled["predictive_r2"]) < 0.03).all()
    assert (ranking.shuffled["h_score"] > 0).all()


def test_it_is_shown_in_words_and_tables(ranking):
    text, page = str(ranking), ranking._repr_html_()
    for shown in (text, page):
        assert "4 sources on 480 samples of 3 classes" in shown
        assert "knn *" in shown
        assert "2,000,000" in shown
        assert "nan" not in shown.lower()
    assert page.count("<table>") == 1
    assert max(map(len, text.splitlines())) <= 100
    one, several = "Fine-tune s1: with probability ", "No clear winner: try s1 and s2. With"
    assert ranking.decision.startswith((one, several))
    assert text.splitlines()[1].startswith(ranking.decision[:40])  # first
    assert "Accuracy after fine-tuning was not measured" in " ".join(text.split())


def by_hand(**scores):
    """A ranking of three sources by predictive_r2, whose errors are a tenth."""
    names, none = ("a", "b", "c"), np.zeros(3)
    columns = {"predictive_r2": [0.1, 0.2, 0.9], "leep": [-1.0, -2.0, -3.0]} | scores
    return Ranking(
        names=names,
        scores={name: np.array(column) for name, column in columns.items()},
        shuffled=dict.fromkeys(columns, none - 5),
        covariance=0.01 * np.eye(3),
        p_value=none,
        facts={},
        metrics=("predictive_r2", "leep"),
        nulls=("linear_probe",),
        confidence=0.9,
        dimensions=np.full(3, 4),
        num_samples=100,
        num_classes=3,
        max_samples=100,
        failures=(),
    )


def test_what_disagrees_with_the_choice_is_said():
    said = by_hand(linear_probe=[0.9, 0.5, 0.8]).decision
    assert said.startswith("Fine-tune c: with probability > .99")
    assert "leep puts a first: of a source it sees the predicted classes alone" in said
    assert (
        "By the share of left-out samples that it gets right a is ahead (0.900, c 0.800)." in said
    )
    assert "is ahead" not in by_hand(linear_probe=[np.nan] * 3).decision


def test_sources_that_these_samples_do_not_tell_apart():
    said = by_hand(predictive_r2=[0.1, 0.1, 0.1]).decision
    assert said.startswith("No clear winner among b, c and a: these samples do not tell them apart")
    said = by_hand(predictive_r2=[0.1, 0.9, 0.9]).decision
    assert said.startswith("No clear winner: try b and c. With probability > .99 one of them has")


def test_without_intervals_or_scores_it_says_so():
    without = dataclasses.replace(by_hand(leep=[np.nan] * 3), covariance=np.full((3, 3), np.nan))
    assert without.misleading("leep")
    assert "No interval of predictive_r2; half-samples" in " ".join(str(without).split())


def test_names_that_a_terminal_or_page_would_obey_are_spelt_out(ranking):
    odd = ("a\x1b[31m", "b\u202ec", "d\r\ne", "[red]f</td>")
    renamed = dataclasses.replace(ranking, names=odd)
    text, page = str(renamed), renamed._repr_html_()
    for shown in (text, page):
        assert not set("\x1b\u202e\r") & set(shown)
        for name in (r"a\x1b[31m", r"b\u202ec", r"d\r\ne"):
            assert name in shown
    assert "[red]f</td>" in text
    assert "[red]f&lt;/td&gt;" in page
    assert [s["source"] for s in renamed.to_dict()["sources"]] == [odd[i] for i in ranking.order]


def test_text_is_plain_in_a_notebook_too(ranking, monkeypatch):
    expected = str(ranking)
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    assert str(ranking) == expected
    assert "\x1b" not in expected


def test_to_dict_is_json(ranking):
    plain = json.loads(json.dumps(ranking.to_dict(), allow_nan=False))
    assert [s["source"] for s in plain["sources"]] == list(ranking.best)
    assert plain["sources"][0]["behind"] == 0
    assert plain["choice"] == list(ranking.choice)
    assert plain["decision"] == ranking.decision


def test_half_samples_give_nulls_their_intervals():
    few = {name: SOURCES[name] for name in ("s0", "s1")}
    options = {"by": "knn", "metrics": (), "nulls": ()}
    found = rank(few, LABELS, num_halves=40, **options)
    binomial = np.sqrt(found.scores["knn"] * (1 - found.scores["knn"]) / N)
    # Neighbours are shared: 300 fresh draws of such samples have 1.2 to 1.3 times the binomial's.
    ratio = found.standard_error / binomial
    assert (ratio > 0.8).all()
    assert (ratio < 2.2).all()
    assert found.probability_best()[1] > 0.95
    probe = rank(few, LABELS, by="linear_probe", metrics=(), nulls=(), num_halves=40)
    assert (probe.standard_error > 0).all()
    without = rank(few, LABELS, **options)
    assert "how sure that is is not known" in without.decision
    assert without.choice == ("s1",)


def test_costly_scores_see_some_of_the_samples_and_the_table_says_so():
    found = rank(SOURCES, LABELS, metrics="nce", max_samples=100)
    assert "On 100 of the 480 samples" in str(found)
    for null in found.nulls:  # shares of 100
        hundredths = 100 * found.scores[null]
        np.testing.assert_allclose(hundredths, hundredths.round(), atol=1e-3)


def test_random_metrics_draw_the_same_for_every_source():
    few = {"a": SOURCES["s0"], "b": SOURCES["s0"]}
    found = rank(few, LABELS, metrics=["parc"], nulls=())
    assert found.scores["parc"][0] == found.scores["parc"][1]


def test_labels_may_be_any_numbers_and_classes_without_a_sample_do_not_count():
    few = {"s1": SOURCES["s1"], "s2": SOURCES["s2"]}
    far, near = (rank(few, y, metrics="leep", nulls=()) for y in (LABELS * 10**9 + 5, LABELS))
    np.testing.assert_allclose(far.scores["leep"], near.scores["leep"])
    assert far.num_classes == C


def test_a_source_over_a_bank(tmp_path, monkeypatch):
    monkeypatch.setenv("LEEPJAX_CACHE", str(tmp_path))
    digits = leepjax.load("digits").test
    source = leepjax.train_source("mlp", leepjax.load("digits"), SourceRecipe(steps=2))
    found = rank({"mlp": source, "alone": SOURCES["s0"]}, digits, metrics="leep", nulls=())
    assert found.names == ("mlp",)
    assert found.facts["parameters"][0] > 100
    assert [failure.source for failure in found.failures] == ["alone"]
    without = rank({"net": source, "s0": SOURCES["s0"]}, LABELS, metrics="leep", nulls=())
    assert "Bank" in without.failures[0].reason


# ------------------------------------------------------------------------------ laziness


def test_one_source_is_in_memory_at_a_time():
    alive: list[weakref.ref] = []

    class Held(dict):
        """A dictionary that can be referred to weakly."""

    def load(name):
        assert all(ref() is None for ref in alive), "the source before is still held"
        features = np.array(SOURCES[name].features)
        alive.append(weakref.ref(features))
        return {"features": features, "logits": np.array(SOURCES[name].logits)}

    sources = {name: (lambda name=name: load(name)) for name in SOURCES}
    found = rank(sources, LABELS, metrics=["leep", "h_score"], nulls=())
    assert len(alive) == len(found.names) == 4
    assert all(ref() is None for ref in alive)


# ------------------------------------------------------------------------------ bad input

GOOD = SOURCES["s1"]
NOT_ONE = softmax(GOOD.logits) * 1.5
BAD = {
    "short": ({"features": GOOD.features[:9]}, "one row for each of the 480 samples"),
    "objects": (Outputs(np.array([[1.0], [2.0, 3.0]], object), None), "array of objects"),
    "nan": ({"features": np.where(GOOD.features > 2, np.nan, GOOD.features)}, "finite numbers"),
    "complex": ({"features": np.ones((N, 2), complex)}, "wanted numbers, got dtype complex128"),
    "flat": ({"probs": np.ones(N)}, r"shape \[n, columns\]"),
    "unlike": ({"probs": NOT_ONE}, "rows >= 0 that sum to 1"),
    "negative": ({"probs": softmax(GOOD.logits) - 0.3}, "rows >= 0 that sum to 1"),
    "unknown": ({"feature": GOOD.features}, "wanted any of features, logits, probs"),
    "shuffled": (GOOD._asdict() | {"labels": LABELS[::-1]}, "in their order"),
    "nothing": (3, "wanted Outputs"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_with_a_source_is_one_line_and_the_others_are_ranked(name):
    source, reason = BAD[name]
    found = rank({"good": GOOD, name: source}, LABELS, metrics=["leep", "h_score"], nulls=())
    assert found.names == ("good",)
    (failure,) = found.failures
    assert (failure.source, failure.metrics) == (name, ())
    assert "\n" not in failure.reason
    assert f"Not scored: {name}: " in str(found)
    with pytest.raises(ValueError, match=reason):
        rank({name: source}, LABELS, metrics=["leep", "h_score"], nulls=())


def test_what_all_sources_have_decides():
    only = {"only": {"features": GOOD.features}, **SOURCES}
    found = rank(only, LABELS, nulls=())
    assert found.by == "predictive_r2"
    assert len(found.best) == 5
    (failure,) = found.failures
    lacking = ("cross_fitted_leep", "leep", "nce")
    assert failure == ("only", lacking, "needs probs or logits; the source has features")
    heads = {name: {"logits": outputs.logits} for name, outputs in SOURCES.items()}
    found = rank(heads, LABELS, nulls=())
    assert found.by == "cross_fitted_leep"
    assert found.failures == ()  # a default that no source at all has is not missed
    assert found.informative
    assert found.best[0] in ("s1", "s2")
    mixed = rank({**heads, "only": {"features": GOOD.features}}, LABELS, nulls=())
    assert mixed.by == "cross_fitted_leep"  # which most have
    assert "only" not in mixed.best
    assert "Not scored: only (cross_fitted_leep, leep, nce): needs probs" in str(mixed)


def test_a_network_without_a_head_has_features_alone():
    bare = Outputs(GOOD.features, np.zeros((N, 0), "f4"))
    found = rank({"bare": bare}, LABELS, nulls=())
    assert found.by == "predictive_r2"
    assert "leep" not in found.metrics
    assert found.failures == ()


def test_broken_probabilities_do_not_take_the_features_along():
    lost = ("cross_fitted_leep", "leep", "nce")
    found = rank({"half": {"features": GOOD.features, "probs": NOT_ONE}, **SOURCES}, LABELS)
    (failure,) = found.failures
    assert failure.metrics == lost
    assert "half" in found.best  # by features
    logits = {"half": {"logits": GOOD.logits, "probs": NOT_ONE, "features": GOOD.features}}
    assert rank(logits | SOURCES, LABELS).failures[0].metrics == lost


def test_one_source_only():
    found = rank({"s1": GOOD}, LABELS)
    assert "carries information about these labels: there is nothing to choose" in found.decision
    assert "leep" in str(found)
    assert found.probability_best() == [1]
    json.dumps(found.to_dict(), allow_nan=False)
    found.plot()


def test_a_head_that_is_right_more_often_is_named(ranking):
    def decision(right):
        return replace(ranking, scores=ranking.scores | {"linear_probe": np.array(right)}).decision

    assert ranking.choice[0] == "s1"
    found = decision([0.9, 0.75, 0.7, 0.6])
    assert "gets right s0 is ahead (0.900, s1 0.750)." in found
    assert "gets right" not in decision([0.6, 0.9, 0.7, 0.75])


def test_errors_are_shown_to_two_digits(ranking):
    known = replace(ranking, covariance=np.diag(np.full(4, 0.0123**2)))
    assert f"{known.scores[known.by][1]:.3f} ± 0.012" in str(known)


@pytest.mark.parametrize(("dimensions", "said"), [(47, "."), (49, " (49 dimensions for 480 ")])
def test_a_score_as_high_under_shuffled_labels_says_nothing(ranking, dimensions, said):
    shuffled = ranking.shuffled | {"h_score": ranking.scores["h_score"]}
    wide = replace(ranking, shuffled=shuffled, dimensions=np.full(4, dimensions))
    text = "h_score says nothing here: it is as good with shuffled labels"
    assert text + said in wide.decision
    assert text not in ranking.decision


def test_columns_that_do_not_vary_have_nothing():
    found = rank({"flat": {"features": np.ones((N, 3), "f4")}, "s1": GOOD}, LABELS)
    assert found.choice == ("s1",)
    assert found.scores["predictive_r2"][0] == pytest.approx(0, abs=1e-12)
    alone = rank({"flat": {"features": np.ones((N, 3), "f4")}}, LABELS)
    assert alone.choice == ()
    assert alone.decision.startswith("No source carries information about these labels")


@pytest.mark.parametrize(
    ("labels", "got"),
    [
        (LABELS.astype(float), "dtype float64"),
        (LABELS - 1, "got -1 at sample"),
        (LABELS[:, None], r"got \[480, 1\]"),
        (np.array([0, "a"], object), "dtype object"),
        ([], "dtype|shape"),
        (None, "got none"),
        (np.zeros(480, int), "got 1 of 480: there is nothing to tell apart"),
    ],
)
def test_bad_labels(labels, got):
    with pytest.raises(ValueError, match=f"^labels: wanted .*{got}"):
        rank(SOURCES, labels)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metrics": "leap"}, "metrics: wanted names among .* got 'leap'"),
        ({"by": "logme_regression"}, "by: 'logme_regression' does not apply: it is of numbers"),
        ({"by": "leap"}, "by: wanted names among .* got 'leap'"),
        ({"nulls": ["leap"]}, "nulls: wanted names among .* got 'leap'"),
        ({"confidence": 1}, r"confidence: wanted a number in \(0, 1\), got 1"),
        ({"num_halves": -1}, "num_halves: wanted"),
        ({"max_samples": 2}, "max_samples: wanted"),
        ({"seed": -1}, r"seed: wanted an int in \[0, 2\^32\), got -1"),
        ({"facts": {"s9": {}}}, "facts: wanted names of sources, got 's9'"),
        ({"facts": {"S1": {}, "s-0": {}}}, r"'S1' \(nearest: 's1'\), 's-0' \(nearest: 's0'\)"),
        ({"facts": {"s1": {"size": 3}}}, "facts: wanted numbers named"),
        ({"facts": {"s1": {"parameters": "11M"}}}, "wanted numbers named .* got parameters: '11M'"),
        ({"facts": {"s1 ": {"seconds": 1}, "s1": {"seconds": 2}}}, "wanted each source once"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        rank(SOURCES, LABELS, **options)


def test_no_sources_and_names_twice():
    with pytest.raises(ValueError, match="sources: wanted at least one"):
        rank({}, LABELS)
    with pytest.raises(ValueError, match=r"sources: wanted paths, or names of sources; got .*int"):
        rank(["a.npz", 3], LABELS)
    with pytest.raises(ValueError, match=r"sources: wanted each name once, got 'a.npz' twice"):
        rank(["a.npz", "a.npz"], LABELS)
    with pytest.raises(ValueError, match=r"sources: wanted each name once, got '1' twice"):
        rank({1: "a.npz", "1": "b.npz"}, LABELS)
    with pytest.raises(ValueError, match=r"x/a\.npz.*y/a\.npz"):  # told apart by their folders
        rank(["x/a.npz", "y/a.npz"], LABELS)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            {"labels": LABELS.astype(str)},
            r"labels: wanted integers as given, got dtype <U\d+, text",
        ),
        ({"parameters": "11M"}, "parameters: wanted one number, got '11M' of dtype <U3"),
        ({"parameters": [1, 2]}, r"parameters: wanted one number, got dtype int64, shape \[2\]"),
        ({"parameters": 3}, "parameters: wanted one value, got 3 with the source and 2 in facts"),
    ],
)
def test_what_comes_with_a_source_is_said_by_what_it_is(more, message):
    source = {"probs": np.eye(3)[LABELS % 3] * 0.7 + 0.1, **more}
    with pytest.raises(ValueError, match=message):
        rank({"a": source}, LABELS, metrics=["leep"], nulls=[], facts={"a": {"parameters": 2}})
