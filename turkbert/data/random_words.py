"""Corpus words grouped by their number of tokens: what a masked word may be replaced by.

    token rows -> {1: [[ev], [ve], ...], 2: [[kitap, ##lık], ...], ...}
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

MAX_COUNTED = 4_000_000  # different words that are counted at once: about 300 MB
RARE = 1_000_000  # one in so many words is frequent enough, unless min_word_frequency says otherwise
WORD_COUNTS = pa.schema({"word": pa.binary(), "count": pa.int64()})  # big-endian token ids, so that they sort


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
        counts: Iterable[pa.Table],
        max_words_per_group: int = 5000,
        min_word_frequency: int | None = None,
        sample_words: bool = False,
        seed: int = 0,
    ) -> "RandomWordSet":
        """Add up the tables of count_words() and keep the most frequent words of each length.

        Args:
            min_word_frequency: how often a word must come; None: once in a million words, and twice at least.
            sample_words: sample the words of a group instead of taking the most frequent ones.
        """
        words = _add_up(counts).sort_by("word")
        number = words["count"].to_numpy()
        lengths = pc.binary_length(words["word"]).to_numpy() // 4
        if min_word_frequency is None:
            min_word_frequency = max(2, int(number.sum()) // RARE)
        rng = np.random.default_rng(seed)
        groups = {}
        for length in np.unique(lengths).tolist():
            keep = np.flatnonzero((lengths == length) & (number >= min_word_frequency))
            keep = keep[np.argsort(-number[keep], kind="stable")]
            if sample_words:
                keep = keep[np.sort(rng.permutation(keep.size)[:max_words_per_group])]
            kept = b"".join(words["word"].take(pa.array(keep[:max_words_per_group])).to_pylist())
            groups[length] = np.frombuffer(kept, dtype=">i4").reshape(-1, length).astype(np.int32)
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


def count_words(
    tokens: np.ndarray, word_starts: np.ndarray, usable: np.ndarray, max_tokens_per_word: int = 5
) -> pa.Table:
    """The different words of a flat token array that begins at a word, and how often each comes.

    Args:
        word_starts: `(V,)` bool, tokens that begin a word.
        usable: `(V,)` bool, first tokens a replacement may have (letters; no marks, digits or special tokens).
    """
    starts = np.flatnonzero(word_starts[tokens])
    lengths = np.diff(starts, append=tokens.size)
    wanted = usable[tokens[starts]]
    tables = [WORD_COUNTS.empty_table()]
    for length in range(1, max_tokens_per_word + 1):
        of_length = starts[wanted & (lengths == length)]
        words = tokens[of_length[:, None] + np.arange(length)].astype(">i4")
        kind = pa.binary(4 * length)
        found = pc.value_counts(pa.FixedSizeBinaryArray.from_buffers(kind, len(words), [None, pa.py_buffer(words)]))
        columns = [found.field("values").cast(pa.binary()), found.field("counts")]
        tables.append(pa.table(columns, schema=WORD_COUNTS))
    return pa.concat_tables(tables)


def _add_up(counts: Iterable[pa.Table]) -> pa.Table:
    """One row a word. Where there are too many different words, those met once so far are forgotten."""
    waiting = [WORD_COUNTS.empty_table()]
    for table in counts:
        waiting.append(table)
        if sum(map(len, waiting[1:])) > MAX_COUNTED:
            waiting = [_sum(waiting)]
            if len(waiting[0]) > MAX_COUNTED:
                waiting = [waiting[0].filter(pc.field("count") > 1)]
    return _sum(waiting)


def _sum(tables: list[pa.Table]) -> pa.Table:
    summed = pa.concat_tables(tables).group_by("word", use_threads=False).aggregate([("count", "sum")])
    return summed.select(["word", "count_sum"]).rename_columns(["word", "count"])
