"""Glyphs: an Omniglot with structure, drawn from the fonts inside matplotlib."""

from leepjax._extras import require

require("data")

from leepjax.data.glyphs.catalogue import SCRIPTS
from leepjax.data.glyphs.dataset import glyphs

__all__ = ["SCRIPTS", "glyphs"]
