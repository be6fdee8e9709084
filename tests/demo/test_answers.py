"""What each tab computes, against transformers itself and literal cases; its views in both languages."""

import re

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, BertForMaskedLM, BertForNextSentencePrediction, BertTokenizerFast

from tests.tiny_models import model_dirs  # noqa: F401
from turkbert.demo.curves import CurvePictures, find_curves
from turkbert.demo.fill import FilledText, fill_blanks
from turkbert.demo.models import load_model
from turkbert.demo.next_sentence import judge_continuation
from turkbert.demo.notes import Note
from turkbert.demo.pieces import Piece, read_casing, split_text
from turkbert.demo.similarity import Similarities, compare_sentences
from turkbert.demo.strings import _STRINGS, LANGUAGES, decimal, percent, say
from turkbert.demo.views import render
from turkbert.tokenization import train_tokenizer

LONG = "Akşam olunca denizin üstünde ışıklar yanar. " * 20  # beyond the 64 tokens of the tiny models
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def model(model_dirs):  # noqa: F811
    return load_model(str(model_dirs["stock"]))


def test_blanks_are_filled_as_the_stock_model_does(model, model_dirs):  # noqa: F811
    filled = fill_blanks(model, "Bugün [MASK] çok [MASK].", 3)
    tokenizer = AutoTokenizer.from_pretrained(model_dirs["stock"])
    stock = BertForMaskedLM.from_pretrained(model_dirs["stock"]).eval()
    inputs = tokenizer("Bugün [MASK] çok [MASK].", return_tensors="pt")
    with torch.no_grad():
        probabilities = stock(**inputs).logits[0].softmax(-1)[inputs["input_ids"][0] == tokenizer.mask_token_id]
    assert filled.between == ["Bugün ", " çok ", "."]
    for blank, row in zip(filled.blanks, probabilities, strict=True):
        best = row.topk(3)
        assert [one.token for one in blank] == tokenizer.convert_ids_to_tokens(best.indices.tolist())
        assert [one.probability for one in blank] == pytest.approx(best.values.tolist(), rel=1e-4)


def test_continuation_is_the_stock_models(model, model_dirs):  # noqa: F811
    pair = ("Yağmur başladı.", "Şemsiyemi açtım.")
    stock = BertForNextSentencePrediction.from_pretrained(model_dirs["stock"]).eval()
    with torch.no_grad():
        logits = stock(**AutoTokenizer.from_pretrained(model_dirs["stock"])(*pair, return_tensors="pt")).logits[0]
    assert judge_continuation(model, *pair).is_next == pytest.approx(logits.softmax(-1)[0].item(), abs=1e-5)


def test_similarities(model):
    found = compare_sentences(model, "Kitap okudum.\n\n  Çay içtik. \nKitap okudum.\n")
    assert found.sentences == ["Kitap okudum.", "Çay içtik.", "Kitap okudum."]
    assert found.nearest_pair() == (0, 2)
    assert found.cosines[0, 2] == pytest.approx(1, abs=1e-5)
    vectors = [model.embed(sentence) for sentence in found.sentences[:2]]
    vectors = [(vector / np.linalg.norm(vector)).ravel() for vector in vectors]
    assert found.cosines[0, 1] == pytest.approx(vectors[0] @ vectors[1], abs=1e-5)


def test_shades_run_from_the_least_to_the_greatest_pair():
    cosines = np.array([[1, 0.8, 0.9], [0.8, 1, 0.85], [0.9, 0.85, 1]])
    found = Similarities(["a", "b", "c"], cosines)
    assert found.nearest_pair() == (0, 2)
    assert found.shades()[0] == pytest.approx([1, 0, 1]) and found.shades()[1, 2] == pytest.approx(0.5)


def test_pieces_of_a_text(sample_texts):
    tokenizer = train_tokenizer(sample_texts, vocab_size=2000, cased=False)
    split = split_text(tokenizer, "IRMAK kenarında 🌷")
    assert split.normalized == "ırmak kenarında 🌷"
    tokens = tokenizer.tokenize("IRMAK kenarında 🌷")
    assert [piece.token for piece in split.pieces] == tokens
    assert [piece.id for piece in split.pieces] == tokenizer.convert_tokens_to_ids(tokens)
    assert [piece.starts_word for piece in split.pieces] == [not token.startswith("##") for token in tokens]
    assert "".join(piece.source for piece in split.pieces) == "IRMAKkenarında🌷"
    assert split.pieces[-1] == Piece("[UNK]", tokenizer.unk_token_id, "🌷", True, True)
    assert split.unknown_share == 1 / len(tokens) and split.num_words == 3


@pytest.mark.parametrize(("cased", "kind", "dotless"), [(True, "cased", "I"), (False, "turkish", "ı")])
def test_casing_of_our_tokenizers(sample_texts, cased, kind, dotless):
    casing = read_casing(train_tokenizer(sample_texts, vocab_size=2000, cased=cased))
    assert (casing.kind, casing.letters["I"]) == (kind, dotless)
    assert {same for *_, same in casing.pairs} == {not cased}


def test_an_english_lower_case_is_seen(tmp_path):
    letters = [*"abcdefghijklmnopqrstuvwxyz", *(f"##{letter}" for letter in "abcdefghijklmnopqrstuvwxyz")]
    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters]))
    casing = read_casing(BertTokenizerFast(str(tmp_path / "vocab.txt"), do_lower_case=True))
    assert casing.kind == "foreign" and casing.letters["I"] == "i"
    assert 'class="tb-wrong"' in render(casing, "tr")


def test_curves_are_those_of_the_folder_or_drawn(tmp_path):
    assert find_curves(tmp_path) == find_curves(None) == Note("no_curves")
    line = '{"step": %d, "time": 1.0, "tokens_seen": %d, "mlm_loss": 7.0, "nsp_loss": 0.7, "block_size": 64}\n'
    (tmp_path / "metrics.jsonl").write_text("".join(line % (step, 100 * step) for step in (1, 2)))
    drawn = find_curves(tmp_path).pictures
    assert next(iter(drawn)) == "losses" and all(png.startswith(PNG) for png in drawn.values())
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]
    (tmp_path / "plots").mkdir()
    for name in ("accuracy", "losses"):
        (tmp_path / "plots" / f"{name}.png").write_bytes(PNG)
    assert list(find_curves(tmp_path).pictures.items()) == [("losses", PNG), ("accuracy", PNG)]


def test_what_cannot_be_answered_is_said(model, model_dirs):  # noqa: F811
    assert fill_blanks(model, "Boşluk yok.", 5) == Note("no_mask")
    assert fill_blanks(model, LONG + "[MASK]", 5).key == "too_long"
    assert judge_continuation(model, "Bir.", " ") == Note("two_sentences")
    assert judge_continuation(model, "Bir.", LONG).key == "too_long"
    assert compare_sentences(model, "Tek cümle.").key == "number_of_sentences"
    assert compare_sentences(model, f"Bir.\n{LONG}").key == "too_long"
    assert split_text(model.tokenizer, " ") == Note("no_text")
    assert judge_continuation(load_model(str(model_dirs["stock_masked_lm"])), "A.", "B.") == Note("no_next_sentence")


def test_an_encoder_alone_fills_nothing(model, model_dirs, tmp_path):  # noqa: F811
    model.embed.model.save_pretrained(tmp_path)
    model.tokenizer.save_pretrained(tmp_path)
    encoder = load_model(str(tmp_path))
    assert encoder.heading.name == tmp_path.name
    assert fill_blanks(encoder, "Bir [MASK].", 5) == Note("no_fill")
    assert judge_continuation(encoder, "A.", "B.") == Note("no_next_sentence")


def test_every_result_is_said_in_both_languages(model):
    results = [
        model.heading,
        fill_blanks(model, "Bugün [MASK] çok [MASK].", 3),
        judge_continuation(model, "Bir.", "İki."),
        compare_sentences(model, "Bir.\nİki.\nÜç."),
        split_text(model.tokenizer, "IĞDIR’dan 🌷"),
        read_casing(model.tokenizer),
        CurvePictures({"losses": PNG, "another": PNG}),
        Note("too_long", {"count": 70, "limit": 64}),
    ]
    for result in results:
        assert len({render(result, language) for language in LANGUAGES}) == 2
    assert render(None, "tr") == ""


def test_texts_cannot_become_html(model):
    attack = "<img src=x onerror=alert(1)>"
    for result in (
        fill_blanks(model, f"{attack} [MASK]", 2),
        compare_sentences(model, f"{attack}\nBir."),
        split_text(model.tokenizer, attack),
        FilledText([attack, attack], [fill_blanks(model, "[MASK]", 1).blanks[0]]),
    ):
        assert "<img" not in render(result, "tr")


def test_both_languages_have_every_sentence():
    for key, texts in _STRINGS.items():
        assert all(texts) and len(texts) == len(LANGUAGES)
        assert len({frozenset(re.findall(r"{\w+}", text)) for text in texts}) == 1, key


def test_numbers_as_they_are_written():
    assert (percent(0.9312, "tr"), percent(0.9312, "en")) == ("%93,1", "93.1%")
    assert (decimal(32000, 0, "tr"), decimal(1234.5, 1, "en")) == ("32.000", "1,234.5")
    assert say("is_next", "tr") == "B, A'nın devamı"
