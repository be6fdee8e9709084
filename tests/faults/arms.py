"""Two ways to train on the same rows, for the faults to meet: turkbert, and the stock Trainer as a good user has it.

    arm = Turkbert(tiny_dir, prepared, max_steps=40)
    arm.train(output_dir, rows_log)        # from where output_dir is, to the end

An arm trains in the calling process, which is a forked child; `rows_log` gets a line for every micro-batch that is
trained: [step, block size, [row, ...]].
"""

import json
import os
import socket
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.state import AcceleratorState
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments, set_seed
from transformers.trainer_utils import get_last_checkpoint

from tests.faults.harness import LIFE_SECONDS, fork, log_of, wait
from tests.training.tiny import TINY, tiny_arguments
from turkbert.data.prepare import PreparedData
from turkbert.errors import user_errors
from turkbert.training import callbacks
from turkbert.training.run import pretrain
from turkbert.training.sampler import StagedRows
from turkbert.training.trainer import PretrainingTrainer

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

from stock_pretraining import build_stock_model, build_stock_trainer, collate  # noqa: E402

PLAN = {"max_steps": 40, "save_steps": 1, "eval_steps": 20, "logging_steps": 5, "save_total_limit": 2}


class Turkbert:
    """pretrain() as the script calls it, both stages, a save at every step."""

    name = "turkbert"

    def __init__(self, tiny_dir: Path, prepared: PreparedData, **settings: Any):
        self.tiny_dir, self.prepared, self.settings = tiny_dir, prepared, {**PLAN, **settings}
        self.nan_step = self.settings.pop("nan_step", None)
        self.max_steps = self.settings["max_steps"]

    def with_settings(self, **settings: Any) -> "Turkbert":
        return Turkbert(self.tiny_dir, self.prepared, **{**self.settings, **settings})

    def train(self, output_dir: Path, rows_log: Path) -> None:
        _log_turkbert_rows(rows_log)
        _poison(PretrainingTrainer, self.nan_step)
        callbacks.write_plots = lambda *args: []  # as often as there is time: no two lives would do the same
        args = tiny_arguments(self.tiny_dir, output_dir, **self.settings)
        with user_errors(False, output_dir):
            pretrain(args, args.training(), self.prepared.tokenizer, self.prepared.rows)


class Stock:
    """A stock Trainer with BertForPreTraining, one stage, which resumes from what get_last_checkpoint names."""

    name = "stock Trainer"

    def __init__(self, prepared: PreparedData, **settings: Any):
        self.prepared, self.settings = prepared, {**PLAN, "eval_strategy": "no", **settings}
        self.nan_step = self.settings.pop("nan_step", None)
        self.max_steps = self.settings["max_steps"]

    def with_settings(self, **settings: Any) -> "Stock":
        return Stock(self.prepared, **{**self.settings, **settings})

    def train(self, output_dir: Path, rows_log: Path) -> None:
        args = TrainingArguments(
            str(output_dir),
            per_device_train_batch_size=TINY["stage_batch_sizes"][0],
            remove_unused_columns=False,
            use_cpu=True,
            disable_tqdm=True,
            report_to="none",
            **{"learning_rate": TINY["learning_rate"], "lr_scheduler_type": "cosine", **self.settings},
        )
        set_seed(args.seed)
        sizes = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
        vocab_size = len(self.prepared.tokenizer)
        model = build_stock_model(vocab_size=vocab_size, **{name: TINY[name] for name in sizes})
        rows = self.prepared.rows[TINY["block_sizes"][0]]["train"]
        rows = rows.add_column("row", np.arange(len(rows)))
        trainer_class = _logging_trainer(rows_log)
        _poison(trainer_class, self.nan_step)
        trainer = build_stock_trainer(model, args, rows, trainer_class)
        trainer.data_collator = partial(_collate_with_rows, self._mask())
        last = get_last_checkpoint(str(output_dir)) if output_dir.is_dir() else None
        trainer.train(resume_from_checkpoint=last)

    def _mask(self) -> DataCollatorForLanguageModeling:
        """What masks rows that have no masks of their own."""
        return DataCollatorForLanguageModeling(self.prepared.tokenizer)


class Ranks:
    """An arm in several processes (gloo), as a launcher would start them, without its seconds of imports."""

    def __init__(self, arm: Turkbert, num_processes: int = 2):
        self.arm, self.num_processes = arm, num_processes
        self.max_steps = arm.max_steps

    def train(self, output_dir: Path, rows_log: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        ranks = [
            fork(lambda rank=rank: self._train_rank(rank, port, output_dir, rows_log), log_of(output_dir))
            for rank in range(self.num_processes)
        ]
        rows_log.with_suffix(".ranks").write_text(json.dumps(ranks))
        raise SystemExit(max((wait(rank, LIFE_SECONDS / 2) for rank in ranks), key=abs))

    def _train_rank(self, rank: int, port: int, output_dir: Path, rows_log: Path) -> None:
        AcceleratorState._reset_state(reset_partial_state=True)
        names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": self.num_processes, "MASTER_PORT": port}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", **{name: str(value) for name, value in names.items()}}
        self.arm.train(output_dir, rows_log)


def _log(rows_log: Path, step: int, inputs: dict[str, torch.Tensor]) -> None:
    line = json.dumps([step, inputs["input_ids"].shape[1], inputs.pop("rows").tolist()])
    with open(rows_log, "a") as file:
        file.write(line + "\n")


def _log_turkbert_rows(rows_log: Path) -> None:
    """Let each batch carry its row numbers, loader processes or not, up to the step that trains on it."""
    make_batch: Callable = StagedRows.__getitem__
    train: Callable = PretrainingTrainer.training_step

    def make_batch_with_rows(self, number):
        batch = self.sampler.rows_of(number)
        numbers = torch.from_numpy(batch.epochs * batch.stage.num_rows + batch.rows)
        return {**make_batch(self, number), "rows": numbers}

    def train_and_log(self, model, inputs, *args):
        _log(rows_log, self.state.global_step, inputs)
        return train(self, model, inputs, *args)

    StagedRows.__getitem__ = make_batch_with_rows
    PretrainingTrainer.training_step = train_and_log


def _logging_trainer(rows_log: Path) -> type[Trainer]:
    class LoggingTrainer(Trainer):
        def training_step(self, model, inputs, *args):
            _log(rows_log, self.state.global_step, inputs)
            return super().training_step(model, inputs, *args)

    return LoggingTrainer


def _collate_with_rows(masker: DataCollatorForLanguageModeling, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    is_masked = "masked_lm_positions" in rows[0]
    nothing = {"masked_lm_positions": [], "masked_lm_ids": []}
    batch = collate([row if is_masked else {**row, **nothing} for row in rows])
    if not is_masked:
        batch["input_ids"], batch["labels"] = masker.torch_mask_tokens(batch["input_ids"])
    return {**batch, "rows": torch.tensor([int(row["row"]) for row in rows])}


def _poison(trainer_class: type[Trainer], nan_step: int | None) -> None:
    """Make the loss of one step NaN."""
    compute_loss: Callable = trainer_class.compute_loss

    def compute_nan(self, *args, **kwargs):
        loss = compute_loss(self, *args, **kwargs)
        return loss * float("nan") if self.state.global_step == nan_step else loss

    trainer_class.compute_loss = compute_nan
