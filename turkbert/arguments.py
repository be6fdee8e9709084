"""Every setting of every stage, and parse_args(): a flat JSON file gives the defaults, the command line wins.

    args = parse_args(["configs/scratch.json", "--learning_rate", "5e-4"])
    args.model.hidden_size, args.setting("learning_rate")    # what the file says, 0.0005
"""

import dataclasses
import os
from dataclasses import dataclass, fields
from typing import Any, Literal

import torch
from transformers import TrainingArguments

from turkbert.argument_checks import MLFLOW_DEFAULT, check_arguments
from turkbert.errors import config_error
from turkbert.parsing import NO_SECRETS, field_default, key, parse_keys


@dataclass
class CorpusArguments:
    """Which documents."""

    corpus: list[str] = key([], "paths, globs, folders, or one Hub data set id; empty: the bundled sample")
    corpus_config: str | None = key(None, "configuration of a Hub data set, e.g. 20231101.tr")
    corpus_revision: str | None = key(None, "revision of a Hub data set")
    text_column: str = key("text", "column of the text in jsonl, parquet and Hub data sets")
    encoding: str = key("utf-8", "of txt and jsonl files, e.g. cp1254 or utf-16")
    drop_short_lines: int = key(0, "drop lines (titles) of at most this many words")
    max_document_chars: int = key(1_000_000, "longer documents are split at a line, sentence or word")
    dedup: Literal["none", "exact", "near"] = key("none", "drop documents that come twice; near: extra dedup")
    bad_bytes: Literal["error", "reject"] = key("error", "what to do with a document that is not in that encoding")
    bad_lines: Literal["error", "reject"] = key("error", "what to do with a broken jsonl line")
    validation_fraction: float = key(0.05, "share of the documents kept for validation")


@dataclass
class TokenizerArguments:
    """How text becomes tokens."""

    tokenizer_dir: str = key("tokenizer", "folder to train it into, or any WordPiece tokenizer's folder or Hub id")
    vocab_size: int = key(32000, "number of tokens, the five special ones included")
    limit_alphabet: int = key(200, "number of characters that get a token")
    min_frequency: int = key(2, "a merge needs at least this many occurrences")
    cased: bool = key(True, "false: lower-case the Turkish way (I -> ı, İ -> i)")


@dataclass
class RandomWordsArguments:
    """Which corpus words may replace a word of as many tokens."""

    max_tokens_per_word: int = key(5, "longest words kept, in tokens")
    max_words_per_group: int = key(5000, "words kept for each number of tokens")
    min_word_frequency: int | None = key(None, "rarer words are left out; empty: one in a million words")
    sample_words: bool = key(False, "sample the words of a group instead of taking the most frequent ones")
    max_lines: int | None = key(None, "count only the documents with the first so many sentences")


@dataclass
class DataArguments:
    """How token rows are made."""

    data_dir: str = key("data", "folder of the prepared rows")
    block_sizes: list[int] = key([128, 512], "row lengths in tokens, one for each training stage")
    overlap: int | None = key(None, "tokens shared by neighbouring windows; empty: half a window")
    edge_buffer: int = key(10, "least number of tokens in A and in B")
    nsp_balance: Literal["planned", "weighted", "none"] = key(
        "planned", "planned: the share of random pairs is set so that labels come out even; weighted: only the loss is"
    )
    nsp_probability: float = key(0.5, "wanted share of rows whose B is random; 0: no next-sentence prediction")
    max_padding: float = key(0.1, "largest share of padding that balancing the pairs may cost")
    masking: Literal["static", "dynamic"] = key("static", "masks in the rows, or drawn anew each epoch")
    mlm_probability: float = key(0.15, "share of words to predict in training rows; 0.15 in validation rows")
    mask_replace_prob: float = key(0.8, "share of those that become [MASK]")
    random_replace_prob: float = key(0.1, "share of those that become another word; the rest stays")
    dupe_factor: int = key(1, "copies of every training row, each with its own static mask")
    preprocessing_seed: int = key(13013, "seed of split, pairs and static masks")
    preprocessing_num_workers: int | None = key(None, "processes of the data stages; empty: one a core")
    max_shard_size: str = key("500MB", "largest Arrow file")


@dataclass
class ModelArguments:
    """Which network, and where it starts from."""

    model_name_or_path: str | None = key(None, "folder or Hub id of a BERT to start from; empty: from scratch")
    model_revision: str | None = key(None, "revision of that model on the Hub")
    hidden_size: int = key(768, "width of the encoder")
    num_hidden_layers: int = key(12, "number of layers")
    num_attention_heads: int = key(12, "number of attention heads")
    intermediate_size: int = key(3072, "width of the feed-forward layer")
    hidden_act: str = key("gelu", "activation function")
    hidden_dropout_prob: float = key(0.1, "dropout of embeddings and layers")
    attention_probs_dropout_prob: float = key(0.1, "dropout of attention weights")
    max_position_embeddings: int = key(512, "longest row the model can take")
    initializer_range: float = key(0.02, "standard deviation of new weights")
    layer_norm_eps: float = key(1e-12, "epsilon of layer normalisation")
    type_vocab_size: int = key(2, "number of token types")
    classifier_dropout: float = key(0.1, "dropout of fine-tuning heads")
    attn_implementation: str | None = key(None, "sdpa, eager, flash_attention_2 ...; empty: transformers' choice")


@dataclass
class PretrainingArguments(TrainingArguments):
    """TrainingArguments with the two stages, the original project's defaults and a precision chosen by device."""

    output_dir: str = key("out", "where checkpoints and the final model go")
    stage_fractions: list[float] = key([0.9, 0.1], "share of max_steps of each block size, in their order")
    stage_batch_sizes: list[int] = key([64, 16], "rows a device and micro-batch in each stage")
    max_steps: int = key(100_000, "optimizer steps of the whole run")
    learning_rate: float = key(1e-4, "peak learning rate")
    min_learning_rate: float = key(1e-7, "floor of the schedule")
    lr_scheduler_type: str = key("cosine", "cosine or linear, both from the peak down to the floor")
    warmup_steps: float = key(5000, "steps of linear warm-up; below 1: a share of max_steps")
    weight_decay: float = key(0.01, "AdamW's decay on parameters of two or more dimensions")
    bf16: bool | None = key(None, "empty: where the device has it natively")
    fp16: bool | None = key(None, "empty: with a scaler where a GPU lacks bf16")
    tf32: bool | None = key(None, "empty: where the GPU has it")
    seed: int = key(13013, "seed of weights, dropout and row order")
    eval_strategy: str = key("steps", "steps or no")
    eval_steps: float | None = key(50, "evaluate every so many steps")
    eval_block_size: int | None = key(None, "block size of the validation rows; empty: the largest")
    max_eval_steps: int = key(50, "validation batches, evenly spread over the validation rows")
    per_device_eval_batch_size: int = key(8, "validation rows a device and batch")
    metric_for_best_model: str | None = key("loss", "validation metric that picks the best checkpoint")
    save_steps: float = key(50, "save every so many steps")
    save_total_limit: int | None = key(5, "checkpoints kept")
    logging_steps: float = key(50, "log every so many steps")
    logging_nan_inf_filter: bool = key(False, "stock Trainer shows NaN as 0.0; turkbert never does")
    peak_tflops: float | None = key(None, "TFLOP/s of a device, to tell MFU by; empty: from a table of GPUs")
    report_to: list[str] = key([], "trackers: mlflow, wandb, tensorboard ..., one or several; empty: none")
    hub_strategy: str = key("end", "push at the end; every_save: the model at each save; checkpoint: all of it too")
    license: str | None = key(None, "licence of the model, for its card, e.g. apache-2.0; empty: not stated")
    sample_texts: str | None = key(None, "file of texts with [MASK] and of pairs to predict; empty: the bundled ones")
    resume_from_checkpoint: str | None = key("auto", "auto: the newest whole checkpoint of output_dir; or a folder")
    allow_change: list[str] = key([], "settings that may differ from the checkpoint's; recorded in the next ones")
    overwrite: bool = key(False, "start afresh over an old run")
    debug: bool = key(False, "show the traceback of an error")

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
    "hub_token": NO_SECRETS,
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

MLFLOW_ENVIRONMENT = {  # unless the user has set them
    "MLFLOW_TRACKING_URI": MLFLOW_DEFAULT,
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # turkbert tries again itself, without anyone waiting
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "2",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
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

    def settings(self) -> dict[str, Any]:
        """All keys of the run with their values, given or by default."""
        return {f.name: self.setting(f.name) for f in fields(PretrainingArguments)} | self.resolved()


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
    check_arguments(args.settings())
    return args
