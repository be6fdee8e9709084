"""What a resumed run must share with the one before it, to be its exact continuation.

    contract = run_contract(args, training, tokenizer, rows)
    changes = check_contract(Path("out/checkpoint-50"), contract, allowed=["learning_rate"])

Every field has a name of its own, so that a refusal can say what changed; hashes stand for contents alone.
"""

import dataclasses
import difflib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from datasets import DatasetDict
from transformers import PreTrainedTokenizerFast

from turkbert.arguments import ModelArguments, PretrainingArguments, RandomWordsArguments, RunArguments
from turkbert.artifacts import key_hash, read_manifest
from turkbert.errors import config_error
from turkbert.tokenization import tokenizer_hash

_OF_TRAINING = (
    "seed", "max_steps", "stage_fractions", "learning_rate", "min_learning_rate", "warmup_steps", "weight_decay",
    "adam_beta1", "adam_beta2", "adam_epsilon", "max_grad_norm", "optim",
)  # fmt: skip
_OF_DATA = (
    "block_sizes", "overlap", "edge_buffer", "nsp_balance", "nsp_probability", "max_padding", "masking",
    "mlm_probability", "mask_replace_prob", "random_replace_prob", "dupe_factor", "preprocessing_seed",
)  # fmt: skip
_OF_CORPUS = (
    "text_column", "drop_short_lines", "max_document_chars", "dedup", "bad_bytes", "bad_lines", "validation_fraction",
)  # fmt: skip
_OF_RANDOM_WORDS = tuple(field.name for field in dataclasses.fields(RandomWordsArguments))
_OF_MODEL = tuple(field.name for field in dataclasses.fields(ModelArguments) if field.name != "attn_implementation")
_WORKED_OUT = ("data_seed", "lr_scheduler_type", "precision", "global_batch_sizes", "tokenizer", "num_rows", "data")
FIELDS = frozenset((*_OF_TRAINING, *_OF_DATA, *_OF_CORPUS, *_OF_RANDOM_WORDS, *_OF_MODEL, *_WORKED_OUT))
# What the checkpoint's own files have settled; the other settings of a model take effect on resuming.
DROPOUTS = ("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout")
SETTLED = frozenset(_OF_MODEL) - {"model_name_or_path", "model_revision", *DROPOUTS} | {"optim"}


def run_contract(
    args: RunArguments,
    training: PretrainingArguments,
    tokenizer: PreTrainedTokenizerFast,
    rows: Mapping[int, DatasetDict],
) -> dict[str, Any]:
    """{field: value} of everything that changes what is learnt; FIELDS are all the names there are.

    How a global batch is split over devices and micro-batches is no part of it.
    """
    accumulated = training.gradient_accumulation_steps * training.world_size
    model_fields = _OF_MODEL if args.model.model_name_or_path is None else ("model_name_or_path", "model_revision")
    folders = {str(block_size): Path(args.data.data_dir, f"block_{block_size}") for block_size in rows}
    contract = {
        **{name: getattr(training, name) for name in _OF_TRAINING},
        "data_seed": training.seed if training.data_seed is None else training.data_seed,
        "lr_scheduler_type": args.setting("lr_scheduler_type"),  # transformers has other names for those with a floor
        "precision": "bf16" if training.bf16 else "fp16" if training.fp16 else "fp32",
        "global_batch_sizes": [size * accumulated for size in training.stage_batch_sizes],
        **{name: getattr(args.model, name) for name in model_fields},
        "tokenizer": tokenizer_hash(tokenizer),
        **{name: getattr(args.data, name) for name in _OF_DATA},
        **{name: getattr(args.corpus, name) for name in _OF_CORPUS},
        **{name: getattr(args.random_words, name) for name in _OF_RANDOM_WORDS},
        "num_rows": {str(block_size): splits["train"].num_rows for block_size, splits in rows.items()},
        "data": {name: key_hash(read_manifest(folder)["key"]) for name, folder in folders.items()},
    }
    return json.loads(json.dumps(contract))


def check_contract(folder: Path, contract: dict[str, Any], allowed: Iterable[str] = ()) -> dict[str, list]:
    """Refuse to go on from a committed folder with other data, seeds, model or schedule than it was made with.

    Returns:
        {field: [old value, new value]} of the changes, all of them in `allowed`.

    Raises:
        UserError: naming each field that differs, its old and its new value.
    """
    old = read_manifest(folder)["key"]
    changes = {name: [old.get(name), value] for name, value in contract.items() if old.get(name) != value}
    refused = [name for name in changes if name not in allowed]
    if refused:
        what = "; ".join(
            f"made with {name} {_shown(changes[name][0])}, now {_shown(changes[name][1])}" for name in refused
        )
        mend = "set it back, choose another output_dir, or start afresh with --overwrite true"
        if not SETTLED.intersection(refused):
            mend += f" (or go on all the same with --allow_change {' '.join(refused)})"
        raise config_error(folder, what, mend)
    return changes


def check_allowed(names: Iterable[str]) -> None:
    """Raises: UserError for a name in allow_change that is no field, or one that a checkpoint has settled."""
    for name in names:
        if name not in FIELDS:
            near = difflib.get_close_matches(name, FIELDS, n=1, cutoff=0.0)
            raise config_error("allow_change", f"unknown field '{name}'", f"did you mean '{near[0]}'?")
        if name in SETTLED:
            raise config_error("allow_change", f"{name} is settled by the checkpoint", "start afresh for another one")


def _shown(value: Any) -> str:
    """A value in a few words; of a hash, its beginning."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {_shown(part)}" for name, part in value.items()) + "}"
    text = str(value)
    return text if len(text) <= 40 or " " in text else f"{text[:12]}..."
