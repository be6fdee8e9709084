"""Tokenized documents -> masked or unmasked rows of one block size, unit by unit."""

from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset
from transformers import PreTrainedTokenizerFast

from turkbert.arguments import DataArguments
from turkbert.data.arrow import flat_lists, list_array, list_lengths
from turkbert.data.counter_rng import random_key
from turkbert.data.masking import WholeWordMasker
from turkbert.data.pairs import (
    Documents,
    PairPlan,
    PairRows,
    RowShape,
    WindowCounts,
    build_continuations,
    build_pairs,
    count_windows,
    plan_pairs,
)
from turkbert.tokenization import word_start_table

SPLITS = ("train", "validation")
UNIT_TOKENS = 1_000_000


class RowBuilder:
    """Makes the rows of one split and block size.

    A unit is a run of documents of about a million tokens. Its rows depend on the unit and the seed alone, so they
    are the same for any number of processes; memory is bounded by a unit.

    Args:
        tokens: `input_ids` and `sentence_ends` of every document, formatted as arrow.
        numbers: the split's documents, rising.
        split: train or validation.
        masker: writes the masks of static rows; validation rows are always static, so that every evaluation predicts
            the same words.
    """

    def __init__(
        self,
        tokens: Dataset,
        numbers: np.ndarray,
        split: str,
        shape: RowShape,
        data: DataArguments,
        tokenizer: PreTrainedTokenizerFast,
        masker: WholeWordMasker,
    ):
        lengths = list_lengths(tokens, "input_ids")[numbers]
        self.tokens = tokens
        self.numbers = numbers[lengths > 0]
        self.num_empty = int((lengths == 0).sum())  # nothing of them could be a B
        self.bounds = unit_bounds(lengths[lengths > 0], least=2 if data.nsp_probability else 1)
        self.unit_sizes = np.add.reduceat(lengths[lengths > 0], self.bounds[:-1], dtype=np.int64)  # in tokens
        self.shape = shape
        self.data = data
        self.word_starts = word_start_table(tokenizer)
        self.special_ids = (tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id)
        self.masker = masker
        self.static = data.masking == "static" or split == "validation"
        self.num_copies = data.dupe_factor if self.static and split == "train" else 1
        self.seed = int(random_key(data.preprocessing_seed, SPLITS.index(split), shape.block_size)[0] >> np.uint64(1))
        self.plan: PairPlan | None = None

    @property
    def num_units(self) -> int:
        """How many runs of documents there are."""
        return self.bounds.size - 1

    def count(self) -> list[WindowCounts]:
        """Count every unit's candidate rows and, with next-sentence prediction, plan the labels by them."""
        counts = [count_windows(self._documents(unit), self.shape) for unit in range(self.num_units)]
        data = self.data
        if data.nsp_probability and counts:
            self.plan = plan_pairs(counts, self.shape, data.nsp_balance, data.nsp_probability, data.max_padding)
        return counts

    def build_unit(self, unit: int) -> pa.Table:
        """A unit's number -> its rows."""
        documents = self._documents(unit)
        if self.plan is None:
            rows = build_continuations(documents, self.shape, *self.special_ids)
        else:
            rng = np.random.Generator(np.random.Philox(key=int(random_key(self.seed, unit)[0])))
            rows = build_pairs(documents, self.shape, self.plan, *self.special_ids, rng)
        return pa.concat_tables([self._columns(rows, unit, copy) for copy in range(self.num_copies)])

    def features(self) -> datasets.Features:
        """The row schema; docs/data.md explains it."""
        features = {
            "input_ids": datasets.List(datasets.Value("int32"), length=self.shape.block_size),
            "length_a": datasets.Value("int16"),
            "length": datasets.Value("int16"),
            "next_sentence_label": datasets.Value("int8"),
        }
        if self.static:
            features["masked_lm_positions"] = datasets.List(datasets.Value("int16"))
            features["masked_lm_ids"] = datasets.List(datasets.Value("int32"))
        return datasets.Features(features)

    def describe(self, rows: Dataset, counts: list[WindowCounts]) -> dict[str, Any]:
        """What is in the finished rows, read back from them."""
        num_rows = len(rows)
        lengths = rows.data.column("length")
        num_random = pc.sum(rows.data.column("next_sentence_label")).as_py()
        num_labels = 0
        if self.static:
            num_labels = pc.sum(pc.list_value_length(rows.data.column("masked_lm_positions"))).as_py()
        num_padding = num_rows * self.shape.block_size - pc.sum(lengths).as_py()
        return {
            "documents": int(self.numbers.size) + self.num_empty,
            "documents_too_short": sum(count.num_too_short for count in counts) + self.num_empty,
            "rows": num_rows,
            "is_next": num_rows - num_random,
            "not_next": num_random,
            "padded_rows": pc.sum(pc.less(lengths, self.shape.block_size)).as_py(),
            "padding_tokens": num_padding,
            "is_next_share": 1 - num_random / num_rows,
            "padding_share": num_padding / (num_rows * self.shape.block_size),
            "nsp_probability": self.data.nsp_probability,
            "labelled_tokens": num_labels,
        }

    def _columns(self, rows: PairRows, unit: int, copy: int) -> pa.Table:
        input_ids = rows.input_ids
        columns = {
            "length_a": pa.array(rows.length_a, pa.int16()),
            "length": pa.array(rows.length, pa.int16()),
            "next_sentence_label": pa.array(rows.next_sentence_label, pa.int8()),
        }
        if self.static:
            masked = self.masker(input_ids, self.seed + unit, copy, np.arange(len(input_ids)))
            num_chosen = masked.chosen.sum(axis=1)
            positions = np.nonzero(masked.chosen)[1]
            columns["masked_lm_positions"] = list_array(pa.array(positions, pa.int16()), num_chosen)
            columns["masked_lm_ids"] = list_array(pa.array(input_ids[masked.chosen]), num_chosen)
            input_ids = masked.input_ids
        flat = pa.array(input_ids.reshape(-1))
        return pa.table({"input_ids": pa.FixedSizeListArray.from_arrays(flat, self.shape.block_size), **columns})

    def _documents(self, unit: int) -> Documents:
        """The tokens of one unit's documents."""
        numbers = self.numbers[self.bounds[unit] : self.bounds[unit + 1]]
        table = self.tokens[int(numbers[0]) : int(numbers[-1]) + 1].take(pa.array(numbers - numbers[0]))
        tokens, starts = flat_lists(table["input_ids"])
        ends, first_end = flat_lists(table["sentence_ends"])
        return Documents(tokens, starts, ends + np.repeat(starts[:-1], np.diff(first_end)), self.word_starts[tokens])


def unit_bounds(lengths: np.ndarray, least: int) -> np.ndarray:
    """Lengths of documents in tokens -> where units begin, and the end of the last.

    Documents are taken `least` by `least`: two, so that every unit has another document to draw a B from.
    """
    tokens = np.add.reduceat(lengths, np.arange(0, lengths.size - least + 1, least), dtype=np.int64)
    unit = (np.cumsum(tokens) - 1) // UNIT_TOKENS
    return np.append(least * np.unique(unit, return_index=True)[1], lengths.size)
