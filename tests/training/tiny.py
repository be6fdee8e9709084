"""A tiny prepared data set and run settings that finish in seconds."""

import json
from pathlib import Path

from turkbert.arguments import RunArguments, parse_args
from turkbert.data.prepare import PreparedData
from turkbert.training.checkpoint import find_checkpoint
from turkbert.training.run import build_trainer
from turkbert.training.trainer import PretrainingTrainer

TINY = {
    "vocab_size": 1000,
    "min_word_frequency": 3,
    "block_sizes": [32, 64],
    "edge_buffer": 4,
    "validation_fraction": 0.1,
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 64,
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
    "masking": "dynamic",
    "preprocessing_num_workers": 1,
    "stage_fractions": [0.6, 0.4],
    "stage_batch_sizes": [8, 4],
    "max_steps": 10,
    "warmup_steps": 2,
    "learning_rate": 0.01,
    "eval_steps": 4,
    "max_eval_steps": 2,
    "save_steps": 1,
    "logging_steps": 1,
    "bf16": False,
    "fp16": False,
    "use_cpu": True,
    "disable_tqdm": True,
}


def tiny_arguments(tiny_dir: Path, output_dir: Path, **changes) -> RunArguments:
    """The TINY settings, with changes, as a config file would give them."""
    settings = {**TINY, "tokenizer_dir": str(tiny_dir / "tokenizer"), "data_dir": str(tiny_dir / "data")}
    settings |= {"output_dir": str(output_dir), **changes}
    config = output_dir.parent / f"{output_dir.name}.json"
    config.write_text(json.dumps(settings))
    return parse_args([str(config)])


def run(args: RunArguments, prepared: PreparedData) -> PretrainingTrainer:
    """Train from the newest checkpoint of output_dir, or from scratch, to the end."""
    training = args.training()
    checkpoint = find_checkpoint(Path(training.output_dir))
    trainer = build_trainer(args, training, prepared.tokenizer, prepared.rows, checkpoint)
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    return trainer
