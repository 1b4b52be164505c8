"""A real language model beside transformers and sentence-transformers: all-MiniLM-L6-v2."""

import numpy as np
import pytest

from leepjax.data import TextBank
from leepjax.models import Source, extract, extract_layers, load_encoder
from tests.models.test_parity import need, torch

pytestmark = pytest.mark.real_data
need("tokenizers")
package = need("all_minilm_l6_v2")

TEXTS = (
    "Hello world",
    "",
    "Die Straße ist naß — 道路很湿, and one costs 3.50 €!",
    "a much longer text than the others " * 60,  # cut at 256 tokens, as sentence-transformers does
    "three\n\nlines\t of tabs",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return package.extract_model(str(tmp_path_factory.mktemp("minilm")))


@pytest.fixture(scope="module")
def bank():
    labels = np.array([0, 1, 0, 1, 0], np.int32)
    return TextBank(TEXTS, labels, np.zeros_like(labels), ("a", "b"), ("all",))


def test_every_layers_states_are_those_of_transformers(folder, bank):
    transformers = need("transformers")
    source = load_encoder(folder)
    assert isinstance(source, Source)
    assert source.num_parameters == 22_565_376
    model = transformers.AutoModel.from_pretrained(folder, use_safetensors=True).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    options = {"padding": True, "truncation": True, "max_length": 256, "return_tensors": "pt"}
    tokens = tokenizer(list(TEXTS), **options)
    with torch.no_grad():
        states = model(**tokens, output_hidden_states=True).hidden_states
    present = tokens["attention_mask"][..., None].float()
    wanted = [((x * present).sum(1) / present.sum(1)).numpy() for x in states]
    got = extract_layers(source, bank)
    assert len(got) == len(wanted) == 7
    np.testing.assert_allclose(np.stack(got), np.stack(wanted), atol=1e-4)


def test_features_are_those_of_sentence_transformers(folder, bank):
    sentences = need("sentence_transformers")
    model = sentences.SentenceTransformer(str(folder), device="cpu")
    wanted = model.encode(list(TEXTS), normalize_embeddings=False)
    got = extract(load_encoder(folder), bank).features
    scale = np.linalg.norm(got, axis=1, keepdims=True)  # its last module normalises
    np.testing.assert_allclose(got / scale, wanted, atol=1e-5)
    pooled = torch.nn.Sequential(*list(model)[:2])(model.tokenize(list(TEXTS)))
    np.testing.assert_allclose(got, pooled["sentence_embedding"].detach().numpy(), atol=1e-4)
