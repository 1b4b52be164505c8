"""Docstrings as the site shows them: their reStructuredText becomes Markdown, formulas MathML.

In the code they are as ``help`` and editors read them. MathML is drawn by the browser itself, so
that pages need no script and no network.
"""

import re

from griffe import Extension
from latex2mathml.converter import convert


def markdown(text: str) -> str:
    """A docstring in Google style, with Sphinx's roles, as Markdown."""
    text = re.sub(r"(?<=\n\n)>>> .*(?:\n.+)*", _section, text)
    text = re.sub(r"^(\s*)Example:$", r"\1Examples:", text, flags=re.M)
    text = re.sub(r"::$", ":", text, flags=re.M)
    text = re.sub(r"^Source: ", "**Source:** ", text, flags=re.M)
    text = re.sub(
        r"^\.\. math:: (.+?)(?:\n\n|\Z)",
        lambda m: f'<div class="math">{_formula(m[1], "block")}</div>\n\n',
        text,
        flags=re.M | re.S,
    )
    text = re.sub(r":math:`([^`]+)`", lambda m: _formula(m[1], "inline"), text)
    text = re.sub(r":(?:func|class|meth|data):`~?([^`]+)`", r"`\1`", text)
    # Tables, and formulas in plain letters, keep their lines.
    return re.sub(r"^(=+  =+)$.*^\1$", lambda m: f"```\n{m[0]}\n```", text, flags=re.M | re.S)


def _section(lines: re.Match) -> str:
    """A doctest that stands alone, as a section of examples."""
    return "Examples:\n" + "\n".join(f"    {line}" for line in lines[0].split("\n"))


def _formula(latex: str, display: str) -> str:
    return convert(" ".join(latex.split()), display=display)


class Markdown(Extension):
    """Rewrites every docstring once it is read."""

    def on_object(self, *, obj, **_) -> None:
        """Called by griffe for every module, class, function and attribute."""
        if obj.docstring is not None:
            obj.docstring.value = markdown(obj.docstring.value)
