"""Several labels, numbers, tokens and pixels: against refits without the sample or group."""

from typing import NamedTuple

import numpy as np
import pytest

from leepjax import metrics
from leepjax.data import Bank
from leepjax.ranking import rank
from leepjax.ranking.by_group import spread
from leepjax.ranking.held_out import held_out
from leepjax.ranking.left_out_leep import left_out_leep
from leepjax.ranking.neighbours import nearest, predict
from leepjax.ranking.shuffles import shuffle
from leepjax.ranking.targets import MOST, read_target

from ..metrics import oracles

# ------------------------------------------------------------------- oracles, none of them ours


def ridge(x, t, penalty):
    """Weights and intercept of the ridge regression with ``penalty |W|^2``."""
    centred = x - x.mean(0)
    gram = centred.T @ centred + penalty * np.eye(x.shape[1])
    w = np.linalg.solve(gram, centred.T @ (t - t.mean(0)))
    return w, t.mean(0) - x.mean(0) @ w


def penalties(x):
    values = np.linalg.eigvalsh((x - x.mean(0)).T @ (x - x.mean(0)))
    return 10.0 ** (np.arange(4, -9, -1) / 2) * values[values > 1e-6 * values.max()].mean()


class ByHand(NamedTuple):
    r2: float
    scores: np.ndarray
    penalty: float


def refitted(x, t, groups, tried=None):
    """Every group predicted by a fit without it, for each penalty; that of least error."""
    found = []
    for penalty in penalties(x) if tried is None else [tried]:
        scores, means = np.empty_like(t), np.empty_like(t)
        for g in np.unique(groups):
            rest = groups != g
            w, b = ridge(x[rest], t[rest], penalty)
            scores[~rest], means[~rest] = x[~rest] @ w + b, t[rest].mean(0)
        r2 = 1 - np.square(t - scores).sum() / np.square(t - means).sum()
        found.append(ByHand(r2, scores, penalty))
    return max(found, key=lambda by_hand: by_hand.r2)


def jackknife(statistic, groups):
    """Standard errors ``[m]``: the statistics of what is left without each group."""
    left_out = np.array([statistic(groups != g) for g in np.unique(groups)])
    number = len(left_out)
    return np.sqrt((number - 1) / number * np.square(left_out - left_out.mean(0)).sum(0))


def neighbours(x, groups, i, k=5):
    """The k most similar of other groups, nearest first."""
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    others = np.flatnonzero(groups != groups[i])
    return others[np.argsort(-(unit[others] @ unit[i]), kind="stable")[:k]]


def majority(labels):
    """The label of most; of ties that of the first."""
    return max(labels, key=lambda label: (list(labels).count(label), -list(labels).index(label)))


def leep_of_others(probs, labels, groups):
    """Mean log-likelihood, each group by the table of the others, with 1 / c added to each cell."""
    classes, said = np.unique(labels), []
    for i in range(len(labels)):
        others = groups != groups[i]
        table = np.array([probs[others & (labels == y)].sum(0) for y in classes]) + 1 / len(classes)
        given = table / table.sum(0)
        said.append(np.log(given[list(classes).index(labels[i])] @ probs[i]))
    return np.mean(said)


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


# ------------------------------------------------------------------------------ four cases

RNG = np.random.default_rng(3)
N, D = 72, 5
LATENT = RNG.normal(size=(N, D))
SOURCES = {f"s{i}": LATENT + s * RNG.normal(size=(N, D)) for i, s in enumerate((0.4, 0.7, 3.0))}
LOGITS = {name: 2 * x[:, :4] for name, x in SOURCES.items()}
ARRAYS = {name: {"features": SOURCES[name], "logits": LOGITS[name]} for name in SOURCES}
ALONE = np.arange(N)
SEVERAL = (LATENT[:, :3] + 0.5 * RNG.normal(size=(N, 3)) > [0.0, 0.5, 1.0]).astype(int)
NUMBERS = 20 + LATENT[:, :2] * [3.0, 0.1] + RNG.normal(size=(N, 2)) * [1.5, 0.02]


def test_several_labels_at_once():
    found = rank(ARRAYS, SEVERAL)
    assert found.kind == "multilabel"
    assert found.by == "predictive_r2"
    assert found.choice[0] == "s0"
    own = SEVERAL.astype(float)
    for i, (name, x) in enumerate(SOURCES.items()):
        by_hand = refitted(x, own, ALONE)
        assert found.scores["predictive_r2"][i] == pytest.approx(by_hand.r2, abs=1e-5)
        right = np.mean((by_hand.scores > 0.5) == SEVERAL)
        assert found.scores["linear_probe"][i] == pytest.approx(right, abs=1e-9)
        voted = [[majority(y[neighbours(x, ALONE, i)]) for y in SEVERAL.T] for i in range(N)]
        assert found.scores["knn"][i] == pytest.approx(np.mean(voted == SEVERAL), abs=1e-9)
        probs = softmax(LOGITS[name])
        left_out = np.mean([leep_of_others(probs, y, ALONE) for y in SEVERAL.T])
        assert found.scores["cross_fitted_leep"][i] == pytest.approx(left_out, abs=1e-5)
        of_two = {
            "leep": [oracles.leep(probs, y, num_classes=2) for y in SEVERAL.T],
            "h_score": [oracles.h_score(x, y, num_classes=2) for y in SEVERAL.T],
            "nce": [
                oracles.nce(probs.argmax(1), y, num_source_classes=4, num_classes=2)
                for y in SEVERAL.T
            ],
        }
        for metric, values in of_two.items():
            assert found.scores[metric][i] == pytest.approx(np.mean(values), abs=1e-4)
        expected = oracles.logme_regression(x, own)
        assert found.scores["logme_regression"][i] == pytest.approx(expected, abs=1e-4)
        error = jackknife(
            lambda k, x=x, p=by_hand.penalty: refitted(x[k], own[k], ALONE[k], p).r2, ALONE
        )
        assert found.standard_error[i] == pytest.approx(error, rel=0.05)
    assert (np.abs(found.shuffled["predictive_r2"]) < 0.1).all()
    share = SEVERAL.mean(0)
    assert found.baseline == pytest.approx(np.maximum(share, 1 - share).mean())
    assert "on 72 samples of 3 labels each" in str(found)
    assert "The most frequent value of each label is right for" in " ".join(str(found).split())


def test_one_hot_columns_are_classes():
    labels = SEVERAL[:, 0] + SEVERAL[:, 1]
    as_labels = rank(ARRAYS, np.eye(3, dtype=int)[labels], metrics=(), nulls=())
    as_classes = rank(ARRAYS, labels, metrics=(), nulls=())
    np.testing.assert_allclose(
        as_labels.scores["predictive_r2"], as_classes.scores["predictive_r2"], atol=1e-12
    )
    np.testing.assert_allclose(as_labels.standard_error, as_classes.standard_error, atol=1e-12)


def test_numbers():
    found = rank(ARRAYS, NUMBERS)
    assert (found.kind, found.num_classes) == ("regression", 2)
    assert found.choice[0] == "s0"
    own = (NUMBERS - NUMBERS.mean(0)) / NUMBERS.std(0)
    for i, x in enumerate(SOURCES.values()):
        by_hand = refitted(x, own, ALONE)
        assert found.scores["predictive_r2"][i] == pytest.approx(by_hand.r2, abs=1e-5)
        near = np.array([own[neighbours(x, ALONE, i)].mean(0) for i in range(N)])
        means = np.array([np.delete(own, i, 0).mean(0) for i in range(N)])
        r2 = 1 - np.square(own - near).sum() / np.square(own - means).sum()
        assert found.scores["knn"][i] == pytest.approx(r2, abs=1e-9)
        expected = oracles.logme_regression(x - x.mean(0), own)
        assert found.scores["logme_regression"][i] == pytest.approx(expected, abs=1e-4)
        error = jackknife(
            lambda k, x=x, p=by_hand.penalty: refitted(x[k], own[k], ALONE[k], p).r2, ALONE
        )
        assert found.standard_error[i] == pytest.approx(error, rel=0.05)
    lost = {name: failure.reason for failure in found.failures for name in failure.metrics}
    assert lost["leep"] == lost["h_score"] == "it is of classes; labels are numbers"
    assert "predictive_r2 is that head" in lost["linear_probe"]
    assert "Not scored: all sources (" in str(found)
    assert found.decision.endswith("The error after fine-tuning was not measured.")


def test_one_number_has_its_unit():
    fahrenheit = NUMBERS[:, 0] * 1.8 + 32
    celsius, found = (rank(ARRAYS, y, metrics=(), nulls=()) for y in (NUMBERS[:, 0], fahrenheit))
    np.testing.assert_allclose(found.scores["predictive_r2"], celsius.scores["predictive_r2"])
    own = fahrenheit[:, None]
    by_hand = refitted(SOURCES["s0"], own, ALONE)
    error = np.sqrt(np.square(own - by_hand.scores).mean())
    said = found.decision.split("misses by ")[1].split(" ")
    assert float(said[0]) == pytest.approx(error, rel=0.03)  # three digits; n / (n - 1) of the mean
    assert found.baseline == pytest.approx(fahrenheit.std())
    assert f"the mean of the labels by {fahrenheit.std():.3g}." in found.decision
    assert "of one number" in str(found)


SENTENCES = np.sort(np.random.default_rng(5).integers(0, 18, N))
TAGS = (LATENT[:, :3] + np.random.default_rng(6).normal(size=(18, 3))[SENTENCES]).argmax(1)


def check_groups(found, labels, groups, sources, classes):
    """What decides and its nulls, of classes in groups, against refits without the group."""
    own = np.eye(classes)[labels]
    for i, (x, logits) in enumerate(sources):
        by_hand = refitted(x, own, groups)
        assert found.scores["predictive_r2"][i] == pytest.approx(by_hand.r2, abs=1e-5)
        right = np.mean(by_hand.scores.argmax(1) == labels)
        assert found.scores["linear_probe"][i] == pytest.approx(right, abs=1e-9)
        voted = [majority(labels[neighbours(x, groups, i)]) for i in range(len(x))]
        assert found.scores["knn"][i] == pytest.approx(np.mean(voted == labels), abs=1e-9)
        said = leep_of_others(softmax(logits), labels, groups)
        assert found.scores["cross_fitted_leep"][i] == pytest.approx(said, abs=1e-5)
        error = jackknife(
            lambda k, x=x, p=by_hand.penalty: refitted(x[k], own[k], groups[k], p).r2, groups
        )
        # To the second order in what one group does to another: too small with few groups.
        assert found.standard_error[i] == pytest.approx(error, rel=0.15)


@pytest.mark.parametrize("form", ["rows", "padded"])
def test_a_class_for_each_token(form):
    arrays, labels, groups = ARRAYS, TAGS, None
    if form == "rows":  # in any order, with tokens that have no label
        order = np.random.default_rng(0).permutation(N + 9)
        more = {
            name: {k: np.pad(x, ((0, 9), (0, 0)))[order] for k, x in a.items()}
            for name, a in ARRAYS.items()
        }
        labels = np.append(TAGS, np.full(9, -1))[order]
        groups = np.append(SENTENCES, np.arange(9))[order] * 7
        arrays = more
    else:
        length = np.bincount(SENTENCES).max()
        at = SENTENCES, np.concatenate([np.arange(n) for n in np.bincount(SENTENCES) if n])
        labels = np.full((18, length), -1)
        labels[at] = TAGS
        arrays = {}
        for name, of_source in ARRAYS.items():
            arrays[name] = {k: np.full((18, length, x.shape[1]), 9.0) for k, x in of_source.items()}
            for k, x in of_source.items():
                arrays[name][k][at] = x
    found = rank(arrays, labels, metrics=("leep", "h_score"), groups=groups)
    assert (found.kind, found.num_groups, found.num_samples) == ("class", 18, N)
    given = [(SOURCES[name], LOGITS[name]) for name in SOURCES]
    check_groups(found, TAGS, SENTENCES, given, 3)
    for i, (x, _) in enumerate(given):
        assert found.scores["h_score"][i] == pytest.approx(
            oracles.h_score(x, TAGS, num_classes=3), abs=1e-4
        )
    assert "in 18 groups, of 3 classes" in str(found)
    assert "Groups are left out whole" in str(found)
    assert found.baseline == np.bincount(TAGS).max() / N


@pytest.mark.parametrize("cell", [1, 2])
def test_a_class_for_each_pixel(cell):
    rng = np.random.default_rng(8)
    labels = rng.integers(-1, 2, size=(8, 4, 6))
    coarse = labels[:, ::cell, ::cell, None] * [1.0, -0.5, 0.2, 0.0]
    arrays = {
        name: coarse + s * rng.normal(size=coarse.shape) for name, s in (("a", 1.0), ("b", 2.0))
    }
    given = {name: {"features": x, "logits": x[..., :3]} for name, x in arrays.items()}
    found = rank(given, labels, metrics=(), nulls=("knn", "linear_probe"))
    known = labels >= 0
    pixels = {name: x.repeat(cell, 1).repeat(cell, 2)[known] for name, x in arrays.items()}
    if cell == 2:  # pixels of a cell are equals, of which either may be nearer
        pixels = {name: x + 1e-9 * rng.normal(size=x.shape) for name, x in pixels.items()}
    groups = np.nonzero(known)[0]
    assert (found.num_groups, found.num_samples) == (8, known.sum())
    own = np.eye(2)[labels[known]]
    for i, x in enumerate(pixels.values()):
        by_hand = refitted(x, own, groups)
        assert found.scores["predictive_r2"][i] == pytest.approx(by_hand.r2, abs=1e-5)
        error = jackknife(
            lambda k, x=x, p=by_hand.penalty: refitted(x[k], own[k], groups[k], p).r2, groups
        )
        assert found.standard_error[i] == pytest.approx(error, rel=0.1)
    if cell == 1:
        sources = [(x, x[:, :3]) for x in pixels.values()]
        check_groups(found, labels[known], groups, sources, 2)
    with_groups = rank(given, labels, metrics=(), nulls=(), groups=np.arange(8) // 2)
    assert with_groups.num_groups == 4


def test_numbers_of_pixels_and_of_groups():
    depth = np.random.default_rng(1).normal(size=(6, 3, 4))
    arrays = {
        "a": {"features": depth[..., None] + np.random.default_rng(2).normal(size=(6, 3, 4, 3))}
    }
    found = rank(arrays, depth, metrics=())
    rows, own = arrays["a"]["features"].reshape(72, 3), depth.reshape(72, 1) / depth.std()
    by_hand = refitted(rows, own, np.arange(72) // 12)
    assert found.scores["predictive_r2"][0] == pytest.approx(by_hand.r2, abs=1e-5)
    flat = {"a": {"features": rows}}
    again = rank(flat, depth.ravel(), metrics=(), groups=np.arange(72) // 12)
    assert again.scores["predictive_r2"][0] == pytest.approx(by_hand.r2, abs=1e-5)
    assert again.num_groups == 6


def test_groups_of_one_sample_are_samples():
    alone, grouped = (rank(ARRAYS, TAGS, metrics=(), groups=g) for g in (None, ALONE))
    for name, values in alone.scores.items():
        np.testing.assert_allclose(grouped.scores[name], values, atol=1e-5, err_msg=name)
    np.testing.assert_allclose(grouped.standard_error, alone.standard_error, rtol=1e-9)


def test_samples_of_a_group_that_say_the_same_are_no_evidence():
    """Each sample eight times: left out alone it would be known from its copies."""
    rng = np.random.default_rng(4)
    x, y = rng.normal(size=(40, 30)), rng.integers(0, 2, 40)
    copies, labels = np.repeat(x, 8, 0), np.repeat(y, 8)
    honest = rank({"a": {"features": copies}}, labels, groups=np.arange(320) // 8, metrics=())
    fooled = rank({"a": {"features": copies}}, labels, metrics=())
    assert honest.informative is False
    assert fooled.informative
    assert fooled.scores["knn"][0] == 1
    assert honest.scores["knn"][0] < 0.75


# ------------------------------------------------------------------------------ parts


def test_groups_errors_are_those_of_a_brute_force_jackknife():
    rng = np.random.default_rng(0)
    groups = np.sort(rng.integers(0, 30, 150))
    groups = np.unique(groups, return_inverse=True)[1]
    x = rng.normal(size=(150, 4)) + 0.7 * rng.normal(size=(30, 4))[groups]
    t = x[:, :2] + rng.normal(size=(150, 2)) + 0.5 * rng.normal(size=(30, 2))[groups]
    by_hand = refitted(x, t, groups)
    found = held_out(x, t, "regression", groups)
    assert found.r2 == pytest.approx(by_hand.r2, abs=1e-9)
    error = jackknife(lambda k: refitted(x[k], t[k], groups[k], by_hand.penalty).r2, groups)
    assert np.sqrt(np.square(found.deviations).sum()) == pytest.approx(error, rel=0.03)
    naive = held_out(x, t, "regression").deviations
    assert np.sqrt(np.square(naive).sum()) < 0.85 * error  # as if samples were independent
    assert spread(t, groups) == pytest.approx(
        sum(np.square(t[i] - t[groups != groups[i]].mean(0)).sum() for i in range(150))
    )


def test_deviations_of_leep_are_those_of_a_brute_force_jackknife():
    probs = softmax(LOGITS["s0"])
    value, deviations = left_out_leep(probs, TAGS, SENTENCES)
    assert value == pytest.approx(leep_of_others(probs, TAGS, SENTENCES), abs=1e-12)
    kept = [g != SENTENCES for g in range(18)]
    without = np.array([leep_of_others(probs[k], TAGS[k], SENTENCES[k]) for k in kept])
    assert np.corrcoef(deviations, without.mean() - without)[0, 1] > 0.98
    error = jackknife(lambda k: leep_of_others(probs[k], TAGS[k], SENTENCES[k]), SENTENCES)
    assert np.sqrt(np.square(deviations).sum()) == pytest.approx(error, rel=0.15)


def test_neighbours_of_classes_are_the_metrics():
    x = SOURCES["s1"]
    said = predict(nearest(x), TAGS, "class")
    expected = float(metrics.knn(x, TAGS, num_classes=3))
    assert np.mean(said == TAGS) == pytest.approx(expected)
    few = nearest(x[:4], np.array([0, 0, 1, 2]))  # two and three others
    assert few.there.sum(1).tolist() == [2, 2, 3, 3]
    with_zero = nearest(np.vstack([np.zeros(D), x[:8]]))
    assert np.isfinite(predict(with_zero, NUMBERS[:9], "regression")).all()


def test_shuffled_groups_stay_together():
    labels, groups = np.arange(9), np.repeat([0, 1, 2], 3)
    for i in range(5):
        blocks = shuffle(labels, i, groups).reshape(3, 3)
        assert (np.diff(blocks) == 1).all()
        assert sorted(blocks[:, 0]) == [0, 3, 6]
    assert sorted(shuffle(labels, 1, np.array([0, 0, 0, 0, 1, 1, 2, 2, 2]))) == [*range(9)]


def test_many_pixels_are_drawn():
    labels = np.zeros((3, 200, 100), int)
    labels[:, 100:] = 1
    found = read_target(labels)
    assert len(found.values) == MOST
    rows = found.rows("features", np.arange(600)[:, None].reshape(3, 20, 10, 1))
    assert rows.shape == (MOST, 1)
    cell = rows[:, 0] % 200 // 10
    assert (found.values == (cell >= 10)).all()


# ------------------------------------------------------------------------------ what is given


def test_a_bank_of_numbers_or_of_several_labels():
    none = np.zeros(N, np.int32)
    images = np.zeros((N, 2, 2, 1), np.uint8)
    for labels, kind in ((NUMBERS[:, 0], "regression"), (SEVERAL, "multilabel")):
        bank = Bank(images, labels.astype(np.float32), none, (), ("all",))
        found = rank({"s0": ARRAYS["s0"]}, bank, metrics=())
        assert found.kind == kind


def test_labels_that_come_with_a_source():
    given = {"s0": ARRAYS["s0"] | {"labels": NUMBERS[:, 0].astype(np.float32)}}
    assert rank(given, metrics=()).kind == "regression"
    assert rank(given, NUMBERS[:, 0], metrics=()).names == ("s0",)  # to float32's digits
    with pytest.raises(ValueError, match="in their order; at sample 0 the source has"):
        rank(given, NUMBERS[::-1, 0], metrics=())


def test_integers_are_numbers_where_asked():
    counts = np.round(NUMBERS[:, 0]).astype(int)
    assert rank(ARRAYS, counts, target="regression", metrics=()).kind == "regression"
    assert rank(ARRAYS, SEVERAL[:, 0].astype(float), target="class", metrics=()).kind == "class"


def test_columns_that_do_not_vary_are_left_out_and_said():
    more = np.hstack([np.ones((N, 1), int), SEVERAL, np.zeros((N, 1), int)])
    found, without = (rank(ARRAYS, y, metrics=("leep",)) for y in (more, SEVERAL))
    assert found.constant == (0, 4)
    assert "Left out: columns of the labels that do not vary: 0, 4." in str(found)
    for name, values in without.scores.items():
        np.testing.assert_allclose(found.scores[name], values)


def test_groups_as_names():
    names = np.array([f"g{i}" for i in SENTENCES])
    assert rank(ARRAYS, TAGS, groups=names, metrics=()).num_groups == 18


def test_half_samples_of_groups():
    few = {name: ARRAYS[name] for name in ("s0", "s2")}
    options = {"metrics": (), "nulls": (), "num_halves": 20}
    found = rank(few, TAGS, groups=SENTENCES, by="lda_score", **options)
    assert (found.standard_error > 0).all()
    for null, labels in (("knn", TAGS), ("linear_probe", TAGS), ("knn", NUMBERS)):
        found = rank(few, labels, groups=SENTENCES, by=null, **options)
        assert (found.standard_error > 0).all()
        assert found.choice[0] == "s0"
    influences = rank(few, TAGS, groups=SENTENCES, by="h_score", **options)
    error = jackknife(
        lambda k: oracles.h_score(SOURCES["s0"][k], TAGS[k], num_classes=3), SENTENCES
    )
    assert influences.standard_error[0] == pytest.approx(error, rel=0.15)


# ------------------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        (
            np.full(N, 2.5),
            {},
            "wanted a column that varies, and at least three samples, got 0 of 72",
        ),
        (np.ones((N, 2), int), {}, "wanted a column that varies"),
        (np.tile([0.5, 1.5, 2.5], (N, 1)), {}, "wanted a column that varies"),
        (NUMBERS[:2], {}, "got 2 of 2"),
        (np.where(NUMBERS > 25, np.nan, NUMBERS), {}, r"finite numbers, got nan at sample \d+, 0"),
        (np.full(N, np.inf), {}, "finite numbers, got inf at sample 0"),
        (TAGS.astype(float), {}, "if they are numbers, ask for target='regression'; if classes"),
        (2.0 * NUMBERS.round(), {}, "dtype float64 of whole numbers"),
        (NUMBERS, {"target": "class"}, r"wanted integers \(classes\), got"),
        (NUMBERS, {"target": "multilabel"}, r"wanted \[n, labels\] of 0 and 1, got float64"),
        (TAGS, {"target": "multilabel"}, r"wanted \[n, labels\] of 0 and 1"),
        (np.full((N, 2), -1), {}, "got -1 throughout, which stands for none"),
        (TAGS[:, None] + 1, {}, r"wanted shape \[n\] of one class a sample, got \[72, 1\]"),
        (TAGS - 1, {"groups": None}, "-1 stands for none only beside groups"),
        (NUMBERS.astype(complex), {}, "dtype complex128"),
        ([[1.0], [2.0, 3.0]], {}, "wanted one array"),
    ],
)
def test_bad_labels(labels, options, message):
    with pytest.raises(ValueError, match=f"^labels: .*{message}") as caught:
        rank(ARRAYS, labels, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"groups": np.zeros(N, int)}, "^groups: wanted at least three with labels, got 1"),
        ({"groups": ALONE // 36}, "^groups: wanted at least three with labels, got 2"),
        ({"groups": ALONE[:9]}, "^groups: wanted 72 integers or names"),
        ({"groups": ALONE / 2}, "^groups: wanted 72 integers or names, .* dtype float64"),
        (
            {"target": "classes"},
            "^target: wanted auto, class, multilabel, regression; got 'classes'",
        ),
        ({"by": "logme_regression"}, "^by: 'logme_regression' does not apply"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        rank(ARRAYS, TAGS, **options)


def test_what_does_not_apply_cannot_decide():
    with pytest.raises(ValueError, match="by: 'leep' does not apply: it is of classes"):
        rank(ARRAYS, NUMBERS, by="leep")
    heads = {name: {"logits": x} for name, x in LOGITS.items()}
    with pytest.raises(ValueError, match="none could be scored: s0: needs features"):
        rank(heads, NUMBERS)


def test_arrays_of_another_grid_are_named():
    labels = np.tile(np.arange(3), (6, 4, 1))
    good = {"features": np.random.default_rng(0).normal(size=(6, 4, 3, 2))}
    for shape in ((6, 4, 2), (5, 4, 3, 2), (6, 8, 3, 2), (72, 2)):
        found = rank(
            {"good": good, "bad": {"features": np.zeros(shape)}}, labels, metrics=(), nulls=()
        )
        (failure,) = found.failures
        assert failure.reason.startswith("features: wanted [6, 4, 3, columns]")
    sentences = np.tile([0, 1, 2, 1], (6, 1))  # tokens have no cells
    bad = {"bad": {"features": np.zeros((6, 2, 2))}}
    with pytest.raises(ValueError, match=r"features: wanted \[6, 4, columns\]"):
        rank(bad, sentences, metrics=())
