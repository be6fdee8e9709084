"""Tokenizers and models of any encoder, by folder or Hub id; or one with its architecture and random weights.

    tokenizer = load_tokenizer(settings)
    model = load_model(settings, task, use_cpu=True)
"""

import logging
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub.errors import LocalEntryNotFoundError
from transformers import AutoConfig, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from turkbert.errors import BAD_INPUT, ENVIRONMENT, UserError, config_error
from turkbert.finetuning.arguments import TaskArguments
from turkbert.hub_ids import is_hub_id

logger = logging.getLogger(__name__)

BYTE_LEVEL = ("roberta", "deberta", "longformer", "modernbert")
MAX_LENGTH = 512  # tokens, where the settings name no limit


def load_tokenizer(settings: TaskArguments) -> PreTrainedTokenizerBase:
    """A fast tokenizer; never runs code from its repository.

    Raises:
        UserError: it is not there, or is none of the fast ones, which know the characters of each token.
    """
    name, revision = settings.model_name_or_path or "", settings.model_revision
    options = {}
    if settings.task == "token_classification":  # byte-level tokenizers see no word start without a space
        is_byte_level = _load(AutoConfig, name, revision).model_type in BYTE_LEVEL
        options = {"add_prefix_space": True} if is_byte_level else {}
    tokenizer = _load(AutoTokenizer, name, revision, **options)
    if not tokenizer.is_fast:
        raise UserError(name, "its tokenizer is not a fast one", "choose a model with a tokenizer.json")
    return tokenizer


def load_model(settings: TaskArguments, task: Any, use_cpu: bool, untrained: bool = False) -> PreTrainedModel:
    """The model with a new head for the task; with new weights throughout, if `untrained`.

    Raises:
        UserError: it is not there, or has no such head.
    """
    name = settings.model_name_or_path or ""
    config = _load(AutoConfig, name, settings.model_revision, **task.config_settings)
    # With padding masks eager is half as fast again as sdpa on a CPU, and three times with bf16.
    attention = settings.attn_implementation or ("eager" if use_cpu else None)
    # What was saved in half precision is trained in full, or autocast from it.
    options = {"dtype": torch.float32, **({"attn_implementation": attention} if attention else {})}
    if untrained:
        return task.auto_class.from_config(config, **options)
    verbosity = transformers.utils.logging.get_verbosity()
    transformers.utils.logging.set_verbosity_error()  # that the head is new is no news
    try:
        own = {"config": config, "ignore_mismatched_sizes": True}  # an old head of another size gives way
        return _load(task.auto_class, name, settings.model_revision, **own, **options)
    finally:
        transformers.utils.logging.set_verbosity(verbosity)


def find_max_length(settings: TaskArguments, tokenizer: PreTrainedTokenizerBase) -> int:
    """Tokens of the longest row: max_seq_length, or what the model takes, at most MAX_LENGTH.

    Raises:
        UserError: max_seq_length is more than the model takes.
    """
    config = _load(AutoConfig, settings.model_name_or_path or "", settings.model_revision)
    positions = getattr(config, "max_position_embeddings", None) or MAX_LENGTH
    limit = min(positions, tokenizer.model_max_length)
    wanted = settings.max_seq_length
    if wanted is not None and wanted > limit:
        raise config_error("max_seq_length", f"{wanted} is over the model's {limit} tokens", "lower it")
    return wanted or min(limit, MAX_LENGTH)


def _load(auto_class: Any, name: str, revision: str | None, **options: Any) -> Any:
    is_folder = Path(name).expanduser().is_dir()
    if not is_folder and not is_hub_id(name, bare=True):
        raise UserError(name, "no such folder", "give a model's folder or a Hub id (organisation/name)")
    source = str(Path(name).expanduser()) if is_folder else name
    try:
        return auto_class.from_pretrained(source, revision=revision, local_files_only=is_folder, **options)
    except Exception as error:  # tokenizers raises bare Exception on a broken file
        reason = str(error).partition("\n")[0].strip(" .:")
        mend = "check its files" if is_folder else "check the id and the network"
        unreachable = isinstance(error.__cause__ or error, LocalEntryNotFoundError | ConnectionError)
        exit_code = ENVIRONMENT if unreachable else BAD_INPUT
        raise UserError(name, f"could not be loaded ({reason})", mend, exit_code) from error
