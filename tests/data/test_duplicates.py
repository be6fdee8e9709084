import json
import random
import sys

import numpy as np
import pytest
from datasets import Dataset

from turkbert.data.documents import CorpusLedger
from turkbert.data.duplicates import PERMUTATIONS, SHINGLE_WORDS, SIMILARITY, drop_duplicates, find_first
from turkbert.data.places import DocumentPlaces
from turkbert.errors import UserError

LONG = " ".join(f"kelime{number}" for number in range(200))


def documents(*texts: str) -> Dataset:
    return Dataset.from_dict({"text": list(texts)})


def test_first_of_exact_copies_stays():
    assert find_first(documents("a b", "c", "a  b", "c\n", "d"), near=False).tolist() == [0, 1, 0, 1, 4]


def test_near_copies_are_found():
    pytest.importorskip("datasketch")
    near_copy = LONG.replace("kelime7 ", "başka ")
    assert find_first(documents("kısa", LONG, near_copy, LONG[::-1]), near=True).tolist() == [0, 1, 1, 3]


def test_near_copies_are_those_of_the_library_s_own_index():
    """The first that no earlier first is like; not what is like a copy alone."""
    datasketch = pytest.importorskip("datasketch")
    rng = random.Random(0)
    words = [f"kelime{number}" for number in range(40)]
    texts = []
    for _ in range(150):
        text = rng.choice(texts).split() if texts and rng.random() < 0.6 else rng.choices(words, k=60)
        for place in rng.sample(range(60), rng.randrange(6)):
            text[place] = rng.choice(words)
        texts.append(" ".join(text))
    index = datasketch.MinHashLSH(threshold=SIMILARITY, num_perm=PERMUTATIONS)
    expected = []
    for number, text in enumerate(texts):
        words = text.split()
        signature = datasketch.MinHash(num_perm=PERMUTATIONS, seed=1)
        signature.update_batch([" ".join(words[i : i + SHINGLE_WORDS]).encode() for i in range(len(words) - 4)])
        expected.append(min(index.query(signature), default=number))
        if expected[-1] == number:
            index.insert(number, signature)
    assert 20 < sum(first != number for number, first in enumerate(expected)) < 130
    assert find_first(documents(*texts), near=True).tolist() == expected


def test_near_without_datasketch_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasketch", None)
    with pytest.raises(UserError, match=r"turkbert\[dedup\]"):
        find_first(documents("a"), near=True)


# R14 row 14
def test_dropped_documents_are_in_the_ledger(tmp_path):
    rejects = tmp_path / "rejects.jsonl"
    ledger = CorpusLedger(documents_in=3, documents_kept=3)
    places = DocumentPlaces([("ş.txt", 2), ("t.jsonl", 1)], np.array([1, 2, 7]))
    kept = drop_duplicates(documents("a", "b", "a"), False, places, ledger, rejects)
    assert kept["text"][:] == ["a", "b"]
    assert ledger.documents_in == ledger.documents_kept + sum(ledger.rejected.values())
    assert json.loads(rejects.read_text("utf-8")) == {
        "reason": "duplicate", "file": "t.jsonl", "place": "line 7",
        "copy_of": {"file": "ş.txt", "place": "document 1"},
    }  # fmt: skip
