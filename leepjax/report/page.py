"""One page of a study: its tables and figures with what they say in words, for a browser.

The HTML file is all there is: figures are inside, nothing is loaded, so that it opens offline and
can be sent to anybody. Tables sort by a click on a heading. The same sections are written as
Markdown beside it, and print to a terminal. All text is escaped.
"""

import base64
import re
from collections.abc import Sequence
from pathlib import Path

from leepjax._text import Sheet, html_table, in_html, printable
from leepjax.evaluation import NULLS, Correlation
from leepjax.report.run import read_table
from leepjax.report.study import read_correlations
from leepjax.report.tables import (
    Section,
    by_correlation,
    correlation_sheet,
    format_estimate,
    verdict,
)

TYPES = {".svg": "image/svg+xml", ".png": "image/png"}


def write_page(path: Path, title: str, sections: Sequence[Section]) -> None:
    """Write ``path``, an HTML file, and the same in Markdown beside it (``.md``).

    Args:
      path: where to.
      title: of the page.
      sections: from top to bottom.

    Raises:
      ValueError: a figure is neither svg nor png, or a row has not as many cells as headings.
    """
    for section in sections:
        for sheet in section.sheets:
            if any(len(row) != len(sheet.headings) for row in sheet.rows):
                raise ValueError(f"{section.heading}: wanted {len(sheet.headings)} cells a row")
    body = "".join(map(_html_section, sections))
    text = {"encoding": "utf-8", "errors": "backslashreplace"}
    path.write_text(PAGE.format(title=in_html(title), body=body), **text)
    lines = [f"# {_markdown(title)}", *map(_markdown_section, sections)]
    path.with_suffix(".md").write_text("\n\n".join(lines) + "\n", **text)


def write_study_page(path: Path, title: str) -> None:
    """Write ``page.html`` and ``page.md`` of a study's run directory, from its files."""
    results = read_table(path / "results.csv")
    sections = []
    for setting, table in read_correlations(path).items():
        tasks = sum(row["setting"] == setting for row in results)
        figure = path / f"{setting}.svg"
        sections.append(
            Section(
                f"{setting}: {tasks} tasks",
                [correlation_sheet(table)],
                in_words(table),
                [figure] if figure.exists() else [],
            )
        )
    write_page(path / "page.html", title, sections)


def in_words(table: Sequence[Correlation]) -> str:
    """The verdict, and what of the best score's correlation is not the number of classes."""
    scores = [row for row in sorted(table, key=by_correlation) if row.score not in NULLS]
    text = verdict(table)
    if scores and "pearson|num_classes" in scores[0].estimates:
        remains = format_estimate(scores[0].estimates["pearson|num_classes"])
        text += f" Given the number of classes, {remains} of {scores[0].score}'s r remains."
    return text


def _html_section(section: Section) -> str:
    figures = "".join(f'<img alt="{in_html(f.stem)}" src="{_inside(f)}">' for f in section.figures)
    tables = "".join(map(_html_table, section.sheets))
    text = f"<p>{in_html(section.text)}</p>" if section.text else ""
    return f"<section><h2>{in_html(section.heading)}</h2>{text}{tables}{figures}</section>\n"


def _html_table(sheet: Sheet) -> str:
    heading = '<th scope="col"><button>{}</button></th>'
    return f"<div>{html_table(sheet, heading)}</div>"


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
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }}
body {{ max-width: 70rem; margin: 2rem auto; padding: 0 1rem }}
div {{ overflow-x: auto }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; margin: 1rem 0 }}
th, td {{ padding: .2rem .8rem; text-align: right; white-space: nowrap }}
th:first-child, td:first-child {{ text-align: left }}
thead {{ border-bottom: 1px solid }}
tbody tr:hover {{ background: #8882 }}
.null {{ opacity: .65; font-style: italic }}
button {{ all: unset; cursor: pointer; font-weight: 600 }}
button:focus-visible {{ outline: 2px solid }}
[aria-sort=ascending] button::after {{ content: " \\2191" }}
[aria-sort=descending] button::after {{ content: " \\2193" }}
img {{ max-width: 100%; background: #fff }}
</style>
<h1>{title}</h1>
<p>Intervals are 95 %. Names with a star, in italics, are nulls: what a score must beat.
Click on a heading to sort.</p>
{body}<script>
for (const button of document.querySelectorAll("th button")) button.onclick = () => {{
  const th = button.parentElement, body = th.closest("table").tBodies[0];
  const down = th.ariaSort !== "descending";
  for (const other of th.parentElement.children) other.removeAttribute("aria-sort");
  th.setAttribute("aria-sort", down ? "descending" : "ascending");
  const text = row => row.cells[th.cellIndex].textContent;
  const rows = [...body.rows], numbers = rows.some(row => !isNaN(parseFloat(text(row))));
  rows.sort((a, b) => {{
    const [x, y] = [text(a), text(b)], [m, n] = [parseFloat(x), parseFloat(y)];
    if (!numbers) return down ? y.localeCompare(x) : x.localeCompare(y);
    if (isNaN(m) || isNaN(n)) return isNaN(m) - isNaN(n);
    return down ? n - m : m - n;
  }});
  body.append(...rows);
}};
</script>
</html>
"""
