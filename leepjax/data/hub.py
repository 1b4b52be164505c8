"""A data set of the Hugging Face hub, or one that its library has written, as samples."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from leepjax._names import listed, nearest
from leepjax.data.columns import Columns
from leepjax.data.labels import missing
from leepjax.data.samples import Samples

TESTS = ("test", "validation")  # the first that is there, and has labels, is taken


def read_hub(name: str, columns: Columns) -> Samples:
    """The samples of ``NAME[:SPLIT]``; NAME is a folder, or OWNER/NAME[/CONFIGURATION] of the hub.

    Raises:
      ValueError: the library is missing, or the set, the split or a column.
    """
    try:
        import datasets  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise ValueError(
            f"name: 'hf:{name}' needs the library datasets: pip install 'leepjax[datasets]'"
        ) from None
    place, _, split = (name, "", "") if Path(name).exists() else name.partition(":")
    try:
        found = _read(datasets, place)
    except Exception as error:  # whatever the library and its network pass on
        said = " ".join(str(error).split())[:300]
        raise ValueError(
            f"name: cannot load 'hf:{place}': {type(error).__name__}: {said}"
        ) from None
    parts = {str(key): part.with_format(None) for key, part in found.items()}
    if split and split not in parts:
        raise ValueError(f"name: 'hf:{place}' has no split {split!r}{nearest(split, parts)}")
    first = parts[split or ("train" if "train" in parts else next(iter(parts)))]
    columns = _columns(datasets, place, first.features, columns)
    used = [first]
    if not split and "train" in parts:
        used += [parts[key] for key in TESTS if _labelled(parts.get(key), columns)][:1]
    elif not split and len(parts) > 1:
        raise ValueError(
            f"name: 'hf:{place}' has no split train. Choose one, which is then divided: "
            f"{listed(f'hf:{place}:{key}' for key in parts)}"
        )
    return _samples(datasets, place, used, columns)


def _read(datasets: Any, place: str) -> Any:
    """All splits, by name."""
    path = Path(place)
    if (path / "state.json").exists() or (path / "dataset_dict.json").exists():
        found = datasets.load_from_disk(place)
        return found if isinstance(found, dict) else {"train": found}
    owner_name_config = place.split("/")
    if path.exists() or len(owner_name_config) < 3:
        return datasets.load_dataset(place)
    return datasets.load_dataset("/".join(owner_name_config[:2]), "/".join(owner_name_config[2:]))


def _columns(datasets: Any, place: str, features: Any, columns: Columns) -> Columns:
    """The columns: those named, else the only image, text and class label that there are."""
    image, text, label = columns
    if not image and not text:
        images = [key for key, kind in features.items() if isinstance(kind, datasets.Image)]
        image = images[0] if images else None
    if not label:
        kinds = [key for key, kind in features.items() if isinstance(kind, datasets.ClassLabel)]
        label = () if "label" in features else tuple(kinds[:1])
    return Columns(image, text, label).of(f"'hf:{place}'", list(features))


def _labelled(part: Any, columns: Columns) -> bool:
    """Whether a split is there and has labels, as a hidden test split has not."""
    return part is not None and any(
        not missing(value) and value != -1
        for name in columns.label
        if name in part.column_names
        for value in part[name][:100]
    )


def _samples(datasets: Any, place: str, parts: list[Any], columns: Columns) -> Samples:
    features = parts[0].features
    images = None
    if columns.image:
        if not isinstance(features[columns.image], datasets.Image):
            raise ValueError(f"image_column: {columns.image!r} of 'hf:{place}' holds no images")
        encoded = [part.cast_column(columns.image, datasets.Image(decode=False)) for part in parts]
        images = [partial(_content, p, columns.image, i) for p in encoded for i in range(len(p))]
    texts = [[text for part in parts for text in part[name]] for name in columns.text]
    names = {name: _class_names(features[name]) for name in columns.label}
    return Samples(
        name=place.strip("/").split("/")[-1],
        where=[f"{part.split or 'row'} {i}" for part in parts for i in range(len(part))],
        labels={
            name: [_named(value, names[name]) for part in parts for value in part[name]]
            for name in columns.label
        },
        keys=[f"{part._fingerprint} {i}" for part in parts for i in range(len(part))],
        images=images,
        texts=tuple([str(text) for text in column] for column in texts),
        tested=np.repeat([False, True], [*map(len, parts)]) if len(parts) == 2 else None,
        class_names=names[columns.label[0]] if len(columns.label) == 1 else None,
        wrong={i: "no text" for column in texts for i, text in enumerate(column) if missing(text)},
    )


def _class_names(feature: Any) -> tuple[str, ...] | None:
    """The names of a class label, or of a list of them; None of other columns."""
    names = getattr(getattr(feature, "feature", feature), "names", None)
    return tuple(map(str.strip, names)) if names else None


def _named(value: Any, names: tuple[str, ...] | None) -> Any:
    """A label, or a list of them, by name; None of -1, which is no label."""
    if isinstance(value, list):
        return [_named(x, names) for x in value]
    if names is None or value is None:
        return value
    return names[value] if value >= 0 else None


def _content(part: Any, column: str, row: int) -> str | bytes:
    cell = part[row][column] or {}
    return cell["bytes"] if cell.get("bytes") is not None else str(cell["path"])
