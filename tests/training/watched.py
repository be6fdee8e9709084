"""What test_waiting runs in two processes: a run that reports what reads a tensor between two logs.

On a GPU each of these would wait for the device. The tensors of a batch and of the ranks' agreement are on the host on
any machine, so the functions that handle them may read them.
"""

import json
import os
import traceback
from pathlib import Path

import torch
from accelerate.state import AcceleratorState
from transformers import TrainerCallback

from turkbert.arguments import RunArguments
from turkbert.data.prepare import PreparedData
from turkbert.ranks import leave_group
from turkbert.training.preemption import PreemptionCallback
from turkbert.training.run import build_trainer

READS = (
    "item", "tolist", "cpu", "numpy", "nonzero", "masked_select", "unique",
    "__bool__", "__float__", "__int__", "__index__", "__array__",
)  # fmt: skip
ON_THE_HOST = {("trainer.py", "get_batch_samples"), ("preemption.py", "_read")}


class Watch(TrainerCallback):
    """Notes who reads a tensor, from a log to the step of the next one."""

    def __init__(self):
        self.active = False
        self.steps: list[int] = []
        self.reads: list[str] = []
        for name in READS:
            setattr(torch.Tensor, name, self.watched(name, getattr(torch.Tensor, name)))

    def watched(self, name, read):
        def call(*args, **kwargs):
            if self.active:
                frames = [(frame.filename.rpartition("/")[2], frame.name) for frame in traceback.extract_stack()]
                if not ON_THE_HOST & set(frames):
                    self.reads.append(f"{name}: {frames[-4:-1]}")
            return read(*args, **kwargs)

        return call

    def on_log(self, args, state, control, **kwargs):
        self.active = state.global_step < state.max_steps

    def on_step_end(self, args, state, control, **kwargs):
        if control.should_log:
            self.active = False
        elif self.active:
            self.steps.append(state.global_step)


def train_watched(rank: int, port: int, args: RunArguments, prepared: PreparedData, report: Path) -> None:
    """One of two ranks, in a forked process."""
    torch.set_num_threads(1)  # the threads of the parent are not there
    AcceleratorState._reset_state(reset_partial_state=True)
    names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in names.items()}
    trainer = build_trainer(args, args.training(), prepared.tokenizer, prepared.rows, checkpoint=None)
    trainer.add_callback(PreemptionCallback(trainer.accelerator))
    watch = Watch()
    trainer.add_callback(watch)  # the last one, after all that may ask for a log
    trainer.train()
    found = {"steps": watch.steps, "reads": list(watch.reads)}
    watch.active = True
    torch.ones(1).item()
    found["seen"] = len(watch.reads) - len(found["reads"])
    report.with_suffix(f".{rank}").write_text(json.dumps(found))
    leave_group()
