"""What a committed checkpoint of BERT-base costs beyond the disk's own time for the same tensors.

    python benchmarks/bench_save.py --folder /mnt/disk --repeats 5

Two arms take turns in one process. `bare` writes the weights with safetensors and the optimizer with torch.save, syncs
both, and removes those of its last turn. `turkbert` is the trainer's own save: checks, the same two files and the
small ones, their hashes, fsync, manifest, rename; the checkpoint before is removed while training would go on.
Prints medians, the fastest turns (memory that a machine hands out for the first time can make a turn three times as
long), and the time that hashing all files takes by itself.
"""

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save_model

from turkbert.arguments import parse_args
from turkbert.artifacts import find_damage
from turkbert.data import prepare_dataset
from turkbert.data.prepare import build_collator
from turkbert.model import TurkBertConfig, TurkBertForPreTraining
from turkbert.training.checkpoint import checkpoints
from turkbert.training.trainer import PretrainingTrainer

VOCAB_SIZE = 32000
SETTINGS = {
    "vocab_size": 2000,  # of the bundled sample; the model's is VOCAB_SIZE
    "block_sizes": [128],
    "stage_fractions": [1.0],
    "stage_batch_sizes": [8],
    "max_steps": 10,
    "warmup_steps": 1,
    "save_total_limit": 1,
    "use_cpu": True,
}


def build_trainer(folder: Path) -> PretrainingTrainer:
    """BERT-base with AdamW's state, as after a step."""
    places = {"data_dir": folder / "data", "tokenizer_dir": folder / "tokenizer", "output_dir": folder / "out"}
    config = folder / "config.json"
    config.write_text(json.dumps({**SETTINGS, **{name: str(path) for name, path in places.items()}}))
    args = parse_args([str(config)])
    prepared = prepare_dataset(args)
    training = args.training()
    model = TurkBertForPreTraining(TurkBertConfig(vocab_size=VOCAB_SIZE))
    collator = build_collator(args, prepared.tokenizer, training.seed)
    trainer = PretrainingTrainer(model, training, prepared.rows, collator, prepared.tokenizer, {128: [1.0, 1.0]})
    trainer.create_optimizer_and_scheduler(training.max_steps)
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    trainer.optimizer.step()
    trainer.optimizer.zero_grad()
    return trainer


def save_bare(trainer: PretrainingTrainer, folder: Path) -> None:
    """The two large files alone, on the disk, and those of the last turn gone from it."""
    old = folder.with_name("old")
    folder.replace(old)
    folder.mkdir()
    save_model(trainer.model, str(folder / "model.safetensors"))
    torch.save(trainer.optimizer.state_dict(), folder / "optimizer.pt")
    for path in (*folder.iterdir(), folder):
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
    shutil.rmtree(old)


def save_committed(trainer: PretrainingTrainer, folder: Path) -> None:
    """A checkpoint of turkbert's: staged, hashed, synced, renamed."""
    trainer._save_checkpoint(trainer.model, None)


def seconds(save: Callable[[PretrainingTrainer, Path], None], trainer: PretrainingTrainer, folder: Path) -> float:
    """How long one save takes."""
    os.sync()  # nothing of the other arm is still on its way to the disk
    started = time.perf_counter()
    save(trainer, folder)
    return time.perf_counter() - started


def main() -> None:
    """Save by turns in both ways and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=None, help="where to write; default: the temporary folder")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(dir=options.folder))
    try:
        trainer = build_trainer(folder)
        (folder / "bare").mkdir()
        times: dict[str, list[float]] = {"bare": [], "turkbert": [], "verifying": []}
        for number in range(options.repeats + 1):
            trainer.state.global_step = number + 1
            bare = seconds(save_bare, trainer, folder / "bare")
            committed = seconds(save_committed, trainer, folder / "out")
            trainer._await_removal()  # the other arm's turn does not pay for it
            (checkpoint,) = checkpoints(folder / "out")
            started = time.perf_counter()
            assert find_damage(checkpoint) is None
            verifying = time.perf_counter() - started
            for name, value in (("bare", bare), ("turkbert", committed), ("verifying", verifying)):
                times[name] += [value] * (number > 0)  # the first turn warms up
        num_bytes = sum(path.stat().st_size for path in checkpoint.iterdir())
        medians = {name: statistics.median(values) for name, values in times.items()}
        fastest = {name: min(values) for name, values in times.items()}
        report = {
            "checkpoint_bytes": num_bytes,
            "threads": torch.get_num_threads(),
            "seconds": times,
            "medians": medians,
            "fastest": fastest,
            "added_seconds": {
                "median": medians["turkbert"] - medians["bare"],
                "fastest": fastest["turkbert"] - fastest["bare"],
            },
        }
        sys.stdout.write(json.dumps(report, indent=1) + "\n")
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
