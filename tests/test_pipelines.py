"""The pipelines against transformers' own models, batch by batch and row by row, on every layout of checkpoints."""

import numpy as np
import pytest
import torch
from transformers import (
    AutoTokenizer,
    BertForMaskedLM,
    BertForNextSentencePrediction,
    BertModel,
    PreTrainedTokenizerFast,
    pipeline,
)

import turkbert  # noqa: F401  registers the tasks
from tests.tiny_models import SIZES, model_dirs  # noqa: F401
from turkbert.pipelines import EmbeddingPipeline, NextSentencePipeline

SHORT, LONGER = "Kitap okudum.", "Akşam olunca denizin üstünde ışıklar yanar, sokaklar kalabalıklaşırdı."
PAIRS = [
    {"text": SHORT, "text_pair": "Sonra uyudum."},
    {"text": LONGER, "text_pair": "Balıkçılar ağlarını toplayıp kıyıya döndü."},
    {"text": "Hava bugün güzel.", "text_pair": LONGER},
]
LONG = " ".join([LONGER] * 20)  # far beyond 64 tokens


@pytest.mark.parametrize("layout", ["stock", "checkpoint"])
@pytest.mark.parametrize("batch_size", [1, 2])
def test_next_sentence_is_what_the_stock_model_says(model_dirs, layout, batch_size):  # noqa: F811
    pipe = pipeline("next-sentence-prediction", model=str(model_dirs[layout]))
    assert isinstance(pipe, NextSentencePipeline)
    tokenizer = AutoTokenizer.from_pretrained(model_dirs["stock"])
    model = BertForNextSentencePrediction.from_pretrained(model_dirs["stock"])
    results = pipe(PAIRS, batch_size=batch_size)
    for pair, result in zip(PAIRS, results, strict=True):
        with torch.no_grad():
            follows = model(**tokenizer(*pair.values(), return_tensors="pt")).logits.softmax(-1)[0, 0].item()
        assert result["label"] == ("IS_NEXT" if follows > 0.5 else "NOT_NEXT")
        assert result["score"] == pytest.approx(max(follows, 1 - follows), abs=1e-5)
    assert pipe(PAIRS[0]) == pytest.approx(results[0], abs=1e-5)


def test_the_order_of_a_pair_and_its_token_types_count(model_dirs, sample_tokenizer):  # noqa: F811
    pipe = pipeline("next-sentence-prediction", model=str(model_dirs["stock"]))
    turned = {"text": PAIRS[1]["text_pair"], "text_pair": PAIRS[1]["text"]}
    assert pipe(PAIRS[1])["score"] != pytest.approx(pipe(turned)["score"], abs=1e-4)
    bare = PreTrainedTokenizerFast(
        tokenizer_object=sample_tokenizer.backend_tokenizer, pad_token="[PAD]", model_max_length=512
    )
    bare.model_input_names = ["input_ids", "attention_mask"]  # many tokenizers on the Hub
    same = pipeline("next-sentence-prediction", model=str(model_dirs["stock"]), tokenizer=bare)
    assert same(PAIRS) == pipe(PAIRS)


@pytest.mark.parametrize("wrong", ["a text", [SHORT], {"text": SHORT}, {"text": SHORT, "pair": SHORT}])
def test_what_is_no_pair_is_refused(model_dirs, wrong):  # noqa: F811
    pipe = pipeline("next-sentence-prediction", model=str(model_dirs["stock"]))
    with pytest.raises(ValueError, match="text_pair"):
        pipe(wrong)


@pytest.mark.parametrize("layout", ["stock", "checkpoint", "masked_lm", "stock_masked_lm"])
def test_fill_mask_is_transformers_own(model_dirs, layout):  # noqa: F811
    text = "Türkiye'nin başkenti [MASK] şehridir."
    tokenizer = AutoTokenizer.from_pretrained(model_dirs[layout])
    inputs = tokenizer(text, return_tensors="pt")
    position = inputs["input_ids"][0].tolist().index(tokenizer.mask_token_id)
    with torch.no_grad():
        best = BertForMaskedLM.from_pretrained(model_dirs[layout])(**inputs).logits[0, position].softmax(-1).topk(3)
    results = pipeline("fill-mask", model=str(model_dirs[layout]))(text, top_k=3)
    assert [result["token"] for result in results] == best.indices.tolist()
    assert [result["score"] for result in results] == pytest.approx(best.values.tolist(), abs=1e-5)


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("layout", ["stock", "checkpoint", "masked_lm"])
def test_embeddings_are_pooled_without_the_padding(model_dirs, layout, pooling):  # noqa: F811
    texts = [SHORT, LONGER, PAIRS[1]]
    embed = pipeline("text-embedding", model=str(model_dirs[layout]), pooling=pooling)
    vectors = embed(texts, batch_size=3)
    assert vectors.shape == (3, SIZES["hidden_size"]) and vectors.dtype == np.float32
    tokenizer = AutoTokenizer.from_pretrained(model_dirs[layout])
    model = BertModel.from_pretrained(model_dirs[layout]).eval()
    for text, vector in zip(texts, vectors, strict=True):
        inputs = (
            tokenizer(**text, return_tensors="pt") if isinstance(text, dict) else tokenizer(text, return_tensors="pt")
        )
        with torch.no_grad():
            hidden = model(**inputs).last_hidden_state[0]
        expected = hidden.mean(0) if pooling == "mean" else hidden[0]
        np.testing.assert_allclose(vector, expected.numpy(), atol=1e-5)


def test_one_text_no_text_and_a_stream(model_dirs):  # noqa: F811
    embed = pipeline("text-embedding", model=str(model_dirs["stock"]))
    assert isinstance(embed, EmbeddingPipeline)
    assert embed(SHORT).shape == embed(PAIRS[0]).shape == (1, 32) and embed([]).shape == (0, 32)
    streamed = list(embed(text for text in (SHORT, LONGER)))
    np.testing.assert_allclose(np.stack(streamed), embed([SHORT, LONGER]), atol=1e-6)
    np.testing.assert_allclose(embed(SHORT, pooling="cls"), embed(SHORT, pooling="cls"))
    assert abs(embed(SHORT, pooling="cls") - embed(SHORT)).max() > 0.01
    with pytest.raises(ValueError, match="pooling is one of mean, cls"):
        pipeline("text-embedding", model=embed.model, tokenizer=embed.tokenizer, pooling="max")
    with pytest.raises(ValueError, match="this is a int"):
        embed([5])


def test_long_texts_are_cut_at_the_model_s_length(model_dirs):  # noqa: F811
    embed = pipeline("text-embedding", model=str(model_dirs["stock"]))
    assert embed.tokenizer.model_max_length == 512  # the model has 64 positions
    assert embed(LONG).shape == (1, 32)
    assert len(embed.encode_pair(LONG).tokens) == 64
    segments = embed.encode_pair(LONG, SHORT).segments
    assert len(segments) == 64 and 1 in segments
    nsp = pipeline("next-sentence-prediction", model=str(model_dirs["stock"]))
    assert nsp({"text": LONG, "text_pair": LONG})["score"] >= 0.5


def test_a_word_in_two_contexts_has_two_vectors(model_dirs):  # noqa: F811
    embed = pipeline("text-embedding", model=str(model_dirs["stock"]))
    encoded = embed.encode_pair("Kasadan yüz lira aldı.", "Denizde yüz, sonra güneşlen; yüzü gülüyor.")
    hundred, swim = encoded.vectors_of("yüz")
    assert hundred.shape == (32,) and abs(hundred - swim).max() > 0.01
    alone = embed.encode_pair("Kasadan yüz lira aldı.")
    assert len(alone.vectors_of("yüz")) == 1 and set(alone.segments) == {0, None}
    inputs = embed.tokenizer("Kasadan yüz lira aldı.", return_tensors="pt")
    with torch.no_grad():
        hidden = embed.model(**inputs).last_hidden_state[0].numpy()
    np.testing.assert_allclose(alone.vectors, hidden, atol=1e-6)


def test_tokens_of_a_word_are_found_by_characters(model_dirs):  # noqa: F811
    embed = pipeline("text-embedding", model=str(model_dirs["stock"]))
    encoded = embed.encode_pair("İstanbul’un yüzölçümü büyük.", "Yüz yüz metre: yüz'ün hali, yüzü değil.")
    for word, pieces in {"yüzölçümü": "yüzölçümü", "İstanbul": "İstanbul", "un": "un"}.items():
        (tokens,) = encoded.tokens_of(word)
        assert "".join(encoded.tokens[token].removeprefix("##") for token in tokens) == pieces
        np.testing.assert_allclose(encoded.vectors_of(word)[0], encoded.vectors[tokens].mean(0), atol=1e-6)
    assert len(encoded.tokens_of("yüz")) == 2 and len(encoded.tokens_of("yüzü")) == 1
    assert all(encoded.segments[token] == 1 for tokens in encoded.tokens_of("yüz") for token in tokens)
    for absent in ("kedi", "YÜZ", ""):
        with pytest.raises(ValueError, match="is not a word of the texts"):
            encoded.tokens_of(absent)
