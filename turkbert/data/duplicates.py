"""Documents that come twice: exact copies by hash, near copies by MinHash (extra `dedup`).

find_first(["a b c", "d e f", "a  b c"], near=False)  ->  [0, 1, 0]
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from datasets import Dataset

from turkbert.data.documents import CorpusLedger
from turkbert.data.places import DocumentPlaces
from turkbert.data.raw_text import ignore
from turkbert.errors import config_error

SHINGLE_WORDS = 5
SIMILARITY = 0.8  # estimated Jaccard similarity of two documents' shingles from which on they count as one
PERMUTATIONS = 128
_DOCUMENTS_A_READ = 256


def drop_duplicates(
    documents: Dataset,
    near: bool,
    places: DocumentPlaces,
    ledger: CorpusLedger,
    rejects: Path,
    on_read: Callable[[int], None] = ignore,
) -> Dataset:
    """The first of each group of like documents; the others are counted in the ledger and listed in `rejects`.

    Args:
        places: of the documents, to be named in `rejects`.
        on_read: called with the number of documents looked at since the last call.
    """
    first = find_first(documents, near, on_read)
    is_first = first == np.arange(first.size)
    dropped = np.flatnonzero(~is_first)
    ledger.documents_kept -= dropped.size
    ledger.rejected["duplicate"] = int(dropped.size)
    with open(rejects, "a", encoding="utf-8", errors="backslashreplace") as file:
        for number in dropped.tolist():
            record = {"reason": "duplicate", **places[number], "copy_of": places[int(first[number])]}
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
    return documents.select(np.flatnonzero(is_first))


def find_first(documents: Dataset, near: bool, on_read: Callable[[int], None] = ignore) -> np.ndarray:
    """`(D,)` int64: the number of the first document of each one's group of like documents.

    Exact copies differ at most in white space; the search takes about 50 bytes of memory a document, for near
    copies (Broder 1997) about 500.

    Raises:
        UserError: near copies are asked for and datasketch is not installed.
    """
    return _find_near(documents, on_read) if near else _find_exact(documents, on_read)


def _find_exact(documents: Dataset, on_read: Callable[[int], None]) -> np.ndarray:
    texts = _texts(documents, on_read)
    digests = np.fromiter((_digest(" ".join(text.split()).encode()) for text in texts), np.uint64, len(documents))
    _, first, group = np.unique(digests, return_index=True, return_inverse=True)
    return first[group]


def _find_near(documents: Dataset, on_read: Callable[[int], None]) -> np.ndarray:
    """Documents are alike if they agree in one band of their signatures, as in datasketch's own MinHashLSH.

    That index would keep 4 KB a document; of the bands' digests only those that come twice can tell of a copy.
    """
    try:
        from datasketch import MinHash, MinHashLSH
    except ImportError:
        raise config_error("dedup", "near needs the package datasketch", 'pip install "turkbert[dedup]"') from None
    index = MinHashLSH(threshold=SIMILARITY, num_perm=PERMUTATIONS)  # chooses bands for that similarity
    digests = np.empty((len(documents), index.b), np.uint64)
    for number, text in enumerate(_texts(documents, on_read)):
        words = text.split()
        last = max(1, len(words) - SHINGLE_WORDS + 1)
        signature = MinHash(num_perm=PERMUTATIONS, seed=1)
        signature.update_batch({" ".join(words[i : i + SHINGLE_WORDS]).encode() for i in range(last)})
        bands = signature.hashvalues[: index.b * index.r].reshape(index.b, index.r)
        digests[number] = [_digest(band.tobytes(), salt=place) for place, band in enumerate(bands)]
    different, counts = np.unique(digests, return_counts=True)
    suspects = np.flatnonzero(np.isin(digests, different[counts > 1]).any(axis=1))
    first = np.arange(len(documents))
    seen: dict[int, int] = {}  # digest of a band -> the first of the documents with it
    for number in suspects.tolist():
        bands = digests[number].tolist()
        alike = [seen[band] for band in bands if band in seen]
        if alike:
            first[number] = min(alike)
        else:
            seen.update(dict.fromkeys(bands, number))
    return first


def _digest(content: bytes, salt: int = 0) -> int:
    return int.from_bytes(hashlib.blake2b(content, digest_size=8, salt=bytes([salt])).digest(), "little")


def _texts(documents: Dataset, on_read: Callable[[int], None]) -> Iterator[str]:
    arrow = documents.with_format("arrow")
    for start in range(0, len(documents), _DOCUMENTS_A_READ):
        texts = arrow[start : start + _DOCUMENTS_A_READ]["text"].to_pylist()
        yield from texts
        on_read(len(texts))
