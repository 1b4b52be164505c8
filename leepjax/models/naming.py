"""What libraries call the tensors of our networks.

A naming says, for each step of a path in our trees, what stands there in the library's name of the
tensor; keys are regular expressions of the whole step, and a step without one is called the same.
``{a,b,c}``: ours is three tensors there, one below the other.
"""

import re
from collections.abc import Mapping, Sequence

Naming = Mapping[str, str]

# The tensors of PyTorch's layers, in every library.
_LAYERS = {
    "kernel": "weight",
    "scale": "weight",
    "mean": "running_mean",
    "var": "running_var",
}

CIFAR: Naming = _LAYERS | {
    "conv": "conv1",
    "bn": "bn1",
    r"stage(\d+)_block(\d+)": r"layer\1.\2",
    "head": "linear",
}
"""The ResNets of akamaster/pytorch_resnet_cifar10."""

RESNET: Naming = _LAYERS | {
    "conv": "conv1",
    "bn": "bn1",
    **{rf"stage{i}_block(\d+)": rf"layer{i + 1}.\1" for i in range(4)},
    "shortcut_conv": "downsample.0",
    "shortcut_bn": "downsample.1",
    "head": "fc",
}
"""torchvision's and timm's."""

RESNET_TRANSFORMERS: Naming = _LAYERS | {
    "conv": "resnet.embedder.embedder.convolution",
    "bn": "resnet.embedder.embedder.normalization",
    r"stage(\d+)_block(\d+)": r"resnet.encoder.stages.\1.layers.\2",
    **{f"conv{i + 1}": f"layer.{i}.convolution" for i in range(3)},
    **{f"bn{i + 1}": f"layer.{i}.normalization" for i in range(3)},
    "shortcut_conv": "shortcut.convolution",
    "shortcut_bn": "shortcut.normalization",
    "head": "classifier.1",
}

VIT: Naming = _LAYERS | {
    "patch": "patch_embed.proj",
    "position": "pos_embed",
    r"block(\d+)": r"blocks.\1",
    "qkv": "attn.qkv",
    "proj": "attn.proj",
    "fc([12])": r"mlp.fc\1",
}
"""timm's."""

VIT_TRANSFORMERS: Naming = _LAYERS | {
    "patch": "vit.embeddings.patch_embeddings.projection",
    "cls_token": "vit.embeddings.cls_token",
    "position": "vit.embeddings.position_embeddings",
    r"block(\d+)": r"vit.encoder.layer.\1",
    "norm1": "layernorm_before",
    "qkv": "attention.attention.{query,key,value}",
    "proj": "attention.output.dense",
    "norm2": "layernorm_after",
    "fc1": "intermediate.dense",
    "fc2": "output.dense",
    "norm": "vit.layernorm",
    "head": "classifier",
}

CONVNEXT: Naming = _LAYERS | {
    "stem": "stem.0",
    "stem_norm": "stem.1",
    r"stage(\d+)_norm": r"stages.\1.downsample.0",
    r"stage(\d+)_down": r"stages.\1.downsample.1",
    r"stage(\d+)_block(\d+)": r"stages.\1.blocks.\2",
    "conv": "conv_dw",
    "fc([12])": r"mlp.fc\1",
    "head_norm": "head.norm",
    "head": "head.fc",
}
"""timm's."""

CONVNEXT_TRANSFORMERS: Naming = _LAYERS | {
    "stem": "convnext.embeddings.patch_embeddings",
    "stem_norm": "convnext.embeddings.layernorm",
    r"stage(\d+)_norm": r"convnext.encoder.stages.\1.downsampling_layer.0",
    r"stage(\d+)_down": r"convnext.encoder.stages.\1.downsampling_layer.1",
    r"stage(\d+)_block(\d+)": r"convnext.encoder.stages.\1.layers.\2",
    "gamma": "layer_scale_parameter",
    "conv": "dwconv",
    "norm": "layernorm",
    "fc([12])": r"pwconv\1",
    "head_norm": "convnext.layernorm",
    "head": "classifier",
}

BERT: Naming = _LAYERS | {
    "embedding": "weight",
    "words": "bert.embeddings.word_embeddings",
    "positions": "bert.embeddings.position_embeddings",
    "kinds": "bert.embeddings.token_type_embeddings",
    "norm": "bert.embeddings.LayerNorm",
    r"block(\d+)": r"bert.encoder.layer.\1",
    "qkv": "attention.self.{query,key,value}",
    "proj": "attention.output.dense",
    "norm1": "attention.output.LayerNorm",
    "fc1": "intermediate.dense",
    "fc2": "output.dense",
    "norm2": "output.LayerNorm",
    "dense": "bert.pooler.dense",
    "head": "classifier",
}

ROBERTA: Naming = {step: name.replace("bert.", "roberta.") for step, name in BERT.items()} | {
    "dense": "classifier.dense",
    "head": "classifier.out_proj",
}

ELECTRA: Naming = {step: name.replace("bert.", "electra.") for step, name in BERT.items()} | {
    "project": "electra.embeddings_project",
    "dense": "classifier.dense",
    "head": "classifier.out_proj",
}

DISTILBERT: Naming = _LAYERS | {
    "embedding": "weight",
    "words": "distilbert.embeddings.word_embeddings",
    "positions": "distilbert.embeddings.position_embeddings",
    "norm": "distilbert.embeddings.LayerNorm",
    r"block(\d+)": r"distilbert.transformer.layer.\1",
    "qkv": "attention.{q_lin,k_lin,v_lin}",
    "proj": "attention.out_lin",
    "norm1": "sa_layer_norm",
    "fc([12])": r"ffn.lin\1",
    "norm2": "output_layer_norm",
    "dense": "pre_classifier",
    "head": "classifier",
}


def tensor_names(path: Sequence[str], naming: Naming) -> list[str]:
    """The tensors that a leaf of our trees is, one below the other; one but for fused layers.

    Args:
      path: names from the root of ``Source.params`` or ``Source.rest`` to the leaf.
      naming: the library's.

    Example:
      >>> tensor_names(["block0", "qkv", "kernel"], VIT)
      ['blocks.0.attn.qkv.weight']
      >>> len(tensor_names(["block0", "qkv", "kernel"], VIT_TRANSFORMERS))
      3
    """
    name = ".".join(_translated(step, naming) for step in path)
    several = re.fullmatch(r"(.*)\{(.*)\}(.*)", name)
    if several is None:
        return [name]
    before, parts, after = several.groups()
    return [f"{before}{part}{after}" for part in parts.split(",")]


def _translated(step: str, naming: Naming) -> str:
    for pattern, name in naming.items():
        match = re.fullmatch(pattern, step)
        if match:
            return match.expand(name)
    return step
