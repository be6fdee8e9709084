"""What happens beside the steps: the stage switch, the sample predictions and the plots."""

import logging
import time
from collections.abc import Callable
from pathlib import Path

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from turkbert.artifacts import read_manifest
from turkbert.training.metrics_file import METRICS_FILE
from turkbert.training.plots import write_plots
from turkbert.training.sampler import StagedBatchSampler
from turkbert.training.samples import predict_samples
from turkbert.training.speed import SpeedMeter

logger = logging.getLogger(__name__)

PLOTS = "plots"
PLOTS_SHARE = 0.01  # of a run's time, at most, goes into drawing


class StageCallback(TrainerCallback):
    """Announces each stage, and logs and saves (unless save_strategy is no) at the last step before a switch."""

    def __init__(self, sampler: StagedBatchSampler):
        self.sampler = sampler

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs):
        self._announce(state)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs):
        if state.global_step in [stage.first_step for stage in self.sampler.stages[1:]]:
            self._announce(state)
            control.should_log = True
            control.should_save = args.save_strategy != "no"

    def _announce(self, state: TrainerState) -> None:
        stage = self.sampler.stage_of(state.global_step)
        logger.info(
            "step %d: stage %d of %d, blocks of %d tokens, %d rows a device and micro-batch, up to step %d",
            state.global_step,
            self.sampler.stages.index(stage) + 1,
            len(self.sampler.stages),
            stage.block_size,
            stage.batch_size,
            stage.last_step,
        )


class SamplesCallback(TrainerCallback):
    """After every evaluation, appends the model's predictions for the sample texts to generated_samples.txt."""

    def __init__(self, texts: list[str], with_nsp: bool):
        self.texts = texts
        self.with_nsp = with_nsp

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs):
        if not self.texts:
            return
        predictions = predict_samples(kwargs["model"], kwargs["processing_class"], self.texts, self.with_nsp)
        if not state.is_world_process_zero:  # which had to take part all the same where the model is sharded
            return
        with open(Path(args.output_dir, "generated_samples.txt"), "a", encoding="utf-8") as file:
            file.write(f"step {state.global_step}\n{predictions}\n\n")


class PlotsCallback(TrainerCallback):
    """Draws output_dir/plots at evaluations, as often as PLOTS_SHARE allows.

    Args:
        meter: is told of the time, which is no part of the training's speed.
        baselines: gives unigram_loss and majority_accuracy.
    """

    def __init__(self, meter: SpeedMeter, baselines: Callable[[], dict[str, float]]):
        self.meter, self.baselines = meter, baselines
        self.not_before = time.perf_counter() + 1 / PLOTS_SHARE  # the first time takes about a second

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs):
        started = time.perf_counter()
        output_dir = Path(args.output_dir)
        if not state.is_world_process_zero or started < self.not_before:
            return
        if read_manifest(output_dir) is None:  # else an old result is there, whole until the new one replaces it
            draw_plots(output_dir, output_dir, self.baselines)
        seconds = time.perf_counter() - started
        self.meter.aside += seconds
        self.not_before = started + seconds / PLOTS_SHARE


def draw_plots(output_dir: Path, target: Path, baselines: Callable[[], dict[str, float]]) -> list[str]:
    """The pictures of the run in `output_dir`, into plots/ of `target`: their names there. An error is a warning."""
    try:
        names = write_plots(output_dir / METRICS_FILE, target / PLOTS, baselines())
        return [f"{PLOTS}/{name}" for name in names]
    except Exception as error:  # of matplotlib, its fonts, the disk: a picture is no reason to lose a run
        logger.warning("the plots were not drawn (%s: %s)", type(error).__name__, error)
        return []
