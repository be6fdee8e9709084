"""Counts that grow batch by batch: of lengths, of words.

    counts = LengthCounts(); counts.add(np.array([3, 1, 3])); counts.items()  ->  [(1, 1), (3, 2)]
"""

import numpy as np

MAX_COUNTED = 1_000_000  # different words counted at once; beyond it the rarest go
_BITS_A_TOKEN, _MAX_PACKED = 21, 3


class LengthCounts:
    """Exact numbers of things by length, in memory proportional to the longest."""

    def __init__(self) -> None:
        self.counts = np.zeros(1, dtype=np.int64)

    def add(self, lengths: np.ndarray) -> None:
        """Count some more."""
        self.counts = add_counts(self.counts, np.bincount(lengths))

    def __getitem__(self, length: int) -> int:
        return int(self.counts[length]) if length < self.counts.size else 0

    def items(self) -> list[tuple[int, int]]:
        """(length, number) of every length there is, shortest first."""
        return [(length, int(self.counts[length])) for length in np.flatnonzero(self.counts).tolist()]

    @property
    def number(self) -> int:
        return int(self.counts.sum())

    @property
    def longest(self) -> int:
        return int(np.flatnonzero(self.counts)[-1]) if self.number else 0

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


class WordCounter:
    """Counts words of at most three tokens, each packed into one integer.

    Longer words are left out: none of the most common words of a corpus has four tokens of a vocabulary made for it.
    """

    def __init__(self) -> None:
        self.keys, self.counts = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
        self._waiting: list[np.ndarray] = []

    def add(self, ids: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> None:
        """Count the words that begin at `starts` of `ids` and have `lengths` tokens."""
        short = lengths <= _MAX_PACKED
        starts, lengths = starts[short], lengths[short]
        keys = ids[starts].astype(np.int64) + 1
        for place in range(1, _MAX_PACKED):
            longer = np.flatnonzero(lengths > place)
            keys[longer] |= (ids[starts[longer] + place].astype(np.int64) + 1) << (_BITS_A_TOKEN * place)
        self._waiting.append(keys)
        if sum(map(len, self._waiting)) > 2 * MAX_COUNTED:
            self._merge()

    def most_common(self, number: int) -> list[tuple[list[int], int]]:
        """(token ids, count), most frequent first; among equals the one with the lower ids."""
        self._merge()
        best = np.argsort(-self.counts, kind="stable")[:number]
        return [(_unpack(int(self.keys[i])), int(self.counts[i])) for i in best]

    def _merge(self) -> None:
        new_keys, new_counts = np.unique(np.concatenate([*self._waiting, self.keys[:0]]), return_counts=True)
        self._waiting.clear()
        keys, where = np.unique(np.concatenate([self.keys, new_keys]), return_inverse=True)
        counts = np.bincount(where, weights=np.concatenate([self.counts, new_counts]), minlength=keys.size)
        if keys.size > MAX_COUNTED:
            keep = np.sort(np.argsort(-counts, kind="stable")[:MAX_COUNTED])
            keys, counts = keys[keep], counts[keep]
        self.keys, self.counts = keys, counts.astype(np.int64)


def _unpack(key: int) -> list[int]:
    parts = [(key >> (_BITS_A_TOKEN * place)) & ((1 << _BITS_A_TOKEN) - 1) for place in range(_MAX_PACKED)]
    return [part - 1 for part in parts if part]


def add_counts(total: np.ndarray, new: np.ndarray) -> np.ndarray:
    """The sum of two arrays of counts, as long as the longer one."""
    longer, shorter = (total, new) if total.size >= new.size else (new, total)
    longer[: shorter.size] += shorter
    return longer
