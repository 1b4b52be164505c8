"""Which characters Glyphs holds, and in which faces: 16 scripts, each look kept once."""

import unicodedata
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

import numpy as np

from leepjax.data.glyphs.drawing import EM, FIELD, FINE, centred, faces_with, glyph, ink

# Code points of each script. A character that looks like an earlier one is dropped, so the order
# decides who keeps it: Latin O stays, Greek and Cyrillic O go.
SCRIPTS = {
    "latin": (0x0041, 0x007A),
    "greek": (0x0370, 0x03FF),
    "cyrillic": (0x0410, 0x044F),
    "armenian": (0x0531, 0x0587),
    "georgian": (0x10A0, 0x10FF),
    "digits": (0x0030, 0x0039),
    "lao": (0x0E80, 0x0EFF),
    "arrows": (0x2190, 0x21FF),
    "hebrew": (0x05D0, 0x05EA),
    "syllabics": (0x1400, 0x167F),
    "braille": (0x2800, 0x28FF),
    "maths": (0x2200, 0x22FF),
    "arabic": (0x0600, 0x06FF),
    "nko": (0x07C0, 0x07FF),
    "tifinagh": (0x2D30, 0x2D7F),
    "ogham": (0x1680, 0x169F),
}
SYMBOLS = {"arrows": ("Sm", "So"), "braille": ("So",), "maths": ("Sm",), "digits": ("Nd",)}
LETTERS = ("Lu", "Ll", "Lo")  # Unicode categories: upper, lower and other letters

MIN_INK = 20  # pixels at 28 pixels per em: lone dots look like one another
SAME_CHARACTER = 0.94  # correlation of two characters' looks
SAME_FACE = 0.995  # correlation of one character's looks in two faces
LOOK = 32  # height and width of a blurred look
BLUR = 1.5  # pixels of the distance field: less than the distortions move a stroke


class Character(NamedTuple):
    """One class of Glyphs: its character, its script, and the faces that draw it differently."""

    char: str
    script: str
    faces: tuple[str, ...]

    @property
    def name(self) -> str:
        """Unicode's own name, such as ``GREEK SMALL LETTER LAMDA``."""
        return unicodedata.name(self.char)


@cache
def catalogue() -> tuple[Character, ...]:
    """All characters of Glyphs, by script and code point (takes a few seconds, once).

    Kept are letters (for arrows, Braille and maths: symbols) that Unicode does not decompose,
    with more than :data:`MIN_INK` pixels of ink, whose blurred look in their plainest face
    correlates below :data:`SAME_CHARACTER` with every character kept before, in whichever
    script, and that at least two faces draw differently (a training and a test face).
    """
    found, looks = [], []
    for char, script in candidates():
        faces = faces_with(char)
        if faces:
            plainest = glyph(char, faces[0])
            if _amount_of_ink(plainest) > MIN_INK:
                found.append(Character(char, script, faces))
                looks.append(_look(plainest))
    looks = np.stack(looks)
    alike = looks @ looks.T >= SAME_CHARACTER
    kept: list[int] = []
    characters: list[Character] = []
    for i, c in enumerate(found):
        if alike[i, kept].any():
            continue
        faces = distinct_faces(c.char, c.faces)
        if len(faces) > 1:
            kept.append(i)
            characters.append(c._replace(faces=faces))
    return tuple(characters)


def candidates() -> Iterator[tuple[str, str]]:
    """Characters with their scripts, before anything is drawn."""
    for script, (first, last) in SCRIPTS.items():
        wanted = SYMBOLS.get(script, LETTERS)
        for char in map(chr, range(first, last + 1)):
            if unicodedata.category(char) in wanted and not unicodedata.decomposition(char):
                yield char, script


def distinct_faces(char: str, faces: tuple[str, ...]) -> tuple[str, ...]:
    """``faces`` without those that draw ``char`` as an earlier one does."""
    looks = np.stack([_look(glyph(char, face)) for face in faces])
    alike = looks @ looks.T >= SAME_FACE
    kept: list[int] = []
    for i in range(len(faces)):
        if not alike[i, kept].any():
            kept.append(i)
    return tuple(faces[i] for i in kept)


def _amount_of_ink(coverage: np.ndarray) -> float:
    """Pixels that are more than half covered, at 28 pixels per em."""
    return (coverage > 127).sum() * (28 / EM) ** 2


def _look(coverage: np.ndarray) -> np.ndarray:
    """Blurred ink on a 32x32 grid, centred to mean 0 and norm 1: ``[1024]`` float32."""
    small = ink(coverage)
    # Products of 84 pixels, not of 128: so small that BLAS leaves them to one thread.
    rows, columns = centred(small)
    blurred = (_BLUR[:, rows] @ small @ _BLUR[:, columns].T).ravel()
    blurred -= blurred.mean()
    return blurred / np.linalg.norm(blurred)


def _blur_matrix() -> np.ndarray:
    """Gaussian blur and sampling of one axis, ``[32, 128]``: a look is ``B ink B^T``."""
    fine = np.arange(FINE * FIELD) + 0.5
    grid = (np.arange(LOOK) + 0.5) * (FINE * FIELD / LOOK)
    weights = np.exp(-0.5 * ((grid[:, None] - fine) / (FINE * BLUR)) ** 2)
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)


_BLUR = _blur_matrix()
