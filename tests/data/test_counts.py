"""Counting unit by unit equals counting at once."""

from collections import Counter

import numpy as np

from turkbert.data import counts
from turkbert.data.counts import WORDS, LengthCounts, add_up, most_common, once, pack_words, tally, total


def test_tallies_add_up():
    parts = [{"lengths": tally([3, 1, 3])}, {"lengths": tally([9]), "bytes": once(5)}, {"lengths": tally([])}]
    added = add_up(parts)
    assert [part.tolist() for part in added["lengths"]] == [[1, 3, 9], [1, 2, 1]]
    assert (total(added["lengths"]), total(added["bytes"])) == (4, 5)


def test_many_parts_are_added_a_few_at_a_time(monkeypatch):
    monkeypatch.setattr(counts, "_ADDED_AT_ONCE", 3)
    added = add_up({"x": tally([number % 7, 2**40])} for number in range(100))
    assert dict(zip(*(part.tolist() for part in added["x"]), strict=True)) == {
        **Counter(number % 7 for number in range(100)), 2**40: 100,
    }  # fmt: skip


def test_length_counts():
    assert LengthCounts(tally([])).summary()["number"] == 0
    lengths = LengthCounts(tally([3, 1, 3, 9]))
    assert lengths.items() == [(1, 1), (3, 2), (9, 1)]
    assert (lengths[3], lengths[4], lengths[99]) == (2, 0, 0)
    assert lengths.summary() == {
        "number": 4, "mean": 4.0, "shortest": 1, "quarter": 1, "median": 3, "three_quarters": 3, "longest": 9,
    }  # fmt: skip
    assert lengths.histogram([1, 3, 4]) == {"edges": [1, 3, 4], "numbers": [1, 3]}


def test_packed_words_equal_a_counter():
    rng = np.random.default_rng(0)
    parts, expected = [], Counter()
    for _ in range(60):
        lengths = rng.integers(1, 5, 50)
        words = [(rng.integers(0, 3, length) * (2**20 - 1) // 2).tolist() for length in lengths]
        starts = np.cumsum([0, *lengths[:-1]])
        parts.append({WORDS: tally(pack_words(np.concatenate(words).astype(np.int32), starts, lengths))})
        expected.update(tuple(word) for word in words if len(word) <= 3)
    found = most_common(add_up(parts)[WORDS], 500)
    assert {tuple(word): count for word, count in found} == dict(expected)
    numbers = [count for _, count in found]
    assert numbers == sorted(numbers, reverse=True)


def test_only_the_rarest_words_are_forgotten(monkeypatch):
    monkeypatch.setattr(counts, "MAX_COUNTED", 10)
    ids = [np.array([7, 7, 8, 100 + number], dtype=np.int32) for number in range(100)]
    parts = ({WORDS: tally(pack_words(part, np.arange(4), np.ones(4, dtype=np.int64)))} for part in ids)
    words = add_up(parts)[WORDS]
    assert most_common(words, 2) == [([7], 200), ([8], 100)]
    assert words[0].size <= 10
