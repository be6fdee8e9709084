"""One arm of bench_train.py, in a process of its own: rows -> a Trainer -> the figures of each window of steps."""

import os
import tempfile
import time
import traceback
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset, DatasetDict, Features, List, Value
from stock_pretraining import build_stock_model, build_stock_trainer, stock_defaults
from torch.utils.data import DataLoader
from train_settings import LEAD_STEPS, Arm, Prepared, Setting
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from turkbert import TurkBertConfig, TurkBertForPreTraining
from turkbert.arguments import PretrainingArguments
from turkbert.data import DataCollatorForPretraining, load_prepared
from turkbert.data.arrow import list_lengths
from turkbert.data.masking import WholeWordMasker
from turkbert.data.random_words import RandomWordSet
from turkbert.training.speed import peak_flops
from turkbert.training.trainer import PretrainingTrainer

# ---- rows


def synthetic_rows(vocab_size: int, block_size: int, num_rows: int) -> Dataset:
    """Full rows of random tokens, three in ten of which go on a word, masked by the library's own masker."""
    pad, unk, cls, sep, mask = range(5)
    rng = np.random.default_rng(0)
    input_ids = rng.integers(5, vocab_size, (num_rows, block_size), dtype=np.int32)
    length_a = rng.integers(block_size // 4, block_size // 2, num_rows)
    input_ids[:, 0], input_ids[:, -1] = cls, sep
    input_ids[np.arange(num_rows), length_a + 1] = sep
    word_starts = np.arange(vocab_size) < 0.7 * vocab_size
    words = RandomWordSet({1: np.arange(5, vocab_size // 2, dtype=np.int32)[:5000, None]})
    masked = WholeWordMasker(word_starts, [pad, unk, cls, sep, mask], mask, words)(
        input_ids, 0, 0, np.arange(num_rows)
    )
    features = {
        "input_ids": List(Value("int32"), length=block_size),
        "length_a": Value("int16"),
        "length": Value("int16"),
        "next_sentence_label": Value("int8"),
        "masked_lm_positions": List(Value("int16")),
        "masked_lm_ids": List(Value("int32")),
    }
    columns = {
        "input_ids": list(masked.input_ids),
        "length_a": length_a,
        "length": np.full(num_rows, block_size),
        "next_sentence_label": rng.integers(0, 2, num_rows),
        "masked_lm_positions": [np.flatnonzero(chosen) for chosen in masked.chosen],
        "masked_lm_ids": [row[chosen] for row, chosen in zip(input_ids, masked.chosen, strict=True)],
    }
    return Dataset.from_dict(columns, features=Features(features))


def prepare_rows(setting: Setting, data_dir: Path | None, work: Path) -> Prepared:
    """Find the setting's rows in `data_dir`, or make them now."""
    folder = rows_folder(setting, data_dir, work)
    rows = DatasetDict.load_from_disk(folder)["train"]
    hardware = f"{len(os.sched_getaffinity(0))}cores" if setting.use_cpu else torch.cuda.get_device_name()
    return Prepared(folder, *useful_shares(rows), hardware, str(torch.__version__))


def rows_folder(setting: Setting, data_dir: Path | None, work: Path) -> Path:
    """A folder with train and validation rows, as prepare_data.py leaves them."""
    if data_dir is not None:
        rows = load_prepared(data_dir, [setting.block_size])[setting.block_size]["train"]
        if "masked_lm_positions" not in rows.column_names:
            raise SystemExit(f"{data_dir}: stock has no whole-word masks of its own: prepare with --masking static")
        return data_dir / f"block_{setting.block_size}"
    folder = work / f"{setting.batch_size}x{setting.block_size}"
    if not folder.exists():
        rows = synthetic_rows(setting.sizes["vocab_size"], setting.block_size, 16 * setting.batch_size)
        DatasetDict(train=rows, validation=rows.select(range(1))).save_to_disk(folder)
    return folder


def useful_shares(rows: Dataset) -> tuple[float, float]:
    """(tokens that are no padding, of all; labelled tokens, of those)."""
    lengths = rows.data.column("length").to_numpy().astype(np.int64)
    num_tokens = int(lengths.sum())
    num_labelled = int(list_lengths(rows, "masked_lm_positions").sum())
    return num_tokens / (len(rows) * len(rows[0]["input_ids"])), num_labelled / num_tokens


# ---- training


class TimedLoader:
    """A loader that counts the seconds its user waits for the next batch; the copy to the device is not in them."""

    def __init__(self, loader: DataLoader):
        self.loader = loader
        self.seconds = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loader, name)

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        batches = iter(self.loader)
        while True:
            start = time.perf_counter()
            batch = next(batches, None)
            self.seconds += time.perf_counter() - start
            if batch is None:
                return
            yield batch


class TimedData:
    """For a Trainer: `timed_loader` is the loader that it reads from."""

    timed_loader: TimedLoader

    def get_train_dataloader(self):
        """The Trainer's loader with a clock around it."""
        loader = super().get_train_dataloader()
        # accelerate's loader, where there is one, copies to the device what its inner loader gives
        self.timed_loader = TimedLoader(getattr(loader, "base_dataloader", loader))
        if self.timed_loader.loader is loader:
            return self.timed_loader
        loader.base_dataloader = self.timed_loader
        return loader


class TimedStock(TimedData, Trainer):
    """Stock, timed."""


class TimedTurkbert(TimedData, PretrainingTrainer):
    """turkbert's, timed."""


class WindowCallback(TrainerCallback):
    """Sends the figures of each window of steps and then waits for word to go on; logs once a window."""

    def __init__(self, trainer: TimedData, connection: Connection, setting: Setting):
        self.trainer = trainer
        self.connection = connection
        self.setting = setting
        self.steps = setting.steps
        self.on_gpu = not setting.use_cpu

    def on_train_begin(self, args, state, control, **kwargs):
        """Wait for the first turn."""
        self._wait_for_turn()

    def on_step_end(self, args, state, control, **kwargs):
        """Measure from one end of a window to the other, then wait for the next turn."""
        place = (state.global_step - 1) % (LEAD_STEPS + self.steps) + 1
        if place == LEAD_STEPS:
            self._synchronize()
            if self.on_gpu:
                torch.cuda.reset_peak_memory_stats()
            self.waited = self.trainer.timed_loader.seconds
            self.start = time.perf_counter()
        control.should_log = place == LEAD_STEPS + self.steps // 2
        if place == LEAD_STEPS + self.steps:
            self._synchronize()
            self._report()
            if state.global_step < state.max_steps:
                self._wait_for_turn()

    def _synchronize(self) -> None:
        if self.on_gpu:
            torch.cuda.synchronize()

    def _report(self) -> None:
        figures = {
            "seconds": time.perf_counter() - self.start,
            "waiting": self.trainer.timed_loader.seconds - self.waited,
            "peak": torch.cuda.max_memory_allocated() if self.on_gpu else 0,
            "limit": self.limit,
        }
        if self.on_gpu:
            torch.cuda.empty_cache()  # leaves the memory to the arm whose turn it is
        self.connection.send(figures)

    def _wait_for_turn(self) -> None:
        self.connection.recv()
        dtype = torch.bfloat16 if self.setting.bf16 else torch.float32
        self.limit = peak_flops(torch.device("cuda")) if self.on_gpu else matrix_rate(self.setting.matrix, dtype)


def matrix_rate(side: int, dtype: torch.dtype) -> float:
    """FLOP/s of the product of two square matrices on the CPU, the best of two after one to warm up."""
    a, b = (torch.randn(side, side).to(dtype) for _ in range(2))
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        a @ b
        seconds.append(time.perf_counter() - start)
    return 2 * side**3 / min(seconds[1:])


def build_arm(arm: Arm, setting: Setting, folder: Path, output_dir: Path, max_steps: int) -> TimedData:
    """The arm's trainer: the same rows, batch, optimizer, precision and loader processes for both programs."""
    options = {
        "output_dir": str(output_dir),
        "max_steps": max_steps,
        "learning_rate": 1e-4,
        "weight_decay": 0.01,
        "warmup_steps": 2,
        "lr_scheduler_type": "linear",
        "bf16": setting.bf16,
        "fp16": False,
        "use_cpu": setting.use_cpu,
        "torch_compile": arm.compiled,
        "logging_strategy": "no",  # the callback asks for one log a window
        "save_strategy": "no",
        "eval_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        **stock_defaults(setting.use_cpu),
    }
    rows = DatasetDict.load_from_disk(folder)
    if arm.program == "stock":
        args = TrainingArguments(per_device_train_batch_size=setting.batch_size, **options)
        return build_stock_trainer(build_stock_model(**setting.sizes), args, rows["train"], TimedStock)
    args = PretrainingArguments(stage_fractions=[1.0], stage_batch_sizes=[setting.batch_size], **options)
    model = TurkBertForPreTraining(TurkBertConfig(**setting.sizes))
    size = setting.block_size
    return TimedTurkbert(model, args, {size: rows}, DataCollatorForPretraining(), None, {size: [1.0, 1.0]})


def run_arm(arm: Arm, setting: Setting, folder: Path, windows: int, connection: Connection) -> None:
    """Train, and send what each window took; or, where it fails, {"error": the reason}."""
    try:
        with tempfile.TemporaryDirectory() as output_dir:
            max_steps = (1 + windows) * (LEAD_STEPS + setting.steps)
            trainer = build_arm(arm, setting, folder, Path(output_dir), max_steps)
            trainer.remove_callback(PrinterCallback)
            trainer.add_callback(WindowCallback(trainer, connection, setting))
            trainer.train()
    except Exception as error:
        traceback.print_exc()
        lines = str(error).splitlines() or [""]
        connection.send({"error": f"{type(error).__name__}: {lines[0][:150]}"})
