"""A page for a browser: sections of text, tables and figures, in one HTML file.

The file is all there is: figures are inside, nothing is loaded, so that it opens offline and can be
sent to anybody. Tables sort by a click on a heading. The same sections are written as Markdown
beside it. All text is escaped.
"""

import base64
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from leepjax._text import Sheet, html_table, in_html, printable

TYPES = {".svg": "image/svg+xml", ".png": "image/png"}
GENERATOR = '<meta name="generator" content="leepjax">'
INTERVALS = """Intervals are 95 %. Names with a star, in italics, are nulls: what a score must beat.
Click on a heading to sort."""


class Section(NamedTuple):
    """A part of a page.

    Attributes:
      heading: what it is about.
      sheets: tables.
      text: what they say; each line is a paragraph.
      figures: image files (svg or png) that go into the page.
      drawing: SVG that goes into the page as it is; black in it is the page's colour of text.
    """

    heading: str
    sheets: Sequence[Sheet] = ()
    text: str = ""
    figures: Sequence[Path] = ()
    drawing: str = ""


def write_page(path: Path, title: str, sections: Sequence[Section]) -> None:
    """Write ``path``, an HTML file, and the same in Markdown beside it (``.md``).

    Args:
      path: where to.
      title: of the page.
      sections: from top to bottom.

    Raises:
      ValueError: a figure is neither svg nor png, or a row has not as many cells as headings.
    """
    text = {"encoding": "utf-8", "errors": "backslashreplace"}
    path.write_text(page(title, sections, INTERVALS), **text)
    lines = [f"# {_markdown(title)}", *map(_markdown_section, sections)]
    path.with_suffix(".md").write_text("\n\n".join(lines) + "\n", **text)


def page(title: str, sections: Sequence[Section], text: str = "", *, refresh: int = 0) -> str:
    """The HTML of a page.

    Args:
      title: of the page.
      sections: from top to bottom.
      text: what stands below the title; each line is a paragraph.
      refresh: seconds after which a browser reads the page again; 0: it does not.

    Raises:
      ValueError: a figure is neither svg nor png, or a row has not as many cells as headings.
    """
    for section in sections:
        for sheet in section.sheets:
            if any(len(row) != len(sheet.headings) for row in sheet.rows):
                raise ValueError(f"{section.heading}: wanted {len(sheet.headings)} cells a row")
    return PAGE.format(
        title=in_html(title),
        generator=GENERATOR,
        refresh=f'<meta http-equiv="refresh" content="{refresh}">\n' if refresh else "",
        text=_paragraphs(text),
        body="".join(map(_html_section, sections)),
    )


def _html_section(section: Section) -> str:
    figures = "".join(f'<img alt="{in_html(f.stem)}" src="{_inside(f)}">' for f in section.figures)
    tables = "".join(
        f"<div>{html_table(sheet, '<button>{}</button>')}</div>" for sheet in section.sheets
    )
    drawing = f"<figure>{_drawn(section.drawing)}</figure>" if section.drawing else ""
    parts = (_paragraphs(section.text), tables, figures, drawing)
    return f"<section><h2>{in_html(section.heading)}</h2>{''.join(parts)}</section>\n"


def _paragraphs(text: str) -> str:
    return "".join(f"<p>{in_html(line)}</p>\n" for line in text.split("\n") if line)


def _drawn(svg: str) -> str:
    return svg[svg.index("<svg") :].replace("#000000", "currentColor")


def _inside(figure: Path) -> str:
    if figure.suffix not in TYPES:
        raise ValueError(f"figures: wanted one of {', '.join(TYPES)}, got {figure.name}")
    data = base64.b64encode(figure.read_bytes()).decode()
    return f"data:{TYPES[figure.suffix]};base64,{data}"


def _markdown_section(section: Section) -> str:
    parts = [f"## {_markdown(section.heading)}"]
    if section.text:
        parts.append(_markdown(section.text))
    for sheet in section.sheets:
        rule = ["---", *["--:"] * (len(sheet.headings) - 1)]
        lines = [map(_markdown, sheet.headings), rule, *(map(_markdown, r) for r in sheet.rows)]
        parts.append("\n".join(f"| {' | '.join(line)} |" for line in lines))
    parts += [f"![{_markdown(f.stem)}]({f.name.replace(' ', '%20')})" for f in section.figures]
    return "\n\n".join(parts)


def _markdown(text: str) -> str:
    return re.sub(r"([\\`*_\[\]<>|#&~$])", r"\\\1", printable(" ".join(text.split())))


PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
{generator}
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
{refresh}<title>{title}</title>
<style>
:root {{ color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }}
body {{ max-width: 70rem; margin: 2rem auto; padding: 0 1rem; overflow-wrap: anywhere }}
h1, h2 {{ line-height: 1.25 }}
h1 + p {{ font-size: 1.15rem }}
div {{ overflow-x: auto }}
table {{ border-spacing: 0; font-variant-numeric: tabular-nums; margin: 1rem 0 }}
th, td {{ padding: .2rem .8rem; text-align: right; white-space: nowrap; vertical-align: top }}
.words {{ text-align: left }}
.long {{ white-space: normal; min-width: 10rem; max-width: 36rem }}
.words:first-child {{ position: sticky; left: 0; background: Canvas }}
th.words:first-child {{ z-index: 1 }}
th {{ border-bottom: 1px solid }}
tbody tr:hover {{ background: #8882 }}
.null {{ opacity: .65; font-style: italic }}
button {{ all: unset; cursor: pointer; font-weight: 600 }}
button:focus-visible {{ outline: 2px solid }}
[aria-sort=ascending] button::after {{ content: " \\2191" }}
[aria-sort=descending] button::after {{ content: " \\2193" }}
figure {{ margin: 1rem 0 }}
svg {{ max-width: 100%; height: auto; fill: currentColor }}
img {{ max-width: 100%; background: #fff }}
@media (max-width: 40rem) {{
  th, td {{ padding: .2rem .4rem }}
  td.words {{ white-space: normal }}
  td.words:first-child, .long {{ min-width: 8rem }}
}}
@media print {{
  :root {{ color-scheme: light; font-size: 10pt }}
  body {{ margin: 0; max-width: none }}
  div {{ overflow: visible }}
  table {{ font-size: 7pt }}
  th, td {{ padding: .1rem .4rem }}
  h2 {{ break-after: avoid }}
  tr, img, figure {{ break-inside: avoid }}
}}
</style>
<h1>{title}</h1>
{text}
{body}<script>
for (const button of document.querySelectorAll("th button")) button.onclick = () => {{
  const th = button.parentElement, body = th.closest("table").tBodies[0];
  const down = th.ariaSort !== "descending";
  for (const other of th.parentElement.children) other.removeAttribute("aria-sort");
  th.setAttribute("aria-sort", down ? "descending" : "ascending");
  const text = row => row.cells[th.cellIndex].textContent;
  const number = row => parseFloat(text(row).replace(/^[<>] |,(?=\\d{{3}})/g, ""));
  const rows = [...body.rows], numbers = rows.some(row => !isNaN(number(row)));
  rows.sort((a, b) => {{
    const [x, y] = [text(a), text(b)], [m, n] = [number(a), number(b)];
    if (!numbers) return down ? y.localeCompare(x) : x.localeCompare(y);
    if (isNaN(m) || isNaN(n)) return isNaN(m) - isNaN(n);
    return down ? n - m : m - n;
  }});
  body.append(...rows);
}};
</script>
</html>
"""
