"""What ``config.json`` of a language model says: its network, names of tensors, pooling.

A new family that is the same network is one line in ``FAMILIES``.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from leepjax.models import naming
from leepjax.models.bert import ACTIVATIONS, POOLINGS, Bert
from leepjax.models.description import Description, NotBuilt, label_names, shapes
from leepjax.models.tokens import Tokens

Config = Mapping[str, Any]

_SIZES = {  # what a configuration that says nothing means
    "vocab_size": 30522,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
    "layer_norm_eps": 1e-12,
    "hidden_act": "gelu",
    "pad_token_id": 0,
}
_ROBERTA = {"vocab_size": 50265, "pad_token_id": 1}
_DISTILBERT = {  # what it calls them
    "dim": "hidden_size",
    "n_layers": "num_hidden_layers",
    "n_heads": "num_attention_heads",
    "hidden_dim": "intermediate_size",
    "activation": "hidden_act",
}
_SMALL = {"hidden_size": 256, "num_attention_heads": 4, "intermediate_size": 1024}
_ONLY = {  # all that is built here
    "is_decoder": False,
    "add_cross_attention": False,
    "position_embedding_type": "absolute",
}


class Family(NamedTuple):
    """What one family has of its own.

    Attributes:
      naming: names of its tensors.
      head_act: of the dense layer before the classifier.
      defaults: beside those of BERT.
      renamed: its names of BERT's sizes.
      counts_padding: its first token has the position after that of padding.
    """

    naming: naming.Naming
    head_act: str
    defaults: dict[str, Any] = {}  # noqa: RUF012 - never changed
    renamed: dict[str, str] = {}  # noqa: RUF012
    counts_padding: bool = False


FAMILIES = {
    "bert": Family(naming.BERT, "tanh"),
    "roberta": Family(naming.ROBERTA, "tanh", _ROBERTA, counts_padding=True),
    "xlm-roberta": Family(naming.ROBERTA, "tanh", _ROBERTA, counts_padding=True),
    "camembert": Family(naming.ROBERTA, "tanh", _ROBERTA, counts_padding=True),
    "distilbert": Family(naming.DISTILBERT, "relu", {"type_vocab_size": 0}, _DISTILBERT),
    "electra": Family(naming.ELECTRA, "gelu", {"embedding_size": 128} | _SMALL),
}
_OTHER_HEADS = (  # what published files hold beside the encoder
    r"(^|\.)(cls|lm_head|qa_outputs|vocab_transform|vocab_layer_norm|vocab_projector"
    r"|discriminator_predictions|generator_predictions|generator_lm_head)\.|\.?position_ids$"
)
_NO_CLASSIFIER = rf"{_OTHER_HEADS}|(^|\.)(pooler|classifier|pre_classifier)\."


def describe_language_model(config: Config, beside: Config | None, has_head: bool) -> Description:
    """The network that a configuration of transformers is of.

    Args:
      config: ``config.json``.
      beside: what :func:`~leepjax.models.tokens.read_tokenizer` found; a ``pooling`` there
        leaves the classifier out.
      has_head: whether the tensors have a classifier.

    Raises:
      ValueError: an option that is not built here, or a tokenizer that is not this model's.
    """
    kind = config["model_type"]
    family = FAMILIES[kind]
    beside = beside or {}
    said = {family.renamed.get(key, key): value for key, value in config.items()}
    c = _SIZES | family.defaults | _ONLY | said
    for key, value in _ONLY.items():
        if c[key] not in (value, None):
            raise NotBuilt(
                f"config.json: {key}: wanted {value!r} for {kind}, the only one built here, got "
                f"{c[key]!r}"
            )
    if c["hidden_act"] not in ACTIVATIONS:
        raise NotBuilt(
            f"config.json: hidden_act: wanted one of {', '.join(ACTIVATIONS)}, got "
            f"{c['hidden_act']!r}"
        )
    asked = beside.get("pooling")
    if asked not in (None, *POOLINGS):
        raise ValueError(f"pooling: wanted one of {', '.join(POOLINGS)}, got {asked!r}")
    built_for = str((config.get("architectures") or ["ForSequenceClassification"])[0])
    classifies = has_head and not asked and built_for.endswith("ForSequenceClassification")
    names = label_names(config, classifies)
    offset = c["pad_token_id"] + 1 if family.counts_padding else 0
    context = c["max_position_embeddings"] - offset
    options = {
        "vocabulary": c["vocab_size"],
        "positions": c["max_position_embeddings"],
        "types": c["type_vocab_size"],
        "width": c["hidden_size"],
        "embedding": c.get("embedding_size") or c["hidden_size"],
        "depth": c["num_hidden_layers"],
        "heads": c["num_attention_heads"],
        "hidden": c["intermediate_size"],
        "epsilon": c["layer_norm_eps"],
        "act": c["hidden_act"],
        "offset": offset,
        "pooling": None if classifies else asked or beside.get("own_pooling") or "mean",
        "head_act": family.head_act,
    }
    return Description(
        f"transformers {kind}",
        shapes(Bert, len(names), options),
        family.naming,
        Tokens.of(beside, context, c["vocab_size"], c["pad_token_id"] or 0),
        names,
        _OTHER_HEADS if classifies else _NO_CLASSIFIER,
    )
