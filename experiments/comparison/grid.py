"""The settings of a comparison: which transfers its rows are, and what each of them needs.

A setting is an experiment of this folder with its configuration. A grid names settings in the order
in which they run. The needs of a setting can be looked up without loading or training anything.
"""

import dataclasses
import shlex
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from experiments import meta_transfer, transfer_accuracy
from experiments.command import StudyConfig
from leepjax.data import check_prepared
from leepjax.models import NETWORKS

_COMMON = {field.name for field in dataclasses.fields(StudyConfig)}
_WHERE = _COMMON - {"seed"}  # where a setting runs, not what comes out of it


# Notes on a grid, for its plan and its page.
NOTES = {
    "leep2020": "The article's kinds of transfer, sources and targets. It counts 23 settings; this "
    "cross product is ours, and so are the numbers of classes, images and steps.",
}


class Setting(NamedTuple):
    """A name, and the experiment and configuration it stands for."""

    name: str
    experiment: ModuleType
    config: Any


class Problem(NamedTuple):
    """Something that a setting needs and that is missing: its name, and what to do about it."""

    what: str
    why: str


def command(setting: Setting) -> str:
    """The command line that runs a setting alone."""
    words = [f"python -m {setting.experiment.__name__}"]
    # An experiment's own flags first: a comparison is known by these words.
    for field in sorted(dataclasses.fields(setting.config), key=lambda f: f.name in _COMMON):
        value = getattr(setting.config, field.name)
        if field.name in _WHERE or value == field.default:
            continue
        flag = field.name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            words += [f"--{flag}", *map(str, value if isinstance(value, tuple) else [value])]
    return " ".join([words[0], shlex.join(words[1:])])


def identity(settings: Sequence[Setting]) -> dict[str, str]:
    """The identity of a grid, wherever its weights are: the command of each setting."""

    def anywhere(setting: Setting) -> Setting:
        weights = getattr(setting.config, "source_weights", None)
        if weights is None:
            return setting
        bare = dataclasses.replace(setting.config, source_weights=Path(weights.name))
        return setting._replace(config=bare)

    return {setting.name: command(anywhere(setting)) for setting in settings}


def missing(setting: Setting, data_dir: Path | None) -> list[Problem]:
    """Why a setting cannot run, as far as this is known without reading data."""
    config, found = setting.config, []
    weights = getattr(config, "source_weights", None)
    names = [config.target_data] if weights else [config.source_data, config.target_data]
    for name in dict.fromkeys(names):
        try:
            check_prepared(name, data_dir=data_dir)
        except ValueError as error:
            found.append(Problem(f"data set {name}", str(error).removeprefix("name: ")))
    if weights is not None and not weights.is_file():
        why = f"{weights} is not there; name its folder with --weights-dir"
        found.append(Problem(f"weights {weights.name}", why))
    if config.source_model not in NETWORKS:
        why = f"{config.source_model} is not among {', '.join(NETWORKS)}"
        found.append(Problem(f"network {config.source_model}", why))
    return found


def _transfer(name: str, **options: Any) -> Setting:
    return Setting(name, transfer_accuracy, transfer_accuracy.Config(**options))


def _meta(name: str, **options: Any) -> Setting:
    return Setting(name, meta_transfer, meta_transfer.Config(**options))


def glyphs(weights_dir: Path, seed: int) -> list[Setting]:
    """Embedded data: three sources of scripts, retrained heads; fine-tuning and meta-transfer."""
    settings = []
    sources = ("latin+greek+cyrillic", "georgian+armenian+hebrew", "syllabics+braille")
    for source, regime in product(sources, ("small", "imbalanced")):
        options = {"source_data": f"glyphs:{source}", "regime": regime, "seed": seed}
        options["target_data"] = f"glyphs:-{source.replace('+', '-')}"
        settings.append(_transfer(f"{source.split('+')[0]}-{regime}-head", **options))
    settings.append(_transfer("latin-small-tuned", learner="fine_tune", seed=seed))
    settings.append(_meta("latin-meta", seed=seed))
    return settings


def smoke(weights_dir: Path, seed: int) -> list[Setting]:
    """Two tiny settings of embedded data: a minute; the results mean nothing."""
    return [
        _transfer("small-head", seed=seed, **transfer_accuracy.PRESETS["smoke"]),
        _meta("meta", seed=seed, **meta_transfer.PRESETS["smoke"]),
    ]


def real(weights_dir: Path, seed: int) -> list[Setting]:
    """CIFAR-10 ResNets and a Glyphs Conv4 to Fashion-MNIST and Omniglot; fine-tuning; meta."""
    sources = {
        f"resnet{depth}": {
            "source_model": f"resnet{depth}",
            "source_weights": weights_dir / f"cifar10_resnet{depth}.safetensors",
        }
        for depth in (20, 32, 56)
    } | {"glyphs": {}}
    fashion = {"target_data": "fashion_mnist", "seed": seed}
    # 14 of Omniglot's 20 images of a character are for training: all of them.
    omniglot = {"target_data": "omniglot:small2", "regime": "small", "shots": (14,), "seed": seed}
    few = {"num_tasks": 100, "test_shots": 50, "learner": "fine_tune"}
    many = {"regime": "subsets", "num_tasks": 100, "shots": (500,)}
    settings = []
    for regime, source in product(("small", "imbalanced"), sources):
        options = {**sources[source], **fashion, "regime": regime}
        settings.append(_transfer(f"{source}-fashion-{regime}-head", **options))
    for source in sources:
        settings.append(_transfer(f"{source}-omniglot-small-head", **sources[source], **omniglot))
    for source in sources:
        options = {**sources[source], **fashion, **many}
        settings.append(_transfer(f"{source}-fashion-subsets-head", **options))
    for regime in ("small", "imbalanced"):
        options = {**sources["resnet20"], **fashion, **few, "regime": regime}
        settings.append(_transfer(f"resnet20-fashion-{regime}-tuned", **options))
    options = {"source_data": "omniglot:small1", "target_data": "omniglot:small2", "seed": seed}
    settings.append(_meta("omniglot-meta", **options))
    return settings


def leep2020(weights_dir: Path, seed: int) -> list[Setting]:
    """The article's sources, targets and kinds of transfer; the cross product is ours."""
    sources = {"imagenet": "resnet18", "cifar10": "resnet20"}
    targets = {"cifar100": (2, 100), "fashion_mnist": (2, 10)}
    learners: dict[str, dict[str, Any]] = {
        "head": {"protocol": "sgd"},
        "tuned": {"learner": "fine_tune", "recipe": "leep2020"},
    }
    settings = []
    for learner, source, target in product(learners, sources, targets):
        for regime in ("subsets", "small", "imbalanced"):
            options = {
                "source_model": sources[source],
                "source_weights": weights_dir / f"{source}_{sources[source]}.safetensors",
                "target_data": target,
                "regime": regime,
                "ways": targets[target] if regime == "subsets" else (),
                "seed": seed,
                **learners[learner],
            }
            settings.append(_transfer(f"{source}-{target}-{regime}-{learner}", **options))
    options = {"source_data": "mini_imagenet", "target_data": "cifar100", "rotations": "no"}
    settings.append(_meta("mini_imagenet-cifar100-meta", algorithms=("mtl",), seed=seed, **options))
    return settings


GRIDS: dict[str, Callable[[Path, int], list[Setting]]] = {
    "glyphs": glyphs,
    "real": real,
    "leep2020": leep2020,
    "smoke": smoke,
}
