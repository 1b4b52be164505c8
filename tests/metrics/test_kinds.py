"""`score` of labels that are not one class a sample: several at once, numbers, tokens, pixels."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from leepjax.metrics import METRICS, energy, leep, logme_regression, score

from . import oracles

RNG = np.random.default_rng(0)
N, D, S = 40, 4, 3
FEATURES = RNG.normal(size=(N, D)).astype(np.float32)
SEVERAL = (FEATURES[:, :3] + RNG.normal(size=(N, 3)) > 0.3).astype(int)
LOGITS = RNG.normal(size=(N, S)).astype(np.float32)
PROBS = np.asarray(jax.nn.softmax(LOGITS))
TAGS = FEATURES[:, :3].argmax(1)


@pytest.mark.parametrize("dtype", [np.int32, bool])
def test_several_labels_are_means_over_them(dtype):
    names = ["leep", "nce", "h_score", "knn", "linear_probe", "predictive_r2", "logme_regression"]
    found = score(SEVERAL.astype(dtype), features=FEATURES, probs=PROBS, metrics=names)
    assert list(found) == names
    of_two = {
        "leep": lambda y: oracles.leep(PROBS, y, num_classes=2),
        "nce": lambda y: oracles.nce(PROBS.argmax(1), y, num_source_classes=S, num_classes=2),
        "h_score": lambda y: oracles.h_score(FEATURES, y, num_classes=2),
        "knn": lambda y: oracles.knn(FEATURES, y, num_classes=2),
        "linear_probe": lambda y: oracles.linear_probe(FEATURES, y, num_classes=2),
        "predictive_r2": lambda y: oracles.predictive_r2(FEATURES, y, num_classes=2),
    }
    for name, oracle in of_two.items():
        expected = np.mean([oracle(y) for y in SEVERAL.T])
        np.testing.assert_allclose(found[name], expected, atol=2e-4, err_msg=name)
    expected = oracles.logme_regression(FEATURES, SEVERAL.astype(float))
    np.testing.assert_allclose(found["logme_regression"], expected, atol=1e-4)


def test_many_labels_are_as_few_and_jitted_as_not():
    many = np.tile(SEVERAL, (1, 4))  # more than are scored at once
    names = ("leep", "h_score")
    few = score(SEVERAL, features=FEATURES, probs=PROBS, metrics=names)
    again = score(many, features=FEATURES, probs=PROBS, metrics=names)

    @jax.jit
    def jitted(labels):
        return score(labels, features=FEATURES, probs=PROBS, metrics=names)

    for name, value in jitted(many).items():
        np.testing.assert_allclose(value, few[name], rtol=1e-5)
        np.testing.assert_allclose(again[name], few[name], rtol=1e-5)


def test_numbers():
    numbers = FEATURES[:, :2] + RNG.normal(size=(N, 2)).astype(np.float32)
    for y in (numbers, numbers[:, 0]):
        found = score(y, features=FEATURES)
        assert list(found) == ["logme_regression", "energy"]
        np.testing.assert_allclose(found["logme_regression"], logme_regression(FEATURES, y))
        np.testing.assert_allclose(found["energy"], energy(FEATURES))


def test_tokens_and_pixels_are_samples():
    labels = np.append(TAGS[:30], np.full(10, -1))
    kept = slice(0, 30)
    options: dict[str, Any] = {"num_classes": 3, "metrics": ("leep", "h_score")}
    expected = score(TAGS[kept], features=FEATURES[kept], probs=PROBS[kept], **options)
    for shape in ((8, 5), (2, 4, 5)):
        arrays: dict[str, Any] = {
            "features": FEATURES.reshape(*shape, D),
            "probs": PROBS.reshape(*shape, S),
        }
        found = score(labels.reshape(shape), **arrays, **options)
        for name, value in expected.items():
            np.testing.assert_allclose(found[name], value, rtol=1e-5)
        where = np.arange(40).reshape(shape) < 20
        masked = score(labels.reshape(shape), where=where, **arrays, **options)
        np.testing.assert_allclose(
            masked["leep"], leep(PROBS[:20], TAGS[:20], num_classes=3), rtol=1e-5
        )


def test_all_of_tokens_leaves_out_what_leaves_single_ones_out():
    arrays: dict[str, Any] = {
        "features": FEATURES.reshape(8, 5, D),
        "logits": LOGITS.reshape(8, 5, S),
    }
    values = jax.eval_shape(lambda: score(TAGS.reshape(8, 5), num_classes=3, **arrays))
    single = {"knn", "linear_probe", "predictive_r2", "cross_fitted_leep"}
    keyed = {name for name, metric in METRICS.items() if metric.key}
    assert set(values) == set(METRICS) - single - keyed - {"logme_regression"}


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        (SEVERAL, {"metrics": ["logme"]}, "'logme' does not apply: it is of one class a sample"),
        (SEVERAL * 2, {}, r"labels: wanted 0 and 1 in \[n, labels\], got \["),
        (SEVERAL[:9], {}, "features: wanted one row for each of the 9 samples"),
        (TAGS, {}, "num_classes: wanted a Python int >= 1, got None"),
        (TAGS + 0.5, {"metrics": ["h_score"]}, "metrics: 'h_score' needs"),
        (np.where(TAGS, 0.5, np.nan), {}, "targets: wanted finite numbers"),
    ],
)
def test_bad_input(labels, options, message):
    options = {"metrics": ["logme_regression"], **options}
    if labels.dtype.kind == "i" and labels.ndim == 1:
        options["metrics"] = ["h_score"]
    with pytest.raises(ValueError, match=message):
        score(labels, features=FEATURES, **options)


def test_bad_tokens():
    tokens = FEATURES.reshape(8, 5, D)
    with pytest.raises(ValueError, match=r"features: wanted shape \[8, 4, columns\] like labels"):
        score(TAGS[:32].reshape(8, 4), features=tokens, num_classes=3)
    with pytest.raises(ValueError, match="'knn' does not apply: it leaves single tokens out"):
        score(TAGS.reshape(8, 5), features=tokens, num_classes=3, metrics="knn")
    where = jnp.ones(40, bool)
    with pytest.raises(ValueError, match=r"where: wanted shape \[8, 5\] like labels"):
        score(TAGS.reshape(8, 5), features=tokens, where=where, num_classes=3)
