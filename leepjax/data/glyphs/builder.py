"""The TFDS builder of Glyphs: one record for each image, test faces never seen in training."""

from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from leepjax._progress import progress
from leepjax.data.glyphs.catalogue import SCRIPTS, Character, catalogue
from leepjax.data.glyphs.drawing import FACES, SIZE, draw, fields

IMAGES = {"train": 90, "test": 30}  # for each character


def divide_faces(character: Character) -> dict[str, tuple[str, ...]]:
    """A third of a character's faces (at least one) for its test split, the others to train.

    Which ones is drawn by the character's code point, so that no style is only ever tested.
    """
    order = np.random.default_rng(ord(character.char)).permutation(len(character.faces))
    faces = [character.faces[i] for i in order]
    tested = max(1, round(len(faces) / 3))
    return {"train": tuple(faces[tested:]), "test": tuple(faces[:tested])}


def images_of(character: Character, split: str) -> tuple[np.ndarray, list[str]]:
    """The images of one character in one split, ``[n, 28, 28, 1]`` uint8, and the face of each.

    They depend on the character and the split alone, not on what else is drawn.
    """
    faces, n = divide_faces(character)[split], IMAGES[split]
    rng = np.random.default_rng([ord(character.char), list(IMAGES).index(split)])
    images = draw(fields(character.char, faces), n, rng)
    return images, [faces[i % len(faces)] for i in range(n)]


class Glyphs(tfds.core.GeneratorBasedBuilder):
    """Unicode characters of 16 scripts in the DejaVu faces, distorted; drawn, not downloaded."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First release."}

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=__doc__,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Tensor(shape=(SIZE, SIZE, 1), dtype=np.uint8),
                    "label": tfds.features.ClassLabel(names=[c.name for c in catalogue()]),
                    "script": tfds.features.ClassLabel(names=list(SCRIPTS)),
                    "face": tfds.features.ClassLabel(names=list(FACES)),
                }
            ),
            supervised_keys=("image", "label"),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        del dl_manager
        total = len(catalogue()) * sum(IMAGES.values())
        bar = progress(total=total, desc="Drawing Glyphs (once)", unit="image")
        return {split: self._generate_examples(split, bar) for split in IMAGES}

    def _generate_examples(self, split: str, bar: Any) -> Iterator[tuple[int, dict[str, Any]]]:
        key = 0
        for label, character in enumerate(catalogue()):
            images, faces = images_of(character, split)
            for image, face in zip(images, faces, strict=True):
                example = {"label": label, "script": character.script, "face": face}
                yield key, {"image": image, **example}
                key += 1
            bar.update(len(images))
        if bar.n == bar.total:
            bar.close()
