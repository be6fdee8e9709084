"""One pretraining run, from prepared rows to a finished output folder."""

import dataclasses
import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from datasets import DatasetDict
from filelock import FileLock, Timeout
from safetensors import SafetensorError
from transformers import PreTrainedTokenizerFast, set_seed

from turkbert.arguments import PretrainingArguments, RunArguments
from turkbert.artifacts import MANIFEST, find_damage, key_hash, publish, read_manifest, remove, write_json
from turkbert.data.prepare import build_collator, load_stats
from turkbert.errors import CORRUPT_ARTIFACT, ENVIRONMENT, PREEMPTED, UserError, config_error, is_main_process
from turkbert.model import (
    TurkBertConfig,
    TurkBertForPreTraining,
    TurkBertModel,
    load_stock,
    load_stock_config,
    save_stock,
)
from turkbert.model.initialization import init_decoder_bias, init_positions
from turkbert.tokenization import load_tokenizer, save_tokenizer, tokenizer_hash
from turkbert.training.callbacks import SamplesCallback, StageCallback
from turkbert.training.checkpoint import check_contract, checkpoints, find_checkpoint, step_of
from turkbert.training.hub import check_hub_access, push_output, repository_name
from turkbert.training.metrics_file import MetricsFileCallback
from turkbert.training.model_card import render_model_card
from turkbert.training.preemption import PreemptionCallback
from turkbert.training.run_record import read_record
from turkbert.training.samples import predict_samples, read_sample_texts
from turkbert.training.sharding import whole
from turkbert.training.tracking import replay, tracked
from turkbert.training.trainer import PretrainingTrainer
from turkbert.training.unigrams import count_tokens

logger = logging.getLogger(__name__)

OVERWRITING = "OVERWRITING.json"

LOCK_SECONDS = 10  # loader workers of a run that was killed hold its lock until they notice


@dataclass
class RunResult:
    """What a run ended with."""

    metrics: dict[str, float]
    predictions: str

    def summary(self) -> str:
        """The validation metrics as a small table."""
        shown = {n.removeprefix("eval_"): v for n, v in self.metrics.items() if "mlm" in n or "nsp" in n}
        return "\n".join(f"{name:<16}{value:>10.4f}" for name, value in shown.items())


def check_run(args: RunArguments) -> None:
    """Refuse before hours of data preparation what would only be found out after them.

    Raises:
        UserError: sample texts that cannot be read, a Hub that refuses us, or a model that does not fit.
    """
    read_sample_texts(args.setting("sample_texts"))
    model = args.model
    if model.attn_implementation:
        _check_attention(model.attn_implementation)
    if args.setting("push_to_hub") and is_main_process():
        check_hub_access(repository_name(Path(args.output_dir), args.setting("hub_model_id")))
    if model.model_name_or_path:
        with _model_errors(model.model_name_or_path):
            config = load_stock_config(model.model_name_or_path, model.model_revision)
        _check_positions(args, config)


def _check_attention(name: str) -> None:
    """Refuse an implementation whose package is missing; transformers knows when it makes a model."""
    try:
        with torch.device("meta"):
            TurkBertModel(TurkBertConfig(num_hidden_layers=1, attn_implementation=name))
    except (ImportError, ValueError) as error:
        reason = str(error).rpartition("error: ")[2].splitlines()[0].rstrip(".")
        what = f"{name} cannot be used ({reason})"
        raise config_error("attn_implementation", what, "install it, or choose sdpa") from error


def pretrain(
    args: RunArguments,
    training: PretrainingArguments,
    tokenizer: PreTrainedTokenizerFast,
    rows: Mapping[int, DatasetDict],
) -> RunResult | None:
    """Train, or go on training, and write the model into output_dir. None where the run was finished already.

    Raises:
        UserError: an output_dir of another run, or in use by one; a model that does not fit the tokenizer or the rows.
    """
    output_dir = Path(training.output_dir)
    with _alone_in(output_dir), ExitStack() as stack:
        contract = run_contract(args, training, tokenizer)
        checkpoint = None
        # An interrupted --overwrite goes on when called again, with or without the word.
        goes_on = _is_overwriting(output_dir, contract)
        if goes_on:
            checkpoint = _checkpoint_to_resume(output_dir, args, training, contract)
        elif not training.overwrite:
            if read_manifest(output_dir) is not None:
                _check_finished(output_dir, args, contract)
                logger.info("%s: this run is finished; nothing to do (--overwrite true starts afresh)", output_dir)
                _catch_up(output_dir, training)
                return None
            checkpoint = _checkpoint_to_resume(output_dir, args, training, contract)
        trainer = build_trainer(args, training, tokenizer, rows, checkpoint)
        if training.overwrite and not goes_on:
            _set_aside(output_dir, contract)
        stack.enter_context(tracked(trainer, _settings(args, training), step_of(checkpoint)))
        preemption = PreemptionCallback(trainer.accelerator)
        trainer.add_callback(preemption)
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        if preemption.preempted:
            trainer.accelerator.end_training()
            what = f"told to end after step {trainer.state.global_step} of {training.max_steps}"
            raise UserError(output_dir, what, "run the same command again to go on", PREEMPTED)

        model = trainer.model = whole(trainer.accelerator.unwrap_model(trainer.model, keep_torch_compile=False))
        best = trainer.state.best_model_checkpoint
        if best and Path(best).is_dir():
            logger.info("the final model is the best one by validation %s: %s", training.metric_for_best_model, best)
            model.load_state_dict(TurkBertForPreTraining.from_pretrained(best).state_dict())
        trainer.check_weights()
        trainer.remove_callback(SamplesCallback)  # what the final model says is shown and written below
        metrics = trainer.evaluate() if training.eval_strategy != "no" else {}
        texts = read_sample_texts(training.sample_texts)
        result = RunResult(metrics, predict_samples(model, tokenizer, texts, args.data.nsp_probability > 0))
        if is_main_process():
            _publish(args, trainer, result, contract)
            if training.push_to_hub:
                push_output(output_dir, training)
        trainer.accelerator.wait_for_everyone()
        trainer.accelerator.end_training()  # else the threads of the process group may abort a process at its exit
        return result


def build_trainer(
    args: RunArguments,
    training: PretrainingArguments,
    tokenizer: PreTrainedTokenizerFast,
    rows: Mapping[int, DatasetDict],
    checkpoint: Path | None,
) -> PretrainingTrainer:
    """The model, from a checkpoint or as the settings say, in a trainer with its callbacks."""
    with_nsp = args.data.nsp_probability > 0
    texts = read_sample_texts(training.sample_texts)
    set_seed(training.seed)  # the weights of a new model are drawn before the Trainer sets it
    model = build_model(args, tokenizer, checkpoint)
    if checkpoint is None and args.model.model_name_or_path is None:
        counts = count_tokens(rows[min(rows)]["train"], tokenizer)
        init_decoder_bias(model, torch.from_numpy(counts))
        init_positions(model)
    trainer = PretrainingTrainer(
        model,
        training,
        rows,
        build_collator(args, tokenizer, training.seed, training.torch_compile),
        tokenizer,
        nsp_class_weights(args) if with_nsp else {},
        run_contract(args, training, tokenizer),
        args.data.mlm_probability,
    )
    trainer.callback_handler.callbacks.insert(0, MetricsFileCallback(trainer.sampler.tokens_before))
    trainer.add_callback(StageCallback(trainer.sampler))
    trainer.add_callback(SamplesCallback(texts, with_nsp))
    return trainer


def build_model(
    args: RunArguments, tokenizer: PreTrainedTokenizerFast, checkpoint: Path | None
) -> TurkBertForPreTraining:
    """The model of a checkpoint, of model_name_or_path, or a new one of the sizes in the settings.

    Raises:
        UserError: the model has fewer tokens or positions than the tokenizer or the rows need.
    """
    settings = args.model
    attention = {"attn_implementation": settings.attn_implementation} if settings.attn_implementation else {}
    if checkpoint is not None:
        logger.info("resuming from %s", checkpoint)
        model = TurkBertForPreTraining.from_pretrained(checkpoint, **attention)
    elif settings.model_name_or_path:
        with _model_errors(settings.model_name_or_path):
            model, report = load_stock(settings.model_name_or_path, revision=settings.model_revision, **attention)
        logger.info("%s: %s", settings.model_name_or_path, report)
        _check_vocabulary(settings.model_name_or_path, settings.model_revision, tokenizer)
    else:
        sizes = dataclasses.asdict(settings)
        for name in ("model_name_or_path", "model_revision", "attn_implementation"):
            del sizes[name]
        config = TurkBertConfig(vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id, **sizes, **attention)
        model = TurkBertForPreTraining(config)
    if len(tokenizer) > model.config.vocab_size:
        raise config_error(
            "tokenizer_dir",
            f"the tokenizer has {len(tokenizer)} tokens, the model {model.config.vocab_size}",
            "use the model's own tokenizer: tokenizer_dir = model_name_or_path",
        )
    _check_positions(args, model.config)
    return model


@contextmanager
def _model_errors(name: str) -> Iterator[None]:
    """Refuse a model that is not there, is no BERT, or is broken."""
    try:
        yield
    except (ValueError, OSError) as error:
        mend = "name a folder or Hub id of a BERT"
        raise config_error("model_name_or_path", str(error).rstrip("."), mend) from error
    except (SafetensorError, UnpicklingError, EOFError, RuntimeError) as error:
        reason = str(error).partition(". ")[0] or type(error).__name__
        raise UserError(name, f"its weights cannot be read ({reason})", "get it anew", CORRUPT_ARTIFACT) from error


def _check_positions(args: RunArguments, config: TurkBertConfig) -> None:
    longest, positions = args.data.block_sizes[-1], config.max_position_embeddings
    if longest > positions:
        raise config_error("block_sizes", f"{longest} is over the model's {positions} positions", "use shorter blocks")


def _check_vocabulary(name: str, revision: str | None, tokenizer: PreTrainedTokenizerFast) -> None:
    """As many tokens may still be other tokens: compare with those that come with the model, if any do."""
    try:
        own = load_tokenizer(name, revision)
    except UserError as error:
        logger.warning("whether the tokenizer is the model's own cannot be told: %s", error)
        return
    if own.get_vocab() != tokenizer.get_vocab():
        mend = f"use the model's own tokenizer: tokenizer_dir = {name}"
        raise config_error("tokenizer_dir", f"its vocabulary is not the one that comes with {name}", mend)


def nsp_class_weights(args: RunArguments) -> dict[int, list[float]]:
    """{block size: weights of IS_NEXT and NOT_NEXT}: inverse to their share of the training rows, 1 on average."""
    weights = {}
    for block_size in args.data.block_sizes:
        stats = load_stats(args.data.data_dir, block_size)["train"]
        counts = (stats["is_next"], stats["not_next"])
        even = args.data.nsp_balance == "none" or 0 in counts
        weights[block_size] = [1.0, 1.0] if even else [stats["rows"] / (2 * count) for count in counts]
    return weights


def run_contract(
    args: RunArguments, training: PretrainingArguments, tokenizer: PreTrainedTokenizerFast
) -> dict[str, Any]:
    """Everything that a resumed run must share with the one before, to be its exact continuation."""
    accumulated = training.gradient_accumulation_steps * training.world_size
    data = {
        str(block_size): key_hash(read_manifest(Path(args.data.data_dir, f"block_{block_size}"))["key"])
        for block_size in args.data.block_sizes
    }
    names = (
        "max_steps", "stage_fractions", "seed", "data_seed", "learning_rate", "min_learning_rate",
        "lr_scheduler_type", "warmup_steps", "weight_decay", "adam_beta1", "adam_beta2", "adam_epsilon",
        "max_grad_norm", "optim",
    )  # fmt: skip
    contract = {
        "data": data,
        "model_name_or_path": args.model.model_name_or_path,
        "tokenizer": tokenizer_hash(tokenizer),
        "global_batch_sizes": [size * accumulated for size in training.stage_batch_sizes],
        **{name: getattr(training, name) for name in names},
    }
    return json.loads(json.dumps(contract))


def _settings(args: RunArguments, training: PretrainingArguments) -> dict[str, Any]:
    return {**args.resolved(), **training.to_sanitized_dict()}


def _catch_up(output_dir: Path, training: PretrainingArguments) -> None:
    """What a finished run still owes to a tracker that was down at its end."""
    record = read_record(output_dir)
    if is_main_process() and "mlflow" in training.report_to and record and not record["mlflow"]["complete"]:
        replay(output_dir)


def _checkpoint_to_resume(
    output_dir: Path, args: RunArguments, training: PretrainingArguments, contract: dict[str, Any]
) -> Path | None:
    named = training.resume_from_checkpoint
    if named in (None, "auto"):
        checkpoint = find_checkpoint(output_dir)
        if checkpoint is None and checkpoints(output_dir):
            mend = "start afresh with --overwrite true"
            raise UserError(output_dir, "none of its checkpoints is whole", mend, CORRUPT_ARTIFACT)
    else:
        checkpoint = Path(named)
        if not (checkpoint / "trainer_state.json").is_file():
            raise config_error(checkpoint, "not a checkpoint folder", "name one, or auto")
        damage = find_damage(checkpoint)
        if damage:
            raise UserError(checkpoint, damage, "name another checkpoint folder, or auto", CORRUPT_ARTIFACT)
    if checkpoint is not None:
        check_contract(checkpoint, contract)
        _check_sizes(checkpoint, args)
    return checkpoint


def _check_finished(output_dir: Path, args: RunArguments, contract: dict[str, Any]) -> None:
    """Refuse to call `output_dir` finished where it is another run's, or broken since."""
    check_contract(output_dir, contract)
    damage = find_damage(output_dir)
    if damage:
        mend = f"remove its {MANIFEST} and run again: its checkpoints are still there"
        raise UserError(output_dir, damage, mend, CORRUPT_ARTIFACT)
    _check_sizes(output_dir, args)


def _check_sizes(folder: Path, args: RunArguments) -> None:
    """The shape of a resumed model is the checkpoint's; refuse a setting that says otherwise."""
    if args.model.model_name_or_path is not None:
        return
    config = json.loads((folder / "config.json").read_text("utf-8"))
    for setting in dataclasses.fields(args.model):
        given = args.given.get(setting.name)
        if given is not None and config.get(setting.name, given) != given:
            raise config_error(
                folder,
                f"made with {setting.name} {config[setting.name]}, now {given}",
                "set it back, choose another output_dir, or start afresh with --overwrite true",
            )


@contextmanager
def _alone_in(output_dir: Path) -> Iterator[None]:
    """Refuse an output folder that another run is writing to."""
    if not is_main_process():
        yield
        return
    output_dir.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(output_dir.with_name(f".{output_dir.name}.lock"))
    try:
        lock.acquire(timeout=LOCK_SECONDS)
    except Timeout:
        mend = "wait for its end, or choose another output_dir"
        raise UserError(output_dir, "another run is writing there", mend, ENVIRONMENT) from None
    try:
        yield
    finally:
        lock.release()


def _set_aside(output_dir: Path, contract: dict[str, Any]) -> None:
    """Before a fresh start: old checkpoints go, the old result stays until the new one replaces it.

    A mark says that this run is replacing it, so that it can be resumed beside the old result.
    """
    if is_main_process():
        for path in checkpoints(output_dir):
            remove(path)
        (output_dir / "generated_samples.txt").unlink(missing_ok=True)
        write_json(output_dir / OVERWRITING, contract)


def _is_overwriting(output_dir: Path, contract: dict[str, Any]) -> bool:
    """True if a run with this contract began to overwrite `output_dir` and has not finished."""
    try:
        return json.loads((output_dir / OVERWRITING).read_text("utf-8")) == contract
    except (OSError, ValueError):
        return False


def _publish(
    args: RunArguments, trainer: PretrainingTrainer, result: RunResult, contract: dict[str, Any]
) -> None:
    """The stock layout of the model with its card, metrics and settings, into output_dir."""
    output_dir = Path(trainer.args.output_dir)
    staging = output_dir / "_staging-model"
    remove(staging)
    staging.mkdir()
    save_stock(trainer.accelerator.unwrap_model(trainer.model, keep_torch_compile=False), staging)
    save_tokenizer(trainer.processing_class, staging)
    metrics = {name: value for name, value in result.metrics.items() if isinstance(value, float | int)}
    (staging / "eval_results.json").write_text(json.dumps(metrics, indent=1) + "\n", "utf-8")
    settings = _settings(args, trainer.args)
    (staging / "run_config.json").write_text(json.dumps(settings, indent=1, ensure_ascii=False) + "\n", "utf-8")
    history = json.dumps(trainer.state.log_history, indent=0)
    (staging / "log_history.json").write_text(history + "\n", "utf-8")
    stats = {size: load_stats(args.data.data_dir, size) for size in args.data.block_sizes}
    card = render_model_card(trainer, args, stats, result.metrics, result.predictions)
    (staging / "README.md").write_text(card, "utf-8")
    publish(staging, output_dir, contract)
    (output_dir / OVERWRITING).unlink(missing_ok=True)
    os.rmdir(staging)
    logger.info("%s: model, tokenizer and card written (%s)", output_dir, MANIFEST)
