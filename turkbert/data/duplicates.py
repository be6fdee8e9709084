"""Documents that come twice: exact copies by hash, near copies by MinHash (extra `dedup`).

    find_unique(["a b c", "d e f", "a  b c"], near=False)  ->  [True, True, False]
"""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from datasets import Dataset
from tqdm.auto import tqdm

from turkbert.data.documents import CorpusLedger
from turkbert.errors import config_error

SHINGLE_WORDS = 5
SIMILARITY = 0.8  # estimated Jaccard similarity of two documents' shingles from which on they count as one
PERMUTATIONS = 128
_DOCUMENTS_A_READ = 256


def drop_duplicates(documents: Dataset, near: bool, ledger: CorpusLedger, rejects: Path) -> Dataset:
    """The first of each group of like documents; the others are counted in the ledger and listed in `rejects`."""
    unique = find_unique(documents, near)
    dropped = np.flatnonzero(~unique)
    ledger.documents_kept -= dropped.size
    ledger.rejected["duplicate"] = int(dropped.size)
    with open(rejects, "a", encoding="utf-8") as file:
        for number in dropped.tolist():
            file.write(json.dumps({"reason": "duplicate", "place": f"document {number + 1}"}) + "\n")
    return documents.select(np.flatnonzero(unique))


def find_unique(documents: Dataset, near: bool) -> np.ndarray:
    """`(D,)` bool: True for the first of each group of like documents.

    Exact copies differ at most in white space, and cost 8 bytes a document. Near copies (Broder 1997) keep a
    signature of each document in memory, about 5 KB.

    Raises:
        UserError: near copies are asked for and datasketch is not installed.
    """
    return _find_first_near(documents) if near else _find_first(documents)


def _find_first(documents: Dataset) -> np.ndarray:
    digests = [
        hashlib.blake2b(" ".join(text.split()).encode(), digest_size=8).digest()
        for text in _texts(documents, "looking for copies")
    ]
    _, first = np.unique(np.frombuffer(b"".join(digests), dtype=np.uint64), return_index=True)
    unique = np.zeros(len(documents), dtype=bool)
    unique[first] = True
    return unique


def _find_first_near(documents: Dataset) -> np.ndarray:
    try:
        from datasketch import MinHash, MinHashLSH
    except ImportError:
        raise config_error("dedup", "near needs the package datasketch", 'pip install "turkbert[dedup]"') from None
    index = MinHashLSH(threshold=SIMILARITY, num_perm=PERMUTATIONS)
    unique = np.zeros(len(documents), dtype=bool)
    for number, text in enumerate(_texts(documents, "looking for near copies")):
        words = text.split()
        last = max(1, len(words) - SHINGLE_WORDS + 1)
        signature = MinHash(num_perm=PERMUTATIONS, seed=1)
        signature.update_batch({" ".join(words[i : i + SHINGLE_WORDS]).encode() for i in range(last)})
        unique[number] = not index.query(signature)
        if unique[number]:
            index.insert(number, signature, check_duplication=False)
    return unique


def _texts(documents: Dataset, desc: str) -> Iterator[str]:
    arrow = documents.with_format("arrow")
    for start in tqdm(range(0, len(documents), _DOCUMENTS_A_READ), desc=desc, delay=2, disable=None):
        yield from arrow[start : start + _DOCUMENTS_A_READ]["text"].to_pylist()
