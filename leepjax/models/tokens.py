"""Texts as tokens: a bank of bytes, four for each token, that networks are given like images.

So whatever takes a bank of images takes one of texts: tasks, heads, fine-tuning.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from leepjax._progress import progress, say
from leepjax.data import Bank, TextBank, check_bank

TOKENIZER = "tokenizer.json"
BESIDE = ("1_Pooling/config.json", "sentence_bert_config.json")  # of sentence-transformers
_POOLINGS = {  # what sentence-transformers calls them
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_lasttoken": "last",
}
_SHORTEST = 16  # tokens; lengths are this times a power of two
_PART = 1000  # texts tokenised at once
_BYTES = 4  # three of a token's number, and one that says its type; 0 there is padding


@dataclasses.dataclass(frozen=True)
class Tokens:
    """From the bytes of tokens to a language model's input; static, as ``Preprocess`` is.

    Attributes:
      tokenizer: the content of ``tokenizer.json``.
      context: the most tokens of a text.
      vocabulary: how many tokens the network knows.
      padding: the token of a text that has none.
    """

    tokenizer: str = dataclasses.field(repr=False)
    context: int
    vocabulary: int
    padding: int | None = 0

    @classmethod
    def of(
        cls, beside: Mapping[str, Any], context: int, vocabulary: int, padding: int | None
    ) -> "Tokens":
        """Of what stands beside a configuration, as :func:`read_tokenizer` found it."""
        context = min(context, beside.get("context") or context)
        return cls(beside.get("tokenizer", ""), context, vocabulary, padding)

    @property
    def input(self) -> jax.ShapeDtypeStruct:
        """The shape of a network's input."""
        return jax.ShapeDtypeStruct((1, min(_SHORTEST, self.context), 3), jnp.int32)

    def __call__(self, images: jax.Array) -> jax.Array:
        """Int32 ``[n, length, 3]`` from uint8 ``[n, length, 4, 1]``.

        The token, its type, and 1, or 0 where there is padding.
        """
        _check_shape(images)
        low, middle, high, kind = jnp.unstack(images[..., 0].astype(jnp.int32), axis=2)
        number = low + 256 * middle + 65536 * high
        return jnp.stack([number, jnp.maximum(kind - 1, 0), jnp.minimum(kind, 1)], axis=2)

    def check(self, images: np.ndarray) -> None:
        """Check that a bank holds tokens that the network knows.

        Raises:
          ValueError: it holds images, or tokens of another model's tokenizer.
        """
        _check_shape(images)
        highest = max(
            int((part[..., 0].astype(np.int32) @ np.array([1, 256, 65536, 0])).max())
            for part in np.array_split(images, -(-len(images) // _PART))
        )
        if highest >= self.vocabulary:
            raise ValueError(
                f"images: wanted tokens below {self.vocabulary}, which the network knows, got "
                f"{highest}; make them with leepjax.models.tokenize of this source"
            )

    def lengths(self, images: np.ndarray) -> np.ndarray:
        """``[n]`` how many tokens of each text a network is given: one of few lengths."""
        present = images[:, :, 3, 0] > 0
        ends = present.shape[1] - present[:, ::-1].argmax(1)
        return padded_length(np.where(present.any(1), ends, 1), images.shape[1])

    def at_once(self, batch_size: int, length: int) -> int:
        """How many texts of a length are run at once: as many tokens, whatever the length."""
        return max(1, batch_size * _SHORTEST // length)


def _check_shape(images: Any) -> None:
    if images.ndim != 4 or images.shape[2:] != (_BYTES, 1) or images.dtype != jnp.uint8:
        raise ValueError(
            "images: wanted the tokens of texts, uint8 [n, length, 4, 1], as "
            f"leepjax.models.tokenize makes them, got {images.dtype} {list(images.shape)}"
        )


def padded_length(count: Any, most: int) -> Any:
    """The length that texts of ``count`` tokens are padded to: 16, 32, 64, ..., up to the most.

    Example:
      >>> padded_length(np.array([3, 16, 17, 400]), 300).tolist()
      [16, 16, 32, 300]
    """
    powers = np.ceil(np.log2(np.maximum(count, _SHORTEST) / _SHORTEST)).astype(int)
    return np.minimum(_SHORTEST * 2**powers, most)


def tokenize(source: Any, bank: TextBank, *, length: int | None = None) -> Bank:
    """A bank of the tokens of a bank of texts, for ``extract``, tasks, heads and fine-tuning.

    Args:
      source: a language model; its tokenizer splits the texts, pairs as it does pairs.
      bank: ``n`` texts.
      length: the most tokens of a text, at most the model's context, which is the default. What
        is longer is cut at its end, and a line says how many were.

    Returns:
      Images ``[n, length, 4, 1]`` uint8, the bytes of each token; all texts padded alike.

    Raises:
      ValueError: a source of images, no texts, one that is no text, or a tokenizer that is
        missing, damaged or of another model.
    """
    tokens = source.preprocess
    if not isinstance(tokens, Tokens):
        raise ValueError("source: wanted a language model for a bank of texts, got one of images")
    most = tokens.context if length is None else length
    if not 0 < most <= tokens.context:
        raise ValueError(f"length: wanted 1 to {tokens.context}, the context, got {length}")
    rows, cut = _encode(tokens, bank, most)
    pairs = bank.pairs or ("",) * len(bank.texts)
    empty = sum(not a.strip() and not b.strip() for a, b in zip(bank.texts, pairs, strict=True))
    total = len(bank.texts)
    if cut:
        say(f"{cut} of {total} texts are longer than {most} tokens; they are cut there")
    if empty:
        say(f"{empty} of {total} texts are empty; the model is given them as they are")
    width = int(padded_length(max(len(row) for row in rows), most))
    images = np.zeros((total, width, _BYTES, 1), np.uint8)
    for image, row in zip(images, rows, strict=True):
        image[: len(row), :, 0] = row
    tokenised = Bank(images, bank.labels, bank.groups, bank.class_names, bank.group_names)
    check_bank("bank", tokenised)
    return tokenised


def _encode(tokens: Tokens, bank: TextBank, most: int) -> tuple[list[np.ndarray], int]:
    """The bytes ``[tokens, 4]`` of each text, and how many texts were cut."""
    tokenizer = _tokenizer(tokens)
    tokenizer.no_padding()
    tokenizer.enable_truncation(most)
    inputs: Sequence[Any] = bank.texts
    if bank.pairs is not None:
        inputs = list(zip(bank.texts, bank.pairs, strict=True))
    for name, texts in (("texts", bank.texts), ("pairs", bank.pairs or ())):
        wrong = next((text for text in texts if not isinstance(text, str)), None)
        if wrong is not None:
            raise ValueError(f"bank.{name}: wanted text, got {type(wrong).__name__} {wrong!r:.40}")
    if not inputs:
        raise ValueError("bank.texts: wanted at least one text, got none")
    rows, cut = [], 0
    with progress(total=len(inputs), desc="tokenise", unit="text") as bar:
        for start in range(0, len(inputs), _PART):
            for encoding in tokenizer.encode_batch(list(inputs[start : start + _PART])):
                cut += bool(encoding.overflowing)
                ids = np.array(encoding.ids or [tokens.padding or 0], np.uint32)
                kinds = np.array(encoding.type_ids or [0], np.uint32) + 1
                columns = (ids & 255, ids >> 8 & 255, ids >> 16, kinds)
                rows.append(np.stack(columns, axis=1).astype(np.uint8))
            bar.update(min(_PART, len(inputs) - start))
    return rows, cut


def _tokenizer(tokens: Tokens) -> Any:
    try:
        from tokenizers import Tokenizer
    except ImportError:
        raise ValueError("texts need tokenizers: pip install 'leepjax[text]'") from None
    try:
        tokenizer = Tokenizer.from_str(tokens.tokenizer)
    except Exception as error:  # it raises nothing narrower
        raise ValueError(f"{TOKENIZER}: damaged, or of another kind ({error})") from None
    size = max(tokenizer.get_vocab(with_added_tokens=True).values(), default=-1) + 1
    if not 0 < size <= tokens.vocabulary:
        raise ValueError(
            f"{TOKENIZER}: wanted at most {tokens.vocabulary} tokens, those of config.json, got "
            f"{size}: it is of another model"
        )
    special = [at for at, x in tokenizer.get_added_tokens_decoder().items() if x.special]
    if special and tokens.padding not in (None, *special):
        raise ValueError(
            f"{TOKENIZER}: wanted pad_token_id {tokens.padding} of config.json among its special "
            f"tokens, got {', '.join(map(str, special))}: it is of another model"
        )
    return tokenizer


def read_tokenizer(folder: Path) -> dict[str, Any]:
    """What stands beside a language model's configuration.

    Args:
      folder: of the checkpoint.

    Returns:
      ``tokenizer``, the content of ``tokenizer.json``, and of sentence-transformers
      ``own_pooling`` and ``context``, where they are there.

    Raises:
      ValueError: no ``tokenizer.json``, or a file that is damaged.
    """
    path = folder / TOKENIZER
    if not path.is_file():
        there = ", ".join(sorted(p.name for p in folder.iterdir())) or "an empty folder"
        raise ValueError(
            f"name: wanted {TOKENIZER} in {str(folder)!r}, got {there}; transformers writes one: "
            "AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)"
        )
    try:
        found: dict[str, Any] = {"tokenizer": path.read_text(encoding="utf-8")}
        said = {
            name: json.loads((folder / name).read_text(encoding="utf-8"))
            for name in BESIDE
            if (folder / name).is_file()
        }
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{folder}: a file is damaged, or no JSON ({error})") from None
    pooling, sentences = (said.get(name, {}) for name in BESIDE)
    asked = [name for key, name in _POOLINGS.items() if pooling.get(key)]
    if len(asked) == 1:
        found["own_pooling"] = asked[0]
    found["context"] = sentences.get("max_seq_length")
    return found
