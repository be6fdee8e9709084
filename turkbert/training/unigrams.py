"""Tokens of prepared rows and how often each comes: what a model without any context knows."""

import math

import numpy as np
from datasets import Dataset
from transformers import PreTrainedTokenizerFast

from turkbert.data.arrow import read_columns
from turkbert.data.collator import IGNORED
from turkbert.training.sampler import EvaluationRows

ENOUGH_TOKENS = 2**23


def sample_ids(rows: Dataset) -> np.ndarray:
    """`(R, T)` tokens of rows that are evenly spread over all; of a large data set eight million tokens."""
    arrow = rows.select_columns(["input_ids"]).with_format("arrow")
    enough = ENOUGH_TOKENS // read_columns(arrow, np.zeros(1, dtype=np.int64))["input_ids"].size
    numbers = np.unique(np.linspace(0, len(rows) - 1, min(len(rows), enough)).round().astype(np.int64))
    return read_columns(arrow, numbers)["input_ids"]


def count_tokens(ids: np.ndarray, tokenizer: PreTrainedTokenizerFast) -> np.ndarray:
    """`(V,)` counts, each one too high, so that none is 0; special tokens, which are never predicted, have 1."""
    counts = 1.0 + np.bincount(ids.reshape(-1), minlength=len(tokenizer))
    counts[tokenizer.all_special_ids] = 1
    return counts


def unigram_baselines(
    train_rows: Dataset, evaluation_rows: EvaluationRows, tokenizer: PreTrainedTokenizerFast
) -> dict[str, float]:
    """What a model without any context reaches on the labels of these validation rows."""
    counts = count_tokens(sample_ids(train_rows), tokenizer)
    batches = (evaluation_rows[number]["labels"].numpy() for number in range(len(evaluation_rows)))
    labels = np.concatenate([batch[batch != IGNORED] for batch in batches])
    return {
        "unigram_loss": float(np.mean(math.log(counts.sum()) - np.log(counts[labels]))),
        "majority_accuracy": float(np.mean(labels == counts.argmax())),
    }
