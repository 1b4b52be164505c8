"""Which columns of a table, or of a hub's set, hold the images, the texts and the labels."""

from collections.abc import Sequence
from typing import NamedTuple

from leepjax._names import listed, nearest

IMAGES, TEXTS, LABELS = ("image", "file_name"), ("text",), ("label",)  # where none is named


class Columns(NamedTuple):
    """Names of columns: of images or of one or two texts, and of labels; empty: the usual names."""

    image: str | None = None
    text: tuple[str, ...] = ()
    label: tuple[str, ...] = ()

    @property
    def all(self) -> tuple[str, ...]:
        """The names, images or texts first."""
        return (*([self.image] if self.image else []), *self.text, *self.label)

    def of(self, source: str, there: Sequence[str]) -> "Columns":
        """The columns of a source that has those, all named.

        Raises:
          ValueError: a column that is not there, or none of inputs or labels.
        """
        image, text, label = self
        if image is None and not text:
            image = next((name for name in IMAGES if name in there), None)
            text = () if image else tuple(name for name in TEXTS if name in there)
        label = label or tuple(name for name in LABELS if name in there)
        flags = {"image_column": [image] if image else [], "text_column": text}
        for flag, names in (flags | {"label_column": label}).items():
            for name in names:
                if name not in there:
                    raise ValueError(
                        f"{flag}: {source} has no column {name!r}{nearest(name, there)}"
                    )
        if image and text:
            raise ValueError(f"text_column: wanted images or texts, got {image!r} and {text[0]!r}")
        if len(text) > 2:
            raise ValueError(f"text_column: wanted one column, or two of pairs, got {len(text)}")
        if not label or not (image or text):
            flag = "label_column" if image or text else "image_column or text_column"
            raise ValueError(f"{flag}: wanted a column of {source}: {listed(there, limit=20)}")
        found = Columns(image, text, label)
        if len(set(found.all)) < len(found.all):
            raise ValueError(f"label_column: wanted each column once, got {listed(found.all)}")
        return found
