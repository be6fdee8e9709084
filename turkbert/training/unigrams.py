"""How often each token comes in prepared rows: what a model without any context knows."""

import math

import numpy as np
from datasets import Dataset
from transformers import PreTrainedTokenizerFast

from turkbert.data.arrow import read_columns
from turkbert.data.collator import IGNORED
from turkbert.training.sampler import EvaluationRows

ENOUGH_ROWS = 65_536  # evenly spread over all; of block 128 eight million tokens
_ROWS_A_READ = 4096


def count_tokens(rows: Dataset, tokenizer: PreTrainedTokenizerFast) -> np.ndarray:
    """`(V,)` counts, each one too high, so that none is 0; special tokens, which are never predicted, have 1."""
    counts = np.ones(len(tokenizer))
    numbers = np.unique(np.linspace(0, len(rows) - 1, min(len(rows), ENOUGH_ROWS)).round().astype(np.int64))
    arrow = rows.select_columns(["input_ids"]).with_format("arrow")
    for start in range(0, numbers.size, _ROWS_A_READ):
        ids = read_columns(arrow, numbers[start : start + _ROWS_A_READ])["input_ids"]
        counts += np.bincount(ids.reshape(-1), minlength=counts.size)
    counts[tokenizer.all_special_ids] = 1
    return counts


def unigram_baselines(
    train_rows: Dataset, evaluation_rows: EvaluationRows, tokenizer: PreTrainedTokenizerFast
) -> dict[str, float]:
    """What a model without any context reaches on the labels of these validation rows."""
    counts = count_tokens(train_rows, tokenizer)
    batches = (evaluation_rows[number]["labels"].numpy() for number in range(len(evaluation_rows)))
    labels = np.concatenate([batch[batch != IGNORED] for batch in batches])
    return {
        "unigram_loss": float(np.mean(math.log(counts.sum()) - np.log(counts[labels]))),
        "majority_accuracy": float(np.mean(labels == counts.argmax())),
    }
