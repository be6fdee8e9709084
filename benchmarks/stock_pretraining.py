"""Stock BertForPreTraining in a stock Trainer, on the rows that turkbert prepares: what bench_train.py compares with.

    python benchmarks/stock_pretraining.py --rows_dir data/block_128 --output_dir out_stock --max_steps 1000

What a good user of transformers has, nothing taken away: SDPA, fused AdamW, TF32, bf16 and torch_compile as flags of
Trainer, rows read in batches, loader processes that live on and pin their memory.
"""

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from datasets import Dataset, DatasetDict
from transformers import BertConfig, BertForPreTraining, HfArgumentParser, Trainer, TrainingArguments


@dataclass
class StockArguments:
    """The rows and the sizes of the model."""

    rows_dir: str
    vocab_size: int = 32000
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072


def stock_defaults(use_cpu: bool) -> dict[str, Any]:
    """The TrainingArguments that a tuned stock run sets."""
    # On a CPU a loader process takes a core from the step, which costs more than the reading it saves.
    num_workers = 0 if use_cpu else min(8, os.cpu_count() // 2)
    return {
        "optim": "adamw_torch_fused",
        "remove_unused_columns": False,  # the collator makes the model's inputs out of other columns
        "logging_nan_inf_filter": False,  # it would wait for the GPU at every step
        "tf32": None if use_cpu else True,
        "dataloader_num_workers": num_workers,
        "dataloader_persistent_workers": num_workers > 0,
        "dataloader_prefetch_factor": 4 if num_workers else None,
    }


def collate(rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """Rows -> `(B, T)` tensors as stock collators make them: padded labels and an attention mask."""
    input_ids = np.stack([row["input_ids"] for row in rows]).astype(np.int64)
    labels = np.full_like(input_ids, -100)
    for of_row, row in zip(labels, rows, strict=True):
        of_row[row["masked_lm_positions"]] = row["masked_lm_ids"]
    column = np.arange(input_ids.shape[1])
    length_a, length = (np.array([row[name] for row in rows])[:, None] for name in ("length_a", "length"))
    batch = {
        "input_ids": input_ids,
        "token_type_ids": ((column > length_a + 1) & (column < length)).astype(np.int64),
        "attention_mask": (column < length).astype(np.int64),
        "labels": labels,
        "next_sentence_label": np.array([row["next_sentence_label"] for row in rows], dtype=np.int64),
    }
    return {name: torch.from_numpy(values) for name, values in batch.items()}


def build_stock_model(**sizes: int) -> BertForPreTraining:
    """A new model; sizes as in BertConfig."""
    return BertForPreTraining(BertConfig(attn_implementation="sdpa", **sizes))


def build_stock_trainer(
    model: BertForPreTraining, args: TrainingArguments, rows: Dataset, trainer_class: type[Trainer] = Trainer
) -> Trainer:
    """A Trainer over the rows; `trainer_class` may be one that also takes the time."""
    return trainer_class(model=model, args=args, train_dataset=rows.with_format("numpy"), data_collator=collate)


def main() -> None:
    """Train as the command line says."""
    parser = HfArgumentParser([StockArguments, TrainingArguments], description=__doc__)
    parser.set_defaults(**stock_defaults(use_cpu=not torch.cuda.is_available()))
    stock, args = parser.parse_args_into_dataclasses()
    sizes = {name: value for name, value in vars(stock).items() if name != "rows_dir"}
    rows = DatasetDict.load_from_disk(stock.rows_dir)["train"]
    build_stock_trainer(build_stock_model(**sizes), args, rows).train()


if __name__ == "__main__":
    main()
