"""Whole-word masking: shares over many words, whole words only, and a pure function of (seed, epoch, row)."""

import numpy as np
import pytest

from turkbert.data.arrow import read_columns
from turkbert.data.counter_rng import random_key
from turkbert.data.masking import Masked, WholeWordMasker
from turkbert.data.prepare import build_masker, prepare_dataset
from turkbert.data.random_words import RandomWordSet

PAD, UNK, CLS, SEP, MASK = range(5)
SPECIAL = [PAD, UNK, CLS, SEP, MASK]
FIRST, INNER, VOCAB = 10, 600, 1000  # tokens 10 to 599 begin a word, 600 to 999 continue one
GROUPS = {  # replacements made of tokens that occur in no row
    1: np.array([[590], [591], [592]], dtype=np.int32),
    2: np.array([[593, 990], [594, 991]], dtype=np.int32),
    3: np.array([[595, 992, 993]], dtype=np.int32),
}


def make_masker(groups: dict[int, np.ndarray] = GROUPS, **probabilities: float) -> WholeWordMasker:
    word_starts = np.arange(VOCAB) < INNER
    return WholeWordMasker(word_starts, SPECIAL, MASK, RandomWordSet(groups), **probabilities)


def make_rows(number: int) -> np.ndarray:
    """(number, 128): words of one to three tokens, [UNK] as 2 % of the words, a quarter of the rows padded."""
    rng = np.random.default_rng(0)
    is_start = rng.random((number, 128)) < 0.6
    is_start[:, 2:] |= ~(is_start[:, 1:-1] | is_start[:, :-2])  # no word of four tokens
    ids = np.where(is_start, rng.integers(FIRST, 590, is_start.shape), rng.integers(INNER, 990, is_start.shape))
    ids[is_start & (rng.random(ids.shape) < 0.02)] = UNK
    ids[:, 0] = CLS
    ids[:, 60] = SEP
    length = np.where(rng.random(number) < 0.25, rng.integers(70, 128, number), 128)
    column = np.arange(128)
    ids[column == length[:, None] - 1] = SEP
    ids[column >= length[:, None]] = PAD
    # A token after a special one begins a word.
    after_special = np.isin(ids[:, :-1], [UNK, CLS, SEP]) & (ids[:, 1:] >= INNER)
    ids[:, 1:][after_special] -= 500
    return ids.astype(np.int32)


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    return make_rows(6000)


@pytest.fixture(scope="module")
def masked(rows: np.ndarray) -> Masked:
    return make_masker()(rows, seed=1, epoch=0, rows=np.arange(len(rows)))


class Words:
    """Words as [start, end) of the flat rows, found with a plain loop: the oracle for the masker's own arithmetic."""

    def __init__(self, ids: np.ndarray):
        flat = ids.reshape(-1).tolist()
        self.starts, self.ends = [], []
        for place, token in enumerate(flat):
            if token >= INNER:
                self.ends[-1] = place + 1
            elif token >= FIRST:
                self.starts.append(place)
                self.ends.append(place + 1)
        self.starts, self.ends = np.array(self.starts), np.array(self.ends)
        self.lengths = self.ends - self.starts


def test_shares_over_a_million_words():
    rows = make_rows(17_000)
    masked = make_masker()(rows, seed=1, epoch=0, rows=np.arange(len(rows)))
    words = Words(rows)
    assert words.starts.size > 1_000_000
    chosen = masked.chosen.reshape(-1)[words.starts]
    assert abs(100 * chosen.mean() - 15) < 0.1
    new, old = masked.input_ids.reshape(-1)[words.starts][chosen], rows.reshape(-1)[words.starts][chosen]
    shares = [100 * share.mean() for share in (new == MASK, (new >= 590) & (new < INNER), new == old)]
    assert np.abs(np.array(shares) - [80, 10, 10]).max() < 0.3
    for length in (1, 2, 3):  # the same for words of any length, or the number of tokens would tell
        of_length = words.lengths[chosen] == length
        assert abs(100 * chosen[words.lengths == length].mean() - 15) < 0.3
        assert abs(100 * (new[of_length] == MASK).mean() - 80) < 0.8


def test_words_are_hidden_whole(rows, masked):
    words = Words(rows)
    chosen, new, old = masked.chosen.reshape(-1), masked.input_ids.reshape(-1), rows.reshape(-1)
    first, last = chosen[words.starts], chosen[words.ends - 1]
    assert (first == last).all()
    assert chosen.sum() == words.lengths[first].sum()
    picked = [tuple(new[start:end]) for start, end in zip(words.starts[first], words.ends[first], strict=True)]
    kept = [tuple(old[start:end]) for start, end in zip(words.starts[first], words.ends[first], strict=True)]
    allowed = {length: {tuple(word) for word in group.tolist()} for length, group in GROUPS.items()}
    seen = set()
    for now, before in zip(picked, kept, strict=True):
        assert now in ((MASK,) * len(before), before) or now in allowed[len(before)]
        seen.add(now)
    assert set().union(*allowed.values()) <= seen  # every replacement is within reach


def test_nothing_else_is_touched(rows, masked):
    assert (masked.input_ids == rows)[~masked.chosen].all()
    assert not np.isin(rows[masked.chosen], SPECIAL).any()
    assert masked.num_without_group == 0
    assert masked.input_ids.dtype == rows.dtype


def test_every_place_of_a_row_is_within_reach(rows, masked):
    full = (rows[:, -1] == SEP) & (rows[:, 126] < INNER)
    share = masked.chosen[full].mean(axis=0)
    assert share[[0, 60, 127]].tolist() == [0, 0, 0]
    others = np.delete(share, [0, 60, 127])
    assert others.min() > 0.1 and others.max() < 0.2  # the first and the last word as often as any


# R14 row 37
def test_at_least_one_word_a_row(rows):
    few = make_masker(mlm_probability=0.001)(rows, seed=1, epoch=0, rows=np.arange(len(rows)))
    assert (few.chosen.sum(axis=1) > 0).all()
    assert few.chosen.sum() < 2.5 * len(rows)
    where = np.argmax(few.chosen[rows[:, -1] == SEP], axis=1)
    assert np.histogram(where, bins=[1, 30, 60, 90, 127])[0].min() > 500  # not always the same place


def test_a_row_without_words_has_no_label():
    ids = np.array([[CLS, UNK, SEP, UNK, SEP, PAD], [CLS, 700, SEP, 20, SEP, PAD]])
    masked = make_masker()(ids, seed=1, epoch=0, rows=np.arange(2))
    # 700 continues a word that began before the row: it is no word.
    assert masked.chosen.tolist() == [[False] * 6, [False, False, False, True, False, False]]


def test_without_a_group_words_are_masked_and_counted(rows):
    only_one = {1: GROUPS[1]}
    masked = make_masker(only_one)(rows, seed=1, epoch=0, rows=np.arange(len(rows)))
    words = Words(rows)
    chosen = masked.chosen.reshape(-1)[words.starts]
    new, old = masked.input_ids.reshape(-1)[words.starts][chosen], rows.reshape(-1)[words.starts][chosen]
    longer = words.lengths[chosen] > 1
    assert set(np.unique(new[longer & (new != old)])) == {MASK}
    assert abs(100 * (new[longer] == MASK).mean() - 90) < 0.7
    full = make_masker()(rows, seed=1, epoch=0, rows=np.arange(len(rows)))
    replaced = (full.input_ids.reshape(-1)[words.starts][chosen] >= 590) & longer
    assert masked.num_without_group == replaced.sum() > 500
    nothing = make_masker({})(rows[:50], seed=1, epoch=0, rows=np.arange(50))
    assert nothing.num_without_group > 0


@pytest.mark.parametrize(
    ("mask", "replace", "expected"), [(1.0, 0.0, "mask"), (0.0, 1.0, "replace"), (0.0, 0.0, "keep")]
)
def test_extreme_probabilities(rows, mask, replace, expected):
    masker = make_masker(mask_replace_prob=mask, random_replace_prob=replace)
    masked = masker(rows, seed=1, epoch=0, rows=np.arange(len(rows)))
    new, old = masked.input_ids[masked.chosen], rows[masked.chosen]
    is_group = ((new >= 590) & (new < INNER)) | (new >= 990)
    assert {"mask": new == MASK, "replace": is_group, "keep": new == old}[expected].all()


def test_masks_do_not_depend_on_order_or_batches(rows, masked):
    masker, numbers = make_masker(), np.random.default_rng(2).permutation(len(rows))[:500]
    together = masker(rows[numbers], seed=1, epoch=0, rows=numbers)
    assert (together.input_ids == masked.input_ids[numbers]).all()
    assert (together.chosen == masked.chosen[numbers]).all()
    for part in np.array_split(numbers, 7):
        alone = masker(rows[part], seed=1, epoch=np.zeros(len(part), dtype=int), rows=part)
        assert (alone.input_ids == masked.input_ids[part]).all()


@pytest.mark.parametrize("other", [{"seed": 2, "epoch": 0}, {"seed": 1, "epoch": 1}])
def test_seeds_and_epochs_differ(rows, masked, other):
    again = make_masker()(rows, rows=np.arange(len(rows)), **other)
    both = (again.chosen & masked.chosen).sum() / masked.chosen.sum()
    assert abs(both - 0.15) < 0.02  # independent


def test_equal_rows_get_different_masks():
    ids = np.tile(np.array([[CLS, *range(20, 50), SEP]]), (200, 1))
    masked = make_masker()(ids, seed=1, epoch=0, rows=np.arange(200))
    assert len({tuple(row) for row in masked.chosen.tolist()}) > 190


def test_static_rows_equal_the_masker_called_directly(sample_prepared, sample_dir, sample_arguments):
    folder = sample_dir.parent / "static"
    args = sample_arguments(folder, masking="static", tokenizer_dir=str(sample_dir / "tokenizer"))
    prepared = prepare_dataset(args)
    plain = sample_prepared.rows[64]["train"].with_format("arrow")
    static = prepared.rows[64]["train"].with_format("arrow")
    numbers = np.arange(len(plain))
    plain_rows, static_rows = read_columns(plain, numbers), read_columns(static, numbers)
    masker = build_masker(args.data, prepared.tokenizer, RandomWordSet.load(sample_dir / "data" / "random_words"))
    # A unit of at most a million tokens is masked under one seed: the sample is one unit.
    seeds = rows_seed(args, 64, split=0)
    masked = masker(plain_rows["input_ids"], seeds, epoch=0, rows=numbers)
    assert (masked.input_ids == static_rows["input_ids"]).all()
    positions = [np.flatnonzero(row).tolist() for row in masked.chosen]
    assert [p.tolist() for p in static_rows["masked_lm_positions"]] == positions
    labels = [row[chosen].tolist() for row, chosen in zip(plain_rows["input_ids"], masked.chosen, strict=True)]
    assert [p.tolist() for p in static_rows["masked_lm_ids"]] == labels


def rows_seed(args, block_size: int, split: int) -> int:
    """The seed that rows.py documents: made of the preprocessing seed, the split and the block size."""
    return int(random_key(args.data.preprocessing_seed, split, block_size)[0]) >> 1
