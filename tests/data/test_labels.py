"""Label columns to targets."""

import numpy as np
import pytest

from leepjax.data.labels import read_targets


def classes(values, **options):
    found = read_targets({"label": values}, "class", **options)
    return found.values.tolist(), found.names, found.wrong


def test_words_are_classes_by_name():
    assert classes(["oak", "ash ", "oak", "ash"]) == ([1, 0, 1, 0], ("ash", "oak"), {})


@pytest.mark.parametrize(
    "values", [[10, 2, 10, 2], [10.0, 2.0, 10.0, 2.0], ["10", "2", "10.0", "2.0"]]
)
def test_numbers_are_classes_in_their_order(values):
    assert classes(values) == ([1, 0, 1, 0], ("2", "10"), {})


def test_numbers_keep_their_names():
    assert classes(["007", "12", "007", "12"])[1] == ("007", "12")
    assert classes(["007", "12", "7", "12"]) == ([0, 1, 0, 1], ("7", "12"), {})
    assert classes(["10_1", "9", "10_1", "9"])[1] == ("10_1", "9")  # no number
    large = [str(2**60 + i % 2) for i in range(4)]
    assert classes(large) == ([0, 1, 0, 1], (str(2**60), str(2**60 + 1)), {})


def test_few_numbers_with_decimals_are_classes():
    assert classes([0.5, -1.5, 0.5, -1.5])[:2] == ([1, 0, 1, 0], ("-1.5", "0.5"))


def test_a_number_among_words_is_a_word():
    assert classes(["10", "2", "many", "10", "2"])[1] == ("10", "2", "many")


@pytest.mark.parametrize("nothing", [None, "", "  ", float("nan")])
def test_what_is_missing_is_named(nothing):
    assert classes([1, nothing, 2, 2]) == ([0, 0, 1, 1], ("1", "2"), {1: "no label"})


def test_classes_in_the_order_of_the_source():
    assert classes(["oak", "ash", "oak"], class_names=("oak", "elm", "ash"))[1] == ("oak", "ash")


@pytest.mark.parametrize(
    "values", [np.linspace(0, 1, 100).tolist(), list(range(60)), [f"id {i}" for i in range(5)]]
)
def test_what_are_no_classes_is_refused(values):
    with pytest.raises(
        ValueError, match=r"label_column: 'label' has .* different values in .*regr"
    ):
        classes([*values, *values[: len(values) // 2]] if len(values) == 60 else values)


def test_numbers():
    found = read_targets({"x": [1, "2.5", None, "many"], "y": [0, 1, 2, 3]}, "regression")
    assert found.values.dtype == np.float32
    np.testing.assert_array_equal(found.values[:2], [[1, 0], [2.5, 1]])
    assert found.names == ("x", "y")
    assert found.wrong == {
        2: "x is nothing, wanted a finite number",
        3: "x is 'many', wanted a finite number",
    }
    assert read_targets({"x": [1, 2]}, "regression").values.shape == (2,)


def test_several_labels():
    found = read_targets({"red": [0, "1", True, 2], "big": [1, 1.0, False, 0]}, "multilabel")
    assert found.values.dtype == np.uint8
    np.testing.assert_array_equal(found.values[:3], [[0, 1], [1, 1], [1, 0]])
    assert found.wrong == {3: "red is 2, wanted 0 or 1"}


def test_lists_of_labels():
    found = read_targets({"tags": [["b", "a"], [], ["b"], None]}, "multilabel")
    np.testing.assert_array_equal(found.values, [[1, 1], [0, 0], [0, 1], [0, 0]])
    assert found.names == ("a", "b")
    assert found.wrong == {3: "no list of labels"}


@pytest.mark.parametrize(
    ("columns", "kind", "message"),
    [
        ({"a": [1], "b": [1]}, "class", "label_column: wanted one column of classes, got 'a', 'b'"),
        ({"a": [1]}, "multilabel", "wanted several columns of 0 and 1, or one of lists"),
        ({"a": [["x"], ["y"]]}, "class", "label_column: 'a' holds lists.*multilabel"),
        ({"a": [1]}, "words", "target: wanted one of class, multilabel, regression, got 'words'"),
    ],
)
def test_columns_of_another_kind(columns, kind, message):
    with pytest.raises(ValueError, match=message):
        read_targets(columns, kind)
