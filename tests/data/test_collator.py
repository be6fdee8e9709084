"""The collator on literal rows."""

import numpy as np
import pytest
import torch

from turkbert.data.arrow import read_columns
from turkbert.data.collator import IGNORED, DataCollatorForPretraining
from turkbert.data.masking import WholeWordMasker
from turkbert.data.random_words import RandomWordSet

PAD, UNK, CLS, SEP, MASK = range(5)
ROWS = [
    {
        "input_ids": [CLS, 10, MASK, SEP, MASK, 14, 15, SEP],
        "length_a": 2,
        "length": 8,
        "next_sentence_label": 0,
        "masked_lm_positions": [2, 4],
        "masked_lm_ids": [11, 13],
    },
    {
        "input_ids": [CLS, MASK, SEP, 21, SEP, PAD, PAD, PAD],
        "length_a": 1,
        "length": 5,
        "next_sentence_label": 1,
        "masked_lm_positions": [1],
        "masked_lm_ids": [20],
    },
]
X = IGNORED


def test_literal_tensors():
    batch = DataCollatorForPretraining()(ROWS)
    assert {name: tensor.tolist() for name, tensor in batch.items()} == {
        "input_ids": [row["input_ids"] for row in ROWS],
        "token_type_ids": [[0, 0, 0, 0, 1, 1, 1, 1], [0, 0, 0, 1, 1, 0, 0, 0]],
        "labels": [[X, X, 11, X, 13, X, X, X], [X, 20, X, X, X, X, X, X]],
        "next_sentence_label": [0, 1],
        "labelled_positions": [2, 4, 9, 0, 0, 0, 0, 0],
        "attention_mask": [[1] * 8, [1, 1, 1, 1, 1, 0, 0, 0]],
    }
    assert {tensor.dtype for tensor in batch.values()} == {torch.int64}


def test_attention_mask_only_where_a_row_is_padded():
    assert "attention_mask" not in DataCollatorForPretraining()(ROWS[:1])
    assert DataCollatorForPretraining()(ROWS[1:])["attention_mask"].tolist() == [[1, 1, 1, 1, 1, 0, 0, 0]]


@pytest.mark.parametrize("num_rows", [1, 2, 7, 64])
def test_labelled_positions(num_rows):
    batch = DataCollatorForPretraining()([ROWS[number % 2] for number in range(num_rows)])
    labels, positions = batch["labels"].reshape(-1), batch["labelled_positions"]
    labelled = torch.nonzero(labels != IGNORED).reshape(-1)
    assert positions[: labelled.numel()].tolist() == labelled.tolist()
    assert (labels[positions[labelled.numel() :]] == IGNORED).all()
    assert positions.numel() % max(8, num_rows * 8 // 32) == 0 and positions.numel() - labelled.numel() < 8 + num_rows


def test_shapes_repeat_from_batch_to_batch(sample_prepared):
    rows = sample_prepared.rows[64]["validation"].with_format("arrow")
    rng = np.random.default_rng(0)
    batches = [read_columns(rows, rng.choice(len(rows), 16)) for _ in range(60)]
    shapes = {DataCollatorForPretraining()(batch)["labelled_positions"].numel() for batch in batches}
    assert len(shapes) <= 5


def test_a_list_of_rows_equals_their_columns(sample_prepared):
    rows = sample_prepared.rows[64]["validation"]
    numbers = np.array([3, 0, 3, 11, 7])
    by_row = DataCollatorForPretraining()([rows[number] for number in numbers.tolist()])
    by_column = DataCollatorForPretraining()(read_columns(rows.with_format("arrow"), numbers))
    assert by_row.keys() == by_column.keys()
    assert all(torch.equal(by_row[name], by_column[name]) for name in by_row)


@pytest.fixture
def masker() -> WholeWordMasker:
    word_starts = np.array([True] * 30 + [False] * 10)
    return WholeWordMasker(word_starts, [PAD, UNK, CLS, SEP, MASK], MASK, RandomWordSet({1: np.array([[29]])}), 0.5)


def unmasked_rows(numbers: list[int], epoch: int) -> list[dict]:
    ids = [CLS, 10, 11, 30, 12, SEP, 13, 31, 32, 14, 15, SEP]
    row = {"input_ids": ids, "length_a": 4, "length": 12, "next_sentence_label": 0, "epoch": epoch}
    return [{**row, "row": number} for number in numbers]


def test_dynamic_rows_are_masked_by_their_number_and_epoch(masker):
    collator = DataCollatorForPretraining(masker, seed=5)
    batch = collator(unmasked_rows([0, 1, 2, 3], epoch=2))
    ids = torch.tensor([row["input_ids"] for row in unmasked_rows([0, 1, 2, 3], 2)])
    chosen = batch["labels"] != IGNORED
    assert torch.equal(batch["labels"][chosen], ids[chosen])  # the original tokens
    assert torch.equal(batch["input_ids"][~chosen], ids[~chosen])
    direct = masker(ids.numpy(), 5, 2, np.arange(4))
    assert torch.equal(batch["input_ids"], torch.from_numpy(direct.input_ids))
    assert torch.equal(chosen, torch.from_numpy(direct.chosen))
    backwards = collator(unmasked_rows([3, 1], epoch=2))
    assert torch.equal(backwards["labels"], batch["labels"][[3, 1]])
    many = list(range(40))
    labels = [
        DataCollatorForPretraining(masker, seed)(unmasked_rows(many, epoch))["labels"]
        for seed, epoch in ((5, 2), (5, 3), (6, 2))
    ]
    assert not torch.equal(labels[0], labels[1]) and not torch.equal(labels[0], labels[2])


def test_dynamic_rows_need_a_masker():
    with pytest.raises(ValueError, match="carry no masks"):
        DataCollatorForPretraining()(unmasked_rows([0], epoch=0))


def test_with_a_labelled_share_every_batch_of_a_size_has_one_shape(masker):
    """As torch.compile wants it; without, the numbers of labels fall into several buckets."""
    shapes = {}
    for share in (None, 0.5):
        collator = DataCollatorForPretraining(masker, labelled_share=share)
        batches = [collator(unmasked_rows(list(range(32)), epoch)) for epoch in range(40)]
        assert len({int((batch["labels"] != IGNORED).sum()) for batch in batches}) > 10
        shapes[share] = {batch["labelled_positions"].numel() for batch in batches}
    assert len(shapes[None]) > 1 and len(shapes[0.5]) == 1


def test_more_labels_than_the_share_makes_room_for_take_the_next_bucket(masker):
    collator = DataCollatorForPretraining(masker, labelled_share=0.01)
    batch = collator(unmasked_rows(list(range(32)), epoch=0))
    labelled = torch.nonzero(batch["labels"].reshape(-1) != IGNORED).reshape(-1)
    room = batch["labelled_positions"].numel()
    assert torch.equal(batch["labelled_positions"][: labelled.numel()], labelled)
    assert room % 12 == 0 and labelled.numel() <= room < labelled.numel() + 12  # 12: a 32nd of the 384 tokens
