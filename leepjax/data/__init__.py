"""Labelled images: data sets by name, held as banks of arrays."""

from leepjax.data.bank import Bank, Dataset, check_bank
from leepjax.data.load import load
from leepjax.data.transform import shrink, with_rotations, without_groups

__all__ = ["Bank", "Dataset", "check_bank", "load", "shrink", "with_rotations", "without_groups"]
