"""The images of each character of Glyphs: test faces are never seen in training."""

import numpy as np

from leepjax.data.glyphs.catalogue import Character
from leepjax.data.glyphs.drawing import draw, fields

IMAGES = {"train": 90, "test": 30}  # for each character


def divide_faces(character: Character) -> dict[str, tuple[str, ...]]:
    """A third of a character's faces (at least one) for its test split, the others to train.

    Which ones is drawn by the character's code point, so that no style is only ever tested.
    """
    order = np.random.default_rng(ord(character.char)).permutation(len(character.faces))
    faces = [character.faces[i] for i in order]
    tested = max(1, round(len(faces) / 3))
    return {"train": tuple(faces[tested:]), "test": tuple(faces[:tested])}


def images_of(character: Character, split: str) -> np.ndarray:
    """The images of one character in one split, ``[n, 28, 28, 1]`` uint8, its faces in turn.

    They depend on the character and the split alone, not on what else is drawn.
    """
    faces, n = divide_faces(character)[split], IMAGES[split]
    rng = np.random.default_rng([ord(character.char), list(IMAGES).index(split)])
    return draw(fields(character.char, faces), n, rng)
