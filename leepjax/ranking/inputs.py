"""What a ranking is given: sources in any of their forms, labels, facts. Checked and read."""

import os
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from leepjax._names import normal, without_partner
from leepjax.data import Bank, TextBank
from leepjax.evaluation.study import NULLS
from leepjax.metrics import METRICS, metrics_of
from leepjax.ranking.files import ARRAYS, FACTS, read_array, read_labels, read_source
from leepjax.ranking.targets import as_labels

if TYPE_CHECKING:
    from leepjax.models import Outputs, Source, TorchEncoder

_Path = str | os.PathLike[str]
_Network: TypeAlias = "Source | TorchEncoder"
_Source: TypeAlias = "_Network | Outputs | Mapping[str, Any] | _Path | Callable[[], Any]"
Sources = Mapping[str, _Source] | Sequence[_Path]
Facts = Mapping[str, Mapping[str, float]]


def by_name(sources: Any) -> dict[str, Any]:
    """Sources by name; paths name themselves."""
    if isinstance(sources, Mapping):
        names = [normal(str(name)) for name in sources]
        named = dict(zip(names, sources.values(), strict=True))
    else:
        paths = [sources] if isinstance(sources, str | os.PathLike) else list(sources)
        for path in paths:
            if not isinstance(path, str | os.PathLike):
                raise ValueError(f"sources: wanted paths, or names of sources; got {type(path)}")
        stems = Counter(Path(path).stem for path in paths)
        names = [normal(Path(p).stem if stems[Path(p).stem] == 1 else str(p)) for p in paths]
        named = dict(zip(names, paths, strict=True))
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        raise ValueError(f"sources: wanted each name once, got {twice[0]!r} twice")
    if not named:
        raise ValueError("sources: wanted at least one, got none")
    return named


def check_metrics(**arguments: str | Sequence[str]) -> list[str]:
    """Names of scores, by argument, in their order, each once; ``"all"``: all but nulls."""
    every, known = metrics_of("features", "logits", "labels", "key"), [*METRICS]
    asked: list[str] = []
    for argument, group in arguments.items():
        names = [group] if isinstance(group, str) else [*group]
        names = [n for n in every if n not in NULLS] if names == ["all"] else names
        for name in names:
            if name not in known:
                raise ValueError(f"{argument}: wanted names among {', '.join(known)}; got {name!r}")
        asked += names
    return list(dict.fromkeys(asked))


def check_facts(facts: Facts, sources: Mapping[str, Any]) -> Facts:
    """Finite numbers of known names, of known sources."""
    unknown = without_partner(map(normal, facts), sources)
    if unknown:
        raise ValueError(f"facts: wanted names of sources, got {unknown}")
    checked: dict[str, Mapping[str, float]] = {}
    for name, of_source in facts.items():
        for fact, value in of_source.items():
            x = np.asarray(value)
            if fact not in FACTS or x.ndim or x.dtype.kind not in "iuf" or not np.isfinite(x):
                wanted = f"numbers named {', '.join(FACTS)}"
                raise ValueError(f"facts: wanted {wanted}; got {fact}: {value!r:.40} of {name!r}")
        if checked.setdefault(normal(name), of_source) != of_source:
            raise ValueError(f"facts: wanted each source once, got {name!r} twice")
    return checked


def join_facts(own: Mapping[str, float], given: Mapping[str, float]) -> dict[str, float]:
    """The facts that come with a source and those given beside it: of both, they agree."""
    for fact in own.keys() & given.keys():
        if own[fact] != given[fact] and fact != "seconds":  # measured anew: those given count
            raise ValueError(
                f"{fact}: wanted one value, got {own[fact]:g} with the source and {given[fact]:g} "
                "in facts"
            )
    return {**own, **given}


def find_labels(labels: Any, sources: Mapping[str, Any]) -> Any:
    """Labels as given, from a file, or those that come with a source."""
    if isinstance(labels, Bank | TextBank):
        return labels.labels
    if isinstance(labels, str | os.PathLike):
        found = read_labels(labels)
        if found is None:
            raise ValueError(f"labels: wanted an array named labels in {labels}, got none")
        return found
    if labels is not None:
        return labels
    refused = None
    for source in sources.values():
        found = source.get("labels") if isinstance(source, Mapping) else None
        try:
            if isinstance(source, str | os.PathLike):
                found = read_labels(source)
            if found is not None:
                return as_labels(found)
        except Exception as error:  # the source will be among the failures
            refused = refused or error
    if isinstance(refused, ValueError):
        raise refused
    raise ValueError("labels: wanted some, as no source comes with an array named labels; got none")


def find_groups(groups: Any) -> Any:
    """Groups as given, or from a ``.npy`` file."""
    return read_array(groups) if isinstance(groups, str | os.PathLike) else groups


def load(source: Any) -> Any:
    """A source as :func:`arrays_of` takes it: a file or network is read, a function called."""
    if isinstance(source, str | os.PathLike):
        return read_source(source)
    if hasattr(source, "open_network"):  # networks.Pretrained
        return source.open_network()
    if callable(source):
        return load(source())
    return source


def arrays_of(source: Any, bank: Any) -> dict[str, Any]:
    """The arrays of one source, by name, and the numbers and labels that come with them."""
    if hasattr(source, "of_bank"):  # networks.Opened
        return source.of_bank(bank)
    if is_of("Source", source) or is_of("TorchEncoder", source):
        from leepjax.models import extract, forward_seconds

        if not isinstance(bank, Bank | TextBank):
            raise ValueError(f"wanted labels to be the Bank it runs over, got {type(bank)}")
        batch = batch_of(source)
        return {
            **by_array(extract(source, bank, batch_size=batch)),
            "parameters": source.num_parameters,
            "seconds": forward_seconds(source, bank, batch_size=batch),
        }
    if is_of("Outputs", source):
        return by_array(source)
    if isinstance(source, Mapping):
        unknown = [name for name in source if name not in (*ARRAYS, *FACTS, "labels")]
        if unknown or not source.keys() & set(ARRAYS):
            raise ValueError(
                f"wanted any of {', '.join(ARRAYS)}, got {', '.join(map(str, source))}"
            )
        return dict(source)
    raise ValueError(f"wanted Outputs, a Source, arrays by name or a path, got {type(source)}")


def is_of(kind: str, source: Any) -> bool:
    """Whether a source is of a class of ``leepjax.models``.

    Where there is one, that package is imported; files alone do not need flax.
    """
    models = sys.modules.get("leepjax.models")
    return models is not None and isinstance(source, getattr(models, kind))


def batch_of(network: Any) -> int:
    """Images at once: 32 of ImageNet's size, of smaller ones as many as have no more pixels.

    Of language models 256 texts of 16 tokens, or as many tokens of longer ones.
    """
    size = getattr(network.preprocess, "size", None)
    return 256 if size is None else min(max(32, 32 * 224**2 // size**2), 512)


def by_array(outputs: "Outputs") -> dict[str, Any]:
    """Features and logits by name; a network without a head has no logits."""
    arrays = {name: x for name, x in outputs._asdict().items() if x is not None}
    if getattr(outputs.logits, "shape", (1,))[-1] == 0:
        del arrays["logits"]
    return arrays


def check_same(labels: Any, given: np.ndarray) -> None:
    """Labels that come with a source are those given, in their order."""
    labels = np.asarray(labels)
    if labels.dtype.kind not in "biuf":
        got = f"dtype {labels.dtype}" + (", text" if labels.dtype.kind in "US" else "")
        raise ValueError(f"labels: wanted integers as given, got {got}")
    if labels.shape != given.shape:
        raise ValueError(f"labels: wanted the {len(given)} given, got shape {list(labels.shape)}")
    same = np.isclose(labels, given, 1e-5, 0) if given.dtype.kind == "f" else labels == given
    if not same.all():
        at = tuple(np.argwhere(~same)[0])
        raise ValueError(
            f"labels: wanted those given, in their order; at sample {', '.join(map(str, at))} the "
            f"source has {labels[at]}, not {given[at]}"
        )


def facts_among(arrays: dict[str, Any]) -> dict[str, float]:
    """The numbers among a source's arrays."""
    facts = {}
    for name in FACTS:
        if name in arrays:
            value = np.asarray(arrays[name])
            if value.size != 1 or value.dtype.kind not in "iuf":
                got = f"{arrays[name]!r:.40} of " if value.size == 1 else ""
                raise ValueError(
                    f"{name}: wanted one number, got {got}dtype {value.dtype}, shape "
                    f"{list(value.shape)}"
                )
            facts[name] = float(value.reshape(()))
    return facts
