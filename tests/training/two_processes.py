"""Run by test_exactness under torchrun: trains the given config and reports how the model was wrapped."""

import json
import sys

from turkbert.arguments import parse_args
from turkbert.data.prepare import prepare_dataset
from turkbert.errors import is_main_process
from turkbert.ranks import leave_group
from turkbert.training.run import build_trainer

args = parse_args([sys.argv[1]])
prepared = prepare_dataset(args)
trainer = build_trainer(args, args.training(), prepared.tokenizer, prepared.rows, checkpoint=None)
trainer.train()
if is_main_process():
    report = {"world_size": trainer.args.world_size, "wrapper": type(trainer.model_wrapped).__name__}
    with open(sys.argv[2], "w") as file:
        json.dump(report, file)
trainer.accelerator.wait_for_everyone()
leave_group()
