"""Do task texts stand in the pretraining corpus? Shared sequences of 13 words tell, as in GPT-3's contamination test.

    index = SequenceIndex(13)
    index.add("tasks/ner:17", "bir iki üç ...")
    list(index.find("... bir iki üç ..."))    # ["tasks/ner:17"]

The index grows with the tasks alone: documents stream past it. Words are compared in Turkish lower case and without
punctuation (Brown et al. 2020, appendix C, has N = 13 as well); texts of fewer words cannot overlap.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

NUM_WORDS = 13
_WORD = re.compile(r"\w+")
_FOLD = str.maketrans({"I": "ı", "İ": "i"})
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


def split_words(text: str) -> list[str]:
    """Lower-case words without punctuation.

    >>> split_words("İstanbul'un IRMAĞI.")
    ['istanbul', 'un', 'ırmağı']
    """
    return _WORD.findall(text.translate(_FOLD).lower())


def hash_sequences(words: list[str], num_words: int) -> np.ndarray:
    """(max(0, W - num_words + 1),) uint64: a hash of each sequence of `num_words` words, for this process alone."""
    if len(words) < num_words:
        return np.empty(0, np.uint64)
    hashes = np.fromiter(map(hash, words), np.int64, len(words)).view(np.uint64)
    num_sequences = len(words) - num_words + 1
    total = np.zeros(num_sequences, np.uint64)
    for place in range(num_words):  # Horner's rule, modulo 2**64
        total = total * _MULTIPLIER + hashes[place : place + num_sequences]
    return total


class SequenceIndex:
    """All sequences of `num_words` words of the task texts."""

    def __init__(self, num_words: int = NUM_WORDS):
        self.num_words = num_words
        self._names: list[str] = []
        self._words: list[list[str]] = []
        self._parts: list[tuple[np.ndarray, np.ndarray]] = []
        self._sorted: tuple[np.ndarray, np.ndarray] | None = None

    def add(self, name: str, text: str) -> bool:
        """Take in a text; False if it is too short to overlap with anything."""
        words = split_words(text)
        hashes = hash_sequences(words, self.num_words)
        if not len(hashes):
            return False
        self._parts.append((hashes, np.full(len(hashes), len(self._names))))
        self._names.append(name)
        self._words.append(words)
        self._sorted = None
        return True

    def find(self, document: str) -> Iterator[str]:
        """The names of the texts that share a sequence with the document, each once."""
        if not self._parts:
            return
        hashes, numbers = self._sorted or self._sort()
        words = split_words(document)
        wanted = hash_sequences(words, self.num_words)
        first = np.searchsorted(hashes, wanted, "left")
        hits = np.flatnonzero(hashes[np.minimum(first, len(hashes) - 1)] == wanted)
        found: set[int] = set()
        for place in hits:
            last = np.searchsorted(hashes, wanted[place], "right")
            sequence = words[place : place + self.num_words]
            for number in numbers[first[place] : last]:
                if number not in found and _holds(self._words[number], sequence):  # equal hashes alone prove nothing
                    found.add(number)
                    yield self._names[number]

    def _sort(self) -> tuple[np.ndarray, np.ndarray]:
        hashes = np.concatenate([part[0] for part in self._parts])
        numbers = np.concatenate([part[1] for part in self._parts])
        order = np.argsort(hashes, kind="stable")
        self._sorted = (hashes[order], numbers[order])
        return self._sorted


def _holds(words: list[str], sequence: list[str]) -> bool:
    width = len(sequence)
    return any(words[place : place + width] == sequence for place in range(len(words) - width + 1))


def row_texts(value: Any) -> Iterable[str]:
    """Every text in a row of any task: strings, lists of words joined, and what nested values hold.

    >>> list(row_texts({"tokens": ["Bir", "kuş"], "answers": {"text": ["kuş"]}, "label": 1}))
    ['Bir kuş', 'kuş']
    """
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from row_texts(part)
    elif isinstance(value, list):
        if all(isinstance(part, str) for part in value):
            yield " ".join(value)
        else:
            for part in value:
                yield from row_texts(part)
