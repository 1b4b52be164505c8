"""Scores and features of Ray datasets: those of one process, each sample once, whatever dies."""

import jax
import numpy as np
import pytest

import leepjax
from benchmarks.cluster import two_nodes
from leepjax.cluster import connect
from leepjax.metrics import score, streaming
from leepjax.models import extract
from leepjax.models.train import untrained

data = pytest.importorskip("ray.data", reason="Ray Data is not installed: leepjax[ray]")

from leepjax.ray_data import extract_dataset, score_dataset, stream_dataset  # noqa: E402

N, C, S, D = 9000, 3, 4, 5
RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, C, N)
FEATURES = (RNG.normal(size=(N, D)) + np.eye(C, D)[LABELS]).astype("f4")
LOGITS = (2 * FEATURES[:, :S]).astype("f4")
COLUMNS = {"labels": "label", "features": "features", "logits": "logits"}


@pytest.fixture(scope="module")
def nodes():
    with two_nodes() as nodes, connect(nodes.address):
        yield nodes


@pytest.fixture
def dataset(nodes):
    del nodes
    columns = {"label": LABELS, "features": FEATURES, "logits": LOGITS}
    return data.from_items(
        [{name: x[i] for name, x in columns.items()} for i in range(N)], override_num_blocks=7
    )


@pytest.fixture
def begin():
    return streaming.init(num_classes=C, num_source_classes=S, features=FEATURES[:50])


def test_scores_are_those_of_the_arrays_and_every_sample_counts_once(dataset, begin):
    found = score_dataset(dataset, begin, **COLUMNS)
    names = [name for name in found if name != "transrate"]
    given = {"features": FEATURES, "logits": LOGITS, "num_classes": C}
    expected = score(LABELS, metrics=names, **given)
    for name in names:  # sums in another order, in float32
        assert float(found[name]) == pytest.approx(float(expected[name]), rel=1e-4, abs=1e-5)
    state = stream_dataset(dataset, begin, COLUMNS)
    np.testing.assert_array_equal(np.asarray(state.counts), np.bincount(LABELS))


def test_what_is_wrong_with_a_dataset_is_one_line(dataset, begin):
    with pytest.raises(ValueError, match=r"^dataset: wanted a column 'y', got .*label"):
        score_dataset(dataset, begin, labels="y", features="features", logits="logits")
    with pytest.raises(ValueError, match=r"^dataset: probs: wanted an array"):
        score_dataset(dataset, begin, labels="label", features="features")
    small = streaming.init(num_classes=C - 1)
    with pytest.raises(ValueError, match=r"^dataset: labels: "):
        score_dataset(dataset, small, labels="label")


def test_features_of_actors_that_hold_the_network(nodes):
    del nodes
    bank = leepjax.load("digits").train
    source = untrained(jax.random.key(0), "mlp", bank)
    expected = extract(source, bank)
    rows = [{"image": image, "row": i} for i, image in enumerate(bank.images)]
    dataset = data.from_items(rows, override_num_blocks=3)
    found = extract_dataset(dataset, source, batch_size=512).take_batch(len(rows))
    assert "image" not in found
    order = np.argsort(found["row"])
    np.testing.assert_allclose(found["features"][order], expected.features, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found["logits"][order], expected.logits, rtol=1e-5, atol=1e-5)
