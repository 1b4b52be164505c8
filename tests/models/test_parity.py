"""Pre-trained networks beside the libraries that trained them, on tiny random checkpoints.

Each is written by the library itself, in its names; every parameter is drawn, so that a forgotten
one shows. Needs the extra ``parity``; each test skips where its library is absent.
"""

import json

import jax
import numpy as np
import pytest
from PIL import Image

from leepjax.models import apply, load_pretrained
from leepjax.models.configuration import describe
from leepjax.models.tensors import fill

torch = pytest.importorskip("torch", reason="needs PyTorch: pip install 'leepjax[parity]'")


def need(name):
    return pytest.importorskip(name, reason=f"needs {name}: pip install 'leepjax[parity]'")


def randomise(model):
    """Every parameter and running average, at scales that keep activations near 1."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if name.endswith("num_batches_tracked"):
                continue
            drawn = torch.randn(tensor.shape, generator=generator)
            if name.endswith("running_var"):
                tensor.copy_(0.5 + drawn.abs())
            elif tensor.ndim in (2, 4):
                tensor.copy_(drawn * (1.5 / tensor[0].numel()) ** 0.5)
            elif name.endswith("weight"):
                tensor.copy_(1 + 0.3 * drawn)
            else:
                tensor.copy_(0.5 * drawn)
    return model.eval()


def from_timm(folder, architecture, size, **arguments):
    timm, safetensors = need("timm"), need("safetensors.torch")
    model = randomise(timm.create_model(architecture, num_classes=7, **arguments))
    safetensors.save_file(model.state_dict(), folder / "model.safetensors")
    about = {"input_size": [3, size, size]}
    config = {"architecture": architecture, "num_classes": 7, "model_args": arguments}
    (folder / "config.json").write_text(json.dumps(config | {"pretrained_cfg": about}))
    return lambda x: [
        model.forward_head(model.forward_features(x), pre_logits=True).flatten(1),
        model(x),
    ]


def from_torchvision(folder, architecture, block, layers):
    resnet, safetensors = need("torchvision.models.resnet"), need("safetensors.torch")
    model = randomise(resnet.ResNet(getattr(resnet, block), layers, num_classes=7))
    safetensors.save_file(model.state_dict(), folder / "model.safetensors")
    config = {"architecture": architecture, "num_classes": 7, "model_args": {"layers": layers}}
    about = {"input_size": [3, 64, 64]}
    (folder / "config.json").write_text(json.dumps(config | {"pretrained_cfg": about}))
    features = []
    model.fc.register_forward_hook(lambda _, inputs, output: features.append(inputs[0]))
    return lambda x: (model(x), features.pop())[::-1]


def from_transformers(folder, kind, size, **options):
    transformers = need("transformers")
    config = getattr(transformers, f"{kind}Config")(num_labels=7, **options)
    model = randomise(getattr(transformers, f"{kind}ForImageClassification")(config))
    model.save_pretrained(folder)
    processor = {"ViT": "ViTImageProcessor"}.get(kind, "ConvNextImageProcessor")
    sizes = {"height": size, "width": size} if kind == "ViT" else {"shortest_edge": size}
    said = {"image_processor_type": processor, "size": sizes}
    (folder / "preprocessor_config.json").write_text(json.dumps(said))
    head = model.classifier[-1] if kind == "ResNet" else model.classifier
    features = []
    head.register_forward_hook(lambda _, inputs, output: features.append(inputs[0]))
    return lambda x: (model(x).logits, features.pop())[::-1]


VIT = {"embed_dim": 32, "depth": 2, "num_heads": 4, "img_size": 32, "patch_size": 8}
CONVNEXT = {"depths": [1, 1, 2, 1], "dims": [8, 16, 24, 32]}
VIT_OPTIONS = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "image_size": 32,
    "patch_size": 8,
    "layer_norm_eps": 0.1,  # so that it shows
}
RESNET_OPTIONS = {"embedding_size": 8, "hidden_sizes": [16, 32], "depths": [2, 1]}

CHECKPOINTS = {
    "resnet18-timm": lambda folder: from_timm(
        folder, "resnet18", 32, layers=[1, 2, 1, 1], channels=[8, 16, 16, 24]
    ),
    "resnet50-timm": lambda folder: from_timm(
        folder, "resnet50", 32, layers=[2, 1, 1, 1], channels=[8, 16, 16, 24]
    ),
    "resnet18-torchvision": lambda folder: from_torchvision(
        folder, "resnet18", "BasicBlock", [1, 1, 1, 1]
    ),
    "resnet50-torchvision": lambda folder: from_torchvision(
        folder, "resnet50", "Bottleneck", [1, 1, 1, 1]
    ),
    "resnet-basic-transformers": lambda folder: from_transformers(
        folder, "ResNet", 32, layer_type="basic", **RESNET_OPTIONS
    ),
    "resnet-bottleneck-transformers": lambda folder: from_transformers(
        folder, "ResNet", 32, **RESNET_OPTIONS
    ),
    "resnet-v1-transformers": lambda folder: from_transformers(
        folder, "ResNet", 32, downsample_in_bottleneck=True, **RESNET_OPTIONS
    ),
    "vit-timm": lambda folder: from_timm(folder, "vit_small_patch16_224.augreg_in1k", 32, **VIT),
    "vit-timm-no-bias": lambda folder: from_timm(
        folder, "vit_base_patch16_224", 32, qkv_bias=False, mlp_ratio=3, **VIT
    ),
    "vit-transformers": lambda folder: from_transformers(folder, "ViT", 32, **VIT_OPTIONS),
    "convnext-timm": lambda folder: from_timm(folder, "convnext_tiny", 64, **CONVNEXT),
    "convnext-transformers": lambda folder: from_transformers(
        folder,
        "ConvNext",
        32,
        **{"num_stages": 2, "hidden_sizes": [8, 16], "depths": [1, 2], "layer_norm_eps": 0.1},
    ),
}


@pytest.mark.parametrize("kind", CHECKPOINTS)
def test_features_and_logits_are_the_librarys(kind, tmp_path):
    reference = CHECKPOINTS[kind](tmp_path)
    source = load_pretrained(tmp_path)
    size = source.preprocess.size
    x = np.random.default_rng(0).normal(size=(3, size, size, 3)).astype(np.float32)
    ours, _ = jax.jit(apply, static_argnums=0)(source.graphdef, source.params, source.rest, x)
    with torch.no_grad():
        features, logits = reference(torch.from_numpy(x.transpose(0, 3, 1, 2)).contiguous())
    features, logits = features.flatten(1).numpy(), logits.numpy()
    assert features.std() > 0.1
    assert logits.std() > 0.1
    np.testing.assert_allclose(ours.features, features, atol=1e-4)
    np.testing.assert_allclose(ours.logits, logits, atol=1e-4)
    assert len(source.class_names) == 7


@pytest.mark.parametrize(
    "architecture",
    [
        *("resnet18", "resnet34", "resnet50", "convnext_tiny"),
        *("vit_small_patch16_224", "vit_base_patch8_224", "deit_tiny_patch16_224"),
        *(
            pytest.param(architecture, marks=pytest.mark.slow)
            for architecture in (
                *("resnet101", "resnet152", "vit_tiny_patch16_224", "vit_small_patch32_384"),
                *("vit_large_patch16_224", "deit_base_patch16_384"),
                *("convnext_small", "convnext_base", "convnext_large"),
            )
        ),
    ],
)
def test_every_architecture_has_timms_tensors(architecture):
    """The error about one tensor too many says of no other that it is missing or misshapen."""
    timm = need("timm")
    with torch.device("meta"):
        model = timm.create_model(architecture)
    tensors = {k: np.broadcast_to(np.float32(0), v.shape) for k, v in model.state_dict().items()}
    described = describe({"architecture": architecture})
    tensors["one.more"] = np.zeros(1)
    with pytest.raises(ValueError, match=r"differs: unexpected: one\.more$"):
        fill(described.network, tensors, described.naming, path="there", wanted="these")


def photographs():
    """Two, of 427×640 pixels, upright too, and tiny ones."""
    from sklearn.datasets import load_sample_images

    photos = np.stack(load_sample_images().images)
    return [photos, photos.transpose(0, 2, 1, 3)[:, :500], photos[:, 200:232, 300:332]]


def assert_same_pixels(preprocess, reference):
    """Within 2 of 255 levels everywhere, of which hardly any is met."""
    scale = 255 * np.array(preprocess.std)
    for images in photographs():
        off = np.abs(np.asarray(jax.jit(preprocess)(images)) - reference(images)) * scale
        assert off.max() < 2.01
        assert off.mean() < 0.01


@pytest.mark.parametrize("crop_pct", [0.875, 0.95])
@pytest.mark.parametrize("mode", ["center", "squash"])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_preprocessing_is_timms(interpolation, mode, crop_pct):
    data = need("timm.data")
    about = {"input_size": (3, 64, 64), "interpolation": interpolation, "crop_pct": crop_pct}
    about |= {"crop_mode": mode, "mean": (0.5, 0.4, 0.3), "std": (0.2, 0.3, 0.4)}
    transform = data.create_transform(**about)
    preprocess = describe({"architecture": "resnet18", "pretrained_cfg": about}).preprocess
    assert_same_pixels(
        preprocess,
        lambda images: np.stack(
            [np.asarray(transform(Image.fromarray(x))).transpose(1, 2, 0) for x in images]
        ),
    )


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("ViT", {"size": {"height": 64, "width": 64}}),
        ("ViT", {"size": {"height": 64, "width": 64}, "resample": 3, "do_normalize": False}),
        ("ConvNext", {"size": {"shortest_edge": 64}}),
        ("ConvNext", {"size": {"shortest_edge": 64}, "crop_pct": 0.95, "resample": 2}),
        ("ConvNext", {"size": {"shortest_edge": 384}, "image_mean": [0.1, 0.2, 0.3]}),
        ("DeiT", {"size": {"height": 72, "width": 72}, "crop_size": {"height": 64, "width": 64}}),
    ],
)
def test_preprocessing_is_that_of_transformers(kind, options, tmp_path):
    transformers = need("transformers")
    need("torchvision")
    processor = getattr(transformers, f"{kind}ImageProcessor")(**options)
    processor.save_pretrained(tmp_path)
    said = json.loads((tmp_path / "preprocessor_config.json").read_text())
    model = {"ConvNext": "convnext"}.get(kind, "resnet")
    assert_same_pixels(
        describe({"model_type": model}, said).preprocess,
        lambda images: np.transpose(
            processor(list(np.array(images)), return_tensors="np")["pixel_values"], (0, 2, 3, 1)
        ),
    )
