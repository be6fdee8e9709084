"""Counting batch by batch equals counting at once."""

from collections import Counter

import numpy as np

from turkbert.data import counts
from turkbert.data.counts import LengthCounts, WordCounter


def test_length_counts():
    lengths = LengthCounts()
    assert lengths.summary()["number"] == 0
    lengths.add(np.array([3, 1, 3]))
    lengths.add(np.array([9]))
    lengths.add(np.array([], dtype=np.int64))
    assert lengths.items() == [(1, 1), (3, 2), (9, 1)]
    assert (lengths[3], lengths[4], lengths[99]) == (2, 0, 0)
    assert lengths.summary() == {
        "number": 4, "mean": 4.0, "shortest": 1, "quarter": 1, "median": 3, "three_quarters": 3, "longest": 9,
    }  # fmt: skip
    assert lengths.histogram([1, 3, 4]) == {"edges": [1, 3, 4], "numbers": [1, 3]}


def test_word_counter_equals_a_counter(monkeypatch):
    monkeypatch.setattr(counts, "MAX_COUNTED", 400)  # merges often, and never forgets a frequent word
    rng = np.random.default_rng(0)
    counter, expected = WordCounter(), Counter()
    for _ in range(60):
        lengths = rng.integers(1, 5, 50)
        words = [(rng.integers(0, 3, length) * (2**20 - 1) // 2).tolist() for length in lengths]
        starts = np.cumsum([0, *lengths[:-1]])
        counter.add(np.concatenate(words).astype(np.int32), starts, lengths)
        expected.update(tuple(word) for word in words if len(word) <= 3)
    assert {tuple(word): count for word, count in counter.most_common(500)} == dict(expected)
    numbers = [count for _, count in counter.most_common(500)]
    assert numbers == sorted(numbers, reverse=True)


def test_word_counter_forgets_only_the_rarest(monkeypatch):
    monkeypatch.setattr(counts, "MAX_COUNTED", 10)
    counter = WordCounter()
    for number in range(100):
        ids = np.array([7, 7, 8, 100 + number], dtype=np.int32)
        counter.add(ids, np.arange(4), np.ones(4, dtype=np.int64))
    assert counter.most_common(2) == [([7], 200), ([8], 100)]
    assert counter.keys.size <= 10
