"""Run by test_waiting under torchrun: trains the given config and reports what reads a tensor between two logs.

On a GPU each of these would wait for the device. The tensors of a batch and of the ranks' agreement are on the host on
any machine, so the functions that handle them may read them.
"""

import json
import sys
import traceback

import torch
from transformers import TrainerCallback

from turkbert.arguments import parse_args
from turkbert.data.prepare import prepare_dataset
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


args = parse_args([sys.argv[1]])
prepared = prepare_dataset(args)
trainer = build_trainer(args, args.training(), prepared.tokenizer, prepared.rows, checkpoint=None)
trainer.add_callback(PreemptionCallback(trainer.accelerator))
watch = Watch()
trainer.add_callback(watch)  # the last one, after all that may ask for a log
trainer.train()
watch.active = False
report = {"steps": watch.steps, "reads": list(watch.reads)}
watch.active = True
torch.ones(1).item()
report["seen"] = len(watch.reads) - len(report["reads"])
with open(f"{sys.argv[2]}.{trainer.args.process_index}", "w") as file:
    json.dump(report, file)
trainer.accelerator.wait_for_everyone()
trainer.accelerator.end_training()
