import json
import sys

import pytest
from datasets import Dataset

from turkbert.data.documents import CorpusLedger
from turkbert.data.duplicates import drop_duplicates, find_unique
from turkbert.errors import UserError

LONG = " ".join(f"kelime{number}" for number in range(200))


def documents(*texts: str) -> Dataset:
    return Dataset.from_dict({"text": list(texts)})


def test_first_of_exact_copies_stays():
    unique = find_unique(documents("a b", "c", "a  b", "c\n", "d"), near=False)
    assert unique.tolist() == [True, True, False, False, True]


def test_near_copies_are_found():
    pytest.importorskip("datasketch")
    near_copy = LONG.replace("kelime7 ", "başka ")
    assert find_unique(documents(LONG, near_copy, LONG[::-1], "kısa"), near=True).tolist() == [True, False, True, True]


def test_near_without_datasketch_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasketch", None)
    with pytest.raises(UserError, match=r"turkbert\[dedup\]"):
        find_unique(documents("a"), near=True)


# R14 row 14
def test_dropped_documents_are_in_the_ledger(tmp_path):
    rejects = tmp_path / "rejects.jsonl"
    ledger = CorpusLedger(documents_in=3, documents_kept=3)
    kept = drop_duplicates(documents("a", "b", "a"), False, ledger, rejects)
    assert kept["text"][:] == ["a", "b"]
    assert ledger.documents_in == ledger.documents_kept + sum(ledger.rejected.values())
    assert json.loads(rejects.read_text()) == {"reason": "duplicate", "place": "document 3"}
