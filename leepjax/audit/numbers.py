"""Numbers as people print them: read if there is one meaning, refused if there are two.

``71.2 ± 0.3``, ``71.2 (0.3)``, ``$71.2_{\\pm 0.3}$``, ``**71.2**`` and ``71.2*`` are 71.2. Any dash
is a minus sign, and invisible spaces do not count. The whole column decides what separates decimals
and thousands, because a single cell such as ``1,234`` is ambiguous.
"""

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

MISSING = ("", "nan", "<na>", "na", "n/a", "n.a.", "#n/a", "none", "null", "missing", "?")
MISSING += ("-", "--", "---", ".", "..", "...")
_DASHES = str.maketrans(
    dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212\ufe63\uff0d", "-")
)
_INVISIBLE = re.compile("[\u200b-\u200f\u2060-\u2064\ufeff\u00ad]")
_PREFIXES = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "B": 1e9, "T": 1e12}
_TEX = re.compile(r"\\(?:text|math)(?:bf|it|rm|tt|sf)?\b|\\(?:underline|emph|num|bm|boldsymbol)\b")
_SPACED = "[ '\u2019_]"  # what can only separate thousands
_DIGITS = (
    rf"\d{{1,3}}(?:{_SPACED}\d{{3}})+(?:[.,]\d+)?"  # 1 234 567.8
    r"|\d{1,3}(?:,\d{3})+\.\d+|\d{1,3}(?:\.\d{3})+,\d+"  # 1,234.5 and 1.234,5
    r"|\d{1,3}(?:,\d{3}){2,}|\d{1,3}(?:\.\d{3}){2,}"  # 1,234,567
    r"|\d+[.,]\d+|\d+[.,]?(?!(?![eE][+-]?\d)[a-zA-Z])|\d+|[.,]\d+"
)
_NUMBER = rf"(?P<sign>[+-]?) ?(?P<digits>{_DIGITS})(?P<exponent>[eE][+-]?\d+)?"
_DEVIATION = r"(?: ?(?:\+/-|\+-) ?[\d.,]+ ?%?| ?_ ?(?:\+/-)? ?[\d.,]+| ?[(\[][^()\[\]]*[)\]])*"
_CELL = re.compile(
    rf"(?P<before>[$\u20ac\u00a3]?) ?{_NUMBER} ?(?P<unit>%|[a-zA-Z\u00b5\u03bc]+(?:/[a-zA-Z]+)?)?"
    rf"(?P<about>{_DEVIATION}) ?(?P<after>%|[a-zA-Z\u00b5\u03bc]+(?:/[a-zA-Z]+)?)?"
    r"[*\u2020\u2021\u00a7]*"
)


class Printed(NamedTuple):
    """A number as it was printed: its sign and digits, the unit, and a power of ten apart."""

    sign: str
    digits: str
    exponent: str
    unit: str


def is_missing(cell: str) -> bool:
    """Whether a cell says that there is no number: empty, ``nan``, ``N/A`` or a dash."""
    return _plain(cell).lower() in MISSING


def printed(cell: str) -> Printed | None:
    """The number of a cell, without deviation, emphasis and marks; None where it is none."""
    match = _CELL.fullmatch(_plain(cell))
    if match is None or (match["unit"] and match["after"] not in (None, match["unit"])):
        return None
    unit = match["unit"] or match["after"] or match["before"]
    if unit in ("st", "nd", "rd", "th"):
        return None
    return Printed(match["sign"], match["digits"], match["exponent"] or "", unit)


class Column(NamedTuple):
    """The cells of a column, read.

    Attributes:
      values: ``[n]``, NaN where missing or wrong.
      decimals: how many each plain number shows; negative for ``25M``.
      errors: what is wrong, by row.
      numeric: whether most cells that are not missing are numbers, and there are any.
    """

    values: np.ndarray
    decimals: list[int]
    errors: dict[int, str]
    numeric: bool


def read_column(cells: Sequence[str]) -> Column:
    """Read the cells of one column together, because together they decide commas and the unit.

    >>> read_column(["0,85 ± 0,01", "−1,234", "–"]).values
    array([ 0.85 , -1.234,    nan])
    >>> read_column(["1,234"]).errors[0][:54]
    "wanted a number of one meaning, got '1,234': 1.234 or "
    """
    found = [None if is_missing(cell) else printed(cell) for cell in cells]
    marks = {mark: _roles(found, mark) for mark in ".,"}
    commas = any("," in number.digits for number in found if number)
    units = Counter(_kind(number.unit) for number in found if number)
    unit = max(units, key=lambda kind: units[kind], default="")
    values, decimals, errors = np.full(len(cells), np.nan), [], {}
    for i, (cell, number) in enumerate(zip(cells, found, strict=True)):
        if is_missing(cell):
            continue
        read = _value(number, marks, commas) if number else None
        if number is None:
            errors[i] = (
                f"wanted a number, got {shorten(cell)}; write a finite number, or nothing where "
                "it is missing"
            )
        elif _kind(number.unit) != unit:
            others = f"{unit!r}" if unit else "no unit"
            errors[i] = (
                f"wanted a number with {others} as elsewhere in the column, got {shorten(cell)}"
            )
        elif read is None:
            whole, part = re.split("[.,]", number.digits)
            errors[i] = (
                f"wanted a number of one meaning, got {shorten(cell)}: {number.sign}{whole}.{part} "
                f"or {number.sign}{whole}{part}; write one of these"
            )
        elif not math.isfinite(read[0]):
            errors[i] = f"wanted a number that float64 holds, got {shorten(cell)}"
        else:
            values[i] = read[0]
            decimals += [] if number.exponent else [read[1]]
    # Of units that are not the column's own, 18d may be a name.
    numbers = sum(units[kind] for kind in {unit, "", "%", "k, M, G"})
    present = sum(not is_missing(cell) for cell in cells)
    return Column(values, decimals, errors, 2 * numbers > present)


def _kind(unit: str) -> str:
    return "k, M, G" if _PREFIXES.get(unit, 1.0) > 1 else unit


def shorten(text: str, length: int = 40) -> str:
    """The text in quotes, invisible characters spelt out, cut to a message's length."""
    return repr(text if len(text) <= length else text[: length - 1] + "…")


def _plain(cell: str) -> str:
    """A cell without emphasis, TeX and invisible characters, its dashes and spaces ASCII."""
    text = _INVISIBLE.sub("", cell).translate(_DASHES)
    # Full-width digits are digits; a superscript is a footnote or a power, never a digit.
    text = "".join(
        c if unicodedata.category(c) == "No" else unicodedata.normalize("NFKC", c) for c in text
    )
    text = _TEX.sub("", text.replace("±", "+/-").replace("\\pm", "+/-"))
    text = re.sub(r"_\{(?: *\+/-)?", "+/-", text)  # a deviation set as an index
    text = text.replace("{,}", ",").replace("\\%", "%").replace("\\,", " ").replace("\\$", "$")
    text = re.sub("[{}]", "", text).replace("**", "").replace("__", "")
    text = re.sub(r"(?<=\d)~", " ", text)
    if text.count("$") >= 2:  # TeX's mathematics; a single one is dollars
        text = text.replace("$", "")
    return " ".join(text.split())


def _single(digits: str, mark: str) -> bool:
    """Whether the digits read as both decimals and thousands: ``1,234``."""
    return bool(re.fullmatch(rf"[1-9]\d{{0,2}}\{mark}\d{{3}}", digits))


def _roles(numbers: Sequence[Printed | None], mark: str) -> set[str]:
    """What a column's unambiguous cells use a mark for: decimals, thousands."""
    roles = set()
    for digits in (number.digits for number in numbers if number):
        if mark in digits and not _single(digits, mark):
            last = max(digits.rfind("."), digits.rfind(","))
            alone = digits.count(mark) == 1 and digits[last] == mark
            roles.add("decimals" if alone else "thousands")
    return roles


def _value(number: Printed, marks: dict[str, set[str]], commas: bool) -> tuple[float, int] | None:
    """Value and decimals; infinite beyond float64; None where the column leaves two meanings."""
    digits = number.digits
    last = max(digits.rfind("."), digits.rfind(","))
    mark = digits[last] if last >= 0 else ""
    decimal = bool(mark) and digits.count(mark) == 1
    if mark and _single(digits, mark):
        roles = marks[mark] or ({"decimals"} if mark == "." and not commas else set())
        if len(roles) != 1:
            return None
        decimal = roles == {"decimals"}
    whole, fraction = (digits[:last], digits[last + 1 :]) if decimal else (digits, "")
    whole, scale = re.sub(r"\D", "", whole) or "0", _PREFIXES.get(number.unit, 1.0)
    value = float(f"{number.sign}{whole}.{fraction}{number.exponent}") * scale
    if value == 0 and set(whole + fraction) - {"0"}:
        value = math.inf  # too small is as lost as too large
    return value, len(fraction) - round(math.log10(scale))
