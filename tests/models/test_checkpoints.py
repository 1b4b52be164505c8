"""Checkpoints in the many ways that people leave them: wrapped, headless, halved, divided."""

import json
import logging

import jax
import ml_dtypes
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file, save_file

from leepjax.data import load
from leepjax.models import Source, extract, load_pretrained, load_resnet
from leepjax.models.configuration import describe
from leepjax.models.naming import CIFAR
from leepjax.models.processors import read_processor
from leepjax.models.resnet import ResNet
from leepjax.models.tensors import to_tensors
from leepjax.ranking import rank
from leepjax.ranking.networks import pretrained_sources, some_of

_VIT = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 16}
CONFIGS = {
    "vit-timm": (
        {"architecture": "vit_tiny_patch16_224", "num_classes": 3}
        | {"pretrained_cfg": {"input_size": [3, 16, 16], "crop_pct": 1.0}}
        | {
            "model_args": {"embed_dim": 8, "depth": 1, "num_heads": 2}
            | {"img_size": 16, "patch_size": 8}
        },
        None,
    ),
    "vit-transformers": (
        {"model_type": "vit", "intermediate_size": 12, "patch_size": 8} | _VIT,
        {"image_processor_type": "ViTImageProcessor", "size": 16},
    ),
    "resnet-transformers": (
        {"model_type": "resnet", "embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1]}
        | {"layer_type": "basic"},
        {"image_processor_type": "ConvNextImageProcessor", "size": 16},
    ),
    "convnext-transformers": (
        {"model_type": "convnext", "hidden_sizes": [8, 16], "depths": [1, 1]},
        {"image_processor_type": "ConvNextImageProcessor", "size": 16},
    ),
}
HEADS = {
    "vit-timm": "head.",
    "vit-transformers": "classifier.",
    "resnet-transformers": "classifier.",
    "convnext-transformers": "classifier.",
}


def random_tensors(network, naming, preprocess, class_names):
    graphdef, *states = nnx.split(network, nnx.Param, ...)
    rng = np.random.default_rng(0)
    trees = (
        jax.tree.map(
            lambda leaf: (0.3 + 0.1 * rng.normal(size=leaf.shape)).astype(np.float32),
            nnx.to_pure_dict(state),
        )
        for state in states
    )
    tensors = to_tensors(Source(graphdef, *trees, preprocess, class_names), naming)
    return {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}


def write(folder, kind, change=lambda name: name, dtype=np.float32):
    """A checkpoint whose tensors are renamed by ``change``; None leaves one out."""
    described = describe(*CONFIGS[kind])
    tensors = random_tensors(
        described.network, described.naming, described.preprocess, described.class_names
    )
    changed = {change(name): x.astype(dtype) for name, x in tensors.items()}
    changed.pop(None, None)
    folder.mkdir(exist_ok=True)
    save_file(changed, folder / "model.safetensors")
    config, processor = CONFIGS[kind]
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "preprocessor_config.json").write_text(json.dumps(processor or {}))
    return folder


def same(a, b, tolerance=0.0):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, rtol=tolerance)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LEEPJAX_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def bank():
    return some_of(load("digits").train, 40)


def headless(kind):
    """The names of the library's network without a head."""
    body = {"vit": "vit.", "resnet": "resnet.", "convnext": "convnext."}[kind.split("-")[0]]

    def change(name):
        return None if name.startswith(HEADS[kind]) else name.removeprefix(body)

    return change


@pytest.mark.parametrize("kind", CONFIGS)
def test_without_a_head_there_are_the_same_features(kind, tmp_path, bank, caplog):
    full = extract(load_pretrained(write(tmp_path / "full", kind)), bank)
    caplog.clear()
    folder = write(tmp_path / "headless", kind, headless(kind))
    source = load_pretrained(folder)
    assert source.class_names == ()
    found = extract(source, bank)
    assert found.logits.shape == (40, 0)
    np.testing.assert_allclose(found.features, full.features, rtol=1e-5)
    assert "has no head, so there are features and no logits" in caplog.messages[0]
    assert extract(source, bank).logits.shape == (40, 0)  # from the cache


def test_a_pooler_is_no_part_of_the_features(tmp_path):
    folder = write(tmp_path / "m", "vit-transformers", headless("vit-transformers"))
    tensors = load_file(folder / "model.safetensors")
    tensors |= {"pooler.dense.weight": np.ones((8, 8), "f4"), "pooler.dense.bias": np.ones(8, "f4")}
    save_file(tensors, folder / "model.safetensors")
    assert load_pretrained(folder).params["head"]["kernel"].shape == (8, 0)
    save_file(tensors | {"decoder.weight": np.ones(3, "f4")}, folder / "model.safetensors")
    with pytest.raises(ValueError, match=r"unexpected: vit\.decoder\.weight$"):
        load_pretrained(folder)


def test_a_configuration_without_classes_is_one_without_a_head(tmp_path):
    folder = write(tmp_path / "m", "vit-timm", headless("vit-timm"))
    config = CONFIGS["vit-timm"][0] | {"num_classes": 0}
    (folder / "config.json").write_text(json.dumps(config))
    assert load_pretrained(folder).class_names == ()


def test_a_network_without_a_head_is_ranked_by_its_features(tmp_path, bank):
    write(tmp_path / "full", "vit-timm")
    write(tmp_path / "headless", "vit-timm", headless("vit-timm"))
    names = [str(tmp_path / "full"), str(tmp_path / "headless")]
    found = rank(pretrained_sources(names), bank, metrics=["h_score", "leep"], nulls=())
    assert found.best == ("full", "headless")
    np.testing.assert_allclose(*found.scores["h_score"], rtol=1e-5)
    (failure,) = found.failures
    assert failure.source == "headless"
    assert failure.reason == "needs probs or logits; the source has features"


@pytest.mark.parametrize(
    "prefix", ["module.", "_orig_mod.", "model.", "backbone.", "timm_model.", "module.model."]
)
def test_a_prefix_of_all_names_is_cut_off_and_said(prefix, tmp_path, caplog):
    wanted = load_pretrained(write(tmp_path / "plain", "vit-transformers"))
    caplog.clear()
    found = load_pretrained(write(tmp_path / "m", "vit-transformers", lambda n: prefix + n))
    same(found.params, wanted.params)
    assert f"without the prefix {prefix!r}" in caplog.messages[0]
    change = headless("vit-transformers")
    bare = write(tmp_path / "h", "vit-transformers", lambda n: (m := change(n)) and prefix + m)
    same(load_pretrained(bare).params["block0"], wanted.params["block0"])


def test_a_prefix_of_some_names_is_not_cut_off(tmp_path):
    folder = write(
        tmp_path / "m", "vit-timm", lambda n: n if n.startswith("head") else "backbone." + n
    )
    with pytest.raises(ValueError, match=r"unexpected: backbone\.blocks\.0"):
        load_pretrained(folder)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.module."])
def test_cifar_resnets_come_with_prefixes_too(prefix, tmp_path, caplog):
    path = tmp_path / "x.safetensors"
    network = nnx.eval_shape(lambda: ResNet(20, 10, rngs=nnx.Rngs(0)))
    tensors = random_tensors(network, CIFAR, None, ())
    save_file(tensors, path)
    wanted = load_resnet(path, 20)
    wrapped = {prefix + name: tensor for name, tensor in tensors.items()}
    save_file(wrapped, path)
    same(load_resnet(path, 20).params, wanted.params)
    assert f"without the prefix {prefix!r}" in caplog.messages[-1]
    with pytest.raises(ValueError, match="3 blocks a stage are depth 20"):
        load_resnet(path, 32)
    save_file({k: x for k, x in wrapped.items() if "linear" not in k}, path)
    with pytest.raises(ValueError, match=r"missing: linear\.bias.*it has no head"):
        load_resnet(path, 20)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_half_precision_is_read(dtype, tmp_path):
    wanted = load_pretrained(write(tmp_path / "plain", "vit-timm"))
    found = load_pretrained(write(tmp_path / "half", "vit-timm", dtype=dtype))
    assert {leaf.dtype for leaf in jax.tree.leaves(found.params)} == {np.dtype("float32")}
    same(found.params, wanted.params, tolerance=2**-8)


def test_eight_bits_are_refused(tmp_path):
    folder = write(tmp_path / "m", "vit-timm", dtype=ml_dtypes.float8_e4m3fn)
    with pytest.raises(ValueError, match="float8"):
        load_pretrained(folder)


def divided(folder, files=("a.safetensors", "b.safetensors")):
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = {name: files[i % 2] for i, name in enumerate(tensors)}
    for file in set(files):
        save_file({n: x for n, x in tensors.items() if names[n] == file}, folder / file)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": names}))
    return index


def test_a_divided_checkpoint_is_read(tmp_path):
    folder = write(tmp_path / "m", "vit-timm")
    wanted = load_pretrained(folder)
    index = divided(folder)
    same(load_pretrained(folder).params, wanted.params)
    (folder / "b.safetensors").rename(folder / "c.safetensors")
    with pytest.raises(ValueError, match=r"there is none at .*b\.safetensors"):
        load_pretrained(folder)
    for content in ("{}", '{"weight_map": 3}', '{"weight_map": {"x": "../a.safetensors"}}'):
        index.write_text(content)
        with pytest.raises(ValueError, match=r"index\.json: malformed"):
            load_pretrained(folder)


def test_a_divided_checkpoint_of_the_hub_is_fetched_whole(tmp_path, monkeypatch):
    huggingface_hub = pytest.importorskip("huggingface_hub", reason="needs leepjax[hub]")
    folder = write(tmp_path / "m", "vit-timm")
    divided(folder)
    asked = []

    def fetch(repository, file, revision):
        asked.append(file)
        if not (folder / file).is_file():
            raise huggingface_hub.errors.EntryNotFoundError(file)
        return str(folder / file)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fetch)
    assert load_pretrained("some/net").class_names == ("0", "1", "2")
    assert asked[2:] == [
        *("model.safetensors", "model.safetensors.index.json"),
        *("a.safetensors", "b.safetensors"),
    ]


# What transformers' own classes do with the same entries (its get_size_dict and their defaults).
@pytest.mark.parametrize(
    ("entries", "resize", "size"),
    [
        ({"image_processor_type": "CLIPImageProcessor", "size": 40, "crop_size": 32}, 40, 32),
        ({"feature_extractor_type": "CLIPFeatureExtractor"}, 224, 224),
        ({"image_processor_type": "BitImageProcessor", "size": 256}, 256, 224),
        ({"image_processor_type": "BitImageProcessorFast", "size": {"shortest_edge": 9}}, 9, 224),
        ({"image_processor_type": "MobileNetV2ImageProcessor"}, 256, 224),
        ({"image_processor_type": "DeiTImageProcessor"}, (256, 256), 224),
        ({"image_processor_type": "SiglipImageProcessor"}, (224, 224), 224),
        ({"image_processor_type": "ViTImageProcessor", "size": 32}, (32, 32), 32),
        ({"size": {"height": 32, "width": 32}, "do_center_crop": None}, (32, 32), 32),
        ({"image_processor_type": "ConvNextFeatureExtractor", "size": 224}, 256, 224),
        ({"size": None, "image_mean": None, "rescale_factor": None}, (224, 224), 224),
    ],
)
def test_size_means_what_the_kind_of_processor_means_by_it(entries, resize, size):
    found = read_processor(entries, 3)
    assert (found.resize, found.size) == (resize, size)


def test_defaults_are_those_of_the_kind():
    clip = read_processor({"image_processor_type": "CLIPImageProcessor"}, 3)
    assert clip.mean == pytest.approx((0.4815, 0.4578, 0.4082), abs=1e-4)
    assert clip.interpolation == "bicubic"
    assert read_processor({}, 1).mean == (0.5,)
    assert read_processor({"do_normalize": False}, 3).std == (1, 1, 1)
    assert read_processor({"image_mean": 0.25}, 3).mean == (0.25,) * 3


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"image_processor_type": "LevitImageProcessor"}, "CLIP.*got 'LevitImageProcessor'"),
        ({"image_processor_type": 3}, "malformed"),
        ({"image_processor_type": "CLIPImageProcessor", "do_center_crop": False}, "size: wanted"),
        ({"size": {"shortest_edge": 9, "longest_edge": 12}}, "size: wanted a number, height"),
        ({"do_center_crop": True, "crop_size": "x"}, "crop_size: wanted height and width"),
        ({"do_rescale": False}, "do_rescale: wanted true"),
        ({"do_flip_channel_order": True}, "do_flip_channel_order: wanted false"),
        ({"image_mean": [0.5]}, "mean: wanted 3 values"),
        ({"image_std": "x"}, "could not convert"),
    ],
)
def test_a_processor_that_is_not_built_here_is_refused_by_name(entries, message):
    with pytest.raises(ValueError, match=rf"^preprocessor_config\.json: .*{message}"):
        read_processor(entries, 3)


def test_lines_are_of_our_logger(tmp_path, caplog):
    load_pretrained(write(tmp_path / "m", "vit-timm", headless("vit-timm")))
    assert {(r.name, r.levelno) for r in caplog.records} == {("leepjax", logging.WARNING)}
