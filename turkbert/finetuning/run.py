"""A fine-tuning run: data -> rows -> trained model -> scores, and the folder with all of it.

    result = finetune(parse_finetuning_args("classification", ["config.json"]))
    result.scores["test"]["accuracy"]
"""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import transformers
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from turkbert.errors import config_error
from turkbert.finetuning.arguments import FinetuningArguments, FinetuningRun, TaskArguments
from turkbert.finetuning.classification import Classification
from turkbert.finetuning.examples import load_splits
from turkbert.finetuning.models import find_max_length, load_model, load_tokenizer
from turkbert.finetuning.output import commit_model
from turkbert.finetuning.progress import TIMINGS, show_progress
from turkbert.finetuning.question_answering import QuestionAnswering
from turkbert.finetuning.token_classification import TokenClassification
from turkbert.finetuning.trainer import FinetuningTrainer, Task, balanced_weights, freeze_encoder

TASK_CLASSES = {
    "classification": Classification,
    "token_classification": TokenClassification,
    "question_answering": QuestionAnswering,
}


@dataclass
class TaskData:
    """What all runs of a task with one tokenizer share.

    Attributes:
        encoded: the tokenized splits; those for evaluation are sorted by length, so that they are padded little.
    """

    task: Task
    tokenizer: PreTrainedTokenizerBase
    encoded: dict[str, Dataset]


@dataclass
class Result:
    """Scores of the splits, in percent where they are shares, and the seconds of training and in all."""

    scores: dict[str, dict[str, float]]
    train_seconds: float
    seconds: float
    steps: int

    def summary(self) -> str:
        """A line a score."""
        lines = [(split, name, value) for split, values in self.scores.items() for name, value in values.items()]
        return "\n".join(f"{split:<12}{name:<24}{value:>10.4f}" for split, name, value in lines)


def prepare_task(settings: TaskArguments) -> TaskData:
    """Read, check, cut to size and tokenize the data of a task, once for any number of runs.

    Raises:
        UserError: with file and line, for what is wrong in the data.
    """
    tokenizer = load_tokenizer(settings)
    max_length = find_max_length(settings, tokenizer)
    splits = load_splits(settings)
    task = TASK_CLASSES[settings.task or ""](splits, tokenizer, settings, max_length)
    if settings.class_weights != "none" and not task.labels:
        raise config_error("class_weights", "this task has no classes", "leave it out")
    for name, split in task.splits.items():
        task.splits[name] = split.sample(getattr(settings, f"max_{name}_samples"))
    encoded = {name: task.encode(name) for name in task.splits}
    encoded |= {name: _by_length(rows) for name, rows in encoded.items() if name != "train"}
    return TaskData(task, tokenizer, encoded)


def _by_length(rows: Dataset) -> Dataset:
    return rows.select(np.argsort(rows["length"], kind="stable")).flatten_indices()


def build_trainer(
    settings: TaskArguments, training: FinetuningArguments, data: TaskData, untrained: bool = False
) -> FinetuningTrainer:
    """A trainer with a new model, whose head (and, if `untrained`, all else) depends on the seed alone."""
    transformers.set_seed(training.seed)
    model = load_model(settings, data.task, training.use_cpu, untrained)
    if settings.freeze_encoder:
        freeze_encoder(model)
    counts = data.task.class_counts() if settings.class_weights == "balanced" else []
    return FinetuningTrainer(
        data.task,
        data.encoded,
        class_weights=balanced_weights(counts) if counts else None,
        patience=settings.early_stopping_patience,
        model=model,
        args=training,
        processing_class=data.tokenizer,
    )


def train_and_score(trainer: FinetuningTrainer, resume_from_checkpoint: str | None = None) -> Result:
    """Train, then score the validation rows and, where there are, the test rows."""
    begin = time.perf_counter()
    trained = trainer.train(resume_from_checkpoint=resume_from_checkpoint)
    scores = {}
    for split in trainer.encoded:
        if split != "train":
            scores[split] = clean_scores(trainer.evaluate(split))
    seconds = time.perf_counter() - begin
    return Result(scores, trained.metrics["train_runtime"], seconds, trained.global_step)


def clean_scores(metrics: dict[str, Any]) -> dict[str, float]:
    """Trainer's metrics without its prefix and its timings."""
    return {
        name.removeprefix("eval_"): float(value) for name, value in metrics.items() if not name.endswith(TIMINGS)
    }


def finetune(run: FinetuningRun) -> Result:
    """The whole run of a script: trains, scores, and commits model, tokenizer, card and scores to output_dir.

    Raises:
        UserError: bad data or settings.
    """
    data = prepare_task(run.task)
    training = run.training()
    trainer = build_trainer(run.task, training, data)
    show_progress(trainer)
    result = train_and_score(trainer, training.resume_from_checkpoint)
    if trainer.is_world_process_zero():
        commit_model(run, trainer, data, result)
    return result
