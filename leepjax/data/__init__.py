"""Labelled images: data sets by name, held as banks of arrays."""

from leepjax.data.bank import Bank, Dataset, check_bank
from leepjax.data.load import load

__all__ = ["Bank", "Dataset", "check_bank", "load"]
