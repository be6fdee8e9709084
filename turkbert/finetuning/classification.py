"""Single texts and pairs: classes, or a number (regression, as for semantic similarity).

    task = Classification(splits, tokenizer, args, max_length=128)
    task.labels, task.encode("train")    # ["negative", "positive"], rows of input_ids, ..., labels, length
"""

import logging
import math
from collections import Counter
from functools import partial
from typing import Any

import numpy as np
from datasets import Dataset
from transformers import (
    AutoModelForSequenceClassification,
    DataCollatorWithPadding,
    PreTrainedTokenizerBase,
)

from turkbert.errors import UserError
from turkbert.finetuning.arguments import TaskArguments
from turkbert.finetuning.examples import Split, keep_good_rows
from turkbert.finetuning.labels import build_labels, label_name
from turkbert.finetuning.metrics import classification_metrics, regression_metrics
from turkbert.finetuning.padding import width_step

logger = logging.getLogger(__name__)

REGRESSION = "regression"
USUAL_COLUMNS = (
    ["text"], ["sentence1", "sentence2"], ["question1", "question2"], ["premise", "hypothesis"],
    ["question", "sentence"], ["sentence"], ["tweet"], ["review"],
)  # fmt: skip
Fault = tuple[str, str]  # what is wrong, how to mend it


class Classification:
    """The rows of a classification or regression task, what the model must know of them, and their scores.

    Raises:
        UserError: with file and line, for a missing column, an empty text, a label that is none or that no training
            row has; with the file, for training rows of one class only.
    """

    auto_class = AutoModelForSequenceClassification

    def __init__(
        self, splits: dict[str, Split], tokenizer: PreTrainedTokenizerBase, task: TaskArguments, max_length: int
    ):
        self.tokenizer, self.max_length, self.label_column = tokenizer, max_length, task.label_column
        self.text_columns = task.text_columns or find_text_columns(splits["train"])
        splits = drop_unlabelled_test(splits, task.label_column)
        self.names = splits["train"].names.get(task.label_column)
        # What a row must have is checked before its label, and training rows first: they say which labels there are.
        splits = {name: keep_good_rows(split, self._text_fault, task.bad_rows) for name, split in splits.items()}
        self.is_regression = is_regression(splits["train"], task)
        splits["train"] = keep_good_rows(splits["train"], self._value_fault, task.bad_rows)
        self.labels = [] if self.is_regression else self._find_labels(splits["train"])
        check = self._value_fault if self.is_regression else self._label_fault
        self.splits = {name: keep_good_rows(split, check, task.bad_rows) for name, split in splits.items()}
        self.main_metric = "combined" if self.is_regression else "accuracy"
        self.collator = DataCollatorWithPadding(tokenizer, pad_to_multiple_of=width_step(max_length))

    @property
    def config_settings(self) -> dict[str, Any]:
        """What the model's config says of the task, the names of the classes included."""
        if self.is_regression:
            return {"num_labels": 1, "problem_type": REGRESSION}
        names = dict(enumerate(self.labels))
        return {
            "num_labels": len(names),
            "id2label": names,
            "label2id": {name: number for number, name in names.items()},
            "problem_type": "single_label_classification",
        }

    def encode(self, split: str) -> Dataset:
        """Tokenized rows: input_ids and what else the model takes, labels, length (in tokens)."""
        rows = self.splits[split].rows
        columns = {name: [row[name] for row in rows] for name in self.text_columns}
        dataset = Dataset.from_dict({**columns, "labels": self.targets(split)})
        tokenize = partial(
            tokenize_texts, tokenizer=self.tokenizer, columns=self.text_columns, max_length=self.max_length
        )
        dataset = dataset.map(tokenize, batched=True, remove_columns=self.text_columns)
        tell_cut(self.splits[split].source, dataset["is_cut"], self.max_length)
        return dataset.remove_columns("is_cut")

    def targets(self, split: str) -> list[int] | list[float]:
        """The class number, or the value, of each row."""
        values = [row[self.label_column] for row in self.splits[split].rows]
        if self.is_regression:
            return [float(value) for value in values]
        return [self.labels.index(label_name(value, self.names)) for value in values]

    def class_counts(self) -> list[int]:
        """Training rows of each class, [] for regression."""
        counts = Counter(self.targets("train"))
        return [counts[number] for number in range(len(self.labels))]

    def reduce_logits(self, logits: Any, labels: Any) -> Any:
        """What is kept of a batch's predictions."""
        return logits[0] if isinstance(logits, tuple) else logits

    def score(self, split: str, dataset: Dataset, predictions: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        """Scores of a split's logits, (N, C) or (N, 1)."""
        return self.score_logits(predictions, labels)

    def score_logits(self, predictions: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        """The same for any rows."""
        if self.is_regression:
            return regression_metrics(predictions.reshape(-1), labels.reshape(-1))
        return classification_metrics(predictions.argmax(-1), labels)

    def _find_labels(self, train: Split) -> list[str]:
        values = [row[self.label_column] for row in train.rows]
        if len(set(values)) < 2:
            what = f"one class only ({label_name(values[0], self.names)!r}) in {len(values):,} rows"
            raise UserError(train.source, what, "give training rows of two classes or more")
        return build_labels(values, self.names)

    def _text_fault(self, row: dict[str, Any]) -> Fault | None:
        for column in (*self.text_columns, self.label_column):
            if column not in row:
                return f"no column '{column}' (there are {', '.join(row)})", "name the columns of the data"
        for column in self.text_columns:
            if not isinstance(row[column], str):
                return f"{column} is no text", "write a string"
            if not row[column].strip():
                return f"{column} is empty", "write a text"
        return None

    def _value_fault(self, row: dict[str, Any]) -> Fault | None:
        value = row[self.label_column]
        if self.is_regression:
            return None if is_number(value) else (f"label {value!r} is no number", "write a number")
        is_class = isinstance(value, (str, int)) and value != "" and not (self.names and value == -1)
        return None if is_class else (f"label {value!r} is no class", "write a name or a whole number")

    def _label_fault(self, row: dict[str, Any]) -> Fault | None:
        fault = self._value_fault(row)
        if fault is None and label_name(row[self.label_column], self.names) not in self.labels:
            known = ", ".join(self.labels[:10]) + (" ..." if len(self.labels) > 10 else "")
            return f"label {row[self.label_column]!r} is in no training row (there are {known})", "mend it"
        return fault


def tokenize_texts(
    batch: dict[str, list[str]], tokenizer: PreTrainedTokenizerBase, columns: list[str], max_length: int
) -> dict[str, Any]:
    """A batch of texts or pairs -> the tokenizer's columns, length, and is_cut where a text was too long."""
    encoded = tokenizer(*[batch[column] for column in columns], truncation=True, max_length=max_length)
    lengths = [len(ids) for ids in encoded["input_ids"]]
    is_cut = [bool(encoding.overflowing) for encoding in encoded.encodings]
    return {**encoded, "length": lengths, "is_cut": is_cut}


def tell_cut(source: str, is_cut: list[bool], max_length: int) -> None:
    """Say how many rows lost their end."""
    if number := sum(is_cut):
        logger.info("%s: %s of %s rows are cut after %d tokens", source, f"{number:,}", f"{len(is_cut):,}", max_length)


def find_text_columns(train: Split) -> list[str]:
    """The usual columns of a text or a pair that the first row has.

    Raises:
        UserError: it has none of them.
    """
    for columns in USUAL_COLUMNS:
        if all(column in train.rows[0] for column in columns):
            return columns
    there = ", ".join(train.rows[0])
    raise UserError(train.place(0), f"no text column is known by its name (there are {there})", "set text_columns")


def drop_unlabelled_test(splits: dict[str, Split], column: str) -> dict[str, Split]:
    """Without the test split where all its labels are hidden, as those of GLUE are (-1)."""
    test = splits.get("test")
    if test is None or not all(row.get(column) == -1 for row in test.rows):
        return dict(splits)
    logger.warning("%s: the labels are hidden, so there is no test", test.source)
    return {name: split for name, split in splits.items() if name != "test"}


def is_regression(train: Split, task: TaskArguments) -> bool:
    """As the settings say, or where all labels are floats."""
    if task.problem_type is not None:
        return task.problem_type == REGRESSION
    return all(isinstance(row[task.label_column], float) for row in train.rows)


def is_number(value: Any) -> bool:
    """True for what float() makes a finite number of."""
    try:
        return not isinstance(value, bool) and math.isfinite(float(value))
    except (TypeError, ValueError):
        return False
