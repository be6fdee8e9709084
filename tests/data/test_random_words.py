"""Random words: counted exactly, grouped by length, whole words with a usable first token."""

import numpy as np
import pytest

from turkbert.data.random_words import RandomWordSet, count_words
from turkbert.tokenization import letter_table, word_start_table

STARTS = np.array([True] * 6 + [False] * 4)  # tokens 6 to 9 continue a word
USABLE = np.array([False] * 2 + [True] * 4 + [False] * 4)  # 0 and 1 are marks

#        ev  ev  kitap+lık  .  ev  kitap+lık+çı  yol  | kitap+lık  yol  ev
CHUNKS = [np.array([2, 2, 3, 6, 1, 2, 3, 6, 7, 4]), np.array([3, 6, 4, 2])]


def random_words(chunks, max_tokens_per_word=5, **settings) -> RandomWordSet:
    counts = [count_words(chunk, STARTS, USABLE, max_tokens_per_word) for chunk in chunks]
    return RandomWordSet.build(counts, **{"min_word_frequency": 1, **settings})


def build(**settings) -> dict[int, list]:
    words = random_words(CHUNKS, **settings)
    return {length: group.tolist() for length, group in words.groups.items()}


def test_words_are_counted_over_chunks_most_frequent_first():
    assert build() == {1: [[2], [4]], 2: [[3, 6]], 3: [[3, 6, 7]]}  # ev 4, yol 2; the mark 1 is no word


def test_limits():
    assert build(min_word_frequency=2) == {1: [[2], [4]], 2: [[3, 6]]}
    assert build(min_word_frequency=3) == {1: [[2]]}
    assert build(max_tokens_per_word=2) == {1: [[2], [4]], 2: [[3, 6]]}
    assert build(max_words_per_group=1)[1] == [[2]]


def test_chunking_does_not_matter():
    whole = random_words([np.concatenate(CHUNKS)])
    assert {length: group.tolist() for length, group in whole.groups.items()} == build()
    assert random_words([]).groups == {}
    assert random_words([np.array([], dtype=np.int32)]).groups == {}


def test_by_default_one_in_a_million_is_frequent_enough():
    common, rare = np.repeat(2, 3_000_000), np.array([3, 3, 4, 4, 4])
    assert random_words([common, rare], min_word_frequency=None).groups[1].tolist() == [[2], [4]]
    assert random_words([np.array([2, 3, 3])], min_word_frequency=None).groups[1].tolist() == [[3]]


def test_words_met_once_are_forgotten_where_there_are_too_many(monkeypatch):
    monkeypatch.setattr("turkbert.data.random_words.MAX_COUNTED", 2)
    chunks = [np.array([2, 2, 3]), np.array([4, 5]), np.array([2])]
    assert random_words(chunks).groups[1].tolist() == [[2]]


def test_sampling_depends_on_the_seed_alone():
    chunks = [np.repeat(np.arange(2, 6), 3)]
    groups = [
        random_words(chunks, max_words_per_group=2, sample_words=True, seed=seed).groups[1].tolist()
        for seed in (*range(20), 0)
    ]
    assert groups[0] == groups[-1]
    assert {len(group) for group in groups} == {2}
    assert {tuple(word) for group in groups for word in group} == {(2,), (3,), (4,), (5,)}


def test_save_and_load(tmp_path):
    words = random_words(CHUNKS)
    words.save(tmp_path)
    loaded = RandomWordSet.load(tmp_path)
    assert loaded.counts() == words.counts() == {1: 2, 2: 1, 3: 1}
    assert all((loaded.groups[length] == group).all() for length, group in words.groups.items())
    assert loaded.groups[1].dtype == np.int32


def test_no_pickle_is_loaded(tmp_path):
    np.savez(tmp_path / "random_words.npz", **{"1": np.array([[{"a": 1}]], dtype=object)})
    with pytest.raises(ValueError, match="pickle"):
        RandomWordSet.load(tmp_path)


def test_real_words_begin_with_a_letter(sample_tokenizer, sample_texts):
    table = word_start_table(sample_tokenizer)
    usable = letter_table(sample_tokenizer)
    ids = sample_tokenizer(sample_texts, add_special_tokens=False)["input_ids"]
    words = RandomWordSet.build([count_words(np.concatenate(ids), table, usable)], min_word_frequency=2)
    assert words.counts()[1] > 300 and words.counts()[2] > 50
    for length, group in words.groups.items():
        assert group.shape[1] == length
        for word in group.tolist():
            tokens = sample_tokenizer.convert_ids_to_tokens(word)
            assert tokens[0][0].isalpha()
            assert all(token.startswith("##") for token in tokens[1:])
