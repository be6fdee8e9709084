"""Remembered words give the tokens of the whole sentence, for our rules and for BERT's."""

import pickle

import pyarrow as pa
import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from turkbert.data.sentences import split_sentences
from turkbert.data.tokens import DocumentTokenizer

HARD = [
    "İstanbul’un 19. yüzyılı\u00a0güzeldi. Sonra… bitti!\nIğdır'da ılık\u2003rüzgâr; i\u0307yi ﬁkir ½ ´a΄b.",
    "",
    "Tek cümle",
    "a\u0301 \u0301b ΑΣ ΑΣ. Ok\u200bul  中文字 ①②",
]


def bert_like(trained: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    """The same vocabulary under BERT's own normaliser and pre-tokenizer."""
    backend = Tokenizer(models.WordPiece(trained.get_vocab(), unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return PreTrainedTokenizerFast(tokenizer_object=backend, **trained.special_tokens_map)


@pytest.mark.parametrize("kind", ["turkish", "bert"])
def test_equal_to_tokenizing_each_sentence(sample_prepared, sample_texts, kind):
    tokenizer = sample_prepared.tokenizer if kind == "turkish" else bert_like(sample_prepared.tokenizer)
    texts = [*HARD, *sample_texts]
    table = DocumentTokenizer(tokenizer)(pa.table({"text": texts})).to_pylist()
    for text, row in zip(texts, table, strict=True):
        sentences = [tokenizer(s, add_special_tokens=False)["input_ids"] for s in split_sentences(text)]
        assert row["input_ids"] == [token for sentence in sentences for token in sentence]
        ends = [sum(map(len, sentences[: i + 1])) for i in range(len(sentences)) if sentences[i]]
        assert row["sentence_ends"] == ends


def test_special_tokens_in_a_text_are_unknown_words(sample_prepared):
    tokenizer = sample_prepared.tokenizer
    row = DocumentTokenizer(tokenizer)(pa.table({"text": ["bir [SEP] ve [MASK]."]})).to_pylist()[0]
    assert row["input_ids"].count(tokenizer.unk_token_id) == 2
    assert tokenizer.sep_token_id not in row["input_ids"] and tokenizer.mask_token_id not in row["input_ids"]


def test_forgetting_changes_nothing(sample_prepared, sample_texts, monkeypatch):
    monkeypatch.setattr("turkbert.data.tokens.MAX_WORDS", 50)
    forgetful = DocumentTokenizer(sample_prepared.tokenizer)
    tables = [pa.table({"text": sample_texts[i : i + 5]}) for i in range(0, 30, 5)]
    found = [forgetful(table) for table in tables]
    monkeypatch.undo()
    assert found == [pickle.loads(pickle.dumps(forgetful))(table) for table in tables]
