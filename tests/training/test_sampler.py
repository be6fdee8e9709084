"""Which rows make which batch: each once a pass, the same for any split of the global batch, exact switch of stage."""

import numpy as np
import pytest
import torch

from turkbert.data.collator import DataCollatorForPretraining
from turkbert.data.counter_rng import random_key
from turkbert.data.prepare import build_collator
from turkbert.training.sampler import EvaluationRows, Stage, StagedBatchSampler, StagedRows, plan_stages, shuffled


def rows_of_step(
    stages: list[Stage], step: int, accumulation: int = 1, processes: int = 1, seed: int = 3
) -> list[tuple[int, int]]:
    """(row, epoch) of one optimizer step in the order of micro-batches and ranks."""
    found = []
    for micro_batch in range(accumulation):
        for rank in range(processes):
            sampler = StagedBatchSampler(stages, accumulation, rank, processes, seed)
            batch = sampler.rows_of(step * accumulation + micro_batch)
            found += list(zip(batch.rows.tolist(), batch.epochs.tolist(), strict=True))
    return found


# ---- shuffled


@pytest.mark.parametrize("num_rows", [1, 2, 3, 4, 5, 7, 8, 9, 63, 64, 65, 100, 1000, 4097, 300_001])
def test_shuffled_is_a_permutation(num_rows):
    places = np.arange(num_rows)
    assert (np.sort(shuffled(places, num_rows, random_key(1, 2))) == places).all()


def test_shuffled_reaches_every_order_and_place():
    orders = {tuple(shuffled(np.arange(3), 3, random_key(0, epoch))) for epoch in range(200)}
    assert len(orders) == 6
    first = shuffled(np.zeros(5000, dtype=np.int64), 10, random_key(0, np.arange(5000)))
    assert np.abs(np.bincount(first, minlength=10) / 5000 - 0.1).max() < 0.025


def test_shuffled_has_no_order_left():
    order = shuffled(np.arange(50_000), 50_000, random_key(4, 0))
    assert abs(np.corrcoef(order, np.arange(50_000))[0, 1]) < 0.03
    assert abs(np.corrcoef(order[1:], order[:-1])[0, 1]) < 0.03
    assert (np.diff(order) == 1).mean() < 0.001


def test_shuffled_computes_each_place_on_its_own():
    key = random_key(1, 0)
    whole = shuffled(np.arange(1_000_003), 1_000_003, key)
    places = np.array([999_999, 0, 17])
    assert shuffled(places, 1_000_003, key).tolist() == whole[places].tolist()
    keys = np.concatenate([random_key(1, 0), random_key(1, 1), random_key(1, 0)])
    mixed = shuffled(places, 1_000_003, keys)
    assert mixed[[0, 2]].tolist() == whole[places[[0, 2]]].tolist() and mixed[1] != whole[0]
    huge = 10**12
    assert 0 <= shuffled(np.array([huge - 1]), huge, key)[0] < huge


# ---- batches


@pytest.mark.parametrize(("num_rows", "batch"), [(10, 4), (7, 7), (3, 8), (1, 5), (101, 16)])
def test_each_row_comes_once_a_pass(num_rows, batch):
    num_steps = 6 * num_rows // batch + 2
    stages = [Stage(32, num_rows, batch, 0, num_steps)]
    stream = [pair for step in range(num_steps) for pair in rows_of_step(stages, step)]
    assert len(stream) == num_steps * batch
    for epoch in range(len(stream) // num_rows):
        one_pass = stream[epoch * num_rows : (epoch + 1) * num_rows]
        assert sorted(one_pass) == [(row, epoch) for row in range(num_rows)]  # nothing lost between passes


def test_passes_seeds_and_stages_have_orders_of_their_own():
    stages = [Stage(32, 500, 500, 0, 3), Stage(64, 500, 500, 3, 6)]
    orders = [
        tuple(row for row, _ in rows_of_step(stages, step, seed=seed))
        for step, seed in ((0, 3), (1, 3), (3, 3), (0, 4))
    ]
    assert len(set(orders)) == 4
    for one, other in ((0, 1), (0, 2), (0, 3)):
        assert np.mean(np.array(orders[one]) == np.array(orders[other])) < 0.02
    assert rows_of_step(stages, 1) == rows_of_step(stages, 1)


@pytest.mark.parametrize(
    ("batch", "accumulation", "processes"), [(8, 1, 1), (4, 2, 1), (4, 1, 2), (2, 2, 2), (1, 8, 1), (1, 2, 4)]
)
def test_a_step_sees_the_same_rows_however_it_is_split(batch, accumulation, processes):
    for step in range(12):  # over the end of a pass of 21 rows and over the switch of stage
        whole = [Stage(32, 21, 8, 0, 7), Stage(64, 13, 8, 7, 12)]
        split = [Stage(32, 21, batch, 0, 7), Stage(64, 13, batch, 7, 12)]
        assert rows_of_step(split, step, accumulation, processes) == rows_of_step(whole, step)


def test_stage_switches_at_the_exact_step():
    stages = plan_stages({128: 50, 512: 30}, [0.9, 0.1], [4, 2], max_steps=1000)
    assert [(stage.first_step, stage.last_step) for stage in stages] == [(0, 900), (900, 1000)]
    for accumulation in (1, 3):
        sampler = StagedBatchSampler(stages, accumulation, 0, 1, seed=1)
        assert len(sampler) == 1000 * accumulation == len(list(sampler))
        sizes = [sampler.rows_of(number).stage.block_size for number in range(895 * accumulation, 905 * accumulation)]
        assert sizes == [128] * 5 * accumulation + [512] * 5 * accumulation
        last, first = sampler.rows_of(900 * accumulation - 1), sampler.rows_of(900 * accumulation)
        assert (last.rows.size, first.rows.size) == (4, 2)
        assert first.epochs.tolist() == [0, 0]
    assert sampler.stage_of(899) is stages[0] and sampler.stage_of(900) is stages[1] is sampler.stage_of(1000)


@pytest.mark.parametrize(
    ("fractions", "max_steps", "expected"),
    [
        ([1.0], 5, [(0, 5)]),
        ([0.5, 0.5], 7, [(0, 4), (4, 7)]),
        ([0.9, 0.1], 4, [(0, 3), (3, 4)]),  # 3.6 is rounded to 4, which would leave nothing to the second
        ([0.99, 0.01], 2, [(0, 1), (1, 2)]),
        ([0.01, 0.98, 0.01], 10, [(0, 1), (1, 9), (9, 10)]),
        ([0.5, 0.01, 0.49], 10, [(0, 5), (5, 6), (6, 10)]),
        ([0.9, 0.0999995], 10_000_000, [(0, 9_000_000), (9_000_000, 10_000_000)]),
        ([0.5, 0.5], 1, [(0, 0), (0, 1)]),  # too few steps for both
    ],
)
def test_every_stage_gets_a_step_and_they_add_up(fractions, max_steps, expected):
    num_rows = {2**number: 10 for number in range(len(fractions))}
    stages = plan_stages(num_rows, fractions, [1] * len(fractions), max_steps)
    assert [(stage.first_step, stage.last_step) for stage in stages] == expected


# ---- data sets


@pytest.fixture
def train_rows(sample_prepared):
    return {size: splits["train"].with_format("arrow") for size, splits in sample_prepared.rows.items()}


def test_staged_rows_are_the_collated_rows_of_their_batch(
    train_rows, sample_prepared, sample_dir, sample_arguments
):
    stages = plan_stages({size: len(rows) for size, rows in train_rows.items()}, [0.5, 0.5], [6, 3], 8)
    sampler = StagedBatchSampler(stages, 2, 0, 1, seed=9)
    collator = build_collator(sample_arguments(sample_dir), sample_prepared.tokenizer, seed=9)
    staged_rows = StagedRows(train_rows, sampler, collator)
    for number, block_size, num_rows in ((7, 32, 6), (8, 64, 3), (15, 64, 3)):
        batch, wanted = staged_rows[number], sampler.rows_of(number)
        assert batch["input_ids"].shape == (num_rows, block_size)
        rows = sample_prepared.rows[block_size]["train"]
        by_row = collator(
            [
                {**rows[row], "row": row, "epoch": epoch}
                for row, epoch in zip(wanted.rows.tolist(), wanted.epochs.tolist(), strict=True)
            ]
        )
        assert all(torch.equal(batch[name], by_row[name]) for name in by_row)
        assert all(torch.equal(tensor, staged_rows[number][name]) for name, tensor in batch.items())


def test_masks_change_from_pass_to_pass(train_rows, sample_prepared, sample_dir, sample_arguments):
    num_rows = len(train_rows[64])
    sampler = StagedBatchSampler([Stage(64, num_rows, num_rows, 0, 2)], 1, 0, 1, seed=9)
    collator = build_collator(sample_arguments(sample_dir), sample_prepared.tokenizer, seed=9)
    labels = []
    for number in range(2):
        rows = StagedRows(train_rows, sampler, collator)[number]["labels"]
        labels.append(rows[np.argsort(sampler.rows_of(number).rows)])
    both = ((labels[0] != -100) & (labels[1] != -100)).sum() / (labels[0] != -100).sum()
    assert 0.1 < both < 0.2


@pytest.mark.parametrize(
    ("batch_size", "max_batches", "sizes"), [(10, 3, [10, 10, 10]), (100, 50, None), (7, 1, [7])]
)
def test_evaluation_rows_are_spread_evenly(sample_prepared, batch_size, max_batches, sizes):
    rows = sample_prepared.rows[64]["validation"].with_format("arrow")
    batches = EvaluationRows(rows, batch_size, max_batches, DataCollatorForPretraining())
    found = [len(batches[number]["input_ids"]) for number in range(len(batches))]
    if sizes is None:
        assert sum(found) == len(rows) and batches.numbers.tolist() == list(range(len(rows)))
    else:
        assert found == sizes
        assert batches.numbers[0] == 0 and (len(set(batches.numbers.tolist())) == batch_size * max_batches)
        gaps = np.diff(batches.numbers)
        assert gaps.max() - gaps.min() <= 1


def test_dynamic_rows_without_a_masker_are_refused(train_rows):
    sampler = StagedBatchSampler([Stage(64, len(train_rows[64]), 4, 0, 2)], 1, 0, 1, seed=9)
    with pytest.raises(ValueError, match="masker"):
        StagedRows(train_rows, sampler, DataCollatorForPretraining())[0]
