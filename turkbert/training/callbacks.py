"""What happens beside the steps: the stage switch and the sample predictions."""

import logging
from pathlib import Path

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from turkbert.training.sampler import StagedBatchSampler
from turkbert.training.samples import predict_samples

logger = logging.getLogger(__name__)


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
        logger.info("sample predictions at step %d:\n%s", state.global_step, predictions)
        with open(Path(args.output_dir, "generated_samples.txt"), "a", encoding="utf-8") as file:
            file.write(f"step {state.global_step}\n{predictions}\n\n")
