"""Source models: networks, their training and import, and what they say about images and texts."""

from leepjax._extras import require

require("networks")

from leepjax.models._cut import cut
from leepjax.models.batch_norm import BatchNormMode
from leepjax.models.cifar_resnet import CIFAR10_CLASS_NAMES, load_resnet
from leepjax.models.conv4 import Conv4
from leepjax.models.extraction import (
    accuracy,
    extract,
    extract_layers,
    forward_seconds,
    has_layers,
)
from leepjax.models.hub import (
    Checkpoint,
    count_layers,
    find_checkpoint,
    load_encoder,
    load_pretrained,
    read_checkpoint,
    read_encoder,
)
from leepjax.models.mlp import MLP
from leepjax.models.networks import NETWORKS, make_network
from leepjax.models.preprocess import Preprocess, ResizeCrop
from leepjax.models.resnet import ResNet
from leepjax.models.source import Outputs, Source, apply, make_source
from leepjax.models.tokens import Tokens, tokenize
from leepjax.models.torch_encoder import TorchEncoder
from leepjax.models.train import SourceRecipe, train_checkpoints, train_source

__all__ = [
    "CIFAR10_CLASS_NAMES",
    "MLP",
    "NETWORKS",
    "BatchNormMode",
    "Checkpoint",
    "Conv4",
    "Outputs",
    "Preprocess",
    "ResNet",
    "ResizeCrop",
    "Source",
    "SourceRecipe",
    "Tokens",
    "TorchEncoder",
    "accuracy",
    "apply",
    "count_layers",
    "cut",
    "extract",
    "extract_layers",
    "find_checkpoint",
    "forward_seconds",
    "has_layers",
    "load_encoder",
    "load_pretrained",
    "load_resnet",
    "make_network",
    "make_source",
    "read_checkpoint",
    "read_encoder",
    "tokenize",
    "train_checkpoints",
    "train_source",
]
