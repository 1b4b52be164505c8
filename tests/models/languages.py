"""Tiny language models: a tokenizer of a few words, and checkpoints in the libraries' names."""

import json

import jax
import numpy as np
from flax import nnx
from safetensors.numpy import save_file

from leepjax.data import TextBank
from leepjax.models import Source
from leepjax.models.configuration import describe
from leepjax.models.initialisation import reinitialise
from leepjax.models.tensors import to_tensors

WORDS = [f"w{i}" for i in range(40)]
SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")  # as RoBERTa has them; 1 is padding
BERT = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 24,
    "max_position_embeddings": 40,
    "vocab_size": len(SPECIAL) + len(WORDS),
    "layer_norm_eps": 0.1,  # so that it shows
    "pad_token_id": 1,
}
DISTILBERT = {
    **{"dim": 16, "n_layers": 2, "n_heads": 4, "hidden_dim": 24, "max_position_embeddings": 40},
    **{"vocab_size": BERT["vocab_size"], "pad_token_id": 1},
}
FAMILIES = {
    "bert": BERT,
    "roberta": BERT | {"type_vocab_size": 1, "max_position_embeddings": 42},
    "xlm-roberta": BERT | {"type_vocab_size": 1, "max_position_embeddings": 42},
    "distilbert": DISTILBERT,
    "electra": BERT | {"embedding_size": 8},
}
CLASSES = {"id2label": {"0": "no", "1": "yes", "2": "maybe"}}


def write_tokenizer(folder, words=tuple(WORDS)):
    """``tokenizer.json`` of words between spaces; pairs have types 0 and 1."""
    vocabulary = {word: i for i, word in enumerate((*SPECIAL, *words))}

    def piece(name, kind):
        return {"SpecialToken": {"id": name, "type_id": kind}}

    first, second = ({"Sequence": {"id": s, "type_id": i}} for i, s in enumerate("AB"))
    special = {
        name: {"id": name, "ids": [vocabulary[name]], "tokens": [name]} for name in ("<s>", "</s>")
    }
    content = {
        "version": "1.0",
        "truncation": {"max_length": 3, "strategy": "LongestFirst", "stride": 0}
        | {"direction": "Right"},
        "padding": {"strategy": {"Fixed": 7}, "direction": "Left", "pad_to_multiple_of": None}
        | {"pad_id": 1, "pad_type_id": 0, "pad_token": "<pad>"},
        "added_tokens": [
            {"id": i, "content": name, "single_word": False, "lstrip": False, "rstrip": False}
            | {"normalized": False, "special": True}
            for i, name in enumerate(SPECIAL)
        ],
        "normalizer": None,
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [piece("<s>", 0), first, piece("</s>", 0)],
            "pair": [piece("<s>", 0), first, piece("</s>", 0), second, piece("</s>", 1)],
            "special_tokens": special,
        },
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "<unk>"},
    }
    (folder / "tokenizer.json").write_text(json.dumps(content))


def write_model(folder, family="bert", head=False, seed=0, **changes):
    """A random checkpoint of a family, with a classifier of three classes or without."""
    folder.mkdir(exist_ok=True)
    built_for = "ForSequenceClassification" if head else "Model"
    config = {"model_type": family, "architectures": [f"Some{built_for}"]}
    config |= FAMILIES[family] | (CLASSES if head else {}) | changes
    (folder / "config.json").write_text(json.dumps(config))
    described = describe(config, {"pooling": None if head else "mean"})
    graphdef, params, rest = nnx.split(described.network, nnx.Param, ...)
    params = reinitialise(jax.random.key(seed), nnx.to_pure_dict(params))
    params["words"]["embedding"] = 10 * params["words"]["embedding"]
    source = Source(graphdef, params, nnx.to_pure_dict(rest), described.preprocess, ())
    tensors = to_tensors(source, described.naming)
    tensors = {name: x for name, x in tensors.items() if x.size}
    save_file(
        {k: np.ascontiguousarray(x) for k, x in tensors.items()}, folder / "model.safetensors"
    )
    write_tokenizer(folder)
    return folder


def texts_of(lengths, seed=0):
    """A bank of random texts of so many words, which are all early or all late ones: the class."""
    rng = np.random.default_rng(seed)
    half = len(WORDS) // 2
    labels = rng.integers(0, 2, len(lengths)).astype(np.int32)
    words = [
        rng.integers(0, half, n) + half * (1 - c) for c, n in zip(labels, lengths, strict=True)
    ]
    texts = tuple(" ".join(WORDS[i] for i in w) for w in words)
    return TextBank(texts, labels, np.zeros_like(labels), ("late", "early"), ("all",))
