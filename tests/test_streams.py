"""A state in a file: what is read is what was written, or it is refused in one line."""

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from leepjax import streams
from leepjax.metrics import moments, streaming

C, S, D = 3, 4, 5


def states():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(20, D)).astype("f4")
    labels, targets = rng.integers(0, C, 20), rng.normal(size=(20, 2)).astype("f4")
    probs = np.full((20, S), 1 / S, "f4")
    about = moments.about(features)
    state = streaming.init(num_classes=C, num_source_classes=S, features=about, by_class=True)
    first = streaming.update(state, labels, features=features, probs=probs)
    second = streaming.update(streaming.second_pass(first), labels, probs=probs)
    regression = moments.update(moments.init(about, num_targets=2), features, targets=targets)
    yield from (about, state, first, second, regression)
    yield streaming.init(num_classes=C)


def test_what_is_read_is_what_was_written(tmp_path):
    for state in states():
        streams.save(tmp_path / "state", state)
        again = streams.load(tmp_path / "state")
        assert type(again) is type(state)
        assert jax.tree.structure(again) == jax.tree.structure(state)
        jax.tree.map(np.testing.assert_array_equal, again, state)
    assert [p.name for p in tmp_path.iterdir()] == ["state"]


def test_a_loaded_part_is_merged_and_one_of_another_about_refused(tmp_path):
    first = [*states()][2]
    streams.save(tmp_path / "a", first)
    merged = streaming.merge(streams.load(tmp_path / "a"), first)
    np.testing.assert_array_equal(merged.counts, 2 * first.counts)
    other = first._replace(moments=first.moments._replace(unit=2 * first.moments.unit))
    with pytest.raises(ValueError, match="b: wanted moments about the same shift and unit"):
        streaming.merge(streams.load(tmp_path / "a"), other)


def written(path, **changes):
    streams.save(path, [*states()][2])
    arrays = load_file(path)
    metadata = {"kind": "leepjax.stream", "version": streams.VERSION}
    metadata["digest"] = streams._checksum(arrays)
    if "drop" in changes:
        arrays.pop(changes.pop("drop"))
    if "add" in changes:
        arrays["counts"] += changes.pop("add")
    save_file(arrays, path, metadata=metadata | changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "leepjax.features"}, "wanted a state of stream, moments, about, got kind 'feat"),
        ({"version": "0"}, "wanted format version 1, got 0"),
        ({"add": 1}, "is damaged .its checksum"),
        ({"drop": "moments.gram"}, "is damaged .its checksum"),
    ],
)
def test_another_file_is_refused(changes, message, tmp_path):
    written(tmp_path / "a", **changes)
    with pytest.raises(ValueError, match=message):
        streams.load(tmp_path / "a")


def test_a_torn_file_is_refused(tmp_path):
    path = tmp_path / "a"
    streams.save(path, [*states()][2])
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"a is damaged, or no file of streams\.save"):
        streams.load(path)
    with pytest.raises(FileNotFoundError, match=r"path: wanted a file of streams\.save"):
        streams.load(tmp_path / "nothing")
    with pytest.raises(ValueError, match="state: wanted one of Stream, Moments, About, got dict"):
        streams.save(path, {})


def test_float64_is_not_rounded_silently(tmp_path, x64, monkeypatch):
    streams.save(tmp_path / "a", streaming.init(num_classes=C))
    monkeypatch.setattr(streams.jnp, "asarray", lambda x: np.float32(x))  # as without x64
    with pytest.raises(ValueError, match="wanted numbers of JAX's precision, got float64"):
        streams.load(tmp_path / "a")
