"""The settings of a fine-tuning run: TaskArguments and transformers' TrainingArguments, from one flat JSON.

    python scripts/finetune_classification.py configs/finetune/sentiment_mixed.json --model_name_or_path out
"""

from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

import torch
from transformers import TrainingArguments

from turkbert.arguments import choose_precision
from turkbert.errors import config_error
from turkbert.parsing import NO_SECRETS, field_default, key, parse_keys

TASKS = ("classification", "token_classification", "question_answering")


@dataclass
class TaskArguments:
    """Which model learns what from which data."""

    task: Literal["classification", "token_classification", "question_answering"] | None = key(
        None, "what kind of task the data is; each script has its own"
    )
    model_name_or_path: str | None = key(None, "folder or Hub id of any encoder")
    model_revision: str | None = key(None, "revision of that model on the Hub")
    attn_implementation: str | None = key(None, "sdpa, eager ...; empty: eager on a CPU, else transformers' choice")
    dataset_name: str | None = key(None, "Hub data set, or a folder of train, validation and test files")
    dataset_config_name: list[str] = key([], "configuration of a Hub data set, e.g. mrpc of nyu-mll/glue, or several")
    dataset_revision: str | None = key(None, "revision of a Hub data set")
    train_file: str | None = key(None, "jsonl, csv or parquet file; jsonl and csv also as .gz, .xz or .zst")
    validation_file: str | None = key(None, "the same for validation")
    test_file: str | None = key(None, "the same for the test")
    train_split: str = key("train", "name of that split of a data set")
    validation_split: str = key("validation", "name of that split; where there is none, a part of train is taken")
    test_split: str = key("test", "name of that split; where there is none, nothing is tested")
    validation_fraction: float = key(0.1, "share of the training rows to validate on where there is no such split")
    text_columns: list[str] = key([], "one column, or two of a pair; empty: text, or a usual pair such as sentence1")
    label_column: str = key("label", "column of the class or the number to predict")
    tokens_column: str = key("tokens", "column of the words of a sentence")
    tags_column: str | None = key(None, "column of their tags; empty: tags, ner_tags or pos_tags")
    problem_type: Literal["single_label_classification", "regression"] | None = key(
        None, "empty: regression where all labels are floats"
    )
    max_seq_length: int | None = key(None, "tokens a row at most; empty: as many as the model takes, up to 512")
    doc_stride: int = key(128, "tokens that neighbouring windows of a long context share")
    max_answer_length: int = key(30, "tokens of the longest answer")
    null_score_diff_threshold: float = key(0.0, "how much better 'no answer' must score than the best answer")
    max_train_samples: int | None = key(None, "rows drawn from the training data, the same for every seed")
    max_validation_samples: int | None = key(None, "rows drawn from the validation data")
    max_test_samples: int | None = key(None, "rows drawn from the test data")
    class_weights: Literal["none", "balanced"] = key("none", "balanced: rare classes weigh more in the loss")
    freeze_encoder: bool = key(False, "train the head alone: a probe of what the encoder holds")
    early_stopping_patience: int | None = key(None, "evaluations without improvement before training stops")
    bad_rows: Literal["error", "reject"] = key("error", "what to do with a row that breaks a rule of the task")


@dataclass
class FinetuningArguments(TrainingArguments):
    """TrainingArguments with the usual defaults of fine-tuning, and a precision chosen by device."""

    output_dir: str = key("out-finetuned", "where checkpoints and the final model go")
    num_train_epochs: float = key(3.0, "passes over the training rows")
    learning_rate: float = key(5e-5, "peak learning rate")
    per_device_train_batch_size: int = key(32, "training rows a device and micro-batch")
    per_device_eval_batch_size: int = key(64, "evaluation rows a device and batch")
    warmup_steps: float = key(0.1, "steps of linear warm-up; below 1: a share of all steps")
    weight_decay: float = key(0.01, "AdamW's decay on all but biases and normalisation")
    train_sampling_strategy: str = key("group_by_length", "rows of like length come together: less padding")
    eval_strategy: str = key("epoch", "evaluate on validation after each epoch, steps or no")
    save_strategy: str = key("epoch", "as eval_strategy")
    save_total_limit: int | None = key(1, "checkpoints kept besides the best")
    load_best_model_at_end: bool = key(True, "the weights of the best validation score, not the last ones")
    metric_for_best_model: str | None = key(None, "that score; empty: the main one of the task")
    logging_steps: float = key(50, "log every so many steps")
    logging_nan_inf_filter: bool = key(False, "stock Trainer shows NaN as 0.0")
    report_to: list[str] = key([], "trackers: mlflow, wandb, tensorboard ..., one or several; empty: none")
    bf16: bool | None = key(None, "empty: where the device has it natively")
    fp16: bool | None = key(None, "empty: on a GPU without bf16")
    overwrite: bool = key(False, "start afresh over an old run")
    debug: bool = key(False, "show the traceback of an error")

    def __post_init__(self) -> None:
        self.debug = ""  # stock Trainer's own debug options share the name of our flag
        self.use_cpu = self.use_cpu or not torch.accelerator.is_available()
        self.bf16, self.fp16 = choose_precision(self.use_cpu, self.bf16, self.fp16)
        super().__post_init__()


GROUPS = (TaskArguments, FinetuningArguments)
_METRICS = "scores need whole predictions in their order"
REFUSED = {
    "hub_token": NO_SECRETS,
    "hub_strategy": "the finished model is pushed",
    "hub_always_push": "the finished model is pushed",
    "do_train": "the finetune scripts train",
    "do_eval": "set eval_strategy",
    "do_predict": "name a test_file or test_split",
    "label_names": "each task has its own",
    "remove_unused_columns": "the collator makes exactly the model's inputs",
    "length_column_name": "lengths are counted in tokens",
    "label_smoothing_factor": "the loss is the model's own, or the class-weighted one",
    "prediction_loss_only": _METRICS,
    "include_for_metrics": _METRICS,
    "batch_eval_metrics": _METRICS,
    "eval_do_concat_batches": _METRICS,
    "eval_use_gather_object": _METRICS,
    "auto_find_batch_size": "it would change the batch in mid-run: lower per_device_train_batch_size",
    "enable_jit_checkpoint": "it hangs when one rank alone gets the signal: set save_steps",
    "logging_nan_inf_filter": "it would show NaN as 0.0",
    "use_cache": "an encoder has no cache",
    "use_liger_kernel": "it has no kernels for encoders",
    "liger_kernel_config": "it has no kernels for encoders",
    "neftune_noise_alpha": "it is for instruction tuning",
    "local_rank": "the launcher sets it",
}
LOOP_READS = {f.name for f in fields(TaskArguments)} - {"class_weights", "freeze_encoder", "early_stopping_patience"}
LOOP_READS |= {
    "output_dir", "num_train_epochs", "learning_rate", "per_device_train_batch_size", "per_device_eval_batch_size",
    "gradient_accumulation_steps", "warmup_steps", "lr_scheduler_type", "weight_decay", "max_grad_norm", "seed",
    "bf16", "fp16", "use_cpu", "disable_tqdm", "debug",
}  # fmt: skip


@dataclass
class FinetuningRun:
    """The parsed settings of a run; `training()` is made last, since it touches the device and the process group."""

    task: TaskArguments
    given: dict[str, Any]

    @property
    def debug(self) -> bool:
        return bool(self.given.get("debug", False))

    @property
    def output_dir(self) -> str:
        return self.setting("output_dir")

    def setting(self, name: str) -> Any:
        """A key of FinetuningArguments as given or by default, before the device is touched."""
        return self.given[name] if name in self.given else field_default(FinetuningArguments, name)

    def training(self, **changes: Any) -> FinetuningArguments:
        """Raises: UserError (bad config) with transformers' own words where it refuses a value."""
        own = {f.name for f in fields(FinetuningArguments)}
        settings = {name: value for name, value in self.given.items() if name in own} | changes
        settings["push_to_hub"] = False  # Trainer would push files of its own; output.py pushes the finished model
        try:
            return FinetuningArguments(**settings)
        except (ValueError, ImportError) as error:
            raise config_error("config", str(error).rstrip("."), "change that key") from error

    def resolved(self) -> dict[str, Any]:
        """All keys of the task, and what was given for the training."""
        return {**asdict(self.task), **self.given}


def parse_finetuning_args(task: str, argv: list[str] | None = None, description: str | None = None) -> FinetuningRun:
    """[CONFIG.json] [--key value ...] -> FinetuningRun for one of TASKS.

    Raises:
        UserError: with exit code 3, naming the key and, where it is unknown, the nearest known one.
    """
    given = parse_keys(GROUPS, REFUSED, argv, description)
    if given.get("task") not in (None, task):
        raise config_error("task", f"this is no {given['task']} script", f"run scripts/finetune_{given['task']}.py")
    return make_run({**given, "task": task})


def parse_loop_args(argv: list[str] | None = None, description: str | None = None) -> FinetuningRun:
    """Those of scripts/finetune_loop.py, which reads fewer keys than the Trainer's script.

    Raises:
        UserError: as parse_finetuning_args does, and for a key that would change nothing.
    """
    run = parse_finetuning_args("classification", argv, description)
    for name in run.given.keys() - LOOP_READS:
        raise config_error(name, "the loop does not read it", "leave it out, or run finetune_classification.py")
    return run


def make_run(given: dict[str, Any]) -> FinetuningRun:
    """Keys with values of their types -> FinetuningRun, checked.

    Raises:
        UserError: naming the key, its value and the rule.
    """
    own = {f.name for f in fields(TaskArguments)}
    run = FinetuningRun(TaskArguments(**{name: value for name, value in given.items() if name in own}), given)
    _check(run)
    return run


def _check(run: FinetuningRun) -> None:
    task = run.task
    if task.model_name_or_path is None:
        raise config_error("model_name_or_path", "no model", "name a folder or a Hub id")
    if task.dataset_name is None and task.train_file is None:
        raise config_error("dataset_name", "no data", "name a folder or a Hub data set, or give train_file")
    if len(task.text_columns) > 2:
        raise config_error("text_columns", "more than two columns", "name one text, or the two of a pair")
    for name, (low, high, rule) in _RANGES.items():
        value = getattr(task, name) if hasattr(task, name) else run.setting(name)
        if value is not None and not low <= value <= high:
            raise config_error(name, f"{value} is out of range", rule)
    if task.early_stopping_patience and "no" in (run.setting("eval_strategy"), run.setting("save_strategy")):
        raise config_error("early_stopping_patience", "nothing is evaluated and saved", "set eval_strategy to epoch")


_HUGE = 2**62
_RANGES = {
    "validation_fraction": (1e-6, 0.9, "above 0 and at most 0.9"),
    "max_seq_length": (8, _HUGE, "8 or more tokens"),
    "doc_stride": (0, _HUGE, "0 or more tokens"),
    "max_answer_length": (1, _HUGE, "1 or more tokens"),
    "max_train_samples": (1, _HUGE, "1 or more rows"),
    "max_validation_samples": (1, _HUGE, "1 or more rows"),
    "max_test_samples": (1, _HUGE, "1 or more rows"),
    "early_stopping_patience": (1, _HUGE, "1 or more evaluations"),
    "num_train_epochs": (1e-9, _HUGE, "above 0"),
    "learning_rate": (1e-12, _HUGE, "above 0"),
    "per_device_train_batch_size": (1, _HUGE, "1 or more rows"),
    "per_device_eval_batch_size": (1, _HUGE, "1 or more rows"),
    "gradient_accumulation_steps": (1, _HUGE, "1 or more"),
    "warmup_steps": (0, _HUGE, "0 or more"),
    "weight_decay": (0, _HUGE, "0 or more"),
    "seed": (0, 2**32 - 1, "0 to 2**32 - 1"),
}
