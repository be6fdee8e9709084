"""metrics.jsonl: everything a run logs, on disk before any tracker hears of it.

    {"step": 50, "time": 1767225600.1, "tokens_seen": 409600, "loss": 7.1, "mlm_loss": 6.4, ...}

`time` is in seconds since 1970. Lines with "final" come after the last step: totals, and the final model's validation.
"""

import json
import math
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

METRICS_FILE = "metrics.jsonl"


class MetricsFileCallback(TrainerCallback):
    """Appends each log. Must be the first callback, so that its line stands before the trackers begin.

    A resumed run logs the steps after its checkpoint once more, so their old lines go first: each step stands once.

    Args:
        tokens_before: step -> tokens of all steps before it, padding included.
    """

    def __init__(self, tokens_before: Callable[[int], int]):
        self.tokens_before = tokens_before
        self.is_final = False

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs):
        if state.is_world_process_zero:
            Path(args.output_dir).mkdir(parents=True, exist_ok=True)
            keep_until(Path(args.output_dir, METRICS_FILE), state.global_step)

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs=None, **kwargs):
        self.is_final |= "train_runtime" in logs
        if not state.is_world_process_zero:
            return
        step = state.global_step
        line = {"step": step, "time": round(time.time(), 3), "tokens_seen": self.tokens_before(step)}
        line |= {name: _as_json(value) for name, value in logs.items()}
        if self.is_final:
            line["final"] = True
        with open(Path(args.output_dir, METRICS_FILE), "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def read_metrics(path: Path, offset: int = 0) -> Iterator[tuple[int, dict[str, Any]]]:
    """(where it ends in bytes, line) of each whole line from byte `offset` on; one left half written is skipped."""
    if not path.exists():
        return
    with open(path, "rb") as file:
        file.seek(offset)
        for text in file:
            offset += len(text)
            try:
                line = json.loads(text)
            except ValueError:
                continue
            if text.endswith(b"\n") and isinstance(line, dict) and {"step", "time"} <= line.keys():
                yield offset, line


def training_totals(path: Path) -> dict[str, float]:
    """What the steps of a run came to, those before a resume too: steps, tokens, seconds, tokens_per_second.

    Seconds are those of the steps, evaluation and saving left out; beside them the last logged losses. Empty where
    nothing was logged.
    """
    logs = [line for _, line in read_metrics(path) if "tokens_per_second" in line]
    if not logs:
        return {}
    seconds, before = 0.0, 0
    for log in logs:
        seconds += (log["tokens_seen"] - before) / log["tokens_per_second"]
        before = log["tokens_seen"]
    totals = {"steps": logs[-1]["step"], "tokens": before, "seconds": seconds}
    totals["tokens_per_second"] = before / max(seconds, 1e-9)
    return totals | {name: float(logs[-1][name]) for name in ("mlm_loss", "nsp_loss")}


def keep_until(path: Path, step: int) -> None:
    """Drop the lines of later steps, the final ones, and a half-written one; with step 0 (a new run), all."""
    lines = [line for _, line in read_metrics(path) if line["step"] <= step and "final" not in line]
    beside = path.with_name(f"_{path.name}")
    beside.write_text("".join(json.dumps(line) + "\n" for line in lines if step), "utf-8")
    os.replace(beside, path)


def _as_json(value: Any) -> Any:
    """JSON knows no NaN and no infinity: as text, which float() reads."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
