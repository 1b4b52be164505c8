"""Networks that are not built here, run by PyTorch: what timm and transformers load.

They are encoders alone: features, logits, states of layers. Weights are safetensors, and code from
a model's repository is never run. On a GPU they run in half precision where it is safe (autocast).
"""

import dataclasses
import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from leepjax._store import digest
from leepjax.models.bert import POOLINGS
from leepjax.models.description import label_names
from leepjax.models.preprocess import ResizeCrop
from leepjax.models.processors import read_processor, timm_preprocess
from leepjax.models.source import Outputs
from leepjax.models.tokens import Tokens

Config = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class TorchEncoder:
    """What PyTorch runs: ``extract`` and ``rank`` take it like a ``Source``; nothing trains it.

    Attributes:
      preprocess: of a bank's images, or ``Tokens`` of a language model.
      class_names: ``s`` names of the source classes.
      digest: content key of weights, configuration and precision.
      num_parameters: of the network.
      run: from a batch of a bank to features ``[n, d]`` and logits ``[n, s]``.
      run_layers: to ``[n, d]`` of every layer, the embeddings first; None of images.
    """

    preprocess: ResizeCrop | Tokens
    class_names: tuple[str, ...]
    digest: str
    num_parameters: int
    run: Callable[[np.ndarray], Outputs] = dataclasses.field(repr=False)
    run_layers: Callable[[np.ndarray], list[np.ndarray]] | None = dataclasses.field(repr=False)


def has_torch() -> bool:
    """Whether the extra ``torch`` is installed."""
    try:
        import timm  # pyright: ignore[reportMissingImports]
        import torch  # pyright: ignore[reportMissingImports]
        import transformers  # pyright: ignore[reportMissingImports]
    except ImportError:
        return False
    return bool(timm and torch and transformers)


def read_by_torch(
    config: Config, beside: Config | None, folder: Path, files: Sequence[Path]
) -> TorchEncoder:
    """The network of a checkpoint that is not built here.

    Args:
      config: ``config.json``.
      beside: ``preprocessor_config.json``; of a language model what ``read_tokenizer`` returned.
      folder: of the checkpoint.
      files: its safetensors.

    Raises:
      ValueError: the libraries do not know it either, or tensors are missing; a network that is no
        encoder. It is one line.
    """
    try:
        if "architecture" in config:
            return _timm(config, files)
        if beside is not None and "tokenizer" in beside:
            return _language(config, beside, folder, files)
        return _images(config, beside, folder, files)
    except ValueError as error:
        raise ValueError(_line(error)) from None
    except Exception as error:  # whatever a library raises
        raise ValueError(
            f"PyTorch cannot run it ({type(error).__name__}: {_line(error)})"
        ) from None


def _timm(config: Config, files: Sequence[Path]) -> TorchEncoder:
    import timm  # pyright: ignore[reportMissingImports]
    from safetensors.torch import load_file  # pyright: ignore[reportMissingImports]

    name = str(config["architecture"])
    architecture = name.partition(".")[0]
    if not timm.is_model(architecture):
        raise ValueError(f"config.json: architecture: timm {timm.__version__} has no {name!r}")
    about = config.get("pretrained_cfg", config)
    classes = config.get("num_classes", about.get("num_classes", 1000))
    arguments = {"num_classes": classes} | dict(config.get("model_args") or {})
    model = timm.create_model(architecture, pretrained=False, **arguments)
    tensors = {k: x for file in files for k, x in load_file(file).items()}
    _check_loaded(*model.load_state_dict(tensors, strict=False))
    size = tuple(about.get("input_size", model.pretrained_cfg["input_size"]))
    preprocess = timm_preprocess({**model.pretrained_cfg, **about, "input_size": size})

    def forward(x: Any) -> Any:
        states = model.forward_features(x)
        features = _flat(model.forward_head(states, pre_logits=True))
        logits = model.forward_head(states) if model.num_classes else features[:, :0]
        return features, logits

    names = config.get("label_names", about.get("label_names"))
    names = tuple(names or map(str, range(model.num_classes)))
    return _encoder(
        model, partial(_of_images, preprocess, forward), preprocess, names, config, files
    )


def _images(
    config: Config, processor: Config | None, folder: Path, files: Sequence[Path]
) -> TorchEncoder:
    import torch  # pyright: ignore[reportMissingImports]

    if processor is None:
        raise ValueError("preprocessor_config.json: wanted one beside config.json, got none")
    classifies = _built_for(config).endswith("ForImageClassification")
    model, missing = _transformers(
        "AutoModelForImageClassification" if classifies else "AutoModel", config, folder
    )
    _check_loaded([name for name in missing if "pooler" not in name], [])
    preprocess = read_processor(processor, config.get("num_channels", 3))
    heads = [
        module
        for module in model.modules()
        if classifies
        and isinstance(module, torch.nn.Linear)
        and module.out_features == model.config.num_labels
    ]
    fed: list[Any] = []
    if heads:
        heads[-1].register_forward_hook(lambda _, inputs, __: fed.append(inputs[0]))

    def forward(x: Any) -> Any:
        outputs = model(x)
        if heads:
            return _flat(fed.pop()), outputs.logits
        pooled = None if missing else getattr(outputs, "pooler_output", None)
        features = _flat(outputs.last_hidden_state if pooled is None else pooled)
        return features, features[:, :0]

    names = label_names(config, classifies)
    return _encoder(
        model, partial(_of_images, preprocess, forward), preprocess, names, config, files
    )


def _language(config: Config, beside: Config, folder: Path, files: Sequence[Path]) -> TorchEncoder:
    classifies = _built_for(config).endswith("ForSequenceClassification")
    classifies &= beside.get("pooling") is None
    kind = "AutoModelForSequenceClassification" if classifies else "AutoModel"
    model, missing = _transformers(kind, config, folder)
    _check_loaded([name for name in missing if "pooler" not in name and "decoder" not in name], [])
    encoder = model
    if not classifies and model.config.is_encoder_decoder:
        encoder = model.get_encoder()
    known = model.config.get_text_config()
    positions = getattr(known, "max_position_embeddings", None) or -1
    positions = positions if positions > 0 else 512
    # Families that count padding among the positions have two more than a round number.
    context = max(positions - positions % 8, min(positions, 8))
    tokens = Tokens.of(beside, context, known.vocab_size, getattr(known, "pad_token_id", None))
    pooling = beside.get("pooling") or beside.get("own_pooling") or "mean"
    if pooling not in POOLINGS:
        raise ValueError(f"pooling: wanted one of {', '.join(POOLINGS)}, got {pooling!r}")
    takes_types = "token_type_ids" in inspect.signature(encoder.forward).parameters
    types = getattr(known, "type_vocab_size", 2) - 1

    def forward(images: np.ndarray) -> Any:
        import torch  # pyright: ignore[reportMissingImports]

        x = torch.from_numpy(np.asarray(tokens(jnp.asarray(images))).astype(np.int64)).to(_device())
        inputs = {"input_ids": x[..., 0], "attention_mask": x[..., 2]}
        if takes_types and types > 0:
            inputs["token_type_ids"] = x[..., 1].clamp(max=types)
        outputs = encoder(**inputs, output_hidden_states=True)
        states = list(outputs.get("hidden_states") or outputs.get("encoder_hidden_states") or ())
        last = outputs.get("last_hidden_state")
        states = [*states[:-1], last] if last is not None else states
        if not states:
            raise ValueError("wanted a network with hidden states, an encoder, got one without")
        layers = [_pooled(state, x[..., 2] > 0, pooling) for state in states]
        return layers, outputs.logits if classifies else layers[-1][:, :0]

    names = label_names(config, classifies)
    return _encoder(model, forward, tokens, names, {**config, "pooling": pooling}, files)


def _encoder(
    model: Any, forward: Any, preprocess: Any, names: Any, config: Config, files: Sequence[Path]
) -> TorchEncoder:
    import torch  # pyright: ignore[reportMissingImports]

    model.eval().float().to(_device())
    mixed = torch.cuda.is_available()

    def run(images: np.ndarray) -> tuple[Any, Any]:
        with torch.inference_mode(), torch.autocast(_device(), torch.bfloat16, enabled=mixed):
            return forward(images)

    def outputs(images: np.ndarray) -> Outputs:
        features, logits = run(images)
        features = features[-1] if isinstance(features, list) else features
        return Outputs(_numpy(features), _numpy(logits))

    def layers(images: np.ndarray) -> list[np.ndarray]:
        return [_numpy(layer) for layer in run(images)[0]]

    weights = [np.memmap(file, np.uint8, "r") for file in files]
    return TorchEncoder(
        preprocess,
        names,
        digest(config, preprocess, *weights, "bfloat16" if mixed else "float32"),
        sum(p.numel() for p in model.parameters()),
        outputs,
        layers if isinstance(preprocess, Tokens) else None,
    )


def _transformers(kind: str, config: Config, folder: Path) -> tuple[Any, list[str]]:
    """The model of a folder, and which of its parameters the files do not have."""
    import transformers  # pyright: ignore[reportMissingImports]

    model_type = config.get("model_type")
    if model_type not in transformers.CONFIG_MAPPING:
        raise ValueError(
            f"config.json: model_type: transformers {transformers.__version__} has no "
            f"{model_type!r}; code from a model's repository is not run"
        )
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    model, info = getattr(transformers, kind).from_pretrained(
        folder,
        use_safetensors=True,
        local_files_only=True,
        trust_remote_code=False,
        output_loading_info=True,
    )
    if info["mismatched_keys"]:
        raise ValueError(f"tensors of another shape: {_some(map(str, info['mismatched_keys']))}")
    return model, sorted(info["missing_keys"])


def _check_loaded(missing: Sequence[str], unexpected: Sequence[str]) -> None:
    for what, names in (("missing", missing), ("unexpected", unexpected)):
        if names:
            raise ValueError(f"model.safetensors: {what}: {_some(names)}")


def _of_images(preprocess: ResizeCrop, forward: Any, images: np.ndarray) -> Any:
    import torch  # pyright: ignore[reportMissingImports]

    x = np.asarray(jax.jit(preprocess)(images)).transpose(0, 3, 1, 2)
    return forward(torch.from_numpy(np.ascontiguousarray(x)).to(_device()))


def _pooled(states: Any, present: Any, pooling: str) -> Any:
    """As ``bert.pool``, of PyTorch's tensors, in float32."""
    states = states.float()
    weights = present.float()
    if pooling == "last":
        weights = weights * (present.cumsum(1) == present.sum(1, keepdim=True))
    elif pooling != "mean":
        weights = weights * (present.cumsum(1) == 1)
    weights = weights / weights.sum(1, keepdim=True).clamp(min=1)
    return (states * weights[..., None]).sum(1)


def _flat(features: Any) -> Any:
    """``[n, d]``: the mean over tokens or pixels."""
    if features.ndim == 4:
        features = features.mean((2, 3))
    return features.mean(1) if features.ndim == 3 else features


def _built_for(config: Config) -> str:
    return str((config.get("architectures") or [""])[0])


def _device() -> str:
    import torch  # pyright: ignore[reportMissingImports]

    return "cuda" if torch.cuda.is_available() else "cpu"


def _numpy(x: Any) -> np.ndarray:
    return x.float().cpu().numpy()


def _some(names: Any, most: int = 6) -> str:
    names = sorted(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
