"""{key: value} of a whole run -> nothing, or the one line that says which key breaks which rule.

    check_arguments(args.settings())    # UserError: max_steps: 0 is out of range; 1 or more steps
"""

import os
import re
import sys
from pathlib import Path
from typing import Any

from transformers.activations import ACT2FN
from transformers.integrations import get_available_reporting_integrations

from turkbert.errors import config_error

MLFLOW_DEFAULT = "sqlite:///mlflow.db"
Settings = dict[str, Any]  # every key, given or by default


def check_arguments(settings: Settings) -> None:
    """Ranges and the rules between keys, before any work is done.

    Raises:
        UserError: naming the key, its value and the rule.
    """
    _check_values(settings)
    _check_rows(settings)
    _check_model(settings)
    _check_stages(settings)
    _check_schedule(settings)
    _check_trackers(settings["report_to"])
    _check_folders(settings)


def _check_values(settings: Settings) -> None:
    """Each key by itself."""
    for name, (low, high, rule) in _RANGES.items():
        for value in settings[name] if isinstance(settings[name], list) else [settings[name]]:
            if value is not None and not low <= value <= high:
                raise config_error(name, f"{value} is out of range", rule)
    for name, choices in _CHOICES.items():
        if settings[name] is not None and settings[name] not in choices:
            raise config_error(name, f"'{settings[name]}' is not supported", f"choose from {', '.join(choices)}")
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]*", settings["license"] or "none"):
        raise config_error("license", f"'{settings['license']}' is no name", "write e.g. apache-2.0 or cc-by-4.0")
    if not re.fullmatch(r"[1-9]\d*[KMGT]i?B", settings["max_shard_size"]):
        raise config_error("max_shard_size", f"'{settings['max_shard_size']}' is no size", "write e.g. 500MB or 2GB")
    try:
        "".encode(settings["encoding"])
    except LookupError as error:
        raise config_error("encoding", str(error), "give a name that Python knows, e.g. utf-8 or cp1254") from None


def _check_rows(settings: Settings) -> None:
    block_sizes, edge_buffer, overlap = settings["block_sizes"], settings["edge_buffer"], settings["overlap"]
    if not block_sizes or block_sizes != sorted(set(block_sizes)):
        raise config_error("block_sizes", f"{block_sizes} is not a rising list", "write e.g. [128, 512]")
    for block_size in block_sizes:
        window = block_size - 3
        if window < 2 * edge_buffer + 2:
            raise config_error("block_sizes", f"{block_size} is too short", f"edge_buffer is {edge_buffer}")
        if overlap is not None and overlap >= window:
            raise config_error("overlap", f"{overlap} is not below the window", f"windows have {window} tokens")
    if settings["dupe_factor"] > 1 and settings["masking"] == "dynamic":
        raise config_error("dupe_factor", "dynamic masks need no copies", "set masking to static, or leave it out")
    if settings["mask_replace_prob"] + settings["random_replace_prob"] > 1 + 1e-9:
        raise config_error("mask_replace_prob", "with random_replace_prob it is over 1", "their sum is at most 1")


def _check_model(settings: Settings) -> None:
    longest = settings["block_sizes"][-1]
    if settings["model_name_or_path"] is None and longest > settings["max_position_embeddings"]:
        what = f"{longest} is over the model's positions"
        raise config_error("block_sizes", what, "raise max_position_embeddings")
    if settings["hidden_size"] % settings["num_attention_heads"]:
        raise config_error("hidden_size", "not divisible by num_attention_heads", "change one of them")


def _check_stages(settings: Settings) -> None:
    block_sizes, fractions = settings["block_sizes"], settings["stage_fractions"]
    if len(fractions) != len(block_sizes) or len(settings["stage_batch_sizes"]) != len(block_sizes):
        mend = "give one fraction and one batch size a block"
        raise config_error("stage_fractions", "not one for each block size", mend)
    if abs(sum(fractions) - 1) > 1e-6:
        raise config_error("stage_fractions", f"{fractions} does not add up to 1", "shares of max_steps")
    if settings["eval_block_size"] not in (None, *block_sizes):
        raise config_error("eval_block_size", "not one of block_sizes", f"choose from {block_sizes}")


def _check_schedule(settings: Settings) -> None:
    if settings["nsp_probability"] == 0 and (settings["metric_for_best_model"] or "").startswith("nsp_"):
        raise config_error("metric_for_best_model", "nsp_probability 0 turns that metric off", "choose an mlm_ one")
    if settings["min_learning_rate"] > settings["learning_rate"]:
        raise config_error("min_learning_rate", "it is over learning_rate", "the floor is at most the peak")


def _check_folders(settings: Settings) -> None:
    """Stages replace their folders whole: what else the run writes must not lie in one of them."""
    folders = {name: settings[name] for name in ("output_dir", "data_dir", "tokenizer_dir")}
    for name, folder in folders.items():
        _check_folder(name, folder)
    if Path(folders["output_dir"]).name in ("", ".."):  # its lock and its older self stand beside it
        raise config_error("output_dir", f"{folders['output_dir']!r} is no folder of its own", "name one")
    paths = {name: Path(folder).resolve() for name, folder in folders.items()}
    data_dir, tokenizer_dir = paths["data_dir"], paths["tokenizer_dir"]
    for name in ("output_dir", "tokenizer_dir"):
        stage = paths[name].relative_to(data_dir).parts[:1] if data_dir in paths[name].parents else ()
        if stage and (stage[0] in _STAGE_FOLDERS or stage[0].startswith("block_")):
            raise config_error(name, f"{folders[name]} lies in data_dir's own {stage[0]}", "choose another folder")
    if (tokenizer_dir / "config.json").is_file():  # a model's, whose tokenizer is taken as it is
        return
    for name in ("output_dir", "data_dir"):
        if tokenizer_dir in (paths[name], *paths[name].parents):
            what = f"{folders[name]} is tokenizer_dir or lies in it"
            raise config_error(name, what, "choose another folder: a new tokenizer replaces all that is there")


def _check_folder(name: str, folder: str) -> None:
    try:
        os.stat(folder)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        pass  # it may be made later; what stands in its way is found below
    except (OSError, ValueError) as error:
        raise config_error(name, f"no name of a folder ({error})", "choose another one") from error
    blocking = next((path for path in [Path(folder), *Path(folder).parents] if path.is_file()), None)
    if blocking:
        raise config_error(name, f"{blocking} is a file", "name a folder")


def _check_trackers(names: list[str]) -> None:
    installed = ("none", "all", *get_available_reporting_integrations())
    for name in names:
        if name not in installed:
            raise config_error("report_to", f"'{name}' is not installed", f"install it, or choose from {installed}")
    address = os.environ.get("MLFLOW_TRACKING_URI", "")
    if "mlflow" in names and address.startswith(("file:", "/", ".")):
        raise config_error(
            "MLFLOW_TRACKING_URI", f"MLflow no longer writes to folders ({address})", f"use {MLFLOW_DEFAULT}"
        )


_STAGE_FOLDERS = ("documents", "tokens", "random_words", "report")  # and block_<size>, in data_dir
_HUGE = sys.float_info.max  # anything but infinity
_RANGES = {
    "drop_short_lines": (0, _HUGE, "0 or more words"),
    "max_document_chars": (1000, _HUGE, "1000 or more"),
    "validation_fraction": (1e-6, 0.5, "above 0 and at most 0.5"),
    "vocab_size": (6, _HUGE, "more than the five special tokens"),
    "limit_alphabet": (1, _HUGE, "1 or more"),
    "min_frequency": (1, _HUGE, "1 or more"),
    "max_tokens_per_word": (1, 32, "1 to 32 tokens"),
    "max_words_per_group": (1, _HUGE, "1 or more"),
    "min_word_frequency": (1, _HUGE, "1 or more, or empty"),
    "max_lines": (1, _HUGE, "1 or more, or empty for all"),
    "block_sizes": (8, 32767, "8 to 32767 tokens"),
    "overlap": (0, _HUGE, "0 or more tokens"),
    "edge_buffer": (1, _HUGE, "1 or more tokens"),
    "nsp_probability": (0, 0.99, "0 (off) up to 0.99"),
    "max_padding": (0, 1, "a share, 0 to 1"),
    "mlm_probability": (1e-6, 0.99, "above 0 and below 1"),
    "mask_replace_prob": (0, 1, "a share, 0 to 1"),
    "random_replace_prob": (0, 1, "a share, 0 to 1"),
    "dupe_factor": (1, _HUGE, "1 or more"),
    "preprocessing_seed": (0, 2**63 - 1, "0 to 2**63 - 1"),
    "preprocessing_num_workers": (1, _HUGE, "1 or more processes"),
    "hidden_size": (1, _HUGE, "1 or more"),
    "num_hidden_layers": (1, _HUGE, "1 or more"),
    "num_attention_heads": (1, _HUGE, "1 or more"),
    "intermediate_size": (1, _HUGE, "1 or more"),
    "type_vocab_size": (2, _HUGE, "2 or more: A and B"),
    "hidden_dropout_prob": (0, 0.99, "a share below 1"),
    "attention_probs_dropout_prob": (0, 0.99, "a share below 1"),
    "classifier_dropout": (0, 0.99, "a share below 1"),
    "initializer_range": (0, _HUGE, "0 or more"),
    "layer_norm_eps": (1e-45, 1, "above 0, at most 1"),
    "stage_fractions": (1e-9, 1, "shares of max_steps, above 0"),
    "stage_batch_sizes": (1, _HUGE, "1 or more rows"),
    "seed": (0, 2**32 - 1, "0 to 2**32 - 1"),
    "data_seed": (0, 2**63 - 1, "0 to 2**63 - 1, or empty for the seed"),
    "max_steps": (1, _HUGE, "1 or more steps"),
    "gradient_accumulation_steps": (1, _HUGE, "1 or more"),
    "learning_rate": (1e-12, _HUGE, "above 0"),
    "min_learning_rate": (0, _HUGE, "0 or more"),
    "warmup_steps": (0, _HUGE, "0 or more"),
    "weight_decay": (0, _HUGE, "0 or more"),
    "adam_beta1": (0, 1 - 1e-9, "0 or more and below 1"),
    "adam_beta2": (0, 1 - 1e-9, "0 or more and below 1"),
    "adam_epsilon": (0, _HUGE, "0 or more"),
    "max_grad_norm": (0, _HUGE, "0 (off) or more"),
    "dataloader_num_workers": (0, _HUGE, "0 or more processes"),
    "dataloader_prefetch_factor": (1, _HUGE, "1 or more batches, or empty"),
    "max_eval_steps": (1, _HUGE, "1 or more batches"),
    "per_device_eval_batch_size": (1, _HUGE, "1 or more rows"),
    "eval_steps": (1e-9, _HUGE, "above 0"),
    "save_steps": (1e-9, _HUGE, "above 0"),
    "logging_steps": (1e-9, _HUGE, "above 0"),
    "peak_tflops": (1e-9, _HUGE, "above 0, or empty"),
    "save_total_limit": (1, _HUGE, "1 or more, or empty for all"),
}
_CHOICES: dict[str, tuple[str, ...]] = {
    "hidden_act": tuple(sorted(ACT2FN)),
    "attn_implementation": ("eager", "sdpa", "flash_attention_2", "flash_attention_3"),
    "metric_for_best_model": (
        "loss", "mlm_loss", "mlm_accuracy", "mlm_perplexity", "nsp_loss", "nsp_accuracy", "nsp_f1",
    ),  # fmt: skip
    "lr_scheduler_type": ("cosine", "linear"),
    "eval_strategy": ("steps", "no"),
    "save_strategy": ("steps", "no"),
    "logging_strategy": ("steps", "no"),
    "hub_strategy": ("end", "every_save", "checkpoint"),
}
