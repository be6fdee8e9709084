"""Run by test_fsdp in each process: trains the given config, then once more from the middle to the finished model."""

import json
import sys
from pathlib import Path

import torch
from accelerate import state
from accelerate.utils import DistributedType
from torch.distributed.tensor import DTensor

from turkbert.arguments import parse_args
from turkbert.artifacts import remove
from turkbert.data.prepare import prepare_dataset
from turkbert.errors import is_main_process
from turkbert.training.checkpoint import checkpoints
from turkbert.training.run import build_trainer, pretrain


def shard_on_cpus() -> None:
    """accelerate takes FSDP for GPUs alone, though torch shards on CPUs as well: tell its state what it leaves out."""
    init = state.AcceleratorState.__init__

    def init_with_fsdp(self, *args, fsdp_plugin=None, **kwargs):
        init(self, *args, fsdp_plugin=fsdp_plugin, **kwargs)
        if fsdp_plugin is not None:
            self.distributed_type = state.PartialState._shared_state["distributed_type"] = DistributedType.FSDP
            self.fsdp_plugin = fsdp_plugin

    state.AcceleratorState.__init__ = init_with_fsdp


if not torch.cuda.is_available():
    shard_on_cpus()
args = parse_args([sys.argv[1]])
prepared = prepare_dataset(args)
training = args.training()
trainer = build_trainer(args, training, prepared.tokenizer, prepared.rows, checkpoint=None)
trainer.train()
parameters = list(trainer.model.parameters())
report = {
    "world_size": trainer.args.world_size,
    "kinds": sorted({type(layer).__name__ for layer in trainer.model.bert.encoder.layer}),
    "whole": [tuple(p.shape) for p in parameters if not (isinstance(p, DTensor) and p.placements[0].is_shard())],
    "share": sum(p.to_local().numel() for p in parameters) / sum(p.numel() for p in parameters),
    "state": sorted({type(s["exp_avg"]).__name__ for s in trainer.optimizer.state.values()}),
    "history": trainer.state.log_history,
}
trainer.accelerator.wait_for_everyone()
if is_main_process():
    Path(sys.argv[2]).write_text(json.dumps(report))
    for folder in checkpoints(Path(args.output_dir))[5:]:
        remove(folder)
trainer.accelerator.wait_for_everyone()
pretrain(args, training, prepared.tokenizer, prepared.rows)
