"""Which rows make which batch: a pure function of the batch's number, so that resuming needs no replay.

    Two stages of 900 and 100 optimizer steps; micro-batch 1234 -> stage 0, epoch 0, rows [17, 4, 255, ...]
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from datasets import Dataset
from torch.utils.data import Sampler

from turkbert.data.arrow import read_columns
from turkbert.data.collator import DataCollatorForPretraining
from turkbert.data.counter_rng import mix, random_key


@dataclass(frozen=True)
class Stage:
    """One stretch of training on rows of one length."""

    block_size: int
    num_rows: int  # training rows of that block size
    batch_size: int  # rows a device and micro-batch
    first_step: int  # the first optimizer step of the stage, counted from 0
    last_step: int  # the first one after it


class BatchRows(NamedTuple):
    """The rows of one micro-batch on one device."""

    stage: Stage
    rows: np.ndarray  # (B,) row numbers of the stage's data set
    epochs: np.ndarray  # (B,) which pass over the rows each belongs to


def plan_stages(
    num_rows: Mapping[int, int], stage_fractions: list[float], stage_batch_sizes: list[int], max_steps: int
) -> list[Stage]:
    """Share out `max_steps` over the block sizes, each at least one step where there are enough."""
    number = np.arange(len(stage_fractions))
    ends = np.round(np.cumsum(stage_fractions) * max_steps).astype(int)
    ends = np.maximum.accumulate(np.maximum(ends - number, 1)) + number
    ends = np.minimum(ends, np.maximum(max_steps - number[::-1], 0))
    ends[-1] = max_steps
    starts = np.concatenate([[0], ends[:-1]])
    return [
        Stage(block_size, num_rows[block_size], batch_size, int(first), int(last))
        for block_size, batch_size, first, last in zip(num_rows, stage_batch_sizes, starts, ends, strict=True)
    ]


class StagedBatchSampler(Sampler[list[int]]):
    """Yields the numbers of this process's micro-batches; `rows_of` tells what is in one.

    The rows of an optimizer step depend on the global batch (batch x accumulation x processes) alone: however it is
    split, the step sees the same rows in the same order. A stage's passes follow each other without a gap, each in an
    order of its own, so every row comes once a pass and the rest of a pass begins the next batch.
    """

    def __init__(self, stages: list[Stage], gradient_accumulation_steps: int, rank: int, world_size: int, seed: int):
        self.stages = stages
        self.gradient_accumulation_steps = gradient_accumulation_steps
        self.rank = rank
        self.world_size = world_size
        self.seed = seed

    def __len__(self) -> int:
        return self.stages[-1].last_step * self.gradient_accumulation_steps

    def __iter__(self) -> Iterator[list[int]]:
        return ([number] for number in range(len(self)))

    def stage_of(self, step: int) -> Stage:
        """The stage of an optimizer step, counted from 0; the last one beyond the end."""
        return next((stage for stage in self.stages if step < stage.last_step), self.stages[-1])

    def rows_of_step(self, step: int) -> int:
        """Rows of an optimizer step, over all processes."""
        return self.stage_of(step).batch_size * self.gradient_accumulation_steps * self.world_size

    def tokens_before(self, step: int) -> int:
        """Tokens, padding included, of all steps before `step`."""
        return sum(
            max(0, min(step, stage.last_step) - stage.first_step)
            * self.rows_of_step(stage.first_step)
            * stage.block_size
            for stage in self.stages
        )

    def passes_before(self, step: int) -> float:
        """How often the rows of the stage that step `step - 1` belongs to have been passed over by then."""
        stage = self.stage_of(max(step - 1, 0))
        return (step - stage.first_step) * self.rows_of_step(stage.first_step) / stage.num_rows

    def rows_of(self, number: int) -> BatchRows:
        """What is in this process's micro-batch `number`."""
        step, micro_batch = divmod(number, self.gradient_accumulation_steps)
        stage = self.stage_of(step)
        global_batch = stage.batch_size * self.gradient_accumulation_steps * self.world_size
        first = (step - stage.first_step) * global_batch
        first += (micro_batch * self.world_size + self.rank) * stage.batch_size
        epochs, places = np.divmod(np.arange(first, first + stage.batch_size), stage.num_rows)
        key = random_key(self.seed, stage.block_size, epochs)
        return BatchRows(stage, shuffled(places, stage.num_rows, key), epochs)


def shuffled(places: np.ndarray, num_rows: int, key: np.ndarray) -> np.ndarray:
    """Where each place of a pass leads: a permutation of range(num_rows) for each key, computed place by place.

    A balanced Feistel network over the next even number of bits, walked until it lands inside the range (Black and
    Rogaway, "Ciphers with arbitrary finite domains", 2002). No memory for any number of rows.
    """
    half = np.uint64(max(1, (int(num_rows - 1).bit_length() + 1) // 2))
    low_bits = np.uint64((1 << int(half)) - 1)
    values = places.astype(np.uint64)
    outside = np.arange(values.size)
    key = np.broadcast_to(key, values.shape)
    while outside.size:
        left, right = values[outside] >> half, values[outside] & low_bits
        for round_number in range(4):
            scrambled = mix(mix(right + np.uint64(round_number << 48)) ^ key[outside])
            left, right = right, left ^ (scrambled & low_bits)
        values[outside] = (left << half) | right
        outside = outside[values[outside] >= num_rows]
    return values.astype(np.int64)


class StagedRows(torch.utils.data.Dataset):
    """A map-style data set of finished micro-batches: the number of one -> its tensors.

    Both stages live in one data set, so that one train() with one optimizer and one schedule runs through both.
    """

    def __init__(
        self, train_rows: Mapping[int, Dataset], sampler: StagedBatchSampler, collator: DataCollatorForPretraining
    ):
        self.train_rows = train_rows
        self.sampler = sampler
        self.collator = collator

    def __len__(self) -> int:
        return sum(
            (stage.last_step - stage.first_step) * stage.batch_size * self.sampler.gradient_accumulation_steps
            for stage in self.sampler.stages
        )

    def __getitem__(self, number: int) -> dict[str, torch.Tensor]:
        batch = self.sampler.rows_of(number)
        columns = read_columns(self.train_rows[batch.stage.block_size], batch.rows)
        return self.collator({**columns, "epoch": batch.epochs})


class EvaluationRows(torch.utils.data.Dataset):
    """Batches of validation rows, at most `max_batches` of them, evenly spread over the data set."""

    def __init__(self, rows: Dataset, batch_size: int, max_batches: int, collator: DataCollatorForPretraining):
        num_rows = min(len(rows), batch_size * max_batches)
        self.rows = rows
        self.numbers = np.linspace(0, len(rows) - 1, num_rows).round().astype(np.int64)
        self.batch_size = batch_size
        self.collator = collator

    def __len__(self) -> int:
        return -(-self.numbers.size // self.batch_size)

    def __getitem__(self, number: int) -> dict[str, torch.Tensor]:
        rows = self.numbers[number * self.batch_size : (number + 1) * self.batch_size]
        return self.collator(read_columns(self.rows, rows))
