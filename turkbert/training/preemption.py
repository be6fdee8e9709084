"""SIGTERM and Ctrl-C end a run at the end of a step, with a checkpoint, on all ranks together.

A handler only sets a flag. Every few steps the ranks agree on it, so that none waits for another in a collective.
"""

import os
import signal

import torch
from accelerate import Accelerator
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

SIGNALS = (signal.SIGTERM, signal.SIGINT)
AGREE_EVERY = 8  # steps between two agreements of several ranks


class PreemptionCallback(TrainerCallback):
    """Saves and stops at the end of the step in which this process, or any other rank, is told to end.

    A launcher that dies without passing its signal on counts as told to end; a second signal ends at once.

    Attributes:
        preempted: True once the run was stopped before its last step.
    """

    def __init__(self, accelerator: Accelerator):
        self.accelerator = accelerator
        self.preempted = False
        self._told = False
        self._parent = os.getppid()
        self._old_handlers: dict[int, object] = {}

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs):
        self._old_handlers = {number: signal.signal(number, self._handle) for number in SIGNALS}

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs):
        self._restore()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs):
        told = self._told or os.getppid() != self._parent
        if self.accelerator.num_processes > 1:
            if state.global_step % AGREE_EVERY:
                return
            told = self._any_rank(told)
        if told and state.global_step < state.max_steps:
            self.preempted = control.should_training_stop = True
            control.should_save = args.save_strategy != "no"

    def _any_rank(self, told: bool) -> bool:
        flag = torch.tensor(float(told), device=self.accelerator.device)
        return bool(self.accelerator.reduce(flag, "sum").item())

    def _handle(self, number: int, frame: object) -> None:
        self._told = True
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._old_handlers.items():
            signal.signal(number, handler)
        self._old_handlers = {}
