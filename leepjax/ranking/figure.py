"""How far sources are behind the best, with paired intervals, as a figure; drawing imports late."""

from __future__ import annotations

import io
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from leepjax._store import whole
from leepjax._text import printable, probability

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from leepjax.ranking.result import Ranking

FORMATS = (".png", ".svg", ".pdf")
CHOSEN, OTHER = "#0072B2", "#808080"  # seen on white and on black
LONGEST = 24  # characters of a name
MOST = 100  # sources


def plot(ranking: Ranking, path: str | os.PathLike[str] | None) -> Figure:
    """Draw, and write where a path is given."""
    if path is not None and Path(path).suffix not in FORMATS:
        raise ValueError(
            f"path: wanted one ending in {', '.join(FORMATS)}, got {Path(path).name!r}"
        )
    figure = draw(ranking)
    if path is not None:
        content = _rendered(figure, Path(path).suffix[1:], facecolor="white")
        try:
            with whole(Path(path).resolve()) as part:
                part.write_bytes(content)
        except OSError as error:
            raise ValueError(f"path: {error}") from None
    return figure


def svg(ranking: Ranking) -> str:
    """The figure as SVG on no ground, its text as text."""
    import matplotlib

    with matplotlib.rc_context({"svg.fonttype": "none"}):
        return _rendered(draw(ranking), "svg", facecolor="none").decode()


def draw(ranking: Ranking) -> Figure:
    """Differences from the best, best first; those chosen in blue; P(best) at the right."""
    import matplotlib
    from matplotlib.figure import Figure

    r = ranking
    scored = [i for i in r.order if np.isfinite(r.scores[r.by][i])]
    best = f", the best {MOST} of {len(scored):,}" if len(scored) > MOST else ""
    scored = scored[:MOST]
    behind = np.array(r.behind())[scored]
    errors = 1.96 * behind[:, 1]
    places = np.arange(len(scored))[::-1]
    with matplotlib.rc_context({"font.size": 10}):
        figure = Figure(figsize=(4.7, 0.9 + 0.26 * len(scored)), layout="constrained")
        axis = figure.subplots()
        axis.set_facecolor("none")
        axis.axvline(0, color=OTHER, linewidth=0.8, linestyle=":")
        for place, i, (value, _), error in zip(places, scored, behind, errors, strict=True):
            color = CHOSEN if r.names[i] in r.choice else OTHER
            axis.errorbar(value, place, xerr=error, fmt="o", color=color, markersize=5, capsize=3)
        names = [_short(printable(r.names[i])) for i in scored]
        axis.set_yticks(places, names, parse_math=False)
        axis.set_ylim(-0.6, len(scored) - 0.4)
        intervals = " (95 %)" if np.nansum(errors) > 0 else ""
        label = f"{r.by}, less that of the best{intervals}{best}"
        figure.supxlabel(label, fontsize=10)  # below the names too: the axis may be narrow
        axis.locator_params(axis="x", nbins=5)  # more overlap
        chances = r.probability_best()[scored]
        if not np.isnan(chances).all():
            right = axis.secondary_yaxis("right")
            right.set_yticks(places, map(probability, chances))
            right.tick_params(length=0)
            axis.set_title("P(best)", loc="right", fontsize=10)
            right.spines["right"].set_visible(False)
        axis.spines[["top", "right"]].set_visible(False)
    return figure


def _short(name: str) -> str:
    half = LONGEST // 2
    return name if len(name) <= LONGEST else f"{name[: half - 1]}…{name[-half:]}"


def _rendered(figure: Figure, kind: str, facecolor: str) -> bytes:
    import matplotlib

    content = io.BytesIO()
    dated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind)  # the same each time
    with warnings.catch_warnings(), matplotlib.rc_context({"svg.hashsalt": "leepjax"}):
        # Of characters that the font has not.
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)
        figure.savefig(content, format=kind, dpi=150, facecolor=facecolor, metadata=dated)
    return content.getvalue()
