"""Every setting of every stage, and parse_args(): a flat JSON file gives the defaults, the command line wins.

    python scripts/pretrain.py configs/scratch.json --learning_rate 5e-4
"""

import argparse
import dataclasses
import difflib
import json
import os
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import torch
from transformers import HfArgumentParser, TrainingArguments
from transformers.activations import ACT2FN
from transformers.hf_argparser import string_to_bool
from transformers.integrations import get_available_reporting_integrations

from turkbert.errors import UserError, config_error
from turkbert.redaction import holds_secret


def _key(default: Any, help: str) -> Any:
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata={"help": help})
    return field(default=default, metadata={"help": help})


@dataclass
class CorpusArguments:
    """Which documents."""

    corpus: list[str] = _key([], "paths, globs, folders, or one Hub data set id; empty: the bundled sample")
    corpus_config: str | None = _key(None, "configuration of a Hub data set, e.g. 20231101.tr")
    corpus_revision: str | None = _key(None, "revision of a Hub data set")
    text_column: str = _key("text", "column of the text in jsonl, parquet and Hub data sets")
    encoding: str = _key("utf-8", "of txt and jsonl files, e.g. cp1254 or utf-16")
    drop_short_lines: int = _key(0, "drop lines (titles) of at most this many words")
    max_document_chars: int = _key(1_000_000, "longer documents are split at a line, sentence or word")
    dedup: Literal["none", "exact", "near"] = _key("none", "drop documents that come twice; near: extra dedup")
    bad_bytes: Literal["error", "reject"] = _key("error", "what to do with a document that is not in that encoding")
    bad_lines: Literal["error", "reject"] = _key("error", "what to do with a broken jsonl line")
    validation_fraction: float = _key(0.05, "share of the documents kept for validation")


@dataclass
class TokenizerArguments:
    """How text becomes tokens."""

    tokenizer_dir: str = _key("tokenizer", "folder to train it into, or any WordPiece tokenizer's folder or Hub id")
    vocab_size: int = _key(32000, "number of tokens, the five special ones included")
    limit_alphabet: int = _key(200, "number of characters that get a token")
    min_frequency: int = _key(2, "a merge needs at least this many occurrences")
    cased: bool = _key(True, "false: lower-case the Turkish way (I -> ı, İ -> i)")


@dataclass
class RandomWordsArguments:
    """Which corpus words may replace a word of as many tokens."""

    max_tokens_per_word: int = _key(5, "longest words kept, in tokens")
    max_words_per_group: int = _key(5000, "words kept for each number of tokens")
    min_word_frequency: int | None = _key(None, "rarer words are left out; empty: one in a million words")
    sample_words: bool = _key(False, "sample the words of a group instead of taking the most frequent ones")
    max_lines: int | None = _key(None, "count only the documents with the first so many sentences")


@dataclass
class DataArguments:
    """How token rows are made."""

    data_dir: str = _key("data", "folder of the prepared rows")
    block_sizes: list[int] = _key([128, 512], "row lengths in tokens, one for each training stage")
    overlap: int | None = _key(None, "tokens shared by neighbouring windows; empty: half a window")
    edge_buffer: int = _key(10, "least number of tokens in A and in B")
    nsp_balance: Literal["planned", "weighted", "none"] = _key(
        "planned", "planned: the share of random pairs is set so that labels come out even; weighted: only the loss is"
    )
    nsp_probability: float = _key(0.5, "wanted share of rows whose B is random; 0: no next-sentence prediction")
    max_padding: float = _key(0.1, "largest share of padding that balancing the pairs may cost")
    masking: Literal["static", "dynamic"] = _key("static", "masks in the rows, or drawn anew each epoch")
    mlm_probability: float = _key(0.15, "share of words to predict in training rows; 0.15 in validation rows")
    mask_replace_prob: float = _key(0.8, "share of those that become [MASK]")
    random_replace_prob: float = _key(0.1, "share of those that become another word; the rest stays")
    dupe_factor: int = _key(1, "copies of every training row, each with its own static mask")
    preprocessing_seed: int = _key(13013, "seed of split, pairs and static masks")
    preprocessing_num_workers: int | None = _key(None, "processes of the data stages; empty: one a core")
    max_shard_size: str = _key("500MB", "largest Arrow file")


@dataclass
class ModelArguments:
    """Which network, and where it starts from."""

    model_name_or_path: str | None = _key(None, "folder or Hub id of a BERT to start from; empty: from scratch")
    model_revision: str | None = _key(None, "revision of that model on the Hub")
    hidden_size: int = _key(768, "width of the encoder")
    num_hidden_layers: int = _key(12, "number of layers")
    num_attention_heads: int = _key(12, "number of attention heads")
    intermediate_size: int = _key(3072, "width of the feed-forward layer")
    hidden_act: str = _key("gelu", "activation function")
    hidden_dropout_prob: float = _key(0.1, "dropout of embeddings and layers")
    attention_probs_dropout_prob: float = _key(0.1, "dropout of attention weights")
    max_position_embeddings: int = _key(512, "longest row the model can take")
    initializer_range: float = _key(0.02, "standard deviation of new weights")
    layer_norm_eps: float = _key(1e-12, "epsilon of layer normalisation")
    type_vocab_size: int = _key(2, "number of token types")
    classifier_dropout: float = _key(0.1, "dropout of fine-tuning heads")
    attn_implementation: str | None = _key(None, "sdpa, eager, flash_attention_2 ...; empty: transformers' choice")


@dataclass
class PretrainingArguments(TrainingArguments):
    """TrainingArguments with the two stages, the original project's defaults and a precision chosen by device."""

    output_dir: str = _key("out", "where checkpoints and the final model go")
    stage_fractions: list[float] = _key([0.9, 0.1], "share of max_steps of each block size, in their order")
    stage_batch_sizes: list[int] = _key([64, 16], "rows a device and micro-batch in each stage")
    max_steps: int = _key(100_000, "optimizer steps of the whole run")
    learning_rate: float = _key(1e-4, "peak learning rate")
    min_learning_rate: float = _key(1e-7, "floor of the schedule")
    lr_scheduler_type: str = _key("cosine", "cosine or linear, both from the peak down to the floor")
    warmup_steps: float = _key(5000, "steps of linear warm-up; below 1: a share of max_steps")
    weight_decay: float = _key(0.01, "AdamW's decay on parameters of two or more dimensions")
    bf16: bool | None = _key(None, "empty: where the device has it natively")
    fp16: bool | None = _key(None, "empty: with a scaler where a GPU lacks bf16")
    tf32: bool | None = _key(None, "empty: where the GPU has it")
    seed: int = _key(13013, "seed of weights, dropout and row order")
    eval_strategy: str = _key("steps", "steps or no")
    eval_steps: float | None = _key(50, "evaluate every so many steps")
    eval_block_size: int | None = _key(None, "block size of the validation rows; empty: the largest")
    max_eval_steps: int = _key(50, "validation batches, evenly spread over the validation rows")
    per_device_eval_batch_size: int = _key(8, "validation rows a device and batch")
    metric_for_best_model: str | None = _key("loss", "validation metric that picks the best checkpoint")
    save_steps: float = _key(50, "save every so many steps")
    save_total_limit: int | None = _key(5, "checkpoints kept")
    logging_steps: float = _key(50, "log every so many steps")
    logging_nan_inf_filter: bool = _key(False, "stock Trainer shows NaN as 0.0; turkbert never does")
    peak_tflops: float | None = _key(None, "TFLOP/s of a device, to tell MFU by; empty: from a table of GPUs")
    hub_strategy: str = _key("end", "push at the end; every_save: the model at each save; checkpoint: all of it too")
    license: str | None = _key(None, "licence of the model, for its card, e.g. apache-2.0; empty: not stated")
    sample_texts: str | None = _key(None, "file of texts with [MASK] and of pairs to predict; empty: the bundled ones")
    resume_from_checkpoint: str | None = _key("auto", "auto: the newest whole checkpoint of output_dir; or a folder")
    allow_change: list[str] = _key([], "settings that may differ from the checkpoint's; recorded in the next ones")
    overwrite: bool = _key(False, "start afresh over an old run")
    debug: bool = _key(False, "show the traceback of an error")

    def __post_init__(self) -> None:
        self.debug = ""  # stock Trainer's own debug options share the name of our flag
        self.use_cpu = self.use_cpu or not torch.accelerator.is_available()
        self.bf16, self.fp16 = choose_precision(self.use_cpu, self.bf16, self.fp16)
        if self.tf32 is None and torch.cuda.is_available() and not self.use_cpu:
            self.tf32 = torch.cuda.get_device_capability()[0] >= 8 or None
        # The schedules with a floor have other names in transformers.
        floor = {
            "cosine": ("cosine_with_min_lr", {"min_lr": self.min_learning_rate}),
            "linear": ("polynomial", {"lr_end": self.min_learning_rate, "power": 1.0}),
        }
        if self.lr_scheduler_type in floor:
            self.lr_scheduler_type, self.lr_scheduler_kwargs = floor[self.lr_scheduler_type]
        if self.greater_is_better is None:  # transformers would take the highest perplexity for the best
            self.greater_is_better = (self.metric_for_best_model or "").endswith(("accuracy", "f1"))
        super().__post_init__()
        if self.torch_compile:  # shapes are fixed: a second one is another stage, no reason to compile for any shape
            os.environ.setdefault("ACCELERATE_DYNAMO_USE_DYNAMIC", "false")
        self.ddp_find_unused_parameters = bool(self.ddp_find_unused_parameters)

    def to_sanitized_dict(self) -> dict[str, Any]:
        """What is saved and told of these settings: never a token, nor the key of one."""
        return {name: value for name, value in super().to_sanitized_dict().items() if not name.endswith("_token")}


def choose_precision(use_cpu: bool, bf16: bool | None, fp16: bool | None) -> tuple[bool, bool]:
    """(bf16, fp16) of a run: what the user set, else bf16 where it is native, else fp16 on a GPU, else fp32.

    torch counts emulated bf16 as supported; emulation is slower than fp16, so it is not asked for.
    """
    if bf16 is not None or fp16 is not None:
        return bool(bf16), bool(fp16)
    if use_cpu:  # mixed bf16 pays on a CPU only with bf16 instructions
        return torch.cpu._is_avx512_bf16_supported(), False
    if torch.cuda.is_available():
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        return native, not native
    return False, False


REFUSED = {
    "per_device_train_batch_size": "stage_batch_sizes has the rows of each stage",
    "num_train_epochs": "a run is measured in steps: set max_steps",
    "hub_token": "a token never goes into a file or a command line: set HF_TOKEN or run `hf auth login`",
    "auto_find_batch_size": "it would change the global batch in mid-run: lower stage_batch_sizes instead",
    "ignore_data_skip": "resuming always continues with the next row",
    "train_sampling_strategy": "every row comes once a pass, in an order fixed by the seed",
    "length_column_name": "rows have one length a stage",
    "enable_jit_checkpoint": "it hangs when one rank alone gets the signal: set save_steps",
    "load_best_model_at_end": "the best weights always go to output_dir",
    "remove_unused_columns": "the collator makes exactly the model's inputs",
    "label_names": "the labels are fixed: labels and next_sentence_label",
    "dataloader_drop_last": "the last rows of a pass begin the next batch",
    "label_smoothing_factor": "the loss is the plain cross-entropy of the labelled tokens",
    "average_tokens_across_devices": "the loss is always exact over devices",
    "logging_nan_inf_filter": "it would show NaN as 0.0",
    "accelerator_config": "the staged sampler shards the batches itself",
    "parallelism_config": "only data parallelism is supported",
    "deepspeed": "not supported: data parallelism is",
    "use_cache": "an encoder has no cache",
    "use_liger_kernel": "it has no kernels for this model",
    "liger_kernel_config": "it has no kernels for this model",
    "neftune_noise_alpha": "it is for instruction tuning",
    "prediction_loss_only": "evaluation streams its own metrics",
    "eval_do_concat_batches": "evaluation streams its own metrics",
    "eval_use_gather_object": "evaluation streams its own metrics",
    "eval_accumulation_steps": "evaluation streams its own metrics",
    "include_for_metrics": "evaluation streams its own metrics",
    "batch_eval_metrics": "evaluation streams its own metrics",
    "bf16_full_eval": "evaluation runs in the precision of training",
    "fp16_full_eval": "evaluation runs in the precision of training",
    "save_only_model": "such a checkpoint could not be resumed",
    "restore_callback_states_from_checkpoint": "resuming always restores them",
    "include_num_input_tokens_seen": "tokens are always counted",
    "hub_always_push": "a save that comes during an upload is not pushed, the next one is",
    "do_train": "scripts/pretrain.py trains",
    "do_eval": "set eval_strategy, or use scripts/evaluate.py",
    "do_predict": "use scripts/evaluate.py",
    "local_rank": "the launcher sets it",
    "lr_scheduler_kwargs": "set min_learning_rate",
}

MLFLOW_DEFAULT = "sqlite:///mlflow.db"
MLFLOW_ENVIRONMENT = {  # unless the user has set them
    "MLFLOW_TRACKING_URI": MLFLOW_DEFAULT,
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # turkbert tries again itself, without anyone waiting
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "2",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
Groups = Sequence[Any]  # dataclasses
GROUPS = (CorpusArguments, TokenizerArguments, RandomWordsArguments, DataArguments, ModelArguments)


@dataclass
class RunArguments:
    """The parsed settings of a run; `training()` is made last, since it touches the device and the process group."""

    corpus: CorpusArguments
    tokenizer: TokenizerArguments
    random_words: RandomWordsArguments
    data: DataArguments
    model: ModelArguments
    given: dict[str, Any]
    debug: bool = False

    @property
    def output_dir(self) -> str:
        return self.given.get("output_dir", "out")

    def setting(self, name: str) -> Any:
        """A key of PretrainingArguments as given or by default, before the device is touched."""
        return self.given[name] if name in self.given else field_default(PretrainingArguments, name)

    def training(self) -> PretrainingArguments:
        """Raises: UserError (bad config) with transformers' own words where it refuses a value."""
        own = {f.name for f in fields(PretrainingArguments)}
        try:
            training = PretrainingArguments(**{name: value for name, value in self.given.items() if name in own})
        except (ValueError, ImportError) as error:
            raise config_error("config", str(error).rstrip("."), "change that key") from error
        if training.fsdp and training.world_size == 1:
            raise config_error("fsdp", "there is one process alone", "start several with accelerate launch")
        if "mlflow" in training.report_to:  # before transformers imports it
            for name, value in MLFLOW_ENVIRONMENT.items():
                os.environ.setdefault(name, value)
        return training

    def resolved(self) -> dict[str, Any]:
        """All data, tokenizer and model keys with their values: what an artefact stands for."""
        groups = (self.corpus, self.tokenizer, self.random_words, self.data, self.model)
        return {name: value for group in groups for name, value in dataclasses.asdict(group).items()}


def parse_args(
    argv: list[str] | None = None, description: str | None = None, extra: dict[str, Any] | None = None
) -> RunArguments:
    """[CONFIG.json] [--key value ...] -> RunArguments.

    Args:
        extra: defaults of keys that one script alone has, on its command line; their values come in `given`.

    Raises:
        UserError: with exit code 3, naming the key and, where it is unknown, the nearest known one.
    """
    given = parse_keys((*GROUPS, PretrainingArguments), REFUSED, argv, description, extra)
    groups = [group(**{f.name: given[f.name] for f in fields(group) if f.name in given}) for group in GROUPS]
    args = RunArguments(*groups, given=given, debug=bool(given.get("debug", False)))
    check_arguments(args)
    return args


def parse_keys(
    groups: Groups,
    refused: dict[str, str],
    argv: list[str] | None = None,
    description: str | None = None,
    extra: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """[CONFIG.json] [--key value ...] -> the keys that were given, of any dataclasses, with values of their types.

    Args:
        groups: the dataclasses whose fields are the keys.
        refused: keys of theirs that may not be given, each with the reason.

    Raises:
        UserError: as parse_args does.
    """
    argv = sys.argv[1:] if argv is None else argv
    parser = _Parser([*groups], description=description, allow_abbrev=False)
    parser.add_argument("config", nargs="?", metavar="CONFIG.json", help="flat JSON file of the keys below")
    for name, default in (extra or {}).items():
        flag = {"type": string_to_bool, "nargs": "?", "const": True}
        parser.add_argument(f"--{name}", **(flag if isinstance(default, bool) else {"type": type(default)}))
    for action in parser._actions:  # the dataclasses hold the defaults; the namespace holds what was given
        action.default = argparse.SUPPRESS
    flags = {"--debug", *(f"--{name}" for name, default in (extra or {}).items() if isinstance(default, bool))}
    for place, word in enumerate(argv):  # a bare --debug must not take the config for its value
        if word in flags and argv[place + 1 : place + 2] not in (["true"], ["false"]):
            argv = [*argv[:place], f"{word}=true", *argv[place + 1 :]]
    _refuse((word[2:].split("=")[0] for word in argv if word.startswith("--")), refused)  # whatever the value
    namespace, unknown = parser.parse_known_args(argv)
    given = {**(extra or {}), **vars(namespace)}
    config = given.pop("config", None)
    if unknown:
        raise _unknown_key("command line", unknown[0], {*_known_keys(groups), *(extra or ())})
    if config is not None:
        given = {**_read_config(Path(config), parser, groups, refused), **given}
    _refuse(given, refused)  # once more, for the --no_ forms
    for name, value in given.items():
        if holds_secret(value):
            raise config_error(name, "holds a token or a secret", REFUSED["hub_token"])
    return given


class _Parser(HfArgumentParser):
    def error(self, message: str):
        raise config_error("command line", message, "see --help")


def _refuse(names: Iterable[str], refused: dict[str, str]) -> None:
    for name in names:
        if name in refused:
            raise config_error(name, "this key is refused", refused[name])


def _known_keys(groups: Groups = (*GROUPS, PretrainingArguments)) -> set[str]:
    return {f.name for group in groups for f in fields(group)}


def _optional_keys(groups: Groups) -> set[str]:
    hints = {name: hint for group in groups for name, hint in get_type_hints(group).items()}
    return {name for name, hint in hints.items() if type(None) in get_args(hint)}


def _keys_of(kind: type, groups: Groups) -> set[str]:
    """The keys whose values may be a list, or a dict."""
    hints = {name: hint for group in groups for name, hint in get_type_hints(group).items()}
    parts = {name: (hint, *get_args(hint)) for name, hint in hints.items()}
    return {name for name, some in parts.items() if kind in (*some, *map(get_origin, some))}


def field_default(group: type, name: str) -> Any:
    """The default of one key of an arguments class."""
    found = next(f for f in fields(group) if f.name == name)
    return found.default if found.default is not dataclasses.MISSING else found.default_factory()


def _unknown_key(where: str | os.PathLike, name: str, known: Iterable[str]) -> UserError:
    name = name.split("=")[0].lstrip("-")
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
    return config_error(where, f"unknown key '{name}'", f"did you mean '{near[0]}'?")


def read_json_object(path: Path) -> dict[str, Any]:
    """A user's JSON file that holds one object.

    Raises:
        UserError: it is missing, too large, or anything else.
    """
    if path.suffix != ".json":
        raise config_error(path, "a config is a flat .json file", "name one, or write keys as --key value")
    try:
        if path.stat().st_size > _MAX_CONFIG_BYTES:
            raise config_error(path, f"over {_MAX_CONFIG_BYTES:,} bytes", "a config has a line for each key")
        settings = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise config_error(path, "no such file", f"the current folder is {Path.cwd().name}/") from None
    except (OSError, ValueError, RecursionError) as error:
        raise config_error(path, f"not readable as JSON ({error})", "mend the file") from None
    if not isinstance(settings, dict):
        raise config_error(path, "not a JSON object", "write {\"key\": value, ...}")
    return settings


def _read_config(path: Path, parser: HfArgumentParser, groups: Groups, refused: dict[str, str]) -> dict[str, Any]:
    """A flat JSON file -> the keys it gives, parsed and checked as the command line's are."""
    return parse_settings(read_json_object(path), path, parser, groups, refused)


def parse_settings(
    settings: dict[str, Any], path: Path, parser: HfArgumentParser, groups: Groups, refused: dict[str, str]
) -> dict[str, Any]:
    _refuse(settings, refused)
    words: list[str] = []
    nulls: dict[str, Any] = {}
    for name, value in settings.items():
        if name not in _known_keys(groups):
            raise _unknown_key(path, name, _known_keys(groups))
        if value is None:
            if name not in _optional_keys(groups):
                raise config_error(path, f"{name} is null", "give a value, or leave the key out")
            nulls[name] = None
        elif value == []:  # the command line cannot say that; what it means is for check_arguments to judge
            if name not in _keys_of(list, groups):
                raise config_error(path, f"{name} is []", "give a value, or leave the key out")
            nulls[name] = value
        elif isinstance(value, list):
            words += [f"--{name}", *map(str, value)]
        elif isinstance(value, dict):
            if name not in _keys_of(dict, groups):
                raise config_error(path, f"{name} is a JSON object", "give a plain value")
            words += [f"--{name}={json.dumps(value)}"]
        else:
            words += [f"--{name}={str(value).lower() if isinstance(value, bool) else value}"]
    try:
        parsed = vars(parser.parse_args(words))
    except UserError as error:
        raise config_error(path, error.what, "mend the file") from None
    for name, value in parsed.items():
        single = value[0] if isinstance(value, list) else value  # "corpus": "a.txt" stands for ["a.txt"]
        if name not in settings:
            raise config_error(path, f"a value reads as the key --{name}", "write it without the dashes")
        given = settings[name]
        same_kind = isinstance(given, bool) == isinstance(single, bool)  # 1 == True, but not here
        if not isinstance(given, dict) and (given not in (value, single) or not same_kind):
            kind = type(single).__name__
            raise config_error(path, f"{name} is {json.dumps(given)}", f"write it as {kind}, without quotes")
    return {**nulls, **parsed}


def check_arguments(args: RunArguments) -> None:
    """Ranges and the rules between keys, before any work is done.

    Raises:
        UserError: naming the key, its value and the rule.
    """
    _check_values(args)
    _check_rows(args.data)
    _check_model(args.model, args.data.block_sizes)
    _check_stages(args)
    _check_schedule(args)
    _check_trackers(args.setting("report_to"))
    _check_folders(args)


def _check_values(args: RunArguments) -> None:
    """Each key by itself."""
    resolved = args.resolved()
    values = {name: resolved[name] if name in resolved else args.setting(name) for name in {**_RANGES, **_CHOICES}}
    for name, (low, high, rule) in _RANGES.items():
        for value in values[name] if isinstance(values[name], list) else [values[name]]:
            if value is not None and not low <= value <= high:
                raise config_error(name, f"{value} is out of range", rule)
    for name, choices in _CHOICES.items():
        if values[name] is not None and values[name] not in choices:
            raise config_error(name, f"'{values[name]}' is not supported", f"choose from {', '.join(choices)}")
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]*", args.setting("license") or "none"):
        raise config_error("license", f"'{args.setting('license')}' is no name", "write e.g. apache-2.0 or cc-by-4.0")
    if not re.fullmatch(r"[1-9]\d*[KMGT]i?B", args.data.max_shard_size):
        raise config_error("max_shard_size", f"'{args.data.max_shard_size}' is no size", "write e.g. 500MB or 2GB")
    try:
        "".encode(args.corpus.encoding)
    except LookupError as error:
        raise config_error("encoding", str(error), "give a name that Python knows, e.g. utf-8 or cp1254") from None


def _check_rows(data: DataArguments) -> None:
    if not data.block_sizes or data.block_sizes != sorted(set(data.block_sizes)):
        raise config_error("block_sizes", f"{data.block_sizes} is not a rising list", "write e.g. [128, 512]")
    for block_size in data.block_sizes:
        window = block_size - 3
        if window < 2 * data.edge_buffer + 2:
            raise config_error("block_sizes", f"{block_size} is too short", f"edge_buffer is {data.edge_buffer}")
        if data.overlap is not None and data.overlap >= window:
            raise config_error("overlap", f"{data.overlap} is not below the window", f"windows have {window} tokens")
    if data.dupe_factor > 1 and data.masking == "dynamic":
        raise config_error("dupe_factor", "dynamic masks need no copies", "set masking to static, or leave it out")
    if data.mask_replace_prob + data.random_replace_prob > 1 + 1e-9:
        raise config_error("mask_replace_prob", "with random_replace_prob it is over 1", "their sum is at most 1")


def _check_model(model: ModelArguments, block_sizes: list[int]) -> None:
    if model.model_name_or_path is None and block_sizes[-1] > model.max_position_embeddings:
        what = f"{block_sizes[-1]} is over the model's positions"
        raise config_error("block_sizes", what, "raise max_position_embeddings")
    if model.hidden_size % model.num_attention_heads:
        raise config_error("hidden_size", "not divisible by num_attention_heads", "change one of them")


def _check_stages(args: RunArguments) -> None:
    block_sizes = args.data.block_sizes
    fractions, sizes = args.setting("stage_fractions"), args.setting("stage_batch_sizes")
    if len(fractions) != len(block_sizes) or len(sizes) != len(block_sizes):
        mend = "give one fraction and one batch size a block"
        raise config_error("stage_fractions", "not one for each block size", mend)
    if abs(sum(fractions) - 1) > 1e-6:
        raise config_error("stage_fractions", f"{fractions} does not add up to 1", "shares of max_steps")
    if args.setting("eval_block_size") not in (None, *block_sizes):
        raise config_error("eval_block_size", "not one of block_sizes", f"choose from {block_sizes}")


def _check_schedule(args: RunArguments) -> None:
    if args.data.nsp_probability == 0 and (args.setting("metric_for_best_model") or "").startswith("nsp_"):
        raise config_error("metric_for_best_model", "nsp_probability 0 turns that metric off", "choose an mlm_ one")
    if args.setting("min_learning_rate") > args.setting("learning_rate"):
        raise config_error("min_learning_rate", "it is over learning_rate", "the floor is at most the peak")


def _check_folders(args: RunArguments) -> None:
    """Stages replace their folders whole: what else the run writes must not lie in one of them."""
    folders = {
        "output_dir": args.output_dir, "data_dir": args.data.data_dir, "tokenizer_dir": args.tokenizer.tokenizer_dir,
    }  # fmt: skip
    for name, folder in folders.items():
        _check_folder(name, folder)
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


def _check_trackers(report_to: str | list[str] | None) -> None:
    names = [report_to] if isinstance(report_to, str) else report_to or []
    installed = ("none", "all", *get_available_reporting_integrations())
    for name in names:
        if name not in installed:
            raise config_error("report_to", f"'{name}' is not installed", f"install it, or choose from {installed}")
    address = os.environ.get("MLFLOW_TRACKING_URI", "")
    if "mlflow" in names and address.startswith(("file:", "/", ".")):
        raise config_error(
            "MLFLOW_TRACKING_URI", f"MLflow no longer writes to folders ({address})", f"use {MLFLOW_DEFAULT}"
        )


_MAX_CONFIG_BYTES = 1_000_000
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
