"""Language models beside transformers, on tiny random checkpoints that it writes itself."""

import dataclasses
import json

import numpy as np
import pytest

from leepjax.data import Bank
from leepjax.models import Source, TorchEncoder, extract, extract_layers, load_encoder, tokenize
from leepjax.ranking import rank
from leepjax.ranking.networks import pretrained_sources
from tests.models.languages import BERT, texts_of, write_tokenizer
from tests.models.test_parity import need, randomise, torch

need("tokenizers")

SIZES = {**BERT, "type_vocab_size": 2, "initializer_range": 0.5}
DISTILBERT = {"dim": 16, "n_layers": 2, "n_heads": 4, "hidden_dim": 24}
DISTILBERT |= {"max_position_embeddings": 40, "vocab_size": 44, "pad_token_id": 1}
OURS = {
    "Bert": SIZES,
    "Roberta": SIZES | {"max_position_embeddings": 42, "type_vocab_size": 1},
    "XLMRoberta": SIZES | {"max_position_embeddings": 42, "type_vocab_size": 1},
    "Camembert": SIZES | {"max_position_embeddings": 42, "type_vocab_size": 1},
    "DistilBert": DISTILBERT,
    "Electra": SIZES | {"embedding_size": 8},
}
_GPT = {"n_embd": 16, "n_layer": 2, "n_head": 4, "n_positions": 40, "vocab_size": 44}
_GPT |= {"bos_token_id": 0, "eos_token_id": 2}
_T5 = {"d_model": 16, "d_ff": 24, "d_kv": 4, "num_layers": 2, "num_heads": 4, "vocab_size": 44}
_BART = {"d_model": 16, "encoder_layers": 2, "decoder_layers": 1, "encoder_attention_heads": 4}
_BART |= {"decoder_attention_heads": 4, "encoder_ffn_dim": 24, "decoder_ffn_dim": 24}
OTHERS = {  # through PyTorch
    "GPT2": _GPT,
    "Albert": SIZES | {"embedding_size": 8},
    "MPNet": SIZES | {"max_position_embeddings": 42},
    "DebertaV2": SIZES | {"type_vocab_size": 0},
    "XLNet": {"d_model": 16, "n_layer": 2, "n_head": 4, "d_inner": 24, "vocab_size": 44}
    | {"pad_token_id": 1},
    "T5": _T5 | {"pad_token_id": 1},
    "Bart": _BART | {"vocab_size": 44, "max_position_embeddings": 40},
    "ModernBert": {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4}
    | {"intermediate_size": 24, "vocab_size": 44, "pad_token_id": 1, "max_position_embeddings": 40}
    | {"cls_token_id": 0, "sep_token_id": 2, "bos_token_id": 0, "eos_token_id": 2},
    "Opt": {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "ffn_dim": 24}
    | {"vocab_size": 44, "max_position_embeddings": 40, "word_embed_proj_dim": 16},
}
NAMES = {"Opt": "OPT"}


def write(folder, kind, sizes, suffix="Model"):
    """A model that transformers has drawn and written, and its configuration."""
    transformers = need("transformers")
    name = NAMES.get(kind, kind)
    config = getattr(transformers, f"{name}Config")(num_labels=3, **sizes)
    model = randomise(getattr(transformers, f"{name}{suffix}")(config))
    model.save_pretrained(folder)
    write_tokenizer(folder)
    return model


def reference(model, source, bank, pairs=True):
    """``[n, d]`` of each layer: transformers' states of each text alone, averaged."""
    tokens = np.asarray(source.preprocess(tokenize(source, bank).images))
    layers = []
    for row in tokens:
        row = torch.from_numpy(row[row[:, 2] > 0].astype(np.int64))[None]
        inputs = {"input_ids": row[..., 0], "attention_mask": row[..., 2]}
        if pairs:
            inputs["token_type_ids"] = row[..., 1]
        with torch.no_grad():
            states = model(**inputs, output_hidden_states=True).hidden_states
        layers.append([state[0].mean(0).numpy() for state in states])
    return np.array(layers).transpose(1, 0, 2)


@pytest.mark.parametrize("kind", OURS)
def test_states_of_every_layer_are_those_of_transformers(kind, tmp_path):
    model = write(tmp_path, kind, OURS[kind])
    source = load_encoder(tmp_path)
    assert isinstance(source, Source)
    bank = texts_of([3, 12, 30, 1])
    if kind in ("Bert", "Electra"):
        bank = dataclasses.replace(bank, pairs=("w3 w4", "", "w1", "w9 w9"))
    wanted = reference(model, source, bank, kind in ("Bert", "Electra"))
    got = extract_layers(source, bank)
    assert len(got) == 3
    assert wanted.std() > 0.1
    np.testing.assert_allclose(np.stack(got), wanted, atol=1e-4)
    np.testing.assert_allclose(extract(source, bank).features, wanted[-1], atol=1e-4)


@pytest.mark.parametrize("kind", [kind for kind in OURS if kind != "XLMRoberta"])
def test_logits_are_those_of_transformers(kind, tmp_path):
    model = write(tmp_path, kind, OURS[kind], "ForSequenceClassification")
    source = load_encoder(tmp_path)
    bank = texts_of([3, 12, 30, 1])
    tokens = np.asarray(source.preprocess(tokenize(source, bank).images)).astype(np.int64)
    tokens = torch.from_numpy(tokens)
    with torch.no_grad():
        logits = model(input_ids=tokens[..., 0], attention_mask=tokens[..., 2]).logits
    got = extract(source, bank)
    assert logits.std() > 0.1
    np.testing.assert_allclose(got.logits, logits.numpy(), atol=1e-4)


@pytest.mark.parametrize("kind", OTHERS)
def test_other_families_run_through_pytorch(kind, tmp_path):
    write(tmp_path, kind, OTHERS[kind])
    encoder = load_encoder(tmp_path)
    assert isinstance(encoder, TorchEncoder)
    bank = texts_of([3, 12, 30, 1, 20])
    layers = extract_layers(encoder, bank)
    features = extract(encoder, bank).features
    assert features.shape == (5, 16)
    assert len(layers) == 3
    assert features.std() > 0.01
    np.testing.assert_allclose(layers[-1], features, atol=1e-5)
    for i in (1, 2):
        alone = dataclasses.replace(
            bank, texts=bank.texts[i : i + 1], labels=bank.labels[:1], groups=bank.groups[:1]
        )
        np.testing.assert_allclose(extract(encoder, alone).features[0], features[i], atol=1e-5)


def test_a_classifier_through_pytorch_has_logits(tmp_path):
    write(tmp_path, "Albert", OTHERS["Albert"], "ForSequenceClassification")
    encoder = load_encoder(tmp_path)
    outputs = extract(encoder, texts_of([3, 12]))
    assert outputs.logits.shape == (2, 3)
    assert len(encoder.class_names) == 3


def test_all_are_ranked_beside_each_other_and_what_fails_is_one_line(tmp_path):
    for kind, sizes in {"Bert": SIZES, "GPT2": _GPT, "T5": _T5 | {"pad_token_id": 1}}.items():
        write(tmp_path / kind, kind, sizes)
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "config.json").write_text(json.dumps({"model_type": "unheard-of", "vocab_size": 44}))
    write_tokenizer(broken)
    (broken / "pytorch_model.bin").write_bytes(b"pickle")
    names = [str(tmp_path / name) for name in ("Bert", "GPT2", "T5", "broken")]
    bank = texts_of([5] * 40)
    ranking = rank(pretrained_sources(names), bank, metrics=("logme",))
    assert {*ranking.names} == {"Bert", "GPT2", "T5"}
    (failure,) = ranking.failures
    assert "a pickle can run any code" in failure.reason
    layers = rank(pretrained_sources(names[:2], every_layer=True), bank, metrics=())
    assert len(layers.names) == 6


def save_timm(folder, architecture, size, **arguments):
    timm, safetensors = need("timm"), need("safetensors.torch")
    model = randomise(timm.create_model(architecture, num_classes=5, **arguments))
    safetensors.save_file(model.state_dict(), folder / "model.safetensors")
    config = {"architecture": architecture, "num_classes": 5, "model_args": arguments}
    config |= {"pretrained_cfg": {"input_size": [3, size, size], "crop_pct": 1.0}}
    (folder / "config.json").write_text(json.dumps(config))
    return model


def images(size):
    rng = np.random.default_rng(0)
    labels = np.arange(6, dtype=np.int32) % 2
    pixels = rng.integers(0, 256, (6, size, size, 3), np.uint8)
    return Bank(pixels, labels, np.zeros_like(labels), ("a", "b"), ("all",))


@pytest.mark.parametrize(
    ("architecture", "arguments"),
    [
        ("mixer_s32_224", {"img_size": 64}),
        ("swin_tiny_patch4_window7_224", {"img_size": 56, "depths": [1, 1], "embed_dim": 12}),
        ("regnetx_002", {}),
        ("mobilenetv3_small_050", {}),
    ],
)
def test_timms_other_networks_run_through_pytorch(architecture, arguments, tmp_path):
    size = arguments.get("img_size", 64)
    model = save_timm(tmp_path, architecture, size, **arguments)
    encoder = load_encoder(tmp_path)
    assert isinstance(encoder, TorchEncoder)
    bank = images(size)
    outputs = extract(encoder, bank)
    mean, std = (np.array(encoder.preprocess.__dict__[x]) for x in ("mean", "std"))
    x = ((bank.images / 255 - mean) / std).transpose(0, 3, 1, 2).astype(np.float32)
    with torch.no_grad():
        logits = model(torch.from_numpy(np.ascontiguousarray(x))).numpy()
    np.testing.assert_allclose(outputs.logits, logits, atol=1e-4)
    assert outputs.features.ndim == 2


_SWIN = {"image_size": 32, "patch_size": 4, "embed_dim": 12, "depths": [1, 1], "num_heads": [2, 2]}
_SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4}


@pytest.mark.parametrize(
    ("kind", "sizes", "processor"),
    [
        ("Swin", _SWIN | {"window_size": 4}, "ViTImageProcessor"),
        ("Dinov2", _SIZES | {"image_size": 28, "patch_size": 14}, "BitImageProcessor"),
        ("MobileNetV2", {"depth_multiplier": 0.35}, "MobileNetV2ImageProcessor"),
    ],
)
@pytest.mark.parametrize("suffix", ["Model", "ForImageClassification"])
def test_image_networks_of_transformers_run_through_pytorch(
    kind, sizes, processor, suffix, tmp_path
):
    transformers = need("transformers")
    config = getattr(transformers, f"{kind}Config")(num_labels=5, **sizes)
    model = randomise(getattr(transformers, f"{kind}{suffix}")(config))
    model.save_pretrained(tmp_path)
    side = {"Dinov2": 28}.get(kind, 32)
    said = {"image_processor_type": processor, "size": {"height": side, "width": side}}
    said |= {"do_center_crop": False}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(said))
    encoder = load_encoder(tmp_path)
    assert isinstance(encoder, TorchEncoder)
    outputs = extract(encoder, images(side))
    assert outputs.features.shape[0] == 6
    assert outputs.features.ndim == 2
    assert outputs.logits.shape == (6, 0 if suffix == "Model" else 5)
    if suffix != "Model":
        bank = images(side)
        mean, std = (np.array(encoder.preprocess.__dict__[x]) for x in ("mean", "std"))
        x = ((bank.images / 255 - mean) / std).transpose(0, 3, 1, 2).astype(np.float32)
        with torch.no_grad():
            logits = model(torch.from_numpy(np.ascontiguousarray(x))).logits.numpy()
        np.testing.assert_allclose(outputs.logits, logits, atol=1e-4)
