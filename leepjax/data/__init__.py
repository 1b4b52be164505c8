"""Labelled images and texts: data sets by name, held as banks of arrays."""

from leepjax.data._load import check_prepared, load
from leepjax.data.bank import Bank, Dataset, check_bank
from leepjax.data.pixels import Pixels
from leepjax.data.texts import TextBank
from leepjax.data.transform import (
    of_classes,
    shrink,
    with_copies,
    with_rotations,
    without_groups,
)

__all__ = [
    "Bank",
    "Dataset",
    "Pixels",
    "TextBank",
    "check_bank",
    "check_prepared",
    "load",
    "of_classes",
    "shrink",
    "with_copies",
    "with_rotations",
    "without_groups",
]
