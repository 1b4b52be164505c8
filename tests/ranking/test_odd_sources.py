"""One bad part never takes the rest: arrays of any dtype, files, networks, metrics that fail."""

import io

import jax
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from leepjax.data import Bank, Dataset
from leepjax.metrics import score
from leepjax.ranking import left_out, rank, scored
from leepjax.tasks import sample_tasks, score_tasks
from leepjax.transfer import retrain_head

N = 90
RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 3, N)
FEATURES = (np.eye(3)[LABELS] + RNG.normal(size=(N, 3))).astype(np.float32)
WHOLE = np.round(20 * FEATURES).astype(np.int8)
ASKED = {"metrics": ["h_score"], "nulls": ()}


def saved_and_read(array):
    """As NumPy's files give it back: without the names of formats that are not its own."""
    file = io.BytesIO()
    np.save(file, array)
    file.seek(0)
    return np.load(file)


NUMBERS = {
    "big endian": (FEATURES.astype(">f4"), FEATURES),
    "big endian half": (FEATURES.astype(">f2"), FEATURES.astype("f2")),
    "longdouble": (FEATURES.astype(np.longdouble), FEATURES),
    "double": (FEATURES.astype(float), FEATURES),
    "bfloat16": (FEATURES.astype(ml_dtypes.bfloat16), FEATURES.astype(ml_dtypes.bfloat16)),
    "bfloat16 of a file": (
        saved_and_read(FEATURES.astype(ml_dtypes.bfloat16)),
        FEATURES.astype(ml_dtypes.bfloat16),
    ),
    "float8": (WHOLE.astype(ml_dtypes.float8_e4m3fn), WHOLE.astype(ml_dtypes.float8_e4m3fn)),
    "whole": (WHOLE, WHOLE),
    "unsigned": (np.abs(WHOLE).astype("u1"), np.abs(WHOLE)),
    "big endian whole": (WHOLE.astype(">i8"), WHOLE),
    "boolean": (FEATURES > 0.5, FEATURES > 0.5),
    "on a device": (jax.numpy.asarray(WHOLE), WHOLE),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_every_dtype_that_holds_numbers_is_read(name):
    given, same = NUMBERS[name]
    plain = {"features": np.asarray(same).astype(np.float32)}
    found = rank({"given": {"features": given}, "plain": plain}, LABELS, **ASKED)
    assert found.failures == ()
    for column in found.scores.values():
        assert column[0] == pytest.approx(column[1], abs=1e-6)


NO_NUMBERS = {
    "text": (FEATURES.astype(str), "dtype <U"),
    "bytes": (FEATURES.astype("S8"), "dtype |S8"),
    "dates": (np.zeros((N, 3), "M8[s]"), "dtype datetime64"),
    "durations": (np.zeros((N, 3), "m8[s]"), "dtype timedelta64"),
    "structured": (np.zeros(N, [("a", "f4")]), "dtype [('a', '<f4')]"),
    "void": (np.zeros((N, 3), "V4"), "dtype |V4; name the format"),
    "float8 of a file": (saved_and_read(WHOLE.astype(ml_dtypes.float8_e4m3fn)), "dtype |V1"),
    "complex": (FEATURES.astype(complex), "dtype complex128"),
    "objects": (FEATURES.astype(object), "array of objects"),
    "ragged": ([[1.0], [2.0, 3.0]], "wanted an array of numbers"),
    "too large": (FEATURES.astype(float) * 1e300, "finite numbers"),
    "none": (None, "wanted"),
}


@pytest.mark.parametrize("name", NO_NUMBERS)
def test_what_holds_no_numbers_is_named_and_takes_nothing_along(name):
    given, reason = NO_NUMBERS[name]
    probs = np.eye(3)[LABELS] * 0.7 + 0.1
    sources = {"sound": {"features": FEATURES}, name: {"features": given, "probs": probs}}
    found = rank(sources, LABELS, metrics=["h_score", "leep"], nulls=())
    assert found.names == ("sound", name)  # by its probabilities
    (failure,) = [f for f in found.failures if f.source == name]
    assert set(failure.metrics) == {"predictive_r2", "h_score"}
    assert reason in failure.reason
    assert failure.reason.startswith("features: ")
    found = rank({"sound": {"features": FEATURES}, name: {"features": given}}, LABELS, **ASKED)
    assert found.names == ("sound",)
    assert [(f.source, f.metrics) for f in found.failures] == [(name, ())]


@pytest.mark.parametrize(
    "labels",
    [np.zeros(N, [("a", "i4")]), LABELS.astype(str), np.zeros(N, "M8[s]"), [[1], [2, 3]]],
)
def test_labels_that_are_none_fail_with_their_source(labels):
    sources = {"odd": {"features": FEATURES, "labels": labels}, "sound": {"features": FEATURES}}
    found = rank(sources, LABELS, **ASKED)
    assert found.names == ("sound",)
    sources["sound"]["labels"] = LABELS
    assert rank(sources, **ASKED).names == ("sound",)  # whose labels are the first that are any


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (TypeError("no such\nthing"), "TypeError: no such"),
        (MemoryError(), "MemoryError"),
        (OSError(5, "Input/output error"), "OSError: [Errno 5] Input/output error"),
        (jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory"), "JaxRuntimeError: RES"),
        (ValueError("network: wanted another"), "network: wanted another"),
    ],
)
def test_a_network_that_fails_in_any_way_is_one_failure(error, reason):
    def load():
        raise error

    found = rank({"bad": load, "sound": {"features": FEATURES}}, LABELS, **ASKED)
    assert found.names == ("sound",)
    (failure,) = found.failures
    assert failure.reason.startswith(reason)
    assert "\n" not in failure.reason


def test_a_metric_that_fails_takes_no_other(monkeypatch):
    real = scored.score

    def score_but_leep(*args, metrics, **options):
        if "leep" in metrics and metrics != "neg_label_entropy":
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")
        return real(*args, metrics=metrics, **options)

    monkeypatch.setattr(scored, "score", score_but_leep)
    probs = np.eye(3)[LABELS] * 0.7 + 0.1
    sources = {"a": {"features": FEATURES, "probs": probs}}
    found = rank(sources, LABELS, metrics=["leep", "h_score"], nulls=())
    assert set(found.scores) == {"predictive_r2", "cross_fitted_leep", "h_score"}
    (failure,) = found.failures
    assert failure.metrics == ("leep",)
    assert failure.reason == "JaxRuntimeError: RESOURCE_EXHAUSTED: out of memory"

    def no_memory(*_):
        raise MemoryError

    monkeypatch.setattr(left_out, "held_out", no_memory)
    found = rank(sources, LABELS, **ASKED)
    assert set(found.scores) == {"cross_fitted_leep", "h_score"}


def test_one_array_of_a_file_that_cannot_be_read_takes_no_other(tmp_path):
    objects = np.array([[1.0], [2.0, 3.0]], object)
    probs = np.eye(3)[LABELS] * 0.7 + 0.1
    np.savez(tmp_path / "a.npz", features=objects, probs=probs)
    np.savez(tmp_path / "b.npz", features=FEATURES, probs=probs)
    found = rank([tmp_path / "a.npz", tmp_path / "b.npz"], LABELS, metrics=["leep"], nulls=())
    assert found.names == ("a", "b")
    (failure,) = found.failures
    assert failure.source == "a"
    assert failure.metrics == ("predictive_r2",)
    assert "array of objects, which is a pickle" in failure.reason


def test_a_parquet_column_that_cannot_be_read_takes_no_other(tmp_path):
    pa = pytest.importorskip("pyarrow", reason="needs leepjax[parquet]")
    pq = pytest.importorskip("pyarrow.parquet", reason="needs leepjax[parquet]")
    probs = (np.eye(3)[LABELS] * 0.7 + 0.1).tolist()
    features = [[1.0]] * (N - 1) + [[1.0, 2.0]]
    pq.write_table(pa.table({"features": features, "probs": probs}), tmp_path / "a.parquet")
    found = rank([tmp_path / "a.parquet"], LABELS, metrics=["leep"], nulls=())
    assert found.names == ("a",)
    assert "features: wanted lists of one length" in found.failures[0].reason


def test_half_precision_files_are_read(tmp_path):
    for name, dtype in (("f32", "f4"), ("f16", "f2"), ("bf16", ml_dtypes.bfloat16)):
        save_file({"features": FEATURES.astype(dtype)}, tmp_path / f"{name}.safetensors")
    found = rank(sorted(tmp_path.iterdir()), LABELS, **ASKED)
    assert found.failures == ()
    assert found.scores["h_score"] == pytest.approx(found.scores["h_score"][0], abs=2e-2)


@pytest.mark.parametrize("array", ["features", "logits"])
def test_a_network_in_two_precisions_shares_the_first_place(array):
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 5, 400)
    x = (rng.normal(size=(5, 5))[labels] + rng.normal(size=(400, 5))).astype(np.float32)
    copies = {"f32": x, "f16": x.astype("f2"), "bf16": x.astype(ml_dtypes.bfloat16)}
    sources = {name: {array: copy} for name, copy in copies.items()}
    found = rank(sources, labels, metrics=["h_score" if array == "features" else "leep"], nulls=())
    assert found.probability_best() == pytest.approx(1 / 3, abs=0.02)
    assert set(found.choice) == set(copies)


@pytest.mark.parametrize("dtype", [">f4", ">f8", np.longdouble])
def test_other_arguments_take_either_byte_order_too(dtype):
    bank = Bank(
        np.zeros((N, 4, 4, 1), np.uint8),
        LABELS.astype(np.int32),
        np.zeros(N, np.int32),
        ("a", "b", "c"),
        ("g",),
    )
    options = {"num_tasks": 2, "ways": 2, "shots": 3}
    tasks = sample_tasks(jax.random.key(0), Dataset(bank, bank), **options)
    odd = FEATURES.astype(dtype)
    plain = score(LABELS, num_classes=3, features=FEATURES, metrics=["h_score"])
    found = score(LABELS.astype(">i4"), num_classes=3, features=odd, metrics=["h_score"])
    assert found["h_score"] == plain["h_score"]
    plain = score_tasks(tasks, features=FEATURES, metrics=["h_score"])
    found = score_tasks(tasks, features=odd, metrics=["h_score"])
    np.testing.assert_array_equal(found["h_score"], plain["h_score"])
    plain = retrain_head(FEATURES, FEATURES, tasks)
    np.testing.assert_array_equal(retrain_head(odd, odd, tasks).accuracy, plain.accuracy)
    with pytest.raises(ValueError, match="train_features: wanted numbers, got dtype <U"):
        retrain_head(FEATURES.astype(str), FEATURES, tasks)
