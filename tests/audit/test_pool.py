"""Plain tables: what is read, and what is said of a cell that cannot be."""

import numpy as np
import pytest

from leepjax.audit import TextTable, read_csv, read_pool, recompute
from leepjax.evaluation import noise_ceiling, static_ranking

MODELS = """dataset,model,accuracy,leep,h_score
pets,ResNet50,92.5,-0.8,31
pets,ResNet101,94.0,-0.7,32
pets,DenseNet121,,-0.9,30
pets,Inception V3,93.5,-0.75,33
cars,ResNet50,81.25,-1.8,
cars,ResNet101,84.0,-1.7,22
cars,DenseNet121,80.0,-1.9,20
cars,Inception V3,nan,-1.75,23
"""
TASKS = """setting,task,group,classes,num_classes,leep,accuracy,gap,failed
a,0,x,1 2,2,-0.5,0.9,0.1,0
a,1,x,2 3 4,3,-0.7,0.7,0.1,0
a,2,y,5 10,2,-0.6,0.8,0.1,0
a,3,y,5 11,2,-0.6,0.5,0.1,2
"""


def table_of(tmp_path, text: str) -> TextTable:
    path = tmp_path / "table.csv"
    path.write_text(text, encoding="utf-8")
    return read_csv(path)


def test_models_on_targets(tmp_path):
    pool = read_pool(table_of(tmp_path, MODELS))
    assert [(part, list(rows)) for part, rows in pool.parts()] == [
        ("pets", [0, 1, 2]),
        ("cars", [3, 4, 5]),
    ]
    assert pool.left_out == {"pets": 1, "cars": 1}  # no accuracy: left out and counted
    assert list(pool.scores) == ["leep", "h_score", "static_ranking"]
    assert np.isnan(pool.scores["h_score"][3])  # no score: the row stays for the others
    half_units = {"leep": 0.005, "h_score": 0.5, "accuracy": 0.005, "static_ranking": 0}
    assert pool.half_units == pytest.approx(half_units)
    assert list(pool.clusters["family"][1]) == ["densenet", "inception", "resnet"]
    assert pool.crossed
    assert pool.membership(np.arange(3)) is None
    accuracy = [[np.nan, 94, 92.5, 93.5], [80, 84, 81.25, np.nan]]
    ranks = static_ranking(np.array(accuracy))
    expected = [ranks[0, 2], ranks[0, 1], ranks[0, 3], ranks[1, 2], ranks[1, 1], ranks[1, 0]]
    np.testing.assert_array_equal(pool.scores["static_ranking"], expected)


def test_tasks_of_a_study(tmp_path):
    pool = read_pool(table_of(tmp_path, TASKS))
    assert list(pool.scores) == ["leep"]
    assert pool.left_out == {"a": 1}  # diverged
    np.testing.assert_array_equal(pool.membership(np.arange(3)), pool.clusters["group"][0])
    one_group = np.array([0, 1])  # rows of one group share classes
    np.testing.assert_array_equal(pool.membership(one_group), pool.clusters["classes"][0][:2])
    assert list(pool.factors) == ["num_classes", "group"]
    member, names = pool.clusters["classes"]
    assert list(names) == ["1", "10", "2", "3", "4", "5"]
    assert member.sum(1).tolist() == [2, 3, 2]
    assert not pool.crossed


def test_facts_of_models_become_nulls(tmp_path):
    facts = "model,parameters\nResNet50,25M\nResNet101,44M\nDenseNet121,8M\nInception V3,27M\n"
    (tmp_path / "models.csv").write_text(facts)
    table = table_of(tmp_path, MODELS)
    pool = read_pool(table, models=read_csv(tmp_path / "models.csv"))
    np.testing.assert_array_equal(pool.scores["parameters"] / 1e6, [25, 44, 27, 25, 44, 8])


def test_seeds_are_averaged_and_say_what_noise_allows(tmp_path):
    rng = np.random.default_rng(0)
    accuracy = rng.random((3, 4)).round(3)
    lines = [f"pets,m{m},{s},{accuracy[s, m]},{m}" for s in range(3) for m in range(4)]
    pool = read_pool(table_of(tmp_path, "dataset,model,seed,accuracy,leep\n" + "\n".join(lines)))
    np.testing.assert_allclose(pool.accuracy, accuracy.mean(0))
    np.testing.assert_array_equal(pool.scores["leep"], np.arange(4))
    assert pool.ceilings == {"pets": noise_ceiling(accuracy)}


def test_spaces_byte_order_marks_and_empty_lines_do_not_matter(tmp_path):
    text = "\ufeff" + MODELS.replace(",", " , ").replace("cars,ResNet50", "\ncars,ResNet50")
    found, plain = read_pool(table_of(tmp_path, text)), read_pool(table_of(tmp_path, MODELS))
    np.testing.assert_array_equal(found.accuracy, plain.accuracy)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("94.0", "94.O"), r"line 3, column 'accuracy': wanted a number, got '94\.O'"),
        (("-0.9,", "inf,"), "line 4, column 'leep': wanted a number, got 'inf'"),
        (("33", "33,7"), "line 5: wanted 5 cells like the header, got 6"),
        (("h_score", "leep"), "wanted each column once, got 'leep' twice"),
        (("h_score", ""), "wanted a name of column 5 in the header, got none"),
        (("pets,ResNet101", "pets,ResNet50"), "line 3: wanted each row once, got pets, ResNet50"),
        (("accuracy", "acc"), "wanted one column of accuracies .*--accuracy.*, got none of"),
        (("h_score", "top5_accuracy"), None),  # "accuracy" is there
        ((MODELS[MODELS.index("\n") :], ""), "wanted a header and at least one row, got 1 lines"),
        (("\nc", '\n"c'), "wanted a CSV file, got"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, change, message):
    text = MODELS.replace(change[0], change[1], 1)
    if message is None:
        read_pool(table_of(tmp_path, text))
        return
    with pytest.raises(ValueError, match=message):
        read_pool(table_of(tmp_path, text))


def test_what_a_part_has_not_is_not_left_out_of_it(tmp_path):
    tables = recompute(read_pool(table_of(tmp_path, MODELS)))
    rows = [row for row in tables["without"] if (row["part"], row["kind"]) == ("pets", "model")]
    assert {row["left_out"] for row in rows} == {"ResNet50", "ResNet101", "Inception V3"}
    pets = np.array([92.5, 94.0, 93.5])
    assert tables["rows"][0]["mean"] == pytest.approx(pets.mean())
    assert tables["rows"][0]["standard_deviation"] == pytest.approx(pets.std())


def test_columns_that_are_not_there_are_named(tmp_path):
    table = table_of(tmp_path, MODELS)
    for choice in ({"accuracy": "acc"}, {"part": "acc"}, {"cluster": "acc"}, {"scores": ["acc"]}):
        with pytest.raises(ValueError, match=r"table\.csv: no column 'acc'; "):
            read_pool(table, **choice)
    with pytest.raises(ValueError, match="column 'accuracy': wanted accuracies, got none"):
        read_pool(table_of(tmp_path, "accuracy,leep\nnan,1\n,2\n"))
    with pytest.raises(ValueError, match="wanted a column of scores, got none of model, accuracy"):
        read_pool(table_of(tmp_path, "model,accuracy\na,1\nb,2\n"))
    with pytest.raises(ValueError, match=r"wanted a CSV file, got No such file"):
        read_csv(tmp_path / "other.csv")
