"""Layers as sources: every layer, the best of each model, their figure and their heads."""

import dataclasses

import numpy as np
import pytest
from rich.console import Console

from leepjax.commands import rank as command
from leepjax.data import Dataset
from leepjax.ranking import rank
from leepjax.ranking.inputs import arrays_of, load
from leepjax.ranking.layers import best_layers, draw_layers, head_accuracies, head_lines, layer_of
from leepjax.ranking.networks import pretrained_sources, some_of
from tests.models.languages import texts_of, write_model

METRICS = {"metrics": ("logme",), "nulls": ()}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LEEPJAX_CACHE", str(tmp_path / "cache"))


def layers_of(rng, labels):
    """Sources of two models: of `near` layer 2 knows most, of `far` layer 0."""
    strength = {"near layer 0": 0.3, "near layer 1": 0.8, "near layer 2": 2.0}
    strength |= {"far layer 0": 0.6, "far layer 1": 0.1, "plain": 0.5}
    own = np.eye(3)[labels]
    features = {k: own * s + rng.normal(size=own.shape) for k, s in strength.items()}
    return {name: lambda x=x: {"features": x} for name, x in features.items()}


@pytest.fixture(scope="module")
def ranked():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 240)
    sources = layers_of(rng, labels)
    return rank(sources, labels, **METRICS), sources, labels


def test_the_best_layer_of_each_model_stays(ranked):
    ranking, _, _ = ranked
    best = best_layers(ranking)
    assert best.names == ("near layer 2", "far layer 0", "plain")
    i = ranking.names.index("far layer 0")
    assert best.scores["logme"][1] == ranking.scores["logme"][i]
    assert best.covariance.shape == (3, 3)
    assert best.difference("near layer 2", "plain") == ranking.difference("near layer 2", "plain")
    assert str(best).count("layer") >= 2


def test_a_line_for_each_model_and_a_panel_for_heads(ranked):
    ranking, sources, labels = ranked
    heads = head_accuracies(sources, labels)
    assert heads.keys() == sources.keys()
    assert heads["near layer 2"] > 0.75 > heads["near layer 0"]
    figure = draw_layers(ranking, heads)
    assert [len(axis.get_legend_handles_labels()[1]) for axis in figure.axes] == [2, 2]
    assert len(draw_layers(ranking).axes) == 1
    lines = head_lines(ranking, heads)
    assert lines[0].startswith("near: layer 2 has the best predictive_r2, and a head of accuracy .")
    assert lines[-2].startswith("plain: a head of accuracy")
    assert head_lines(ranking, {}) == []
    alone = rank({"a": sources["plain"]}, labels, **METRICS)
    with pytest.raises(ValueError, match="wanted layers of models"):
        draw_layers(alone)


def test_heads_of_classes_of_a_single_sample_are_left_out(ranked):
    _, sources, labels = ranked
    labels = labels.copy()
    labels[0] = 9
    assert len(head_accuracies(sources, labels)) == len(sources)


def test_layers_of_models_in_folders(tmp_path, monkeypatch):
    pytest.importorskip("tokenizers")
    names = [str(write_model(tmp_path / family, family)) for family in ("bert", "electra")]
    (tmp_path / "electra" / "tokenizer.json").unlink()
    bank = texts_of([4] * 50)
    assert some_of(bank, 20).texts != bank.texts[:20]
    assert len(some_of(dataclasses.replace(bank, pairs=bank.texts), 20).pairs) == 20
    monkeypatch.setattr(command, "load", lambda *_, **__: Dataset(bank, bank))
    console = Console(record=True, width=120)
    figure = tmp_path / "layers.png"
    options = {"hub": tuple(names), "data": "mails.csv", "metrics": ("logme",), "heads": True}
    config = command.Rank((), layers="all", figure=figure, **options)
    command.rank_many(config, console)
    said = console.export_text()
    assert all(f"bert layer {i}" in said for i in range(3))
    assert "wanted tokenizer.json" in said
    assert "bert: layer" in said
    assert figure.stat().st_size > 1000
    console = Console(record=True, width=120)
    command.rank_many(command.Rank((), layers="best", **options), console)
    assert sum(layer_of(w) is not None for w in (f"bert layer {i}" for i in range(3)))
    assert console.export_text().count("One source has a score, bert layer") == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": "all"}, "layers, pooling, heads: wanted --hub too"),
        ({"hub": ("a",), "data": "d", "figure": "f.png"}, "figure: wanted --layers all or best"),
    ],
)
def test_flags_that_do_not_go_together(options, message, tmp_path):
    if "figure" in options:
        options = options | {"figure": tmp_path / options["figure"]}
    with pytest.raises(ValueError, match=message):
        command.rank_many(command.Rank((), **options), Console())


def test_sources_give_pooled_states(tmp_path):
    pytest.importorskip("tokenizers")
    folder = str(write_model(tmp_path / "bert"))
    bank = texts_of([4] * 10)
    last = arrays_of(load(pretrained_sources([folder])["bert"]), bank)
    every = pretrained_sources([folder], every_layer=True)
    assert list(every) == [f"bert layer {i}" for i in range(3)]
    np.testing.assert_allclose(
        arrays_of(load(every["bert layer 2"]), bank)["features"], last["features"], atol=1e-6
    )
    assert last["parameters"] == arrays_of(load(every["bert layer 0"]), bank)["parameters"] > 0
