"""Configurations of checkpoints, sound and not: ``config.json``, ``preprocessor_config.json``."""

import dataclasses
import json
from typing import Any

from hypothesis import strategies as st

from benchmarks.fuzz.damage import bounded, corrupt, corruptions, written
from benchmarks.fuzz.target import Target, refusal
from benchmarks.fuzz.texts import JSON, deep
from leepjax.models.hub import Checkpoint, read_checkpoint

# Small ones, of which a network is made in a moment.
CONFIGS: list[dict[str, Any]] = [
    {"architecture": "resnet18", "num_classes": 3, "model_args": {"layers": [1, 1, 1, 1]}},
    {
        "architecture": "vit_tiny_patch16_224.x",
        "pretrained_cfg": {"input_size": [3, 32, 32], "crop_pct": 0.9, "mean": [0.5, 0.5, 0.5]},
        "model_args": {"depth": 1, "embed_dim": 8, "num_heads": 2, "img_size": 32},
        "label_names": ["a", "b"],
        "num_classes": 2,
    },
    {"architecture": "convnext_tiny", "model_args": {"depths": [1, 1, 1, 1], "dims": [2, 2, 2, 2]}},
    {
        "model_type": "resnet",
        "depths": [1, 1],
        "hidden_sizes": [4, 8],
        "embedding_size": 4,
        "id2label": {"0": "a", "1": "b"},
    },
    {"model_type": "vit", "num_hidden_layers": 1, "hidden_size": 8, "num_attention_heads": 2},
    {
        "model_type": "convnext",
        "depths": [1, 1, 1, 1],
        "hidden_sizes": [2, 2, 2, 2],
        "num_labels": 2,
    },
]
PROCESSORS: list[dict[str, Any]] = [
    {"size": 224},
    {
        "image_processor_type": "ConvNextImageProcessor",
        "size": {"shortest_edge": 224},
        "crop_pct": 0.9,
    },
    {
        "image_processor_type": "CLIPImageProcessor",
        "size": {"shortest_edge": 256},
        "crop_size": {"height": 224, "width": 224},
        "do_center_crop": True,
    },
    {"feature_extractor_type": "ViTFeatureExtractor", "size": {"height": 32, "width": 32}},
]
# Entries that any of them may have, beside their own.
KEYS = (
    *(
        "architecture",
        "num_classes",
        "model_args",
        "pretrained_cfg",
        "input_size",
        "crop_pct",
        "mean",
    ),
    *("std", "interpolation", "crop_mode", "global_pool", "label_names", "model_type", "depths"),
    *(
        "hidden_sizes",
        "id2label",
        "num_labels",
        "layer_type",
        "hidden_act",
        "image_size",
        "resample",
    ),
    *("patch_size", "num_channels", "layer_norm_eps", "qkv_bias", "num_attention_heads", "size"),
    *(
        "image_mean",
        "image_std",
        "rescale_factor",
        "do_center_crop",
        "crop_size",
        "do_pad",
        "in_chans",
    ),
    *("image_processor_type", "embed_dim", "num_heads", "mlp_ratio", "img_size", "layers", "dims"),
)
# Of which a number may be large: a network of many layers would take its time to build.
VALUES = JSON.filter(lambda value: not _counts(value))


def _counts(value: Any) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(map(_counts, inner)) or (isinstance(value, int) and value > 10**4)


@dataclasses.dataclass(frozen=True)
class Configuration:
    """Which configuration and processor, entries put into them, and damage."""

    config: int
    processor: int
    changes: tuple[tuple[str, Any], ...] = ()
    inner: tuple[tuple[str, Any], ...] = ()
    of_processor: tuple[tuple[str, Any], ...] = ()
    corruptions: tuple[tuple[str, int], ...] = ()
    deep: int = -1


def check(case: Configuration) -> str:
    """A description of a network, or a refusal; of the folder, which has no tensors, a refusal."""
    config = CONFIGS[case.config] | dict(case.changes)
    args = config.get("model_args")
    if case.inner and isinstance(args, dict):
        config["model_args"] = args | dict(case.inner)
    processor = PROCESSORS[case.processor] | dict(case.of_processor)
    content = deep(corrupt(json.dumps(config).encode(), case.corruptions), case.deep)
    with written(content, "config.json") as path:
        path.with_name("preprocessor_config.json").write_text(json.dumps(processor))
        with bounded(len(content)):
            read, said = refusal(lambda: read_checkpoint(Checkpoint(path.parent, None)))
    assert read is None, "a network without its tensors"
    return "value" if "wanted model.safetensors in" in said else "refused"


def targets() -> list[Target]:
    """One."""
    entries = st.lists(st.tuples(st.sampled_from(KEYS), VALUES), max_size=2).map(tuple)
    cases = st.builds(
        Configuration,
        config=st.integers(0, len(CONFIGS) - 1),
        processor=st.integers(0, len(PROCESSORS) - 1),
        changes=entries,
        inner=entries,
        of_processor=entries,
        corruptions=corruptions,
        deep=st.sampled_from([-1] * 9 + [0, 1]),
    )
    return [Target("reader", "config.json", cases, check, share=10)]
