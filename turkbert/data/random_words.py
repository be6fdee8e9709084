"""Corpus words grouped by their number of tokens: what a masked word may be replaced by.

    token rows -> {1: [[ev], [ve], ...], 2: [[kitap, ##lık], ...], ...}
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

_BITS, _PACKED = 21, 3  # three tokens of a vocabulary below two million fit into one number
MAX_COUNTED = 5_000_000  # different words of one length that are counted at once: at most 140 MB

class RandomWordSet:
    """Words by length.

    Args:
        groups: number of tokens L -> `(num_words, L)` int32 token ids, most frequent word first.
    """

    def __init__(self, groups: dict[int, np.ndarray]):
        self.groups = {length: words for length, words in groups.items() if len(words)}

    @classmethod
    def build(
        cls,
        token_chunks: Iterable[np.ndarray],
        word_starts: np.ndarray,
        usable: np.ndarray,
        max_tokens_per_word: int = 5,
        max_words_per_group: int = 5000,
        min_word_frequency: int = 150,
        sample_words: bool = False,
        seed: int = 0,
    ) -> "RandomWordSet":
        """Count the words of flat token arrays (each beginning at a word) and keep the most frequent ones.

        Args:
            token_chunks: `(N,)` id arrays; chunk by chunk, so that the corpus need not fit into memory.
            word_starts: `(V,)` bool, tokens that begin a word.
            usable: `(V,)` bool, first tokens a replacement may have (letters; no marks, digits or special tokens).
            sample_words: sample the words of a group instead of taking the most frequent ones.
        """
        counted: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        for tokens in token_chunks:
            starts = np.flatnonzero(word_starts[tokens])
            lengths = np.diff(starts, append=tokens.size)
            wanted = usable[tokens[starts]]
            for length in range(1, max_tokens_per_word + 1):
                of_length = starts[wanted & (lengths == length)]
                words = tokens[of_length[:, None] + np.arange(length)]
                counted[length] = _add_counts(counted.get(length), words)
        rng = np.random.default_rng(seed)
        groups = {}
        for length, (words, counts) in counted.items():
            keep = np.flatnonzero(counts >= min_word_frequency)
            keep = keep[np.argsort(-counts[keep], kind="stable")]
            if sample_words:
                keep = keep[np.sort(rng.permutation(keep.size)[:max_words_per_group])]
            groups[length] = words[keep[:max_words_per_group]].astype(np.int32)
        return cls(groups)

    def save(self, folder: Path) -> None:
        """Write random_words.npz."""
        np.savez(folder / "random_words.npz", **{str(length): words for length, words in self.groups.items()})

    @classmethod
    def load(cls, folder: Path) -> "RandomWordSet":
        """Read what save() wrote; no pickle is accepted."""
        with np.load(folder / "random_words.npz", allow_pickle=False) as arrays:
            return cls({int(length): arrays[length] for length in arrays.files})

    def counts(self) -> dict[int, int]:
        """Number of words of each length."""
        return {length: len(words) for length, words in sorted(self.groups.items())}


def _add_counts(
    counted: tuple[np.ndarray, np.ndarray] | None, words: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Merge `(n, L)` words into (sorted unique words, their counts); over the limit, words met once are forgotten."""
    new_words, new_counts = _unique_rows(words, np.ones(len(words), dtype=np.int64))
    if counted is not None:
        new_words, new_counts = _unique_rows(
            np.concatenate([counted[0], new_words]), np.concatenate([counted[1], new_counts])
        )
    if len(new_words) > MAX_COUNTED:
        new_words, new_counts = new_words[new_counts > 1], new_counts[new_counts > 1]
    return new_words, new_counts


def _unique_rows(words: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`(n, L)` words -> (the different ones, sorted; the sum of the counts of each)."""
    if not len(words):
        return words, counts
    if words.shape[1] <= _PACKED:  # one 64-bit number a word sorts several times as fast as a row
        packed = sum(words[:, i].astype(np.int64) << (_BITS * (_PACKED - 1 - i)) for i in range(words.shape[1]))
        order = np.argsort(packed, kind="stable")
    else:
        order = np.lexsort(words.T[::-1])
    words, counts = words[order], counts[order]
    first = np.ones(len(words), dtype=bool)
    first[1:] = (words[1:] != words[:-1]).any(axis=1)
    return words[first], np.add.reduceat(counts, np.flatnonzero(first))
