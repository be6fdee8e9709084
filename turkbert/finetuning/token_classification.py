"""Words with tags (names, parts of speech): the first sub-word of a word carries its tag.

    Takımı'nı B-ORG  ->  Takımı   '      nı
                         B-ORG   -100   -100

A sentence longer than the model is read in several windows, so that no word goes unscored.
"""

import logging
from collections import Counter
from functools import partial
from typing import Any

import numpy as np
from datasets import Dataset
from transformers import (
    AutoModelForTokenClassification,
    DataCollatorForTokenClassification,
    PreTrainedTokenizerBase,
)

from turkbert.errors import UserError
from turkbert.finetuning.arguments import TaskArguments
from turkbert.finetuning.examples import Split, keep_good_rows
from turkbert.finetuning.labels import build_labels, label_name
from turkbert.finetuning.metrics import OUTSIDE, tagging_metrics
from turkbert.finetuning.padding import width_step

logger = logging.getLogger(__name__)

IGNORED = -100
USUAL_COLUMNS = ("tags", "ner_tags", "pos_tags", "upos")


class TokenClassification:
    """The rows of a tagging task, what the model must know of them, and their scores.

    Raises:
        UserError: with file and line, for a missing column, a sentence without words, an empty word, words and tags of
            different number, a tag that no training row has; with the file, for training rows of one tag only.
    """

    auto_class = AutoModelForTokenClassification
    main_metric = "f1"

    def __init__(
        self, splits: dict[str, Split], tokenizer: PreTrainedTokenizerBase, task: TaskArguments, max_length: int
    ):
        self.tokenizer, self.max_length = tokenizer, max_length
        self.tokens_column, self.tags_column = task.tokens_column, task.tags_column or _find_tags(splits["train"])
        self.names = splits["train"].names.get(self.tags_column)
        splits = {name: keep_good_rows(split, self._row_fault, task.bad_rows) for name, split in splits.items()}
        tags = {tag for row in splits["train"].rows for tag in row[self.tags_column]}
        if len(tags) < 2:
            what = f"one tag only ({label_name(next(iter(tags)), self.names)!r})"
            raise UserError(splits["train"].source, what, "give training rows with two tags or more")
        self.labels = build_labels(tags, self.names)
        self.splits = {name: keep_good_rows(split, self._tag_fault, task.bad_rows) for name, split in splits.items()}
        self.collator = DataCollatorForTokenClassification(tokenizer, pad_to_multiple_of=width_step(max_length))

    @property
    def config_settings(self) -> dict[str, Any]:
        """What the model's config says of the task: the names of the tags."""
        names = dict(enumerate(self.labels))
        return {"num_labels": len(names), "id2label": names, "label2id": {name: n for n, name in names.items()}}

    def encode(self, split: str) -> Dataset:
        """Tokenized windows: input_ids and what else the model takes, labels, example, words, length.

        `example` is the number of the sentence, `words` the numbers of its words that are labelled in this window.
        """
        rows = self.splits[split].rows
        dataset = Dataset.from_dict(
            {
                "example": list(range(len(rows))),
                "tokens": [row[self.tokens_column] for row in rows],
                "tags": [self._numbers(row) for row in rows],
            }
        )
        align = partial(align_tags, tokenizer=self.tokenizer, max_length=self.max_length)
        dataset = dataset.map(align, batched=True, remove_columns=["tokens", "tags"])
        if len(dataset) > len(rows):
            told = f"{len(rows):,} sentences are read in {len(dataset):,} windows of {self.max_length} tokens"
            logger.info("%s: %s", self.splits[split].source, told)
        return dataset

    def class_counts(self) -> list[int]:
        """Training words of each tag."""
        counts = Counter(number for row in self.splits["train"].rows for number in self._numbers(row))
        return [counts[number] for number in range(len(self.labels))]

    def reduce_logits(self, logits: Any, labels: Any) -> Any:
        """What is kept of a batch's predictions: the number of the best tag of each token, (B, T)."""
        return (logits[0] if isinstance(logits, tuple) else logits).argmax(-1)

    def score(self, split: str, dataset: Dataset, predictions: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        """Scores of (N, T) tag numbers, over all words; a word without any sub-word is said to be O."""
        rows = self.splits[split].rows
        references = [[self.labels[number] for number in self._numbers(row)] for row in rows]
        default = OUTSIDE if OUTSIDE in self.labels else self.labels[0]
        said = [[default] * len(tags) for tags in references]
        for window, (example, words) in enumerate(zip(dataset["example"], dataset["words"], strict=True)):
            found = predictions[window][labels[window] != IGNORED]
            for word, number in zip(words, found, strict=True):
                said[example][word] = self.labels[number]
        return tagging_metrics(said, references)

    def _numbers(self, row: dict[str, Any]) -> list[int]:
        return [self.labels.index(label_name(tag, self.names)) for tag in row[self.tags_column]]

    def _row_fault(self, row: dict[str, Any]) -> tuple[str, str] | None:
        for column in (self.tokens_column, self.tags_column):
            if not isinstance(row.get(column), list):
                return f"no list '{column}' (there are {', '.join(row)})", "name the columns of the data"
        tokens, tags = row[self.tokens_column], row[self.tags_column]
        if len(tokens) != len(tags):
            return f"{len(tokens)} {self.tokens_column} and {len(tags)} {self.tags_column}", "give each word one tag"
        if not tokens:
            return "a sentence without words", "remove it"
        for number, token in enumerate(tokens, start=1):
            if not isinstance(token, str) or not token.strip():
                return f"word {number} is empty", "write a word"
        return None

    def _tag_fault(self, row: dict[str, Any]) -> tuple[str, str] | None:
        for number, tag in enumerate(row[self.tags_column], start=1):
            if label_name(tag, self.names) not in self.labels:
                return f"tag {tag!r} of word {number} is in no training row", "mend it"
        return None


def align_tags(
    batch: dict[str, list], tokenizer: PreTrainedTokenizerBase, max_length: int
) -> dict[str, list]:
    """Sentences of words and tag numbers -> windows whose first sub-words are labelled; see TokenClassification."""
    encoded = tokenizer(
        batch["tokens"],
        is_split_into_words=True,
        truncation=True,
        max_length=max_length,
        return_overflowing_tokens=True,
    )
    sentences = encoded.pop("overflow_to_sample_mapping")
    windows: dict[str, list] = {"labels": [], "words": [], "example": [], "length": []}
    last_word = (-1, -1)  # (sentence, word): what a window begins with may go on with the last one's word
    for number, sentence in enumerate(sentences):
        labels, words = [], []
        for word in encoded.word_ids(number):
            is_first = word is not None and (sentence, word) != last_word
            labels.append(batch["tags"][sentence][word] if is_first else IGNORED)
            if is_first:
                words.append(word)
                last_word = (sentence, word)
        windows["labels"].append(labels)
        windows["words"].append(words)
        windows["example"].append(batch["example"][sentence])
        windows["length"].append(len(labels))
    return {**encoded, **windows}


def _find_tags(train: Split) -> str:
    for column in USUAL_COLUMNS:
        if column in train.rows[0]:
            return column
    there = ", ".join(train.rows[0])
    raise UserError(train.place(0), f"no column of tags is known by its name (there are {there})", "set tags_column")
