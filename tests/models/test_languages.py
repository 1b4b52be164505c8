"""Language models: tokens as banks, pooling, layers, and everything amiss with a checkpoint."""

import dataclasses
import json
import sys

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from leepjax.data import Dataset
from leepjax.models import (
    Tokens,
    apply,
    count_layers,
    extract,
    extract_layers,
    forward_seconds,
    load_encoder,
    load_pretrained,
    tokenize,
)
from leepjax.models.bert import pool
from leepjax.models.tokens import padded_length
from leepjax.tasks import sample_tasks
from leepjax.transfer import Recipe, fine_tune, from_scratch, retrain_head
from tests.models.languages import FAMILIES, WORDS, texts_of, write_model, write_tokenizer

pytest.importorskip("tokenizers", reason="needs tokenizers: pip install 'leepjax[text]'")

LENGTHS = [3, 30, 0, 12, 20, 1, 5, 17]  # words; two more tokens each


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    return {name: write_model(root / name, name) for name in FAMILIES}


@pytest.fixture(scope="module")
def bert(models):
    return load_pretrained(models["bert"])


@pytest.mark.parametrize("family", FAMILIES)
def test_features_depend_neither_on_the_batch_nor_on_the_padding_side(family, models, monkeypatch):
    source = load_pretrained(models[family])
    bank = texts_of(LENGTHS)
    together = extract(source, bank).features
    assert together.shape == (len(LENGTHS), 16)
    tokens = tokenize(source, bank)
    alone = np.concatenate(
        [extract(source, tokenize(source, _only(bank, i))).features for i in range(3)]
    )
    np.testing.assert_allclose(alone, together[:3], atol=1e-5)
    left = np.zeros_like(tokens.images)
    for image, row in zip(left, tokens.images, strict=True):
        n = int((row[:, 3, 0] > 0).sum())
        image[len(image) - n :] = row[:n]
    moved = extract(source, dataclasses.replace(tokens, images=left)).features
    np.testing.assert_allclose(moved, together, atol=1e-5)
    monkeypatch.setenv("LEEPJAX_CACHE", str(models[family] / "another"))
    small = extract(source, bank, batch_size=2).features
    np.testing.assert_allclose(small, together, atol=1e-5)


def _only(bank, i):
    return dataclasses.replace(
        bank, texts=bank.texts[i : i + 1], labels=bank.labels[i : i + 1], groups=bank.groups[:1]
    )


def test_tokens_are_bytes_that_the_network_reads_back(bert, caplog):
    bank = texts_of([3, 0, 100])
    tokens = tokenize(bert, dataclasses.replace(bank, pairs=("w1 w2", "", "w3")))
    assert tokens.images.shape == (3, 40, 4, 1)
    assert "1 of 3 texts are longer than 40 tokens; they are cut there" in caplog.messages
    assert "1 of 3 texts are empty" in caplog.messages[-1]
    x = np.asarray(bert.preprocess(tokens.images))
    first = [4 + WORDS.index(w) for w in bank.texts[0].split()]
    np.testing.assert_array_equal(x[0, :8, 0], [0, *first, 2, 5, 6, 2])
    np.testing.assert_array_equal(x[0, :9, 1], [0, 0, 0, 0, 0, 1, 1, 1, 0])
    np.testing.assert_array_equal(x[:, :, 2].sum(1), [8, 3, 40])
    large = Tokens("", 8, 1 << 24)
    bytes_of = np.array([255, 254, 253, 2], np.uint8).reshape(1, 1, 4, 1)
    assert large(bytes_of)[0, 0].tolist() == [255 + 256 * 254 + 65536 * 253, 1, 1]


def test_padded_lengths_are_few():
    lengths = {int(padded_length(n, 300)) for n in range(1, 301)}
    assert lengths == {16, 32, 64, 128, 256, 300}


def test_pooling_is_by_the_mask(bert):
    rng = np.random.default_rng(0)
    states = rng.normal(size=(3, 5, 2)).astype(np.float32)
    present = np.array([[1, 1, 1, 0, 0], [0, 0, 1, 1, 1], [1, 0, 0, 0, 0]], bool)
    for pooling, rows in {
        "mean": [states[0, :3].mean(0), states[1, 2:].mean(0), states[2, 0]],
        "first": [states[0, 0], states[1, 2], states[2, 0]],
        "cls": [states[0, 0], states[1, 2], states[2, 0]],
        "last": [states[0, 2], states[1, 4], states[2, 0]],
    }.items():
        np.testing.assert_allclose(pool(states, present, pooling), rows, atol=1e-6)


def test_layers_are_the_states_pooled(bert, models):
    bank = texts_of(LENGTHS)
    layers = extract_layers(bert, bank)
    assert len(layers) == count_layers(models["bert"]) == 3
    np.testing.assert_allclose(layers[-1], extract(bert, bank).features, atol=1e-6)
    assert np.abs(layers[0] - layers[1]).max() > 0.1
    assert isinstance(layers[0], np.memmap)
    again = extract_layers(bert, bank)
    np.testing.assert_array_equal(again[1], layers[1])
    assert forward_seconds(bert, bank) > 0


def test_damaged_layers_are_made_anew(bert, cache):
    bank = texts_of([2, 3])
    first = [np.array(x) for x in extract_layers(bert, bank)]
    (file,) = cache.glob("layers/*/layer1.npy")
    file.write_bytes(file.read_bytes()[:-3] + b"abc")
    with pytest.warns(UserWarning, match="made again"):
        again = extract_layers(bert, bank)
    np.testing.assert_array_equal(again[1], first[1])


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "electra"])
def test_a_classifier_is_the_librarys_and_is_left_out_by_a_pooling(family, tmp_path):
    folder = write_model(tmp_path / "m", family, head=True)
    source = load_pretrained(folder)
    assert source.class_names == ("no", "yes", "maybe")
    outputs = extract(source, texts_of([2, 3]))
    kernel, bias = (source.params["head"][k] for k in ("kernel", "bias"))
    np.testing.assert_allclose(outputs.logits, outputs.features @ kernel + bias, atol=1e-5)
    pooled = load_pretrained(folder, pooling="last")
    assert extract(pooled, texts_of([2, 3])).logits.shape == (2, 0)


def test_sentence_transformers_files_say_pooling_and_context(models, tmp_path):
    folder = write_model(tmp_path / "m")
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 10}')
    source = load_pretrained(folder)
    assert source.preprocess.context == 10
    tokens = tokenize(source, texts_of([3, 20]))
    assert tokens.images.shape == (2, 10, 4, 1)
    states = _states(source, tokens)
    np.testing.assert_allclose(extract(source, tokens).features, states[:, 0], atol=1e-5)


def _states(source, tokens):
    from flax import nnx

    network = nnx.merge(source.graphdef, source.params, source.rest)
    return np.asarray(network.states(source.preprocess(tokens.images))[-1])


def test_texts_are_transferred_like_images(bert):
    bank = texts_of([4] * 160)
    tokens = tokenize(bert, bank)
    dataset = Dataset(
        dataclasses.replace(tokens, **_rows(tokens, slice(0, 80))),
        dataclasses.replace(tokens, **_rows(tokens, slice(80, None))),
    )
    tasks = sample_tasks(jax.random.key(0), dataset, num_tasks=1, ways=2, shots=30)
    features = [extract(bert, part).features for part in dataset]
    head = retrain_head(*features, tasks).accuracy[0]
    recipe = Recipe(optimiser="adamw", learning_rate=0.01, epochs=15, batch_size=20)
    tuned = fine_tune(jax.random.key(1), bert, dataset, tasks, recipe)
    assert head > 0.6
    assert tuned.accuracy[0] > max(head, 0.9)
    assert tuned.train_loss[0, -1] < 0.3
    with pytest.raises(ValueError, match=r"recipe\.flip, crop: wanted none for texts"):
        fine_tune(jax.random.key(1), bert, dataset, tasks, dataclasses.replace(recipe, flip=True))
    other = dataclasses.replace(bert.preprocess, vocabulary=10)
    with pytest.raises(ValueError, match="wanted tokens below 10, which the network knows, got"):
        extract(dataclasses.replace(bert, preprocess=other), dataset.test)
    fresh = from_scratch(
        jax.random.key(1), bert, dataset, tasks, dataclasses.replace(recipe, epochs=1)
    )
    assert np.isfinite(fresh.accuracy).all()


def _rows(bank, rows):
    return {name: getattr(bank, name)[rows] for name in ("images", "labels", "groups")}


def test_published_names_and_what_stands_beside_the_encoder(models, tmp_path):
    """TensorFlow's names, another model's heads, one prefix more, half precision, in parts."""
    wanted = extract(load_pretrained(models["bert"]), texts_of([2, 5])).features
    folder = write_model(tmp_path / "m")
    tensors = load_file(folder / "model.safetensors")
    old = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(".bias", ".beta")
        if "LayerNorm" in name
        else name: x
        for name, x in tensors.items()
    }
    old["cls.predictions.bias"] = np.zeros(44, np.float32)
    old["bert.pooler.dense.weight"] = np.zeros((16, 16), np.float32)
    old["bert.embeddings.position_ids"] = np.arange(40)[None]
    save_file(old, folder / "model.safetensors")
    got = extract(load_pretrained(folder), texts_of([2, 5])).features
    np.testing.assert_allclose(got, wanted, atol=1e-6)
    names = sorted(tensors)
    parts = {f"part{i}.safetensors": names[i::2] for i in range(2)}
    for file, some in parts.items():
        save_file({name: tensors[name].astype(np.float16) for name in some}, folder / file)
    (folder / "model.safetensors").unlink()
    index = {"weight_map": {name: file for file, some in parts.items() for name in some}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    got = extract(load_pretrained(folder), texts_of([2, 5])).features
    np.testing.assert_allclose(got, wanted, atol=0.02)


def test_what_is_amiss_is_one_line(bert, digits, models, tmp_path, monkeypatch):
    folder = write_model(tmp_path / "m")
    bank = texts_of([2, 3])

    def refused(match, read=lambda: extract(load_pretrained(folder), bank)):
        with pytest.raises(ValueError, match=match) as caught:
            read()
        assert "\n" not in str(caught.value)

    write_tokenizer(folder, [*WORDS, "more"])
    refused(r"tokenizer.json: wanted at most 44 tokens.*got 45: it is of another model")
    write_tokenizer(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"pad_token_id": 9}))
    refused("wanted pad_token_id 9 .* it is of another model")
    (folder / "config.json").write_text(json.dumps(config | {"position_embedding_type": "rotary"}))
    refused("position_embedding_type: wanted 'absolute'")
    (folder / "config.json").write_text(json.dumps(config | {"hidden_act": "mish"}))
    refused("hidden_act: wanted one of")
    (folder / "config.json").write_text(json.dumps(config))
    refused("pooling: wanted one of mean", lambda: load_pretrained(folder, pooling="max"))
    (folder / "tokenizer.json").write_text("{}")
    refused("tokenizer.json: damaged, or of another kind")
    (folder / "tokenizer.json").unlink()
    refused("wanted tokenizer.json in .*got config.json, model.safetensors; transformers writes")
    (folder / "config.json").write_text(json.dumps({"model_type": "gpt2", "vocab_size": 44}))
    write_tokenizer(folder)
    monkeypatch.setattr("leepjax.models.hub.has_torch", lambda: False)
    refused(
        r"got 'gpt2'; others run through PyTorch: pip install 'leepjax\[torch\]'",
        lambda: load_encoder(folder),
    )
    (folder / "config.json").write_text(json.dumps(config))
    tensors = load_file(folder / "model.safetensors")
    headless = {name: x for name, x in tensors.items() if ".layer." not in name}
    save_file(headless, folder / "model.safetensors")
    refused("wanted the tensors of transformers bert, .* differs: missing: bert.encoder")
    wrong = dataclasses.replace(bank, texts=("w1", 3))
    refused("bank.texts: wanted text, got int 3", lambda: tokenize(bert, wrong))
    none = dataclasses.replace(bank, texts=(), labels=bank.labels[:0], groups=bank.groups[:0])
    refused("wanted at least one text", lambda: tokenize(bert, none))
    refused("length: wanted 1 to 40", lambda: tokenize(bert, bank, length=41))
    refused("wanted the tokens of texts", lambda: extract(bert, digits.test))
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    refused(r"texts need tokenizers: pip install 'leepjax\[text\]'", lambda: tokenize(bert, bank))


def test_images_take_no_texts(untrained):
    with pytest.raises(ValueError, match="wanted a language model"):
        extract(untrained("mlp"), texts_of([2]))


def test_gradients_reach_the_embeddings(bert):
    tokens = tokenize(bert, texts_of([3, 4]))
    x = bert.preprocess(tokens.images)

    def total(params):
        return apply(bert.graphdef, params, bert.rest, x)[0].features[:, 0].sum()

    grads = jax.grad(total)(bert.params)
    assert np.abs(grads["words"]["embedding"]).sum() > 0
