"""Sentence pairs: tiny documents by hand, and properties of any documents.

In the documents made here every token's id is its place plus 100, so a row tells where its tokens came from.
"""

from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import balanced_accuracy_score

from turkbert.data.pairs import (
    IS_NEXT,
    NOT_NEXT,
    Documents,
    PairPlan,
    PairRows,
    RowShape,
    build_continuations,
    build_pairs,
    count_windows,
    plan_pairs,
)
from turkbert.data.rows import unit_bounds

CLS, SEP, PAD, OFFSET = 2, 3, 0, 100


def make_documents(*documents: list[list[int]]) -> Documents:
    """Each document a list of sentences, each sentence a list of words' lengths in tokens."""
    words = [length for sentences in documents for sentence in sentences for length in sentence]
    tokens = np.arange(sum(words), dtype=np.int32) + OFFSET
    word_starts = np.zeros(tokens.size, dtype=bool)
    word_starts[np.cumsum([0, *words])[:-1]] = True
    starts = np.cumsum([0, *(sum(map(sum, sentences)) for sentences in documents)])
    sentence_ends = np.cumsum([sum(sentence) for sentences in documents for sentence in sentences])
    return Documents(tokens, starts, sentence_ends, word_starts)


def even_plan(shape: RowShape, random_share: float, padded_from: int | None = None) -> PairPlan:
    padded_from = shape.window if padded_from is None else padded_from
    return PairPlan(random_share, random_share, padded_from, [0] * (shape.window + 1))


def build(documents: Documents, shape: RowShape, plan: PairPlan, seed: int = 0) -> PairRows:
    return build_pairs(documents, shape, plan, CLS, SEP, PAD, np.random.default_rng(seed))


def planned(documents: Documents, shape: RowShape, probability=0.5, max_padding=0.1, balance="planned") -> PairPlan:
    return plan_pairs([count_windows(documents, shape)], shape, balance, probability, max_padding)


class Row(NamedTuple):
    """A finished row taken apart: places of A's and B's tokens in the documents."""

    a: list[int]
    b: list[int]
    label: int
    num_padding: int


def take_apart(rows: PairRows) -> list[Row]:
    """Also checks that the row has the form [CLS] A [SEP] B [SEP] [PAD]... and that its lengths say so."""
    taken = []
    columns = (rows.input_ids.tolist(), rows.length_a, rows.length, rows.next_sentence_label)
    for ids, length_a, length, label in zip(*columns, strict=True):
        assert ids[0] == CLS and ids[length_a + 1] == SEP and ids[length - 1] == SEP
        assert set(ids[length:]) <= {PAD}
        a, b = ids[1 : length_a + 1], ids[length_a + 2 : length - 1]
        assert min(a + b) >= OFFSET and a and b
        taken.append(Row([i - OFFSET for i in a], [i - OFFSET for i in b], label, len(ids) - length))
    return taken


# ---- by hand

# Tokens 0 to 11 in sentences of three, 12 to 16 in sentences of two and three; a word a token.
TWO_DOCUMENTS = make_documents([[1, 1, 1]] * 4, [[1, 1], [1, 1, 1]])
SHAPE = RowShape(block_size=11, overlap=4, edge_buffer=2)  # windows of 8, moved by 4


def test_labels_are_hugging_faces():
    assert (IS_NEXT, NOT_NEXT) == (0, 1)


def test_two_documents_by_hand():
    rows = build(TWO_DOCUMENTS, SHAPE, even_plan(SHAPE, random_share=0))
    assert rows.input_ids[:2].tolist() == [
        [CLS, 100, 101, 102, SEP, 103, 104, 105, 106, 107, SEP],  # cut at 3, nearer to the middle than 6
        [CLS, 104, 105, 106, 107, 108, SEP, 109, 110, 111, SEP],  # 4 tokens on; cut at 9, nearer to 8 than 6
    ]
    assert rows.length_a.tolist() == [3, 5, 5]
    assert rows.length.tolist() == [11, 11, 11]
    assert rows.next_sentence_label.tolist() == [IS_NEXT, IS_NEXT, NOT_NEXT]
    assert rows.input_ids[2, :7].tolist() == [CLS, 112, 113, 114, 115, 116, SEP]  # short: all of it is A
    b = rows.input_ids[2, 7:10].tolist()
    assert b in [[first, first + 1, first + 2] for first in (100, 103, 106, 109)]  # a sentence of the other one


def test_window_advances_after_a_random_pair_too():
    rows = take_apart(build(TWO_DOCUMENTS, SHAPE, even_plan(SHAPE, random_share=1)))
    assert [row.label for row in rows] == [NOT_NEXT] * 3
    assert [row.a[0] for row in rows] == [0, 4, 12]
    assert [len(row.a) + len(row.b) for row in rows] == [8, 8, 8]
    assert rows[0].b in ([12, 13, 14, 15, 16],)  # five tokens fit at one sentence start only
    assert rows[1].b in ([12, 13, 14], [14, 15, 16])  # a sentence start, never its second token


def test_a_short_document_padded_by_hand():
    plan = even_plan(SHAPE, random_share=0, padded_from=5)
    rows = build(TWO_DOCUMENTS, SHAPE, plan)
    assert rows.input_ids[2].tolist() == [CLS, 112, 113, SEP, 114, 115, 116, SEP, PAD, PAD, PAD]
    assert (rows.length_a[2], rows.length[2], rows.next_sentence_label[2]) == (2, 8, IS_NEXT)
    other = build(TWO_DOCUMENTS, SHAPE, PairPlan(0, 1, 5, [0] * 9))
    assert other.input_ids[2, :4].tolist() == [CLS, 112, 113, SEP]
    assert (other.length[2], other.next_sentence_label[2]) == (8, NOT_NEXT)  # padding does not tell the label


def test_windows_begin_at_a_word():
    # Words of three tokens: the second window would begin at 4, inside the word 3 to 5.
    documents = make_documents([[3], [3], [3], [3]], [[1] * 8])
    rows = take_apart(build(documents, SHAPE, even_plan(SHAPE, random_share=0)))
    assert [(row.a, row.b) for row in rows[:2]] == [([0, 1, 2], [3, 4, 5, 6, 7]), ([3, 4, 5], [6, 7, 8, 9, 10])]
    assert rows[2].a == [6, 7, 8, 9, 10, 11] and rows[2].label == NOT_NEXT  # token 11 is not lost


# R14 row 11
def test_a_window_without_a_sentence_end_gets_a_random_b():
    documents = make_documents([[1] * 8], [[1, 1, 1]] * 3)
    rows = take_apart(build(documents, SHAPE, even_plan(SHAPE, random_share=0)))
    # Its A is the first half; the second half, which nothing else covers, is the A of another row.
    assert [(row.a, row.label) for row in rows[:2]] == [([0, 1, 2, 3], 1), ([4, 5, 6, 7], 1)]


# R14 row 16
def test_documents_shorter_than_the_edge_buffer_are_counted():
    documents = make_documents([[1]], [[1, 1]], [[1]], [[1, 1, 1]] * 4)
    counts = count_windows(documents, SHAPE)
    assert counts.num_too_short == 2
    assert counts.num_free == 2
    assert counts.forced_lengths.tolist() == [0, 0, 1, 0, 0, 0, 0, 0, 0]
    assert len(build(documents, SHAPE, even_plan(SHAPE, 0)).input_ids) == 3


def test_two_documents_only_and_one_much_longer():
    documents = make_documents([[1, 1, 1]] * 200, [[1, 1], [1, 1]])
    rows = take_apart(build(documents, SHAPE, even_plan(SHAPE, random_share=1)))
    long, short = [row for row in rows if row.a[0] < 600], [row for row in rows if row.a[0] >= 600]
    assert all(row.b[0] in (600, 602) for row in long)
    assert all(row.b[0] < 600 and row.b[0] % 3 == 0 for row in short) and short
    assert any(row.num_padding for row in long)  # four tokens are the most there are


@pytest.mark.parametrize("overlap", [0, 7])
def test_endless_word(overlap):
    shape = RowShape(block_size=11, overlap=overlap, edge_buffer=2)
    documents = make_documents([[500]], [[1, 1, 1]] * 4)
    rows = take_apart(build(documents, shape, even_plan(shape, 0)))
    assert [row.a for row in rows if row.a[0] < 500] == [[0, 1, 2, 3]]  # once, for no other window begins at a word
    assert any(511 in row.a + row.b for row in rows)


def test_windows_from_the_same_word_come_once():
    shape = RowShape(block_size=11, overlap=7, edge_buffer=2)  # moved by 1
    documents = make_documents([[3, 3], [2, 2], [3, 3]], [[1] * 9])
    rows = take_apart(build(documents, shape, even_plan(shape, 0)))
    starts = [row.a[0] for row in rows if row.label == IS_NEXT]
    assert starts == [0, 3, 6, 8]


# ---- properties of any documents

WORD = st.integers(1, 3)
SENTENCE = st.lists(WORD, min_size=1, max_size=8)
CORPUS = st.lists(st.lists(SENTENCE, min_size=1, max_size=12), min_size=2, max_size=6)


@st.composite
def any_case(draw) -> tuple[Documents, RowShape, int]:
    edge_buffer = draw(st.integers(1, 5))
    block_size = draw(st.integers(2 * edge_buffer + 11, 45))
    overlap = draw(st.none() | st.integers(0, block_size - 4))
    documents = make_documents(*draw(CORPUS))
    return documents, RowShape(block_size, overlap, edge_buffer), draw(st.integers(0, 2**32))


PROPERTY = settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


@PROPERTY
@given(case=any_case(), probability=st.sampled_from([0.1, 0.3, 0.5, 0.8]), max_padding=st.sampled_from([0, 0.1, 1]))
def test_every_row_is_what_its_label_says(case, probability, max_padding):
    documents, shape, seed = case
    plan = planned(documents, shape, probability, max_padding)
    sentence_starts = {0, *documents.sentence_ends.tolist()}
    lengths = np.diff(documents.starts)
    for row in take_apart(build(documents, shape, plan, seed)):
        owner_a = int(np.searchsorted(documents.starts, row.a[0], side="right")) - 1
        owner_b = int(np.searchsorted(documents.starts, row.b[0], side="right")) - 1
        assert row.a == list(range(row.a[0], row.a[-1] + 1)) and row.b == list(range(row.b[0], row.b[-1] + 1))
        assert row.a[-1] < documents.starts[owner_a + 1] and row.b[-1] < documents.starts[owner_b + 1]
        assert documents.word_starts[row.a[0]] and row.b[0] in sentence_starts
        assert len(row.a) >= shape.edge_buffer
        if row.label == IS_NEXT:
            assert row.b[0] == row.a[-1] + 1 and owner_a == owner_b and len(row.b) >= shape.edge_buffer
            whole = len(row.a) + len(row.b)
            assert whole == shape.window or plan.padded_from <= whole == lengths[owner_a]
        else:
            assert owner_a != owner_b


@PROPERTY
@given(case=any_case())
def test_ends_of_documents_are_not_thrown_away(case):
    """The last token of every document of edge_buffer or more is in a row that no random pair takes away."""
    documents, shape, seed = case
    kept = kept_tokens(documents, shape, seed)
    for start, end in zip(documents.starts[:-1], documents.starts[1:], strict=True):
        assert end - start < shape.edge_buffer or end - 1 in kept


@PROPERTY
@given(case=any_case())
def test_every_token_is_in_a_candidate_row(case):
    """The exact rule. Nothing of a document is lost if `overlap` is edge_buffer + the longest word or more and each

    window has a sentence end to cut at. Only a document of more than window - edge_buffer tokens and less than a
    window, if it is not padded, has to give up its first tokens, at most edge_buffer + the longest word of them.
    """
    documents, shape, seed = case
    margin = shape.edge_buffer + 3
    if shape.overlap is not None and shape.overlap < margin or shape.window // 2 < margin:
        shape = RowShape(max(shape.block_size, 2 * margin + 3), None, shape.edge_buffer)
    longest_sentence = np.diff(documents.sentence_ends, prepend=0).max()
    if longest_sentence > shape.window - 2 * shape.edge_buffer:
        shape = RowShape(longest_sentence + 2 * margin + 3, None, shape.edge_buffer)
    kept = kept_tokens(documents, shape, seed)
    for start, end in zip(documents.starts[:-1], documents.starts[1:], strict=True):
        lost = [token for token in range(start, end) if token not in kept]
        if shape.window - shape.edge_buffer < end - start < shape.window:
            assert all(token < start + margin for token in lost)
        else:
            assert not lost or end - start < shape.edge_buffer


def kept_tokens(documents: Documents, shape: RowShape, seed: int) -> set[int]:
    rows = take_apart(build(documents, shape, even_plan(shape, random_share=0), seed))
    return {token for row in rows for token in (row.a + row.b if row.label == IS_NEXT else row.a)}


@PROPERTY
@given(case=any_case())
def test_neighbouring_windows_share_overlap_tokens(case):
    documents, shape, seed = case
    one_token_words = documents._replace(word_starts=np.ones_like(documents.word_starts))
    rows = take_apart(build(one_token_words, shape, even_plan(shape, random_share=0), seed))
    overlap = shape.window // 2 if shape.overlap is None else shape.overlap
    windows = {row.a[0] for row in rows if row.label == IS_NEXT}
    for start, end in zip(documents.starts[:-1], documents.starts[1:], strict=True):
        expected = set(range(start, end - shape.window + 1, shape.window - overlap))
        assert {first for first in windows if start <= first < end} <= expected
    all_full = [row for row in rows if row.label == IS_NEXT]
    for row, following in zip(all_full[:-1], all_full[1:], strict=True):
        shared = len(set(row.a + row.b) & set(following.a + following.b))
        assert shared in (0, overlap) or (following.a[0] - row.a[0]) > shape.stride


@PROPERTY
@given(case=any_case())
def test_rows_are_a_pure_function_of_the_seed(case):
    documents, shape, seed = case
    plan = planned(documents, shape)
    first, again = build(documents, shape, plan, seed), build(documents, shape, plan, seed)
    assert all((one == other).all() for one, other in zip(first, again, strict=True))


@given(lengths=st.lists(st.integers(1, 900_000), min_size=2, max_size=60))
@settings(deadline=None, derandomize=True)
def test_units_have_two_documents_or_more(lengths):
    bounds = unit_bounds(np.array(lengths), least=2)
    assert bounds[0] == 0 and bounds[-1] == len(lengths)
    assert (np.diff(bounds) >= 2).all()
    totals = np.add.reduceat(lengths, bounds[:-1])
    assert (totals <= 1_000_000 + 3 * 900_000).all()


def test_units_hold_about_a_million_tokens():
    bounds = unit_bounds(np.full(40_000, 250), least=2)
    assert bounds.tolist() == list(range(0, 40_001, 4000))


# ---- the plan


def synthetic(lengths: np.ndarray, rng: np.random.Generator, mean_sentence: int = 16) -> Documents:
    """Documents of these lengths, sentences and words at random."""
    starts = np.concatenate([[0], np.cumsum(lengths)])
    num_tokens = int(starts[-1])
    ends = np.flatnonzero(rng.random(num_tokens) < 1 / mean_sentence) + 1
    ends = np.union1d(ends, starts[1:])
    word_starts = rng.random(num_tokens) < 0.65
    word_starts[starts[:-1]] = True
    word_starts[ends[:-1]] = True
    return Documents(np.arange(num_tokens, dtype=np.int32) + OFFSET, starts, ends, word_starts)


LENGTHS = {
    "lognormal 80": lambda rng: rng.lognormal(np.log(80), 0.8, 20_000),
    "lognormal 120": lambda rng: rng.lognormal(np.log(120), 0.5, 20_000),
    "lognormal 300": lambda rng: rng.lognormal(np.log(300), 1, 20_000),
    "lognormal 1000": lambda rng: rng.lognormal(np.log(1000), 1, 2000),
    "all just below a window": lambda rng: np.full(20_000, 124),
    "all one window": lambda rng: np.full(20_000, 125),
    "all just above a window": lambda rng: np.full(20_000, 126),
    "mostly short": lambda rng: np.where(rng.random(20_000) < 0.95, rng.integers(30, 60, 20_000), 3000),
    "two kinds": lambda rng: np.where(rng.random(20_000) < 0.6, 60, 400),
    "many to pad of one length": lambda rng: np.where(rng.random(20_000) < 0.7, 100, 250),
    "few very long": lambda rng: np.full(30, 60_000),
}


@pytest.mark.parametrize("name", LENGTHS)
def test_labels_come_out_even(name):
    rng = np.random.default_rng(0)
    documents = synthetic(np.maximum(LENGTHS[name](rng), 10).astype(int), rng)
    shape = RowShape(128, None, 10)
    plan = planned(documents, shape)
    rows = build(documents, shape, plan)
    assert abs((rows.next_sentence_label == IS_NEXT).mean() - 0.5) < 0.01
    lengths = np.diff(documents.starts)
    padded = lengths[(lengths < shape.window) & (lengths >= plan.padded_from)]
    assert (shape.window - padded).sum() <= 0.1 * rows.input_ids.size


def test_padding_limit_wins_over_balance():
    rng = np.random.default_rng(0)
    documents = synthetic(rng.integers(40, 120, 6000), rng)
    shape = RowShape(128, None, 10)
    shares, paddings = [], []
    for max_padding in (0.0, 0.05, 0.1, 1.0):
        plan = planned(documents, shape, max_padding=max_padding)
        rows = build(documents, shape, plan)
        lengths = np.diff(documents.starts)
        planned_padding = (shape.window - lengths[lengths >= plan.padded_from]).sum() / rows.input_ids.size
        assert planned_padding <= max_padding
        shares.append((rows.next_sentence_label == IS_NEXT).mean())
        paddings.append(planned_padding)
    assert paddings[0] == 0 and paddings == sorted(paddings)
    assert shares[0] == 0 and shares == sorted(shares) and shares[2] > 0.15  # no full window in this corpus


@pytest.mark.parametrize("probability", [0.2, 0.5, 0.8])
def test_nsp_probability_is_respected(probability):
    rng = np.random.default_rng(1)
    documents = synthetic(rng.lognormal(np.log(2000), 0.5, 600).astype(int), rng)
    shape = RowShape(128, None, 10)
    rows = build(documents, shape, planned(documents, shape, probability))
    assert abs((rows.next_sentence_label == NOT_NEXT).mean() - probability) < 0.02


@pytest.mark.parametrize("balance", ["weighted", "none"])
def test_without_balance_full_windows_alone_are_shared_out(balance):
    rng = np.random.default_rng(1)
    documents = synthetic(rng.integers(60, 300, 4000), rng)
    shape = RowShape(128, None, 10)
    counts = count_windows(documents, shape)
    rows = build(documents, shape, planned(documents, shape, 0.5, balance=balance))
    assert (rows.length == 128).all()
    assert abs((rows.next_sentence_label == IS_NEXT).sum() / counts.num_free - 0.5) < 0.03
    assert (rows.next_sentence_label == IS_NEXT).mean() < 0.4


# ---- without next-sentence prediction


def test_continuations_by_hand():
    documents = make_documents([[1, 1, 1]] * 4 + [[1]], [[1, 1], [1, 1, 1]], [[1, 1, 1]], [[1]])
    rows = build_continuations(documents, SHAPE, CLS, SEP, PAD)
    assert rows.input_ids.tolist() == [
        [CLS, 100, 101, 102, SEP, 103, 104, 105, 106, 107, SEP],
        [CLS, 104, 105, 106, 107, 108, SEP, 109, 110, 111, SEP],
        [CLS, 105, 106, 107, 108, SEP, 109, 110, 111, 112, SEP],  # the end of the document, with no padding
        [CLS, 113, 114, SEP, 115, 116, 117, SEP, PAD, PAD, PAD],
        [CLS, 118, 119, 120, SEP, PAD, PAD, PAD, PAD, PAD, PAD],  # no room for an A and a B of two tokens
    ]
    assert rows.length_a.tolist() == [3, 5, 4, 2, 3] and rows.length.tolist() == [11, 11, 11, 8, 5]
    assert set(rows.next_sentence_label) == {IS_NEXT}


def test_one_document_is_enough_without_pairs():
    rows = build_continuations(make_documents([[1, 1, 1]] * 4), SHAPE, CLS, SEP, PAD)
    assert rows.length.tolist() == [11, 11]
    assert unit_bounds(np.array([12]), least=1).tolist() == [0, 1]
    assert unit_bounds(np.array([600_000, 500_000, 3]), least=1).tolist() == [0, 1, 3]
    assert unit_bounds(np.array([], dtype=int), least=1).tolist() == [0]


@PROPERTY
@given(case=any_case())
def test_continuations_hold_everything_and_nothing_random(case):
    documents, shape, _ = case
    margin = 2 * 3  # the longest words, at both ends
    if shape.overlap is not None and shape.overlap < margin or shape.window // 2 < margin:
        shape = RowShape(max(shape.block_size, 2 * margin + 3), None, shape.edge_buffer)
    rows = build_continuations(documents, shape, CLS, SEP, PAD)
    lengths = np.diff(documents.starts)
    seen = set()
    for ids, length_a, length in zip(rows.input_ids.tolist(), rows.length_a, rows.length, strict=True):
        a, b = ids[1 : length_a + 1], ids[length_a + 2 : length - 1]
        assert ids[0] == CLS and ids[length_a + 1] == SEP == ids[length - 1] and set(ids[length:]) <= {PAD}
        run = [token - OFFSET for token in a + b]
        assert run == list(range(run[0], run[0] + len(run))) and documents.word_starts[run[0]]
        owner = int(np.searchsorted(documents.starts, run[0], side="right")) - 1
        assert run[-1] < documents.starts[owner + 1]
        assert len(a) >= shape.edge_buffer and (not b or len(b) >= shape.edge_buffer)
        assert b or len(a) < 2 * shape.edge_buffer
        if lengths[owner] >= shape.window + margin:
            assert length > shape.block_size - 3  # at most the rest of a word is missing
        seen |= set(run)
    for start, end in zip(documents.starts[:-1], documents.starts[1:], strict=True):
        assert end - start < shape.edge_buffer or seen >= set(range(start, end))


# Most leaks where documents have between one window and two, all of them: every other row is an end.
@pytest.mark.parametrize(("median", "limit"), [(80, 0.53), (150, 0.55), (300, 0.53), (1000, 0.52)])
def test_shape_does_not_tell_the_label(median, limit):
    """Neither lengths and padding nor whether A begins a sentence, where documents are longer than a window."""
    rng = np.random.default_rng(2)
    lengths = rng.lognormal(np.log(median), 0.8, 2_000_000 // median + 1000)
    documents = synthetic(np.maximum(lengths, 10).astype(int), rng)
    shape = RowShape(128, None, 10)
    rows = build(documents, shape, planned(documents, shape))
    length_b = rows.length - 3 - rows.length_a
    features = [rows.length_a, length_b, 128 - rows.length]
    if median == 1000:
        begins = np.isin(rows.input_ids[:, 1] - OFFSET, np.setdiff1d(documents.sentence_ends, documents.starts))
        features.append(begins)
    assert guess(np.stack(features, axis=1), rows.next_sentence_label) < limit
    cheat = np.stack([*features, rows.next_sentence_label * rng.integers(0, 2, len(length_b))], axis=1)
    assert guess(cheat, rows.next_sentence_label) > 0.65  # the judge can see a leak of that size


def guess(features: np.ndarray, labels: np.ndarray) -> float:
    half = len(labels) // 2
    order = np.random.default_rng(3).permutation(len(labels))
    train, test = order[:half], order[half:]
    model = HistGradientBoostingClassifier(max_iter=40, class_weight="balanced").fit(features[train], labels[train])
    return balanced_accuracy_score(labels[test], model.predict(features[test]))
