"""Checkpoints in each library's names, from folders and the hub's cache; and everything amiss."""

import json
import sys

import jax
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file, save_file

from leepjax.data import load
from leepjax.models import Source, extract, forward_seconds, load_pretrained
from leepjax.models.configuration import describe
from leepjax.models.hub import find_checkpoint
from leepjax.models.tensors import to_tensors
from leepjax.tasks import sample_tasks
from leepjax.transfer import Recipe, fine_tune

KEY = jax.random.key(0)
COMMIT = "0123456789abcdef0123456789abcdef01234567"

_TIMM = {"num_classes": 3, "pretrained_cfg": {"input_size": [3, 16, 16], "crop_pct": 1.0}}
_VIT_PROCESSOR = {"feature_extractor_type": "ViTFeatureExtractor", "size": 16}
_CONVNEXT_PROCESSOR = {"feature_extractor_type": "ConvNextFeatureExtractor", "size": 16}
_LABELS = {"id2label": {"0": "cat", "2": "owl", "1": "dog"}}

CONFIGS = {
    "resnet18-timm": (
        _TIMM
        | {"architecture": "resnet18.tv_in1k"}
        | {"model_args": {"layers": [1, 1], "channels": [64, 8]}},
        None,
    ),
    "resnet50-timm": (
        _TIMM
        | {"architecture": "resnet50"}
        | {"model_args": {"layers": [1, 1], "channels": [4, 8]}},
        None,
    ),
    "resnet-transformers": (
        {"model_type": "resnet", "embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 2]}
        | {"layer_type": "basic"}
        | _LABELS,
        _CONVNEXT_PROCESSOR,
    ),
    "vit-timm": (
        _TIMM
        | {"architecture": "vit_small_patch16_224", "label_names": ["cat", "dog", "owl"]}
        | {
            "model_args": {"embed_dim": 8, "depth": 2, "num_heads": 2}
            | {"img_size": 16, "patch_size": 8}
        },
        None,
    ),
    "vit-transformers": (
        {"model_type": "vit", "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2}
        | {"intermediate_size": 12, "image_size": 16, "patch_size": 8}
        | _LABELS,
        _VIT_PROCESSOR,
    ),
    "convnext-timm": (
        _TIMM
        | {"architecture": "convnext_tiny"}
        | {"model_args": {"depths": [1, 2], "dims": [8, 16]}},
        None,
    ),
    "convnext-transformers": (
        {"model_type": "convnext", "hidden_sizes": [8, 16], "depths": [1, 2]} | _LABELS,
        _CONVNEXT_PROCESSOR,
    ),
}

# Some of what the published files hold, and how large it is in the tiny ones.
PUBLISHED = {
    "resnet18-timm": {
        "conv1.weight": (64, 3, 7, 7),
        "bn1.running_var": (64,),
        "layer1.0.bn2.weight": (64,),
        "layer2.0.downsample.0.weight": (8, 64, 1, 1),
        "layer2.0.downsample.1.running_mean": (8,),
        "fc.weight": (3, 8),
    },
    "resnet50-timm": {
        "layer1.0.conv2.weight": (4, 4, 3, 3),
        "layer2.0.conv3.weight": (32, 8, 1, 1),
        "layer2.0.bn3.bias": (32,),
    },
    "resnet-transformers": {
        "resnet.embedder.embedder.convolution.weight": (8, 3, 7, 7),
        "resnet.embedder.embedder.normalization.running_mean": (8,),
        "resnet.encoder.stages.1.layers.0.shortcut.convolution.weight": (16, 8, 1, 1),
        "resnet.encoder.stages.1.layers.0.shortcut.normalization.weight": (16,),
        "resnet.encoder.stages.1.layers.1.layer.1.convolution.weight": (16, 16, 3, 3),
        "classifier.1.bias": (3,),
    },
    "vit-timm": {
        "cls_token": (1, 1, 8),
        "pos_embed": (1, 5, 8),
        "patch_embed.proj.weight": (8, 3, 8, 8),
        "blocks.1.norm1.weight": (8,),
        "blocks.1.attn.qkv.weight": (24, 8),
        "blocks.1.attn.proj.bias": (8,),
        "blocks.1.mlp.fc1.weight": (32, 8),
        "norm.bias": (8,),
        "head.weight": (3, 8),
    },
    "vit-transformers": {
        "vit.embeddings.cls_token": (1, 1, 8),
        "vit.embeddings.position_embeddings": (1, 5, 8),
        "vit.embeddings.patch_embeddings.projection.bias": (8,),
        "vit.encoder.layer.1.layernorm_after.weight": (8,),
        "vit.encoder.layer.1.attention.attention.key.weight": (8, 8),
        "vit.encoder.layer.1.attention.output.dense.weight": (8, 8),
        "vit.encoder.layer.1.intermediate.dense.weight": (12, 8),
        "vit.encoder.layer.1.output.dense.weight": (8, 12),
        "vit.layernorm.weight": (8,),
        "classifier.weight": (3, 8),
    },
    "convnext-timm": {
        "stem.0.weight": (8, 3, 4, 4),
        "stem.1.bias": (8,),
        "stages.1.downsample.0.weight": (8,),
        "stages.1.downsample.1.weight": (16, 8, 2, 2),
        "stages.1.blocks.1.gamma": (16,),
        "stages.1.blocks.1.conv_dw.weight": (16, 1, 7, 7),
        "stages.1.blocks.1.mlp.fc2.weight": (16, 64),
        "head.norm.weight": (16,),
        "head.fc.bias": (3,),
    },
    "convnext-transformers": {
        "convnext.embeddings.patch_embeddings.weight": (8, 3, 4, 4),
        "convnext.embeddings.layernorm.weight": (8,),
        "convnext.encoder.stages.1.downsampling_layer.1.bias": (16,),
        "convnext.encoder.stages.1.layers.0.layer_scale_parameter": (16,),
        "convnext.encoder.stages.1.layers.0.dwconv.bias": (16,),
        "convnext.encoder.stages.1.layers.0.pwconv1.weight": (64, 16),
        "convnext.layernorm.bias": (16,),
        "classifier.bias": (3,),
    },
}


def random_source(kind):
    """A network of random arrays, as a configuration describes it."""
    described = describe(*CONFIGS[kind])
    graphdef, *states = nnx.split(described.network, nnx.Param, ...)
    rng = np.random.default_rng(0)
    trees = (
        jax.tree.map(
            lambda leaf: (0.3 + 0.1 * rng.normal(size=leaf.shape)).astype(np.float32),
            nnx.to_pure_dict(state),
        )
        for state in states
    )
    return Source(graphdef, *trees, described.preprocess, described.class_names), described


def write(folder, kind):
    """A checkpoint as its library would write it; its source."""
    source, described = random_source(kind)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = to_tensors(source, described.naming)
    tensors = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    save_file(tensors, folder / "model.safetensors")
    config, processor = CONFIGS[kind]
    (folder / "config.json").write_text(json.dumps(config))
    if processor:
        (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return source


def error_of(name, **options):
    """The one line that loading fails with."""
    with pytest.raises(ValueError, match=": ") as error:
        load_pretrained(name, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("kind", CONFIGS)
def test_what_is_written_in_a_librarys_names_is_read(kind, tmp_path):
    wanted = write(tmp_path, kind)
    found = load_pretrained(tmp_path)
    assert found.class_names == wanted.class_names
    assert found.preprocess.size == 16
    for a, b in ((found.params, wanted.params), (found.rest, wanted.rest)):
        assert jax.tree.structure(a) == jax.tree.structure(b)
        jax.tree.map(np.testing.assert_array_equal, a, b)
    tensors = load_file(tmp_path / "model.safetensors")
    assert {name: tensors[name].shape for name in PUBLISHED[kind]} == PUBLISHED[kind]


@pytest.mark.parametrize("kind", ["vit-timm", "vit-transformers"])
def test_queries_come_before_keys_before_values(kind, tmp_path):
    ours = np.asarray(write(tmp_path, kind).params["block1"]["qkv"]["kernel"])
    tensors = load_file(tmp_path / "model.safetensors")
    if kind == "vit-timm":
        np.testing.assert_array_equal(tensors["blocks.1.attn.qkv.weight"], ours.T)
        return
    for i, name in enumerate(("query", "key", "value")):
        theirs = tensors[f"vit.encoder.layer.1.attention.attention.{name}.weight"]
        np.testing.assert_array_equal(theirs, ours[:, 8 * i : 8 * (i + 1)].T)


@pytest.mark.parametrize(
    ("kind", "names"), [("vit-timm", "cat dog owl"), ("vit-transformers", "cat dog owl")]
)
def test_classes_have_their_names_in_the_order_of_the_logits(kind, names):
    assert describe(*CONFIGS[kind]).class_names == tuple(names.split())
    assert describe(*CONFIGS["resnet50-timm"]).class_names == ("0", "1", "2")


@pytest.mark.parametrize(
    "kind",
    [  # the training is the same, and compiled for each
        "resnet18-timm",
        pytest.param("vit-timm", marks=pytest.mark.slow),
        pytest.param("convnext-transformers", marks=pytest.mark.slow),
    ],
)
def test_a_pretrained_network_is_fine_tuned(kind, tmp_path):
    write(tmp_path, kind)
    source = load_pretrained(tmp_path)
    digits = load("digits")
    tasks = sample_tasks(KEY, digits, num_tasks=1, ways=2, shots=8, test_shots=4)
    result = fine_tune(KEY, source, digits, tasks, Recipe(epochs=1, batch_size=16))
    assert np.isfinite(result.train_loss).all()
    assert result.failed.tolist() == [0]


def test_missing_unexpected_and_misshapen_tensors_are_named(tmp_path):
    write(tmp_path, "vit-transformers")
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors["vit.encoder.layer.0.attention.attention.value.bias"]
    tensors["classifier.weight"] = np.zeros((1000, 8), np.float32)
    tensors["vit.pooler.dense.bias"] = np.zeros(8, np.float32)
    save_file(tensors, tmp_path / "model.safetensors")
    assert error_of(tmp_path).endswith(
        "differs: missing: vit.encoder.layer.0.attention.attention.value.bias; "
        "unexpected: vit.pooler.dense.bias; misshapen: classifier.weight [1000, 8] (wanted [3, 8])"
    )


@pytest.mark.parametrize("damage", ["empty", "truncated", "pickle", "bfloat16"])
def test_a_damaged_file_is_one_line(damage, tmp_path):
    write(tmp_path, "resnet18-timm")
    path = tmp_path / "model.safetensors"
    content = path.read_bytes()
    header = b'{"a":{"dtype":"F8_E8M0","shape":[1],"data_offsets":[0,1]}}'
    path.write_bytes(
        {
            "empty": b"",
            "truncated": content[: len(content) // 2],
            "pickle": b"\x80\x02}q\x00.",
            "bfloat16": len(header).to_bytes(8, "little") + header + b"\0",
        }[damage]
    )
    assert error_of(tmp_path).startswith("path: wanted ")


def test_pickles_are_refused_and_the_way_out_is_said(tmp_path):
    write(tmp_path, "resnet18-timm")
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    said = error_of(tmp_path)
    assert "name: wanted model.safetensors in" in said
    assert "got config.json, pytorch_model.bin (a pickle can run any code" in said
    assert "safetensors.torch.save_file(torch.load(PATH, weights_only=True)" in said
    assert "safetensors.torch.save_file" in error_of(tmp_path / "pytorch_model.bin")
    (tmp_path / "pytorch_model.bin").unlink()
    assert error_of(tmp_path).endswith("got config.json")


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("config.json", None, 'this is enough: {"architecture": "resnet18"'),
        ("config.json", "{", "config.json: damaged, or no JSON"),
        ("config.json", "[]", "wanted a JSON object, got list"),
        ("config.json", "{}", "wanted model_type (transformers) or architecture (timm)"),
        ("config.json", '{"architecture": "vgg16"}', "wanted resnet18, .*convnext_large; got 'vgg"),
        (
            "config.json",
            '{"model_type": "swin"}',
            "wanted one of resnet, vit, convnext, bert.*got 'swin",
        ),
        ("config.json", '{"model_type": "vit", "hidden_act": "relu"}', "wanted 'gelu' for vit"),
        ("config.json", '{"model_type": "vit", "image_size": 24, "patch_size": 7}', "multiples"),
        ("config.json", '{"model_type": "vit", "hidden_size": null}', "malformed"),
        ("config.json", '{"model_type": "vit", "patch_size": 0}', "malformed"),
        ("config.json", '{"model_type": "resnet", "depths": [1]}', "wanted one each for a stage"),
        (
            "config.json",
            '{"architecture": "resnet50", "model_args": {"stem_type": "deep"}}',
            "wanted any of layers, channels for resnet50, got stem_type",
        ),
        ("preprocessor_config.json", None, "preprocessor_config.json: wanted one beside"),
        ("preprocessor_config.json", '{"size": 32}', "images of 16×16.*got 32×32"),
        ("preprocessor_config.json", '{"resample": 0}', "resample among 1 (lanczos)"),
        ("preprocessor_config.json", '{"rescale_factor": 1}', "rescale_factor: wanted 1 / 255"),
        ("preprocessor_config.json", '{"size": {"shortest_edge": 16}}', "size: wanted height and"),
    ],
)
def test_a_configuration_that_is_not_built_here(file, content, message, tmp_path):
    write(tmp_path, "vit-transformers")
    (tmp_path / file).unlink() if content is None else (tmp_path / file).write_text(content)
    said = error_of(tmp_path)
    assert all(part in said for part in message.split(".*")), said


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """The hub's cache on this machine, which holds one network; the network is off."""
    constants = pytest.importorskip("huggingface_hub.constants", reason="needs leepjax[hub]")
    cache = tmp_path / "hub"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    repository = cache / "models--some--net"
    write(repository / "snapshots" / COMMIT, "resnet18-timm")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    return repository


@pytest.mark.parametrize("name", ["some/net", "some/net@main", f"some/net@{COMMIT}"])
def test_what_is_cached_needs_no_network(name, hub):
    found = find_checkpoint(name)
    assert found.commit == COMMIT
    source = load_pretrained(name)
    assert source.class_names == ("0", "1", "2")
    assert source.digest == load_pretrained(hub / "snapshots" / COMMIT).digest


def test_all_files_are_of_the_commit_that_the_first_was(hub, monkeypatch):
    import huggingface_hub

    asked = []
    fetch = huggingface_hub.hf_hub_download

    def recorded(repository, file, revision):
        asked.append((file, revision))
        return fetch(repository, file, revision=revision)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", recorded)
    find_checkpoint("some/net")
    assert asked == [
        ("config.json", None),
        ("preprocessor_config.json", COMMIT),
        ("model.safetensors", COMMIT),
    ]


def test_what_is_not_cached_says_what_was_tried_and_what_is_there(hub):
    said = error_of("other/net")
    assert "other/net@main is not in the cache, and asking the hub for it failed" in said
    assert said.endswith(f"cached in {hub.parent}: some/net@{COMMIT}")
    assert "some/net@v2 is not in the cache" in error_of("some/net", revision="v2")
    (hub / "snapshots" / COMMIT / "model.safetensors").unlink()
    assert "some/net@main is not in the cache" in error_of("some/net")


def test_without_a_cache_nothing_is_there(hub, monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "none"))
    assert error_of("some/net").endswith(f"cached in {tmp_path / 'none'}: nothing")


def test_a_hub_that_answers_no(hub, monkeypatch):
    errors = pytest.importorskip("huggingface_hub.errors")

    def absent(*args, **kwargs):
        raise errors.EntryNotFoundError("404 Client Error.\nmodel.safetensors is not there")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", absent)
    said = error_of("some/net")
    assert "wanted config.json and model.safetensors in 'some/net'" in said
    assert "safetensors.torch.save_file" in said


@pytest.mark.parametrize("name", ["nowhere", "./nowhere", "a/b/c", "some/net@", "a b/c", ""])
def test_names_that_are_none(name, hub, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path / "hub" / "models--some--net" / "refs")
    assert "wanted a folder that exists, or ORGANISATION/NAME" in error_of(name)


def test_two_revisions_or_one_of_a_folder(tmp_path, hub):
    assert "wanted one, got 'a' in the name and 'b'" in error_of("some/net@a", revision="b")
    assert "revision: wanted none for the folder" in error_of(tmp_path, revision="main")


def test_the_hub_needs_its_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert "pip install 'leepjax[hub]'" in error_of("some/net")


def test_seconds_of_a_forward_pass(tmp_path):
    write(tmp_path, "vit-timm")
    source, bank = load_pretrained(tmp_path), load("digits").test
    assert extract(source, bank, batch_size=16).logits.shape == (len(bank.labels), 3)
    assert 0 < forward_seconds(source, bank, batch_size=16) < 1


def test_size_and_licence_are_said_before_weights_are_fetched(hub, monkeypatch, caplog):
    import huggingface_hub

    folder = hub / "snapshots" / COMMIT
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").unlink()
    fetch = huggingface_hub.hf_hub_download

    def fetched(repository, file, revision):
        if file == "README.md":
            (folder / file).write_text(
                "---\nlanguage: en\nlicense: apache-2.0\n---\n# license: mit\n"
            )
        elif file == "model.safetensors":
            assert "licence apache-2.0; it is fetched now" in caplog.messages[-1]
            (folder / file).write_bytes(weights)
        return fetch(repository, file, revision=revision)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fetched)
    find_checkpoint("hf:some/net")
    assert "some/net: timm resnet18.tv_in1k, " in caplog.messages[-1]
    assert " parameters, " in caplog.messages[-1]
    find_checkpoint("some/net")
    assert len(caplog.messages) == 1  # what is there is not fetched
