"""Counts of whole numbers (lengths, tokens, packed words), made unit by unit and added up.

    total = add_up([{"lengths": tally([3, 1, 3])}, {"lengths": tally([9])}])
    total["lengths"]  ->  (array([1, 3, 9]), array([1, 2, 1]))
"""

from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

MAX_COUNTED = 1_000_000  # different words counted at once; beyond it the rarest go
WORDS = "common_words"  # the one tally that may grow with the corpus and is cut off
_ADDED_AT_ONCE = 64
_BITS_A_TOKEN, _MAX_PACKED = 21, 3

Tally = tuple[np.ndarray, np.ndarray]  # the different numbers, rising; how often each came; both int64
Counts = dict[str, Tally]


def tally(values: np.ndarray) -> Tally:
    """Count equal numbers."""
    found = pc.value_counts(pa.array(np.asarray(values, dtype=np.int64)))
    keys, counts = found.field("values").to_numpy(), found.field("counts").to_numpy()
    order = np.argsort(keys)
    return keys[order], counts[order]


def once(number: int) -> Tally:
    """A tally of one thing, `number` times."""
    return np.zeros(1, dtype=np.int64), np.array([number], dtype=np.int64)


def total(counted: Tally) -> int:
    """How many things were counted."""
    return int(counted[1].sum())


def add_up(parts: Iterable[Counts]) -> Counts:
    """The sum of tallies by name. Of WORDS the most frequent MAX_COUNTED stay."""
    waiting: dict[str, list[Tally]] = {}
    for part in parts:
        for name, counted in part.items():
            tallies = waiting.setdefault(name, [])
            tallies.append(counted)
            if len(tallies) == _ADDED_AT_ONCE:
                waiting[name] = [_add(name, tallies)]
    return {name: _add(name, tallies) for name, tallies in waiting.items()}


def _add(name: str, tallies: list[Tally]) -> Tally:
    keys, where = np.unique(np.concatenate([keys for keys, _ in tallies]), return_inverse=True)
    weights = np.concatenate([counts for _, counts in tallies])
    counts = np.bincount(where, weights=weights, minlength=keys.size).astype(np.int64)
    if name == WORDS and keys.size > MAX_COUNTED:
        keep = np.sort(np.argsort(-counts, kind="stable")[:MAX_COUNTED])
        keys, counts = keys[keep], counts[keep]
    return keys, counts


class LengthCounts:
    """Numbers of things by length, and what is said of them."""

    def __init__(self, counted: Tally):
        lengths, counts = counted
        self.counts = np.zeros(int(lengths.max(initial=0)) + 1, dtype=np.int64)
        self.counts[lengths] = counts

    def __getitem__(self, length: int) -> int:
        return int(self.counts[length]) if length < self.counts.size else 0

    def items(self) -> list[tuple[int, int]]:
        """(length, number) of every length there is, shortest first."""
        return [(length, int(self.counts[length])) for length in np.flatnonzero(self.counts).tolist()]

    @property
    def number(self) -> int:
        """How many things there are."""
        return int(self.counts.sum())

    @property
    def longest(self) -> int:
        """The greatest length, 0 without any."""
        return self.counts.size - 1

    def summary(self) -> dict[str, float]:
        """number, mean, shortest, quartiles and longest."""
        number, upto = self.number, np.cumsum(self.counts)
        names = {"shortest": 0.0, "quarter": 0.25, "median": 0.5, "three_quarters": 0.75, "longest": 1.0}
        ranks = {name: min(number, max(1, int(np.ceil(share * number)))) for name, share in names.items()}
        mean = float(self.counts @ np.arange(self.counts.size)) / max(number, 1)
        return {"number": number, "mean": mean, **{name: int(np.searchsorted(upto, r)) for name, r in ranks.items()}}

    def histogram(self, edges: list[int]) -> dict[str, list[int]]:
        """`numbers[i]` are of edges[i] <= length < edges[i + 1]; shorter and longer ones go into the end bins."""
        at = np.clip(np.searchsorted(edges, np.arange(self.counts.size), side="right") - 1, 0, len(edges) - 2)
        numbers = np.bincount(at, weights=self.counts, minlength=len(edges) - 1)
        return {"edges": list(edges), "numbers": numbers.astype(int).tolist()}


def pack_words(ids: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """One integer for each word that begins at `starts` of `ids` and has `lengths` tokens, at most three.

    Longer words are left out: none of the most common words of a corpus has four tokens of a vocabulary made for it.
    """
    short = lengths <= _MAX_PACKED
    starts, lengths = starts[short], lengths[short]
    keys = ids[starts].astype(np.int64) + 1
    for place in range(1, _MAX_PACKED):
        longer = np.flatnonzero(lengths > place)
        keys[longer] |= (ids[starts[longer] + place].astype(np.int64) + 1) << (_BITS_A_TOKEN * place)
    return keys


def most_common(words: Tally, number: int) -> list[tuple[list[int], int]]:
    """Packed words as (token ids, count), most frequent first; among equals the one with the lower ids."""
    keys, counts = words
    best = np.argsort(-counts, kind="stable")[:number]
    return [(_unpack(int(keys[i])), int(counts[i])) for i in best]


def _unpack(key: int) -> list[int]:
    parts = [(key >> (_BITS_A_TOKEN * place)) & ((1 << _BITS_A_TOKEN) - 1) for place in range(_MAX_PACKED)]
    return [part - 1 for part in parts if part]
