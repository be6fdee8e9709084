"""SIGTERM and Ctrl-C end a run at the end of a step, with a checkpoint, on all ranks together.

A handler only sets a flag. Every few steps the ranks ask each other for it on the host, and read the answer a few
steps later: the device is never waited for, and all ranks read the same answer at the same step.
"""

import os
import signal
from pathlib import PurePath

import psutil
import torch
import torch.distributed as dist
from accelerate import Accelerator
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from turkbert.ranks import leave_group

SIGNALS = (signal.SIGTERM, signal.SIGINT)
AGREE_EVERY = 4  # steps between a question to the other ranks and its answer
# As their commands call themselves, alone or after python -m.
LAUNCHERS = {
    "accelerate", "accelerate-launch", "accelerate.commands.launch", "accelerate.commands.accelerate_cli",
    "torchrun", "torch.distributed.run", "torch.distributed.launch",
}  # fmt: skip


class PreemptionCallback(TrainerCallback):
    """Saves and stops at the end of the step in which this process, or any other rank, is told to end.

    A launcher that dies without passing its signal on counts as told to end. Another parent may die: a run that nohup
    or setsid left behind outlives its shell. A second signal ends at once.

    Attributes:
        preempted: True once the run was stopped before its last step.
    """

    def __init__(self, accelerator: Accelerator):
        self.accelerator = accelerator
        self.preempted = False
        self._told = False
        self._launcher = os.getppid() if is_launcher(os.getppid()) else None
        self._agreement: Agreement | None = None
        self._old_handlers: dict[int, object] = {}

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs):
        self._old_handlers = {number: signal.signal(number, self._handle) for number in SIGNALS}
        if self.accelerator.num_processes > 1:
            self._agreement = Agreement()

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs):
        self.stop_listening()
        if self._agreement is not None:
            self._agreement.close()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs):
        told = self._told or self._launcher not in (None, os.getppid())
        if self._agreement is not None:
            if state.global_step % AGREE_EVERY:
                return
            told = self._agreement.exchange(told)
        if told and state.global_step < state.max_steps:
            self.preempted = control.should_training_stop = True
            control.should_save = args.save_strategy != "no"

    def _handle(self, number: int, frame: object) -> None:
        self._told = True
        self.stop_listening()

    def stop_listening(self) -> None:
        """Give the signals back; after an error in training too, or worker processes made later would inherit this."""
        for number, handler in self._old_handlers.items():
            signal.signal(number, handler)
        self._old_handlers = {}


class Agreement:
    """Asks all ranks at one point of the run and tells their answer at the next, the same to all of them.

    It is a group of its own between the hosts (gloo), whatever the devices talk over: nothing here is queued on a
    device, so nothing has to wait for one.
    """

    def __init__(self):
        self.group = dist.new_group(backend="gloo")
        self.flag = torch.zeros(())
        self.asked: dist.Work | None = None

    def exchange(self, told: bool) -> bool:
        """Whether any rank was told to end by the last call. Every rank must call this at the same steps."""
        any_told = self._read()
        self.flag.fill_(told)
        self.asked = dist.all_reduce(self.flag, dist.ReduceOp.MAX, self.group, async_op=True)
        return any_told

    def close(self) -> None:
        """Wait for the last question, which nobody reads."""
        self._read()
        leave_group(self.group)

    def _read(self) -> bool:
        if self.asked is None:
            return False
        self.asked.wait()
        self.asked = None
        return bool(self.flag)


def is_launcher(process: int) -> bool:
    """True for accelerate launch and torchrun, False for shells and whatever else may start a run."""
    try:
        words = psutil.Process(process).cmdline()
    except psutil.Error:  # it is gone, or another user's
        return False
    return any(PurePath(word).name in LAUNCHERS for word in words[:4])
