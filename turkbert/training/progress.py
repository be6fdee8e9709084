"""A run as people follow it: one bar on a terminal, a plain line now and then in a log file.

    with shown_progress(trainer):
        trainer.train()

    stage 1/2, step 246/600  41%|████▌      | 00:25<00:38, 19.8k tok/s, MLM 7.41, NSP 0.69
    17:24:10 step 250 of 600: MLM loss 7.412, NSP loss 0.693, 19,812 tokens/s, 38.0 s left
"""

import logging
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm
from transformers import (
    PrinterCallback,
    ProgressCallback,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from turkbert.training.estimate import duration
from turkbert.training.sampler import StagedBatchSampler
from turkbert.training.trainer import PretrainingTrainer

logger = logging.getLogger(__name__)

_BAR = "{desc} {percentage:3.0f}%|{bar}| {elapsed}<{remaining}, {rate_fmt}{postfix}"


@contextmanager
def shown_progress(trainer: PretrainingTrainer) -> Iterator[None]:
    """While this lasts, training is shown on stderr instead of in Trainer's own bar or printed dicts."""
    for callback in (ProgressCallback, PrinterCallback):
        trainer.remove_callback(callback)
    if not trainer.is_world_process_zero():
        yield
        return
    on_terminal = sys.stderr.isatty() and not trainer.args.disable_tqdm
    shown = BarCallback(trainer.sampler) if on_terminal else LinesCallback(trainer.sampler)
    trainer.add_callback(shown)
    with ExitStack() as stack:
        stack.callback(trainer.remove_callback, shown)
        if on_terminal:  # log lines go above the bar, which is left as it stands, also after an error
            stack.enter_context(logging_redirect_tqdm([logging.getLogger(), logging.getLogger("transformers")]))
            stack.callback(shown.close)
        yield


class LinesCallback(TrainerCallback):
    """A line for each log of training, and one for each evaluation."""

    def __init__(self, sampler: StagedBatchSampler):
        self.sampler = sampler

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs=None, **kwargs):
        step = state.global_step
        if "mlm_loss" in logs:
            tokens_left = self.sampler.tokens_before(state.max_steps) - self.sampler.tokens_before(step)
            speed = logs["tokens_per_second"]
            parts = [f"{name} loss {value:.3f}" for name, value in _losses(logs, "")]
            parts += [f"{speed:,.0f} tokens/s", *([f"{duration(tokens_left / speed)} left"] if tokens_left else [])]
            logger.info("step %d of %d: %s", step, state.max_steps, ", ".join(parts))
        tell_evaluation(step, logs)


class BarCallback(TrainerCallback):
    """One bar in tokens, so that the time left is right in a stage of longer rows too; and the evaluations' lines."""

    def __init__(self, sampler: StagedBatchSampler):
        self.sampler = sampler
        self.bar: tqdm | None = None

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs):
        done, total = (self.sampler.tokens_before(step) for step in (state.global_step, state.max_steps))
        look = {"unit": " tok", "unit_scale": True, "dynamic_ncols": True, "bar_format": _BAR, "smoothing": 0.1}
        self.bar = tqdm(desc=self._place(state), initial=done, total=total, **look)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs):
        self.bar.set_description_str(self._place(state), refresh=False)
        self.bar.update(self.sampler.tokens_before(state.global_step) - self.bar.n)

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs=None, **kwargs):
        if "mlm_loss" in logs:
            self.bar.set_postfix_str(", ".join(f"{name} {value:.2f}" for name, value in _losses(logs, "")))
        tell_evaluation(state.global_step, logs)

    def close(self) -> None:
        """Leave the bar as it stands."""
        if self.bar is not None:
            self.bar.close()

    def _place(self, state: TrainerState) -> str:
        stages = self.sampler.stages
        number = stages.index(self.sampler.stage_of(state.global_step)) + 1
        return f"stage {number}/{len(stages)}, step {state.global_step}/{state.max_steps}"


def tell_evaluation(step: int, logs: dict[str, float]) -> None:
    """One line of what an evaluation found, if `logs` are of one."""
    found = [
        f"{name} loss {value:.3f}, accuracy {logs[f'eval_{name.lower()}_accuracy']:.1%}"
        for name, value in _losses(logs, "eval_")
    ]
    if found:
        logger.info("step %d: validation %s", step, "; ".join(found))


def _losses(logs: dict[str, float], prefix: str) -> list[tuple[str, float]]:
    """MLM, and NSP where it is trained; where it is not, its logged loss is 0."""
    found = [(name, logs.get(f"{prefix}{name.lower()}_loss")) for name in ("MLM", "NSP")]
    return [(name, value) for name, value in found if value]
