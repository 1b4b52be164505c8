"""Numbers as people print them: one meaning is read, two are refused."""

import numpy as np
import pytest

from leepjax.audit.numbers import read_column


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        ("\u22121.611", -1.611),  # a minus sign
        ("\u20131,5", -1.5),  # a dash, and a decimal comma
        ("\uff0d7\uff11.2", -71.2),  # full-width
        ("71.2\u200b", 71.2),
        ("71.2 %", 71.2),
        ("71.2% ± 0.3%", 71.2),
        ("71.2 ± 0.3", 71.2),
        ("71.2+/-0.3", 71.2),
        ("71.2 (0.3)", 71.2),
        ("71.2 [70.1, 72.4]", 71.2),
        ("$71.2$", 71.2),
        (r"$71.2_{\pm 0.3}$", 71.2),
        ("$71_{123}$", 71),  # a deviation, not thousands
        (r"\textbf{71.2}", 71.2),
        ("**71.2**", 71.2),
        ("71.2*", 71.2),
        ("$5", 5),
        ("1\u202f234\u202f567", 1234567),
        ("1'234.5", 1234.5),
        ("1,234,567", 1234567),
        ("1.234,5", 1234.5),
        ("11.7M", 1.17e7),
        ("4.1 GFLOPs", 4.1),
        ("1.e-3", 1e-3),
    ],
)
def test_one_meaning_is_read(cell, value):
    column = read_column([cell])
    assert column.errors == {}
    assert column.values[0] == pytest.approx(value, rel=1e-15)


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("1,234", "got '1,234': 1.234 or 1234; write one of these"),
        ("1e400", "wanted a number that float64 holds, got '1e400'"),
        ("1e-400", "wanted a number that float64 holds, got '1e-400'"),
        ("71.2\u00b9", "wanted a number, got '71.2\u00b9'"),  # a footnote, or a power
        ("(71.2)", "wanted a number"),  # negative in a ledger
        ("71.2 71.3", "wanted a number"),
        ("94.O", "wanted a number"),
        ("<0.01", "wanted a number"),
        ("2026-03-04", "wanted a number"),
        ("12,34,567", "wanted a number"),
        ("3rd", "wanted a number"),
        ("x" * 999, "wanted a number, got 'xxx"),
    ],
)
def test_no_meaning_or_two_are_refused(cell, message):
    column = read_column([cell])
    assert np.isnan(column.values[0])
    assert message in column.errors[0]
    assert len(column.errors[0]) < 150


@pytest.mark.parametrize(
    ("cells", "values", "wrong"),
    [
        (["0,85", "1,234"], [0.85, 1.234], []),  # the comma is for decimals
        (["1,234,567", "1,234"], [1234567, 1234], []),  # for thousands
        (["1.234,5", "1.234"], [1234.5, 1234], []),
        (["-0.5", "-1.611"], [-0.5, -1.611], []),
        (["-1.611", "-1,61"], [np.nan, -1.61], [0]),  # is the point for thousands?
        (["12.5", "1,234"], [12.5, np.nan], [1]),
        (["85%", "86%", "0.87"], [85, 86, np.nan], [2]),
        (["11M", "1.1B", "900"], [1.1e7, 1.1e9, np.nan], [2]),
        (["1.5", "\u2014", "--", "N/A", ""], [1.5, *[np.nan] * 4], []),
    ],
)
def test_a_column_settles_what_a_cell_does_not(cells, values, wrong):
    column = read_column(cells)
    np.testing.assert_array_equal(column.values, values)
    assert list(column.errors) == wrong
    assert column.numeric


@pytest.mark.parametrize(
    "cells", [["1st", "2nd"], ["18d", "50a", "7c"], ["", "-"], ["a", "b", "1"]]
)
def test_names_are_no_numbers(cells):
    assert not read_column(cells).numeric


def test_decimals_that_are_shown():
    assert read_column(["71.20 ± 0.123", "85", "2.5M", "1e-9"]).decimals == [2, 0]
    assert read_column(["2.5M"]).decimals == [-5]
