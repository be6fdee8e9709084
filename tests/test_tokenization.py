"""The tokenizer: Turkish rules, determinism, exact vocabulary, and loading in other processes and versions."""

import hashlib
import json
import logging
import os
import random
import subprocess
import sys
import venv
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, models, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from turkbert import tokenization
from turkbert.errors import BAD_CONFIG, ENVIRONMENT, UserError
from turkbert.tokenization import (
    SPECIAL_TOKENS,
    load_tokenizer,
    save_tokenizer,
    tokenizer_hash,
    train_tokenizer,
    word_start_table,
)

LOWER, UPPER = "abcçdefgğhıijklmnoöprsştuüvyzâîûqwx", "ABCÇDEFGĞHIİJKLMNOÖPRSŞTUÜVYZÂÎÛQWX"
VOCAB_SIZE = 400

# Loads tokenizers as a stranger would, without turkbert, and prints what they make of the texts on stdin.
STRANGER = """
import json, sys
from transformers import AutoTokenizer
texts = json.load(sys.stdin)
print(json.dumps([dict(AutoTokenizer.from_pretrained(folder)(texts, texts[::-1])) for folder in sys.argv[1:]]))
"""
# Trains on documents that it makes itself, and prints the hash.
TRAIN = """
import sys
sys.path.insert(0, sys.argv[1])
from test_tokenization import make_documents
from turkbert.tokenization import tokenizer_hash, train_tokenizer
print(tokenizer_hash(train_tokenizer(make_documents(), vocab_size=400)))
"""


def make_documents() -> list[str]:
    """Words of random syllables with Turkish suffixes: many pairs of equal counts, and every letter in both cases."""
    rng = random.Random(0)
    syllables = [c + v + d for c in "bcçdgkmşt" for v in "aeıioöuü" for d in ("", "l", "r", "n", "ş")]
    stems = ["".join(rng.choices(syllables, k=rng.randint(1, 3))) for _ in range(600)]
    suffixes = ["", "lar", "ler", "da", "ın", "ımız", "’nın", "'ye", ",", ".", " 1923"]
    letters = [f"{letter} a{letter}" for letter in LOWER + UPPER]
    words = [rng.choice(stems) + rng.choice(suffixes) for _ in range(8000)] + letters
    return [" ".join(words[i : i + 50]) for i in range(0, len(words), 50)]


@pytest.fixture(scope="module")
def documents() -> list[str]:
    return make_documents()


@pytest.fixture(scope="module")
def cased(documents) -> PreTrainedTokenizerFast:
    return train_tokenizer(documents, vocab_size=VOCAB_SIZE)


@pytest.fixture(scope="module")
def uncased(documents) -> PreTrainedTokenizerFast:
    return train_tokenizer(documents, vocab_size=VOCAB_SIZE, cased=False)


def normalize(tokenizer: PreTrainedTokenizerFast, text: str) -> str:
    return tokenizer.backend_tokenizer.normalizer.normalize_str(text)


def test_special_tokens_have_the_first_ids(cased):
    assert cased.convert_tokens_to_ids(list(SPECIAL_TOKENS.values())) == [0, 1, 2, 3, 4]
    assert sorted(cased.all_special_ids) == [0, 1, 2, 3, 4]


def test_lower_casing_is_turkish(cased, uncased):
    assert normalize(uncased, UPPER) == LOWER
    assert normalize(uncased, LOWER) == LOWER
    assert normalize(cased, UPPER + LOWER) == UPPER + LOWER
    for lower, upper in zip(LOWER, UPPER, strict=True):
        assert uncased(upper + "da")["input_ids"] == uncased(lower + "da")["input_ids"]
        assert cased(upper)["input_ids"] != cased(lower)["input_ids"]
        assert uncased.unk_token_id not in uncased(upper)["input_ids"] + cased(upper)["input_ids"]


@pytest.mark.parametrize(
    ("text", "cased_form", "uncased_form"),
    [
        ("I\u0307zmir", "İzmir", "izmir"),  # a decomposed İ
        ("i\u0307zmir", "izmir", "izmir"),  # "İzmir".lower() elsewhere
        ("s\u0327u\u0308g\u0306", "şüğ", "şüğ"),  # decomposed letters keep their marks
        ("HÂLÂ ka\u0302r", "HÂLÂ kâr", "hâlâ kâr"),
        ("\ufb01kir", "fikir", "fikir"),
        ("A’‘‛ʼʻ′´a", "A'''''''a", "a'''''''a"),
    ],
)
def test_normalizer(cased, uncased, text, cased_form, uncased_form):
    assert normalize(cased, text) == cased_form
    assert normalize(uncased, text) == uncased_form


def test_words_are_split_at_apostrophes_digits_and_marks(cased):
    def split(text):
        pieces = cased.backend_tokenizer.pre_tokenizer.pre_tokenize_str(normalize(cased, text))
        return [piece for piece, _ in pieces]

    assert split("İstanbul’un 1923'te,") == ["İstanbul", "'", "un", "1", "9", "2", "3", "'", "te", ","]
    assert cased("İstanbul’un")["input_ids"] == cased("İstanbul'un")["input_ids"]
    assert cased.tokenize("1923") == ["1", "9", "2", "3"]


def test_pairs_and_decoding(cased):
    pair = cased("a", "1 2")
    assert cased.convert_ids_to_tokens(pair["input_ids"]) == ["[CLS]", "a", "[SEP]", "1", "2", "[SEP]"]
    assert pair["token_type_ids"] == [0, 0, 0, 1, 1, 1]
    assert cased.decode(cased("balarda")["input_ids"], skip_special_tokens=True) == "balarda"


TEXTS = [*make_documents()[:20], LOWER, UPPER, "I\u0307STANBUL’UN i\u0307lk ıŞığı Ŵ"]


def ask_stranger(python: str | Path, *folders: Path) -> list[dict]:
    command = [python, "-c", STRANGER, *folders]
    result = subprocess.run(command, input=json.dumps(TEXTS), capture_output=True, text=True, check=True)
    return json.loads(result.stdout)


def test_a_fresh_process_gives_the_same_ids(cased, uncased, tmp_path):
    folders, expected = [], []
    for name, tokenizer in {"cased": cased, "uncased": uncased}.items():
        # A model's folder names a type that plain transformers knows, or does not know: no difference.
        for model_type in ("bert", "turkbert", None):
            folders.append(tmp_path / f"{name}_{model_type}")
            expected.append(dict(tokenizer(TEXTS, TEXTS[::-1])))
            save_tokenizer(tokenizer, folders[-1])
            if model_type:
                (folders[-1] / "config.json").write_text(json.dumps({"model_type": model_type}))
        assert str(tmp_path) not in (folders[-1] / "tokenizer_config.json").read_text()
        assert tokenizer_hash(load_tokenizer(folders[-1])) == tokenizer_hash(tokenizer)
    assert ask_stranger(sys.executable, *folders) == expected
    assert expected[0].keys() == {"input_ids", "token_type_ids", "attention_mask"}


@pytest.mark.slow
def test_transformers_4_gives_the_same_ids(cased, uncased, tmp_path):
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", "transformers==4.57.*"], check=True)
    save_tokenizer(cased, tmp_path / "cased")
    save_tokenizer(uncased, tmp_path / "uncased")
    expected = [dict(tokenizer(TEXTS, TEXTS[::-1])) for tokenizer in (cased, uncased)]
    assert ask_stranger(python, tmp_path / "cased", tmp_path / "uncased") == expected


# R16
@pytest.mark.parametrize("num_trainings", [2, pytest.param(10, marks=pytest.mark.slow)])
def test_training_is_deterministic(cased, documents, num_trainings):
    expected = tokenizer_hash(cased)
    for _ in range(num_trainings):
        assert tokenizer_hash(train_tokenizer(iter(documents), vocab_size=VOCAB_SIZE)) == expected
    assert tokenizer_hash(train_tokenizer(reversed(documents), vocab_size=VOCAB_SIZE)) == expected
    # Another process has other hash seeds; one thread reads in another order than this process's many.
    command = [sys.executable, "-c", TRAIN, Path(__file__).parent]
    env = os.environ | {"RAYON_NUM_THREADS": "1"}
    result = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == expected


def test_training_on_counts_is_training_on_the_text(documents, cased):
    """The oracle is the library's own training, given the characters in the same order."""
    plain = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    plain.normalizer = cased.backend_tokenizer.normalizer
    plain.pre_tokenizer = cased.backend_tokenizer.pre_tokenizer
    tokens = cased.convert_ids_to_tokens(range(VOCAB_SIZE))
    trainer = trainers.WordPieceTrainer(
        vocab_size=VOCAB_SIZE,
        min_frequency=2,
        special_tokens=tokens[:5] + [token for token in tokens if token.startswith("##") and len(token) == 3],
        initial_alphabet=[token for token in tokens if len(token) == 1],
        show_progress=False,
    )
    plain.train_from_iterator(documents, trainer)
    assert plain.get_vocab() == cased.get_vocab()


def test_the_alphabet_is_limited(documents, caplog):
    caplog.set_level(logging.INFO)
    tokenizer = train_tokenizer([*documents, "ŵa"], vocab_size=300, limit_alphabet=30)
    singles = [token for token in tokenizer.get_vocab() if len(token) == 1]
    assert len(singles) == 30 and "a" in singles and "ŵ" not in singles
    assert tokenizer.tokenize("ŵa") == ["[UNK]"]
    assert "alphabet of 30" in caplog.text


@pytest.mark.parametrize(
    ("text", "limit_alphabet", "kept"),
    [
        ("da ca ba", 3, {"a", "b", "c"}),  # between equal counts the lower code point stays
        ("ax ax ax ay yb", 2, {"a", "x"}),  # occurrences count, not different words
    ],
)
def test_the_most_frequent_characters_stay(text, limit_alphabet, kept):
    tokenizer = train_tokenizer([text], vocab_size=9, limit_alphabet=limit_alphabet)
    assert {token for token in tokenizer.get_vocab() if len(token) == 1} == kept


# R14 row 47
def test_the_vocabulary_is_exact(documents, cased):
    assert len(cased) == VOCAB_SIZE == len(cased.get_vocab())
    assert sorted(cased.get_vocab().values()) == list(range(VOCAB_SIZE))
    with pytest.raises(UserError, match=r"only (\d+) of the 9000 tokens") as too_few:
        train_tokenizer(documents[:5], vocab_size=9000)
    assert too_few.value.exit_code == BAD_CONFIG
    reached = int(too_few.value.mend.split()[3])
    assert len(train_tokenizer(documents[:5], vocab_size=reached)) == reached
    with pytest.raises(UserError, match="raise vocab_size or lower limit_alphabet"):
        train_tokenizer(documents, vocab_size=60)
    with pytest.raises(UserError, match="only 5 of"):
        train_tokenizer([], vocab_size=100)


def test_word_start_table(cased):
    table = word_start_table(cased)
    assert table.shape == (VOCAB_SIZE,) and table.dtype == np.bool_
    tokens = cased.convert_ids_to_tokens(range(VOCAB_SIZE))
    assert table.tolist() == [not token.startswith("##") for token in tokens]
    assert table[:5].all() and not table.all()


def test_hash_is_that_of_the_saved_file_and_ignores_padding(cased, uncased, tmp_path):
    save_tokenizer(cased, tmp_path)
    expected = hashlib.sha256((tmp_path / "tokenizer.json").read_bytes()).hexdigest()
    assert tokenizer_hash(cased) == expected != tokenizer_hash(uncased)
    loaded = load_tokenizer(tmp_path)
    loaded("ba la", truncation=True, max_length=3, padding="max_length")
    assert tokenizer_hash(loaded) == expected


def write_bert(folder: Path, tokens: str) -> Path:
    """A folder as Google's BERT and BERTurk have it: vocab.txt, two lines of settings, no tokenizer.json."""
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(tokens.split()) + "\n", encoding="utf-8")
    (folder / "config.json").write_text('{"model_type": "bert"}')
    (folder / "tokenizer_config.json").write_text('{"do_lower_case": false, "max_len": 512}')
    return folder


def test_other_wordpiece_tokenizers_work(tmp_path):
    folder = write_bert(tmp_path / "bert", "[PAD] [unused0] [UNK] [CLS] [SEP] [MASK] çocuk ##lar İ ##stanbul ' un")
    tokenizer = load_tokenizer(folder)
    assert tokenizer.tokenize("çocuklar İstanbul'un") == ["çocuk", "##lar", "İ", "##stanbul", "'", "un"]
    assert np.flatnonzero(~word_start_table(tokenizer)).tolist() == [7, 9]
    save_tokenizer(tokenizer, tmp_path / "saved")
    saved = AutoTokenizer.from_pretrained(tmp_path / "saved")
    assert saved("çocuklar", "un").data == tokenizer("çocuklar", "un").data


# R14 row 17
def test_missing_special_tokens_are_refused_by_name(tmp_path):
    folder = write_bert(tmp_path / "bert", "[PAD] [UNK] [CLS] çocuk ##lar un")
    with pytest.raises(UserError, match=r"no \[SEP\], \[MASK\]"):
        load_tokenizer(folder)
    (folder / "vocab.txt").unlink()
    with pytest.raises(UserError, match="no vocabulary there"):
        load_tokenizer(folder)


@pytest.mark.parametrize(
    ("kind", "model", "trainer"),
    [
        ("BPE", models.BPE(unk_token="[UNK]"), trainers.BpeTrainer),
        ("Unigram", models.Unigram(), trainers.UnigramTrainer),
    ],
)
def test_other_kinds_are_refused(tmp_path, kind, model, trainer):
    backend = Tokenizer(model)
    specials = list(SPECIAL_TOKENS.values())
    options = {"vocab_size": 40, "special_tokens": specials, "show_progress": False}
    backend.train_from_iterator(["ankara izmir bursa"], trainer(**options))
    PreTrainedTokenizerFast(tokenizer_object=backend, **SPECIAL_TOKENS).save_pretrained(tmp_path)
    with pytest.raises(UserError, match=f"a {kind} tokenizer"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("name", ["./out", "../tokenizer", "/no/such", "~/no-such", "a/b/c", "near/tokeniser", "file"])
def test_a_path_with_a_typo_never_goes_to_the_network(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    Path("near").mkdir()
    Path("file").touch()
    monkeypatch.setattr(tokenization, "cached_file", lambda *_, **__: pytest.fail("asked the Hub"))
    with pytest.raises(UserError, match=f"{name}: no such folder"):
        load_tokenizer(name)


def test_what_the_hub_does_not_give_is_one_line(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    message = "no-such-organisation/no-such-tokenizer: .*; check the id and the network"
    with pytest.raises(UserError, match=message) as refusal:
        load_tokenizer("no-such-organisation/no-such-tokenizer")
    assert refusal.value.exit_code == ENVIRONMENT


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"auto_map": {"AutoTokenizer": ["evil.Tokenizer", None]}}, r"auto_map"),
        ({"vocab_file": "../secret.txt"}, r"outside its folder \(vocab_file"),
        ({"tokenizer_file": "/etc/passwd"}, r"outside its folder \(tokenizer_file"),
    ],
)
def test_unsafe_configs_are_refused(cased, tmp_path, entry, message):
    save_tokenizer(cased, tmp_path)
    config = tmp_path / "tokenizer_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | entry))
    with pytest.raises(UserError, match=message):
        load_tokenizer(tmp_path)


def test_a_broken_file_is_one_line(cased, tmp_path):
    save_tokenizer(cased, tmp_path)
    (tmp_path / "tokenizer.json").write_text('{"version": "1.0"')
    with pytest.raises(UserError, match="check its tokenizer files"):
        load_tokenizer(tmp_path)
