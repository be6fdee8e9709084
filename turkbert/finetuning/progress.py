"""A fine-tuning run as people follow it: a bar and lines on a terminal, lines alone in a log file.

    show_progress(trainer)
    trainer.train()

    20:25:48 step 50 of 540: loss 0.6123
    20:26:31 step 180: validation accuracy 84.5000, f1 84.4210, loss 0.3904
"""

import logging
import sys

from transformers import ProgressCallback, Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

logger = logging.getLogger(__name__)

TIMINGS = ("runtime", "per_second", "epoch", "preparation_time")


def show_progress(trainer: Trainer) -> None:
    """From here on training tells what it logs, once, from the main process."""
    if trainer.is_world_process_zero():
        on_terminal = sys.stderr.isatty() and not trainer.args.disable_tqdm
        trainer.add_callback(BarCallback() if on_terminal else LinesCallback())


class LinesCallback(TrainerCallback):
    """A log line for what is logged in training; the scores after it are for the summary."""

    is_training = False

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs):
        self.is_training = True

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs):
        self.is_training = False

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs=None, **kwargs):
        line = describe_logs(state, logs or {})
        if self.is_training and line:
            logger.info("%s", line)


class BarCallback(ProgressCallback):
    """Trainer's bar, with those lines above it in place of dicts."""

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs=None, **kwargs):
        line = describe_logs(state, logs or {})
        if self.training_bar is not None and line:
            self.training_bar.write(line)


def describe_logs(state: TrainerState, logs: dict[str, float]) -> str:
    """The loss of some steps, or the scores of an evaluation, in a line; "" for anything else."""
    if "loss" in logs:
        return f"step {state.global_step} of {state.max_steps}: loss {float(logs['loss']):.4f}"
    scores = {name.removeprefix("eval_"): value for name, value in logs.items() if name.startswith("eval_")}
    told = [f"{name} {float(value):.4f}" for name, value in sorted(scores.items()) if not name.endswith(TIMINGS)]
    return f"step {state.global_step}: validation {', '.join(told)}" if told else ""
