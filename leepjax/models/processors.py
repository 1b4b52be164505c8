"""What ``preprocessor_config.json`` of a transformers checkpoint means.

Each kind of processor has defaults of its own, and its own meaning of a whole number as ``size``: a
square for some (ViT, DeiT, SigLIP), the shorter side for others (CLIP, BiT, MobileNet), and what
is left after a share was cut off for ConvNeXt. A kind that is not among these is refused.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

from leepjax.models.preprocess import ResizeCrop

_FILE = "preprocessor_config.json"
_RESAMPLE: dict[int, Any] = {1: "lanczos", 2: "bilinear", 3: "bicubic"}  # Pillow's numbers
_HALF = {"image_mean": (0.5, 0.5, 0.5), "image_std": (0.5, 0.5, 0.5)}
_CLIP = {
    **{"resample": 3, "size": {"shortest_edge": 224}, "do_center_crop": True},
    "image_mean": (0.48145466, 0.4578275, 0.40821073),
    "image_std": (0.26862954, 0.26130258, 0.27577711),
}
_MOBILENET = _HALF | {"resample": 2, "size": {"shortest_edge": 256}, "do_center_crop": True}
_VIT = _HALF | {"resample": 2, "size": 224}
_KINDS: dict[str, dict[str, Any]] = {  # what a file that says nothing means
    "ViT": _VIT,
    "DeiT": _HALF | {"resample": 3, "size": 256, "do_center_crop": True},
    "Siglip": _HALF | {"resample": 3, "size": 224},
    "ConvNext": _HALF | {"resample": 3, "size": 384},
    "CLIP": _CLIP,
    "Bit": _CLIP,
    "MobileNetV1": _MOBILENET,
    "MobileNetV2": _MOBILENET,
}
_NOT_BUILT = ("do_pad", "do_flip_channel_order", "do_thumbnail")


def read_processor(config: Mapping[str, Any], channels: int) -> ResizeCrop:
    """The preprocessing that a file asks for; what is null in it counts as not there.

    Args:
      config: the file's content.
      channels: of the network's input.

    Raises:
      ValueError: a kind of processor or an option that is not built here, or a malformed entry.

    Example:
      >>> clip = {"image_processor_type": "CLIPImageProcessor", "size": 256}
      >>> read_processor(clip, 3).resize, read_processor({"size": 224}, 3).resize
      (256, (224, 224))
    """
    try:
        return _read({k: v for k, v in config.items() if v is not None}, channels)
    except (LookupError, TypeError, AttributeError, ArithmeticError) as error:
        raise ValueError(f"{_FILE}: malformed ({type(error).__name__}: {error})") from None
    except ValueError as error:
        raise ValueError(f"{_FILE}: {str(error).removeprefix(f'{_FILE}: ')}") from None


def timm_preprocess(about: Mapping[str, Any]) -> ResizeCrop:
    """The preprocessing that timm's ``pretrained_cfg`` asks for.

    Raises:
      ValueError: images that are no squares, or cut out in another way.
    """
    channels, size, width = about.get("input_size", (3, 224, 224))
    mode = about.get("crop_mode", "center")
    if size != width or mode not in ("center", "squash"):
        raise ValueError(
            "config.json: input_size, crop_mode: wanted a square, by center or squash, got "
            f"{size}×{width} by {mode}"
        )
    resize = math.floor(size / about.get("crop_pct", 0.875))
    return ResizeCrop(
        size,
        channels,
        tuple(about.get("mean", (0.485, 0.456, 0.406))),
        tuple(about.get("std", (0.229, 0.224, 0.225))),
        resize=(resize, resize) if mode == "squash" else resize,
        interpolation=about.get("interpolation", "bicubic"),
    )


def _read(given: dict[str, Any], channels: int) -> ResizeCrop:
    called = given.get("image_processor_type", given.get("feature_extractor_type", "ViT"))
    kind = re.sub(r"(ImageProcessor|FeatureExtractor)(Fast|Pil)?$", "", called)
    if kind not in _KINDS:
        raise ValueError(
            f"image_processor_type: wanted one of {', '.join(_KINDS)}, as their meaning of size is "
            f"known, got {called!r}"
        )
    p = _KINDS[kind] | {"crop_size": 224} | given
    if not p.get("do_resize", True) or not p.get("do_rescale", True):
        off = "do_resize" if not p.get("do_resize", True) else "do_rescale"
        raise ValueError(f"{off}: wanted true, the only way built here, got false")
    for name in _NOT_BUILT:
        if p.get(name):
            raise ValueError(f"{name}: wanted false, the only way built here, got {p[name]}")
    if p["resample"] not in _RESAMPLE:
        listed = ", ".join(f"{k} ({v})" for k, v in _RESAMPLE.items())
        raise ValueError(f"resample: wanted resample among {listed}, got {p['resample']}")
    if not math.isclose(p.get("rescale_factor", 1 / 255), 1 / 255, rel_tol=1e-6):
        raise ValueError(f"rescale_factor: wanted 1 / 255, got {p['rescale_factor']}")
    size, resize = p["size"], None
    if kind == "ConvNext":
        crop = whole_side("size", size)
        resize = (crop, crop) if crop >= 384 else int(crop / p.get("crop_pct", 224 / 256))
    else:
        if isinstance(size, int) and isinstance(_KINDS[kind]["size"], Mapping):
            size = {"shortest_edge": size}
        resize = _resize(size)
        crops = p.get("do_center_crop")
        if isinstance(resize, int) and not crops:
            raise ValueError(f"size: wanted height and width, or do_center_crop, got {size}")
        crop = whole_side("crop_size", p["crop_size"]) if crops else whole_side("size", size)
    mean, std = _channels(p, "image_mean", channels), _channels(p, "image_std", channels)
    if not p.get("do_normalize", True):
        mean, std = (0.0,) * channels, (1.0,) * channels
    options = {"interpolation": _RESAMPLE[p["resample"]], "half": "down"}
    return ResizeCrop(crop, channels, mean, std, resize=resize, **options)


def _resize(size: Any) -> int | tuple[int, int]:
    if not isinstance(size, Mapping):
        return (size, size) if isinstance(size, int) else tuple(size)
    if size.keys() == {"shortest_edge"}:
        return size["shortest_edge"]
    if size.keys() == {"height", "width"}:
        return size["height"], size["width"]
    raise ValueError(f"size: wanted a number, height and width, or shortest_edge, got {size}")


def _channels(p: Mapping[str, Any], name: str, channels: int) -> tuple[float, ...]:
    """A value for each channel; one number stands for all, as do equal defaults."""
    values = p[name]
    if isinstance(values, int | float):
        return (float(values),) * channels
    return (0.5,) * channels if values is _HALF[name] else tuple(map(float, values))


def whole_side(name: str, size: Any) -> int:
    """The side of a square, in any of the ways to write it.

    Raises:
      ValueError: it is none.
    """
    sides = [*size.values()] if isinstance(size, Mapping) else size
    sides = (sides, sides) if isinstance(sides, int) else tuple(sides)
    sides = sides * 2 if isinstance(size, Mapping) and [*size] == ["shortest_edge"] else sides
    if len(sides) != 2 or sides[0] != sides[1] or not isinstance(sides[0], int):
        raise ValueError(f"{name}: wanted height and width, equal ones, got {size}")
    return sides[0]
