"""Extractive question answering: which span of the context answers the question, if any does.

    [CLS] question [SEP] window of the context [SEP]  ->  start_positions, end_positions (both 0: not in this window)

A context longer than the model is read in windows that share `doc_stride` tokens; the best span of all of them counts.
"""

import logging
from functools import partial
from typing import Any

import numpy as np
from datasets import Dataset
from transformers import AutoModelForQuestionAnswering, DataCollatorWithPadding, PreTrainedTokenizerBase

from turkbert.errors import config_error
from turkbert.finetuning.arguments import TaskArguments
from turkbert.finetuning.examples import Split, keep_good_rows
from turkbert.finetuning.padding import width_step
from turkbert.finetuning.squad import squad_metrics

logger = logging.getLogger(__name__)

OFFSETS = ["offset_starts", "offset_ends"]  # in characters of the context; -1 for what is not its token


class QuestionAnswering:
    """The rows of a SQuAD-like task and the scores of predicted spans.

    Rows have question, context and answers: {"text": [...], "answer_start": [...]}, both empty for no answer.

    Raises:
        UserError: with file and line, for a missing column, an empty question or context, an answer that the context
            does not have at that place.
    """

    auto_class = AutoModelForQuestionAnswering
    main_metric = "f1"
    labels: list[str] = []
    config_settings: dict[str, Any] = {}

    def __init__(
        self, splits: dict[str, Split], tokenizer: PreTrainedTokenizerBase, task: TaskArguments, max_length: int
    ):
        self.tokenizer, self.max_length, self.doc_stride = tokenizer, max_length, task.doc_stride
        if task.doc_stride >= max_length // 2 - 3:  # the question may take half of the row
            what = f"{task.doc_stride} leaves no new tokens in windows of {max_length}"
            raise config_error("doc_stride", what, "lower it, or raise max_seq_length")
        self.max_answer_length, self.threshold = task.max_answer_length, task.null_score_diff_threshold
        self.splits = {name: keep_good_rows(split, _row_fault, task.bad_rows) for name, split in splits.items()}
        # Only a model that has seen questions without answer can tell them.
        self.may_be_unanswered = any(not row["answers"]["text"] for row in self.splits["train"].rows)
        self.collator = DataCollatorWithPadding(tokenizer, pad_to_multiple_of=width_step(max_length))

    def encode(self, split: str) -> Dataset:
        """Tokenized windows: the model's inputs, start_positions, end_positions, example, offsets, length."""
        rows = self.splits[split].rows
        answers = [row["answers"] for row in rows]
        dataset = Dataset.from_dict(
            {
                "example": list(range(len(rows))),
                "question": [row["question"].strip() for row in rows],
                "context": [row["context"] for row in rows],
                "answer_start": [found["answer_start"][0] if found["text"] else -1 for found in answers],
                "answer_text": [found["text"][0] if found["text"] else "" for found in answers],
            }
        )
        build = partial(
            build_windows, tokenizer=self.tokenizer, max_length=self.max_length, doc_stride=self.doc_stride
        )
        windows = dataset.map(build, batched=True, remove_columns=dataset.column_names)
        cut = sum(windows["question_is_cut"])
        told = f"{len(rows):,} contexts are read in {len(windows):,} windows of at most {self.max_length} tokens"
        logger.info("%s: %s%s", self.splits[split].source, told, f"; {cut:,} with the question cut" if cut else "")
        return windows.remove_columns(["question_is_cut", *(OFFSETS if split == "train" else [])])

    def class_counts(self) -> list[int]:
        """There are no classes."""
        return []

    def reduce_logits(self, logits: Any, labels: Any) -> Any:
        """What is kept of a batch's predictions: start and end logits, (B, T) each."""
        return logits[:2]

    def score(self, split: str, dataset: Dataset, predictions: Any, labels: Any) -> dict[str, float]:
        """Exact match and F1 of the spans that (N, T) start and end logits point to."""
        rows = self.splits[split].rows
        answers = self.answer(rows, dataset, *predictions)
        return squad_metrics(answers, [row["answers"]["text"] for row in rows])

    def answer(self, rows: list[dict], dataset: Dataset, starts: np.ndarray, ends: np.ndarray) -> list[str]:
        """One answer a row, "" where none is more likely than the best span."""
        width = starts.shape[1]
        offset_starts, offset_ends = (_padded(dataset[name], width) for name in OFFSETS)
        scores, first, last = best_spans(starts, ends, offset_starts >= 0, self.max_answer_length)
        null_scores = starts[:, 0] + ends[:, 0]
        best, null = np.full(len(rows), -np.inf), np.full(len(rows), np.inf)
        answers = [""] * len(rows)
        for window, example in enumerate(dataset["example"]):
            null[example] = min(null[example], null_scores[window])
            if scores[window] > best[example]:
                best[example] = scores[window]
                begin, end = offset_starts[window, first[window]], offset_ends[window, last[window]]
                answers[example] = rows[example]["context"][begin:end]
        if self.may_be_unanswered:
            answers = ["" if null[i] > best[i] + self.threshold else answer for i, answer in enumerate(answers)]
        return answers


def best_spans(
    starts: np.ndarray, ends: np.ndarray, allowed: np.ndarray, max_length: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The span with the highest start + end logit in each row, of all those with at most `max_length` tokens.

    Args:
        starts, ends: (N, T) logits.
        allowed: (N, T), True for the tokens of the context.

    Returns:
        scores, first token, last token: (N,) each; the score is -inf where no token is allowed.
    """
    starts, ends = np.where(allowed, starts, -np.inf), np.where(allowed, ends, -np.inf)
    rows, width = np.arange(len(starts)), starts.shape[1]
    best = np.full(len(starts), -np.inf)
    first, last = np.zeros(len(starts), int), np.zeros(len(starts), int)
    for distance in range(min(max_length, width)):
        sums = starts[:, : width - distance] + ends[:, distance:]  # (N, T - distance)
        place = sums.argmax(axis=1)
        found = sums[rows, place]
        better = found > best
        best[better], first[better] = found[better], place[better]
        last[better] = place[better] + distance
    return best, first, last


def build_windows(
    batch: dict[str, list], tokenizer: PreTrainedTokenizerBase, max_length: int, doc_stride: int
) -> dict[str, list]:
    """Questions, contexts and first answers -> windows with start and end tokens; see QuestionAnswering."""
    questions, is_cut = _cut_questions(batch["question"], tokenizer, max_length // 2)
    encoded = tokenizer(
        questions,
        batch["context"],
        truncation="only_second",
        max_length=max_length,
        stride=doc_stride,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
    )
    examples, offsets = encoded.pop("overflow_to_sample_mapping"), encoded.pop("offset_mapping")
    names = ("start_positions", "end_positions", "example", *OFFSETS, "question_is_cut", "length")
    windows: dict[str, list] = {name: [] for name in names}
    for number, example in enumerate(examples):
        in_context = [sequence == 1 for sequence in encoded.sequence_ids(number)]
        begins = [begin if is_in else -1 for (begin, _), is_in in zip(offsets[number], in_context, strict=True)]
        ends = [end if is_in else -1 for (_, end), is_in in zip(offsets[number], in_context, strict=True)]
        answer_start = batch["answer_start"][example]
        start, end = find_span(begins, ends, answer_start, answer_start + len(batch["answer_text"][example]))
        values = (start, end, batch["example"][example], begins, ends, is_cut[example], len(begins))
        for name, value in zip(names, values, strict=True):
            windows[name].append(value)
    return {**encoded, **windows}


def find_span(begins: list[int], ends: list[int], answer_start: int, answer_end: int) -> tuple[int, int]:
    """First and last token of the characters [answer_start, answer_end), (0, 0) if the window lacks one of them."""
    if answer_start < 0:
        return 0, 0
    inside = [
        token
        for token, (begin, end) in enumerate(zip(begins, ends, strict=True))
        if begin >= 0 and begin < answer_end and end > answer_start
    ]
    if not inside or begins[inside[0]] > answer_start or ends[inside[-1]] < answer_end:
        return 0, 0
    return inside[0], inside[-1]


def _cut_questions(
    questions: list[str], tokenizer: PreTrainedTokenizerBase, max_tokens: int
) -> tuple[list[str], list[bool]]:
    """Questions of at most `max_tokens`, so that the context has as much room at least; and which ones were cut."""
    encoded = tokenizer(
        questions, add_special_tokens=False, truncation=True, max_length=max_tokens, return_offsets_mapping=True
    )
    is_cut = [bool(encoding.overflowing) for encoding in encoded.encodings]
    cut = [
        question[: offsets[-1][1]] if too_long else question
        for question, offsets, too_long in zip(questions, encoded["offset_mapping"], is_cut, strict=True)
    ]
    return cut, is_cut


def _padded(rows: list[list[int]], width: int) -> np.ndarray:
    padded = np.full((len(rows), width), -1)
    for number, row in enumerate(rows):
        padded[number, : len(row)] = row
    return padded


def _row_fault(row: dict[str, Any]) -> tuple[str, str] | None:
    for column in ("question", "context"):
        if not isinstance(row.get(column), str):
            return f"no text '{column}' (there are {', '.join(row)})", "write SQuAD's columns"
        if not row[column].strip():
            return f"{column} is empty", "write a text"
    answers = row.get("answers")
    if not isinstance(answers, dict) or not all(isinstance(answers.get(k), list) for k in ("text", "answer_start")):
        return "no answers", 'write {"text": [...], "answer_start": [...]}, both empty for no answer'
    if len(answers["text"]) != len(answers["answer_start"]):
        return f"{len(answers['text'])} texts and {len(answers['answer_start'])} starts", "give each answer its start"
    for text, start in zip(answers["text"], answers["answer_start"], strict=True):
        if not isinstance(text, str) or not isinstance(start, int) or not text.strip():
            return "an answer is no text with its start", "write a string and a number of characters"
        if start < 0 or row["context"][start : start + len(text)] != text:
            return f"answer {text[:40]!r} is not in the context at character {start}", "mend answer_start"
    return None
