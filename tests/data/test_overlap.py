"""Which task texts a document shares a sequence of words with, by hand and against a plain search."""

import random

import pytest

from turkbert.data.overlap import SequenceIndex, row_texts, split_words

THIRTEEN = "bir iki üç dört beş altı yedi sekiz dokuz on elli altmış yetmiş"


def found(document, *texts, num_words=13):
    index = SequenceIndex(num_words)
    for number, text in enumerate(texts):
        index.add(str(number), text)
    return list(index.find(document))


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (f"önce {THIRTEEN} sonra", ["0"]),
        ("BİR, İKİ; ÜÇ. DÖRT! BEŞ? ALTI YEDİ SEKİZ DOKUZ ON ELLİ ALTMIŞ YETMİŞ", ["0"]),
        (THIRTEEN.replace("altı", "yeni"), []),
        (THIRTEEN.rpartition(" ")[0], []),
        ("", []),
    ],
)
def test_thirteen_words_in_a_row(document, expected):
    assert found(document, f"girişte {THIRTEEN}") == expected


def test_short_texts_cannot_overlap():
    index = SequenceIndex()
    assert not index.add("kısa", "iki kelime") and list(index.find(THIRTEEN)) == []


def test_casing_is_turkish():
    assert split_words("IRMAK İzmir'de") == ["ırmak", "izmir", "de"]


def test_as_a_plain_search_finds_them():
    rng = random.Random(5)
    texts = [" ".join(rng.choices("abc", k=30)) for _ in range(40)]
    document = " ".join(rng.choices("abc", k=60))
    width = 6
    sequences = {tuple(document.split()[i : i + width]) for i in range(60 - width + 1)}
    expected = {
        str(n)
        for n, text in enumerate(texts)
        if any(tuple(text.split()[i : i + width]) in sequences for i in range(30 - width + 1))
    }
    result = found(document, *texts, num_words=width)
    assert 0 < len(expected) < 40 and set(result) == expected and len(result) == len(expected)


def test_texts_of_any_row():
    row = {"tokens": ["a", "b"], "answers": {"text": ["c"], "answer_start": [3]}, "n": 1, "pairs": [{"q": "d"}, ["e"]]}
    assert list(row_texts(row)) == ["a b", "c", "d", "e"]
