"""Pre-trained networks beside the libraries that trained them, on tiny random checkpoints.

Each is written by the library itself, in its names; every parameter is drawn, so that a forgotten
one shows. Needs the extra ``parity``; each test skips where its library is absent.
"""

import json

import jax
import numpy as np
import pytest

from leepjax.models import apply
from leepjax.models.hub import load_pretrained

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
        folder, "ConvNext", 32, num_stages=2, hidden_sizes=[8, 16], depths=[1, 2]
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
