"""What a published checkpoint's configuration says: its network, names, classes, preprocessing.

Two libraries write ``config.json``: timm names an architecture and holds the preprocessing too,
transformers spells the architecture out and has the preprocessing in ``preprocessor_config.json``.
"""

import re
from collections.abc import Mapping
from typing import Any

from flax import nnx

from leepjax.models import naming
from leepjax.models.convnext import ConvNeXt
from leepjax.models.description import Description, NotBuilt, label_names, shapes
from leepjax.models.languages import FAMILIES, describe_language_model
from leepjax.models.processors import read_processor, timm_preprocess, whole_side
from leepjax.models.resnet_imagenet import EXPANSION, ImageNetResNet
from leepjax.models.vit import ViT

Config = Mapping[str, Any]


def describe(
    config: Config, processor: Config | None = None, *, has_head: bool = True
) -> Description:
    """The network that a configuration is of.

    Args:
      config: ``config.json``, timm's or transformers'.
      processor: ``preprocessor_config.json``, which transformers' image networks need; of a
        language model what :func:`~leepjax.models.tokens.read_tokenizer` returns.
      has_head: whether the tensors have one; without, there are no classes and no logits.

    Raises:
      ValueError: an architecture or an option that is not built here, or a malformed entry.

    Example:
      >>> described = describe({"architecture": "resnet18.a1_in1k", "num_classes": 10})
      >>> described.what, described.preprocess.resize, described.preprocess.interpolation
      ('timm resnet18.a1_in1k', 256, 'bicubic')
    """
    try:
        if "architecture" in config:
            return _timm(config, has_head)
        if "model_type" in config:
            return _transformers(config, processor, has_head)
    except (LookupError, TypeError, AttributeError, ArithmeticError) as error:
        raise ValueError(f"config.json: malformed ({type(error).__name__}: {error})") from None
    raise ValueError(
        "config.json: wanted model_type (transformers) or architecture (timm), got "
        f"{', '.join(config) or 'nothing'}"
    )


# ------------------------------------------------------------------------------------------- timm

_DEPTHS = {
    "resnet18": (2, 2, 2, 2),
    "resnet34": (3, 4, 6, 3),
    "resnet50": (3, 4, 6, 3),
    "resnet101": (3, 4, 23, 3),
    "resnet152": (3, 8, 36, 3),
}
_VITS = {  # width, depth, heads
    "tiny": (192, 12, 3),
    "small": (384, 12, 6),
    "base": (768, 12, 12),
    "large": (1024, 24, 16),
}
_CONVNEXTS = {  # depth of the third stage, width of the first
    "tiny": (9, 96),
    "small": (27, 96),
    "base": (27, 128),
    "large": (27, 192),
}
_KNOWN = (
    *_DEPTHS,
    *(f"vit_{size}_patch*_*" for size in _VITS),
    *(f"deit_{size}_patch*_*" for size in list(_VITS)[:3]),
    *(f"convnext_{size}" for size in _CONVNEXTS),
)


def _timm(config: Config, has_head: bool) -> Description:
    name = str(config["architecture"])
    architecture = name.partition(".")[0]  # what follows is which weights
    about = config.get("pretrained_cfg", config)
    args = dict(config.get("model_args") or {})
    classes = args.pop("num_classes", config.get("num_classes", about.get("num_classes", 1000)))
    classes = classes if has_head else 0
    names = config.get("label_names", about.get("label_names")) or [*map(str, range(classes))]
    names = names if classes else ()
    channels = about.get("input_size", (3, 224, 224))[0]
    of_all = {"num_classes": classes, "in_chans": channels}
    asked = of_all | args
    if asked["in_chans"] != channels:
        raise ValueError(
            f"config.json: in_chans: wanted {channels}, as in input_size, got {asked['in_chans']}"
        )
    pool = about.get("global_pool")
    if pool not in (None, "", "token" if architecture.startswith(("vit", "deit")) else "avg"):
        raise NotBuilt(f"config.json: global_pool: {pool!r} is not built here for {name}")
    vit = re.fullmatch(r"(?:vit|deit)_(\w+)_patch(\d+)_(\d+)", architecture)
    convnext = re.fullmatch(r"convnext_(\w+)", architecture)

    def arguments(**defaults: Any) -> dict[str, Any]:
        unknown = asked.keys() - defaults.keys() - of_all.keys()
        if unknown:
            raise NotBuilt(
                f"config.json: model_args: wanted any of {', '.join(defaults)} for {name}, got "
                f"{', '.join(sorted(unknown))}, which is not built here"
            )
        return defaults | asked

    def build(network: Any, **options: Any) -> nnx.Module:
        return shapes(network, asked["num_classes"], {"channels": asked["in_chans"]} | options)

    if architecture in _DEPTHS:
        a = arguments(layers=_DEPTHS[architecture], channels=(64, 128, 256, 512))
        bottleneck = architecture not in ("resnet18", "resnet34")
        widths = [width * (EXPANSION if bottleneck else 1) for width in a["channels"]]
        options = {"bottleneck": bottleneck, "depths": a["layers"], "widths": widths}
        network, names_of = build(ImageNetResNet, **options), naming.RESNET
    elif vit and vit[1] in _VITS:
        width, depth, heads = _VITS[vit[1]]
        a = arguments(
            **{"embed_dim": width, "depth": depth, "num_heads": heads, "mlp_ratio": 4},
            **{"patch_size": int(vit[2]), "img_size": int(vit[3]), "qkv_bias": True},
        )
        options = {"width": a["embed_dim"], "depth": a["depth"], "heads": a["num_heads"]}
        options |= {"hidden": int(a["embed_dim"] * a["mlp_ratio"]), "bias": a["qkv_bias"]}
        options |= {"size": a["img_size"], "patch": a["patch_size"], "epsilon": 1e-6}
        network, names_of = build(ViT, **options), naming.VIT
    elif convnext and convnext[1] in _CONVNEXTS:
        third, width = _CONVNEXTS[convnext[1]]
        a = arguments(depths=(3, 3, third, 3), dims=[width * 2**i for i in range(4)], patch_size=4)
        options = {"depths": a["depths"], "widths": a["dims"], "patch": a["patch_size"]}
        network, names_of = build(ConvNeXt, **options), naming.CONVNEXT
    else:
        raise NotBuilt(f"config.json: architecture: wanted {', '.join(_KNOWN)}; got {name!r}")
    return Description(f"timm {name}", network, names_of, timm_preprocess(about), tuple(names))


# ----------------------------------------------------------------------------------- transformers

# What a configuration that says nothing means; the second dict is all that is built here.
_DEFAULTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "resnet": (
        {
            "embedding_size": 64,
            "hidden_sizes": (256, 512, 1024, 2048),
            "depths": (3, 4, 6, 3),
            "layer_type": "bottleneck",
            "downsample_in_bottleneck": False,
        },
        {"hidden_act": "relu", "downsample_in_first_stage": False},
    ),
    "vit": (
        {
            "hidden_size": 768,
            "num_hidden_layers": 12,
            "num_attention_heads": 12,
            "intermediate_size": 3072,
            "layer_norm_eps": 1e-12,
            "image_size": 224,
            "patch_size": 16,
            "qkv_bias": True,
        },
        {"hidden_act": "gelu"},
    ),
    "convnext": (
        {
            "hidden_sizes": (96, 192, 384, 768),
            "depths": (3, 3, 9, 3),
            "patch_size": 4,
            "layer_norm_eps": 1e-12,
        },
        {"hidden_act": "gelu"},
    ),
}


def _transformers(config: Config, processor: Config | None, has_head: bool) -> Description:
    kind = config["model_type"]
    if kind in FAMILIES:
        return describe_language_model(config, processor, has_head)
    if kind not in _DEFAULTS:
        known = ", ".join((*_DEFAULTS, *FAMILIES))
        raise NotBuilt(f"config.json: model_type: wanted one of {known}, got {kind!r}")
    if processor is None:
        raise ValueError(
            "preprocessor_config.json: wanted one beside config.json, as it says how images are "
            "fed, got none"
        )
    free, fixed = _DEFAULTS[kind]
    c = {"num_channels": 3} | free | fixed | dict(config)
    for key, value in fixed.items():
        if c[key] != value:
            raise NotBuilt(
                f"config.json: {key}: wanted {value!r} for {kind}, the only one built here, got "
                f"{c[key]!r}"
            )
    names = label_names(config, has_head)
    network: Any
    options: dict[str, Any]
    if kind == "resnet":
        network, names_of = ImageNetResNet, naming.RESNET_TRANSFORMERS
        options = {"bottleneck": c["layer_type"] == "bottleneck", "stem": c["embedding_size"]}
        options |= {"depths": c["depths"], "widths": c["hidden_sizes"]}
        options |= {"stride_first": c["downsample_in_bottleneck"]}
    elif kind == "vit":
        network, names_of = ViT, naming.VIT_TRANSFORMERS
        options = {"width": c["hidden_size"], "depth": c["num_hidden_layers"]}
        options |= {"heads": c["num_attention_heads"], "hidden": c["intermediate_size"]}
        options |= {
            "size": whole_side("config.json", c["image_size"]),
            "patch": whole_side("config.json", c["patch_size"]),
        }
        options |= {"epsilon": c["layer_norm_eps"], "bias": c["qkv_bias"]}
    else:
        network, names_of = ConvNeXt, naming.CONVNEXT_TRANSFORMERS
        options = {"depths": c["depths"], "widths": c["hidden_sizes"]}
        options |= {
            "patch": whole_side("config.json", c["patch_size"]),
            "epsilon": c["layer_norm_eps"],
        }
    return Description(
        f"transformers {kind}",
        shapes(network, len(names), {"channels": c["num_channels"]} | options),
        names_of,
        read_processor(processor, c["num_channels"]),
        names,
    )
