"""Source models: Flax NNX networks, their training and import, and what they say about images."""

from leepjax.models.conv4 import Conv4
from leepjax.models.cut import cut
from leepjax.models.extraction import accuracy, extract
from leepjax.models.mlp import MLP
from leepjax.models.networks import NETWORKS, make_network
from leepjax.models.preprocess import Preprocess
from leepjax.models.pretrained import CIFAR10_CLASS_NAMES, load_resnet
from leepjax.models.resnet import ResNet
from leepjax.models.source import Outputs, Source, apply, make_source
from leepjax.models.train import TrainConfig, train_checkpoints, train_source

__all__ = [
    "CIFAR10_CLASS_NAMES",
    "MLP",
    "NETWORKS",
    "Conv4",
    "Outputs",
    "Preprocess",
    "ResNet",
    "Source",
    "TrainConfig",
    "accuracy",
    "apply",
    "cut",
    "extract",
    "load_resnet",
    "make_network",
    "make_source",
    "train_checkpoints",
    "train_source",
]
