"""Pre-trained networks by name: from the Hugging Face hub, its cache on this machine, or a folder.

A checkpoint is ``config.json`` and ``model.safetensors``; of transformers ``preprocessor_config
.json`` too, or of a language model ``tokenizer.json``. A pickle (``.bin``, ``.pt``) can run any
code when it is opened: it is refused.
"""

import contextlib
import json
import os
import re
from pathlib import Path
from typing import Any, NamedTuple

from leepjax._progress import say
from leepjax.models.configuration import describe
from leepjax.models.description import NotBuilt, about_size
from leepjax.models.languages import FAMILIES
from leepjax.models.source import Source, make_source
from leepjax.models.tensors import fill, has_head, read_tensors
from leepjax.models.tokens import BESIDE, TOKENIZER, read_tokenizer
from leepjax.models.torch_encoder import TorchEncoder, has_torch, read_by_torch

WEIGHTS = "model.safetensors"
_CONFIG, _PROCESSOR = "config.json", "preprocessor_config.json"
_CARD = "README.md"
_INDEX = f"{WEIGHTS}.index.json"
_OF_NO_HEAD = r"(pooler\.dense\.(weight|bias)|mask_token)$"  # of images, beside the features
_OLD_NAMES = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}
_TORCH = "pip install 'leepjax[torch]'"
_DEPTHS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")  # as transformers calls it
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_CONVERT = (
    "a pickle can run any code, so none is opened; where it is trusted: "
    f"safetensors.torch.save_file(torch.load(PATH, weights_only=True), '{WEIGHTS}')"
)


class Checkpoint(NamedTuple):
    """Where the files of a checkpoint lie.

    Attributes:
      folder: with ``config.json`` and ``model.safetensors``.
      commit: the hub's hash of this version, 40 hex digits; None of a folder of one's own.
    """

    folder: Path
    commit: str | None


def load_pretrained(
    name: str | os.PathLike[str], revision: str | None = None, *, pooling: str | None = None
) -> Source:
    """A pre-trained network, by its name on the Hugging Face hub or from a folder.

    ResNet-18 to 152 (timm's and torchvision's names, or transformers'), ViT and ConvNeXt (timm's or
    transformers'), with the preprocessing that the checkpoint's configuration asks for; and, of
    language models, BERT, RoBERTa (XLM-RoBERTa, CamemBERT), DistilBERT, ELECTRA and MiniLM.

    Args:
      name: ``ORGANISATION/NAME`` or ``ORGANISATION/NAME@REVISION``, ``hf:`` before it or not, which
        needs ``leepjax[hub]`` and is kept in the hub's own cache (``HF_HOME``); or a folder with
        ``config.json``, ``model.safetensors`` (or its parts and their index) and, of transformers,
        ``preprocessor_config.json`` or ``tokenizer.json``. For torchvision's ResNets
        ``{"architecture": "resnet18", "interpolation": "bilinear"}`` is enough of a
        configuration (of its V2 weights with ``"crop_pct": 0.9655``).
      revision: branch, tag or commit; default the newest. Only a commit stays what it is.
      pooling: of a language model, from the states of tokens to features: their ``"mean"``, the
        ``"first"`` (``"cls"`` here) or the ``"last"``. Then a classifier is left out. Default what
        the classifier is fed; without one what sentence-transformers' files beside it say, or the
        mean.

    Returns:
      A source; its features are what the library feeds to its head. Without a head among the
      tensors (timm's ``num_classes=0``, as of DINO and MAE; transformers' ``ViTModel``) it has no
      classes, and logits of no columns.

    Raises:
      ValueError: no such checkpoint, here or on the hub (the message says what was tried and what
        is cached); an architecture that is not built here; a file that is missing, damaged or a
        pickle; tensors that are missing, unexpected or misshapen. It is one line.
    """
    return read_checkpoint(find_checkpoint(name, revision), pooling=pooling)


def find_checkpoint(name: str | os.PathLike[str], revision: str | None = None) -> Checkpoint:
    """Where the files of :func:`load_pretrained` lie, fetched if need be."""
    text = os.fspath(name).removeprefix("hf:")
    folder = Path(text)
    if text and folder.is_dir():
        if revision is not None:
            raise ValueError(f"revision: wanted none for the folder {text!r}, got {revision!r}")
        return Checkpoint(folder, None)
    if folder.suffix in _PICKLES:
        raise ValueError(f"name: wanted a folder or a name of the hub, got {text!r}: {_CONVERT}")
    if folder.is_file():
        raise ValueError(f"name: wanted the folder that {text!r} lies in, with {_CONFIG} beside it")
    repository, at, inside = text.partition("@")
    if at and revision is not None:
        raise ValueError(f"revision: wanted one, got {inside!r} in the name and {revision!r}")
    if not re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", repository) or (at and not inside):
        raise ValueError(
            "name: wanted a folder that exists, or ORGANISATION/NAME or ORGANISATION/NAME@REVISION "
            f"of the hub, got {text!r}"
        )
    return _from_hub(repository, inside or revision)


def load_encoder(
    name: str | os.PathLike[str], revision: str | None = None, *, pooling: str | None = None
) -> Source | TorchEncoder:
    """What :func:`load_pretrained` loads; what is not built here runs through PyTorch.

    Arguments and errors are those of :func:`load_pretrained`. The extra ``leepjax[torch]`` loads
    whatever timm and transformers know, from safetensors, for ``extract`` and ``rank``.
    """
    return read_encoder(find_checkpoint(name, revision), pooling=pooling)


def read_encoder(checkpoint: Checkpoint, *, pooling: str | None = None) -> Source | TorchEncoder:
    """The network of a checkpoint's files, as of :func:`load_encoder`."""
    try:
        return read_checkpoint(checkpoint, pooling=pooling)
    except NotBuilt as error:
        if not has_torch():
            raise ValueError(f"{error}; others run through PyTorch: {_TORCH}") from None
        folder = checkpoint.folder
        config = _read_json(folder / _CONFIG) or {}
        beside = _beside(folder, config, pooling)
        return read_by_torch(config, beside, folder, _found_weights(folder))


def read_checkpoint(checkpoint: Checkpoint, *, pooling: str | None = None) -> Source:
    """The network of a checkpoint's files; errors are those of :func:`load_pretrained`."""
    folder = checkpoint.folder
    config = _read_json(folder / _CONFIG)
    if config is None:
        raise ValueError(
            f"name: wanted {_CONFIG}, with the architecture, in {str(folder)!r}, got "
            f"{_listed(folder)}; for torchvision's this is enough: "
            '{"architecture": "resnet18", "interpolation": "bilinear"}'
        )
    processor = _beside(folder, config, pooling)
    described = describe(config, processor)
    path, files = folder / WEIGHTS, _found_weights(folder)
    tensors = {name: x for file in files for name, x in read_tensors(file).items()}
    for old, new in _OLD_NAMES.items():  # of files converted from TensorFlow
        tensors = {re.sub(f"{re.escape(old)}$", new, name): x for name, x in tensors.items()}
    ignored = described.ignored
    if not has_head(tensors, described.naming) and (described.class_names or not ignored):
        say(f"{path}: the network has no head, so there are features and no logits")
        described = describe(config, processor, has_head=False)
        ignored = described.ignored or _OF_NO_HEAD
    if ignored:
        tensors = {k: x for k, x in tensors.items() if not re.search(ignored, k)}
    network = fill(
        described.network,
        tensors,
        described.naming,
        path=path,
        wanted=described.what,
    )
    try:
        return make_source(network, described.preprocess, described.class_names)
    except TypeError as error:
        said = _line(error)
        raise ValueError(f"{_CONFIG}: malformed, the network cannot be run ({said})") from None


def count_layers(name: str | os.PathLike[str]) -> int | None:
    """How many layers of a language model have states, the embeddings among them.

    By its configuration alone; None of another network, or of a checkpoint that cannot be read.
    """
    try:
        folder = find_checkpoint(name).folder
        config = _read_json(folder / _CONFIG) or {}
        beside = _beside(folder, config) or {}
        try:
            network: Any = describe(config, beside).network
        except NotBuilt:
            depths = [config[key] for key in _DEPTHS if isinstance(config.get(key), int)]
            return depths[0] + 1 if depths and "tokenizer" in beside and has_torch() else None
    except ValueError:  # what is wrong is said when it is loaded
        return None
    return network.depth + 1 if hasattr(network, "layers") else None


def _beside(folder: Path, config: Any, pooling: str | None = None) -> dict[str, Any] | None:
    """What else a configuration needs: how images are fed, or how texts are."""
    processor = _read_json(folder / _PROCESSOR)
    if processor is None and (_reads_texts(config) or (folder / TOKENIZER).is_file()):
        return read_tokenizer(folder) | {"pooling": pooling}
    if pooling is not None:
        raise ValueError(f"pooling: wanted none, which is for language models, got {pooling!r}")
    return processor


def _reads_texts(config: Any) -> bool:
    return config.get("model_type") in FAMILIES or "vocab_size" in config


def _found_weights(folder: Path) -> list[Path]:
    files = _weight_files(folder)
    if not files:
        pickles = sorted(p.name for p in folder.iterdir() if p.suffix in _PICKLES)
        hint = f" ({_CONVERT})" if pickles else ""
        raise ValueError(f"name: wanted {WEIGHTS} in {str(folder)!r}, got {_listed(folder)}{hint}")
    return files


def _weight_files(folder: Path) -> list[Path]:
    """The file of all tensors, or those among which they are divided; none, where neither is."""
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    index = _read_json(folder / _INDEX)
    if index is None:
        return []
    try:
        names = sorted(set(index["weight_map"].values()))
        if any(Path(name).name != name for name in names):
            raise ValueError("a file in another folder")
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(
            f"{folder / _INDEX}: malformed ({type(error).__name__}: {error})"
        ) from None
    return [folder / name for name in names]


def _from_hub(repository: str, revision: str | None) -> Checkpoint:
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
    except ImportError:
        raise ValueError(
            f"name: there is no folder {repository!r}, and the hub needs huggingface_hub: "
            "pip install 'leepjax[hub]'"
        ) from None

    def fetch(file: str, revision: str | None) -> Path:
        return Path(hf_hub_download(repository, file, revision=revision))

    try:
        folder = fetch(_CONFIG, revision).parent
        commit = folder.name  # the cache has a folder for each; the rest is of the same one
        config = _read_json(folder / _CONFIG) or {}
        for file in (TOKENIZER, *BESIDE) if _reads_texts(config) else (_PROCESSOR,):
            try:
                fetch(file, commit)
            except LocalEntryNotFoundError:
                if "model_type" in config and file not in BESIDE:
                    raise
            except EntryNotFoundError:  # timm has none
                pass
        try:
            size = about_size(describe(config, _beside(folder, config)))
        except NotBuilt:
            if not has_torch():
                raise
            size = "run by PyTorch"
        if not any((folder / file).exists() for file in (WEIGHTS, _INDEX)):
            with contextlib.suppress(Exception):  # many have none, and it is about the model alone
                fetch(_CARD, commit)
            say(f"{repository}: {size}; licence {_licence(folder, config)}; it is fetched now")
        try:  # large: only if what they are of can be built
            fetch(WEIGHTS, commit)
        except EntryNotFoundError as error:
            try:
                fetch(_INDEX, commit)
            except EntryNotFoundError:
                raise error from None
            for file in _weight_files(folder):
                fetch(file.name, commit)
    except EntryNotFoundError as error:
        if not isinstance(error, LocalEntryNotFoundError):
            raise ValueError(
                f"name: wanted {_CONFIG} and {WEIGHTS} in {repository!r} on the hub, but one is "
                f"not there ({_line(error)}); {_CONVERT}"
            ) from None
        raise ValueError(_unreachable(repository, revision, error)) from None
    except ValueError:
        raise
    except Exception as error:  # it passes on whatever the network raises
        raise ValueError(_unreachable(repository, revision, error)) from None
    return Checkpoint(folder, commit)


def _licence(folder: Path, config: Any) -> str:
    """As timm's configuration or the model's card says."""
    said = (config.get("pretrained_cfg") or {}).get("license")
    card = folder / _CARD
    if not said and card.is_file():
        front = card.read_text(encoding="utf-8", errors="replace").partition("\n---")[0]
        match = re.search(r"^license:\s*['\"]?([\w.+-]+)", front, re.M)
        said = match and match[1]
    return said or "not said"


def _unreachable(repository: str, revision: str | None, error: Exception) -> str:
    from huggingface_hub import constants, scan_cache_dir

    try:
        cached = sorted(
            f"{repo.repo_id}@{version.commit_hash}"
            for repo in scan_cache_dir(constants.HF_HUB_CACHE).repos
            for version in repo.revisions
            if repo.repo_type == "model"
        )
    except Exception:  # there is no cache yet
        cached = []
    return (
        f"name: {repository}@{revision or 'main'} is not in the cache, and asking the hub for it "
        f"failed ({_line(error.__cause__ or error)}); cached in {constants.HF_HUB_CACHE}: "
        f"{', '.join(cached) or 'nothing'}"
    )


def _read_json(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path}: damaged, or no JSON ({error})") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path}: wanted a JSON object, got {type(content).__name__}")
    return content


def _listed(folder: Path) -> str:
    return ", ".join(sorted(p.name for p in folder.iterdir())) or "an empty folder"


def _line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
