"""R7: each row once a pass, in one order for any batch x accumulation x processes x loaders of a global batch."""

from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader, Dataset

from turkbert.training.sampler import StagedBatchSampler, plan_stages


class RowsOfBatches(Dataset):
    """Micro-batch number -> its (block size, pass, row) triples, as StagedRows makes its tensors."""

    def __init__(self, sampler: StagedBatchSampler):
        self.sampler = sampler

    def __getitem__(self, number: int) -> list[tuple[int, int, int]]:
        stage, rows, epochs = self.sampler.rows_of(number)
        return [(stage.block_size, epoch, row) for epoch, row in zip(epochs.tolist(), rows.tolist(), strict=True)]


def first(batches: list) -> list:
    return batches[0]


def order_of(num_rows, fractions, max_steps, batches, accumulation, processes, seed, workers=0) -> list[list]:
    """The rows of each optimizer step, read through the loaders of all processes."""
    stages = plan_stages(num_rows, fractions, batches, max_steps)
    of_rank = []
    for rank in range(processes):
        sampler = StagedBatchSampler(stages, accumulation, rank, processes, seed)
        loader = DataLoader(RowsOfBatches(sampler), batch_sampler=sampler, collate_fn=first, num_workers=workers)
        of_rank.append(list(loader))
    return [
        [
            row
            for micro_batch in range(accumulation)
            for rank in of_rank
            for row in rank[step * accumulation + micro_batch]
        ]
        for step in range(max_steps)
    ]


plans = st.fixed_dictionaries({
    "num_rows": st.tuples(st.integers(1, 70), st.integers(1, 70)).map(lambda two: {32: two[0], 64: two[1]}),
    "fractions": st.sampled_from([[0.5, 0.5], [0.9, 0.1], [0.3, 0.7]]),
    "max_steps": st.integers(2, 25),
    "seed": st.integers(0, 2**32 - 1),
})  # fmt: skip
splits = st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(1, 4), st.integers(1, 4))


@settings(max_examples=150, deadline=None)
@given(plans, splits)
def test_one_order_and_each_row_once_a_pass(plan, split):
    first_batch, second_batch, accumulation, processes = split
    whole_batches = [first_batch * accumulation * processes, second_batch * accumulation * processes]
    whole = order_of(**plan, batches=whole_batches, accumulation=1, processes=1)
    parts = order_of(**plan, batches=[first_batch, second_batch], accumulation=accumulation, processes=processes)
    assert parts == whole
    for block_size, num_rows in plan["num_rows"].items():
        seen = [row for step in whole for size, *row in step if size == block_size]
        for start in range(0, len(seen), num_rows):
            one_pass = seen[start : start + num_rows]
            assert {epoch for epoch, _ in one_pass} == {start // num_rows}
            assert len({row for _, row in one_pass}) == len(one_pass)
            assert len(one_pass) < num_rows or sorted(row for _, row in one_pass) == list(range(num_rows))


def test_loader_processes_change_nothing():
    plan = {"num_rows": {32: 13, 64: 7}, "fractions": [0.5, 0.5], "max_steps": 12, "seed": 5}
    split = {"batches": [3, 2], "accumulation": 2, "processes": 2}
    assert order_of(**plan, **split) == order_of(**plan, **split, workers=2)
