"""Glyphs: an Omniglot with structure, drawn from the fonts inside matplotlib."""

from leepjax.data.glyphs.builder import Glyphs
from leepjax.data.glyphs.catalogue import SCRIPTS
from leepjax.data.glyphs.prepare import prepare

__all__ = ["SCRIPTS", "Glyphs", "prepare"]
