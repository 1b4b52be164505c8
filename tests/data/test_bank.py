"""Banks: what is said of arrays that are none of labelled images."""

import dataclasses

import numpy as np
import pytest

from leepjax.data import Bank, TextBank, check_bank

LABELS = np.arange(6) % 3


def bank_of(shape, dtype=np.uint8, **fields):
    bank = Bank(np.zeros(shape, dtype), LABELS, np.zeros(6, int), ("a", "b", "c"), ("g",))
    return dataclasses.replace(bank, **fields)


@pytest.mark.parametrize(
    ("shape", "remedy"),
    [
        ((6, 3, 32, 32), r"images\.transpose\(0, 2, 3, 1\)"),  # PyTorch's
        ((6, 1, 28, 28), r"images\.transpose\(0, 2, 3, 1\)"),
        ((6, 4, 30, 20), r"images\.transpose\(0, 2, 3, 1\)"),
        ((6, 13, 64, 64), r"images\.transpose\(0, 2, 3, 1\)"),  # of a satellite
        ((32, 30, 3, 6), r"images\.transpose\(3, 0, 1, 2\)"),  # MATLAB's
        ((6, 28, 28), r"images\[\.\.\., None\]"),
    ],
)
def test_images_of_another_layout_are_refused_with_what_to_do(shape, remedy):
    with pytest.raises(ValueError, match=rf"^b\.images: wanted.*{remedy}"):
        check_bank("b", bank_of(shape))


@pytest.mark.parametrize(
    "shape", [(6, 32, 30, 3), (6, 3, 3, 13), (6, 1, 1, 5), (6, 64, 64, 13), (6, 3, 32, 1)]
)
def test_images_of_any_number_of_channels_are_taken(shape):
    check_bank("b", bank_of(shape))


def test_floats_are_refused_with_what_to_do():
    with pytest.raises(ValueError, match=r"got float32 .*np\.round\(255 \* images\)"):
        check_bank("b", bank_of((6, 4, 4, 1), np.float32))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"class_names": list("abc")}, "class_names: wanted a tuple of text, got a list with 'a'"),
        ({"class_names": (0, 1, 2)}, "class_names: wanted a tuple of text, got a tuple with 0"),
        ({"group_names": "g"}, "group_names: wanted a tuple of text, got a str with 'g'"),
        ({"labels": LABELS.tolist()}, "labels: wanted an array, as of np.asarray, got a list"),
        ({"groups": range(6)}, "groups: wanted an array, as of np.asarray, got a range"),
        ({"labels": LABELS.astype(str)}, "labels: wanted 6 integers, one per image, got <U"),
    ],
)
def test_fields_of_another_kind_are_named(fields, message):
    with pytest.raises(ValueError, match=message):
        check_bank("b", bank_of((6, 4, 4, 1), **fields))


def test_texts_are_no_images():
    none = np.zeros(2, np.int32)
    bank = TextBank(("a", "b"), none, none, ("x",), ("y",))
    with pytest.raises(ValueError, match="bank: wanted a bank of images, got a TextBank"):
        check_bank("bank", bank)
    assert bank.digest != dataclasses.replace(bank, pairs=("a", "b")).digest
