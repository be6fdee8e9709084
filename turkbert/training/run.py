"""One pretraining run, from prepared rows to a finished output folder."""

import dataclasses
import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from datasets import Dataset, DatasetDict
from filelock import FileLock, Timeout
from safetensors import SafetensorError
from transformers import PreTrainedTokenizerFast, set_seed

from turkbert.arguments import PretrainingArguments, RunArguments
from turkbert.artifacts import MANIFEST, check_room, find_damage, num_bytes, read_manifest, remove, write_json
from turkbert.data.prepare import build_collator, load_stats
from turkbert.errors import CORRUPT_ARTIFACT, ENVIRONMENT, PREEMPTED, UserError, config_error, is_main_process
from turkbert.hub import check_hub_access
from turkbert.model import (
    TurkBertConfig,
    TurkBertForPreTraining,
    TurkBertModel,
    load_stock,
    load_stock_config,
)
from turkbert.model.initialization import init_decoder_bias, init_positions, init_word_embeddings
from turkbert.ranks import leave_group
from turkbert.tokenization import load_tokenizer
from turkbert.training.callbacks import PlotsCallback, SamplesCallback, StageCallback
from turkbert.training.checkpoint import (
    PREFIX,
    Lineage,
    begin_lineage,
    checkpoints,
    decided,
    find_checkpoint,
    find_objection,
    load_errors,
    save_lineage,
    tidy,
)
from turkbert.training.contract import DROPOUTS, check_allowed, check_contract, run_contract
from turkbert.training.cooccurrence import token_vectors
from turkbert.training.estimate import checkpoints_kept
from turkbert.training.hub import SavePusher, is_pending, push_output, repository_name
from turkbert.training.metrics_file import METRICS_FILE, MetricsFileCallback, training_totals
from turkbert.training.output import publish_result, run_settings
from turkbert.training.preemption import PreemptionCallback
from turkbert.training.progress import shown_progress
from turkbert.training.result import RunResult
from turkbert.training.run_record import read_record
from turkbert.training.samples import predict_samples, read_sample_texts
from turkbert.training.sharding import whole
from turkbert.training.tracking import replay, tracked
from turkbert.training.trainer import PretrainingTrainer
from turkbert.training.unigrams import count_tokens, sample_ids, unigram_baselines

logger = logging.getLogger(__name__)

OVERWRITING = "OVERWRITING.json"

LOCK_SECONDS = 10  # loader workers of a run that was killed hold its lock until they notice


def check_run(args: RunArguments) -> None:
    """Refuse before hours of data preparation what would only be found out after them.

    Raises:
        UserError: sample texts that cannot be read, a Hub that refuses us, or a model that does not fit.
    """
    check_allowed(args.setting("allow_change"))
    read_sample_texts(args.setting("sample_texts"))
    model = args.model
    if model.attn_implementation:
        _check_attention(model.attn_implementation)
    if args.setting("push_to_hub") and is_main_process():
        unreachable = check_hub_access(repository_name(Path(args.output_dir), args.setting("hub_model_id")))
        if unreachable:
            logger.warning("the Hub cannot be reached now (%s); the model will be pushed at the end", unreachable)
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
    with ExitStack() as stack:
        contract = run_contract(args, training, tokenizer, rows)
        start = decided(lambda: _where_to_start(stack, output_dir, training, contract))
        if start is None:
            _catch_up(output_dir, training)
            return None
        trainer = build_trainer(args, training, tokenizer, rows, start.checkpoint, start.lineage)
        decided(lambda: _begin(output_dir, start, args, trainer, contract))
        stack.enter_context(tracked(trainer, run_settings(args, training)))
        block_size = training.eval_block_size or max(rows)
        baselines = cache(lambda: unigram_baselines(rows[block_size]["train"], trainer.eval_dataset, tokenizer))
        pusher = _train(stack, trainer, start.checkpoint, PlotsCallback(trainer.meter, baselines))
        result = _evaluate_final(args, trainer)
        if is_main_process():
            totals = training_totals(output_dir / METRICS_FILE)
            result = dataclasses.replace(result, baselines=baselines(), totals=totals)
            publish_result(args, trainer, result, contract)
            (output_dir / OVERWRITING).unlink(missing_ok=True)
            if training.push_to_hub:
                pusher.stop(output_dir)
                push_output(output_dir, training)
        trainer.accelerator.wait_for_everyone()
        leave_group()
        return result


def _train(stack: ExitStack, trainer: PretrainingTrainer, checkpoint: Path | None, plots: PlotsCallback) -> SavePusher:
    """All steps that are left, with what watches them and sends saves to the Hub.

    Raises:
        UserError: the run was told to end.
    """
    training, output_dir = trainer.args, Path(trainer.args.output_dir)
    pusher = SavePusher()
    if training.push_to_hub and training.hub_strategy != "end":
        trainer.add_callback(pusher)
        stack.callback(pusher.stop, output_dir)
    preemption = PreemptionCallback(trainer.accelerator)
    trainer.add_callback(preemption)
    trainer.add_callback(plots)
    stack.callback(preemption.stop_listening)
    with shown_progress(trainer):
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    trainer.remove_callback(plots)
    if preemption.preempted:
        leave_group()
        what = f"told to end after step {trainer.state.global_step} of {training.max_steps}"
        raise UserError(output_dir, what, "run the same command again to go on", PREEMPTED)
    return pusher


def _evaluate_final(args: RunArguments, trainer: PretrainingTrainer) -> RunResult:
    """Give the trainer's model the best weights, where there was an evaluation, and see what it can."""
    training = trainer.args
    model = trainer.model = whole(trainer.accelerator.unwrap_model(trainer.model, keep_torch_compile=False))
    best = trainer.state.best_model_checkpoint
    damage = find_objection(Path(best)) if best and Path(best).is_dir() else None
    weights = "the last weights"
    if damage:
        logger.warning("%s: %s; the final model is the last one instead of this best one", best, damage)
    elif best and Path(best).is_dir():
        logger.info("the final model is the best one by validation %s: %s", training.metric_for_best_model, best)
        model.load_state_dict(TurkBertForPreTraining.from_pretrained(best).state_dict())
        step = Path(best).name.removeprefix(PREFIX)
        weights = f"the best weights by validation {training.metric_for_best_model}, of step {step}"
    trainer.check_finite()
    trainer.remove_callback(SamplesCallback)  # what the final model says is shown and written below
    metrics = trainer.evaluate() if training.eval_strategy != "no" else {}
    texts = read_sample_texts(training.sample_texts)
    predictions = predict_samples(model, trainer.processing_class, texts, args.data.nsp_probability > 0)
    return RunResult(Path(training.output_dir), metrics, predictions, weights)


def build_trainer(
    args: RunArguments,
    training: PretrainingArguments,
    tokenizer: PreTrainedTokenizerFast,
    rows: Mapping[int, DatasetDict],
    checkpoint: Path | None,
    lineage: Lineage | None = None,
) -> PretrainingTrainer:
    """The model, from a checkpoint or as the settings say, in a trainer with its callbacks."""
    with_nsp = args.data.nsp_probability > 0
    texts = read_sample_texts(training.sample_texts)
    set_seed(training.seed)  # the weights of a new model are drawn before the Trainer sets it
    model = build_model(args, tokenizer, checkpoint)
    if checkpoint is None and args.model.model_name_or_path is None:
        init_from_counts(model, rows[min(rows)]["train"], tokenizer)
    trainer = PretrainingTrainer(
        model,
        training,
        rows,
        build_collator(args, tokenizer, training.seed, training.torch_compile),
        tokenizer,
        nsp_class_weights(args) if with_nsp else {},
        run_contract(args, training, tokenizer, rows),
        args.data.mlm_probability,
        lineage or begin_lineage(checkpoint),
    )
    trainer.callback_handler.callbacks.insert(0, MetricsFileCallback(trainer.sampler.tokens_before))
    trainer.add_callback(StageCallback(trainer.sampler))
    trainer.add_callback(SamplesCallback(texts, with_nsp))
    return trainer


def init_from_counts(model: TurkBertForPreTraining, rows: Dataset, tokenizer: PreTrainedTokenizerFast) -> None:
    """Let a new model begin with what counting tells: how often tokens come and which stand near each other."""
    ids = sample_ids(rows)
    vectors = token_vectors(ids, len(tokenizer), tokenizer.all_special_ids, model.config.hidden_size)
    init_decoder_bias(model, torch.from_numpy(count_tokens(ids, tokenizer)))
    init_positions(model)
    init_word_embeddings(model, torch.from_numpy(vectors))


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
        if settings.model_name_or_path is None:  # else it is that model's own
            attention |= {name: getattr(settings, name) for name in DROPOUTS}
        with load_errors(checkpoint):
            model = TurkBertForPreTraining.from_pretrained(checkpoint, use_safetensors=True, **attention)
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


@dataclass(frozen=True)
class Start:
    """Where a run begins.

    Attributes:
        checkpoint: to go on from; None: at step 0.
        afresh: old checkpoints go.
    """

    checkpoint: Path | None
    lineage: Lineage
    afresh: bool = False


def _catch_up(output_dir: Path, training: PretrainingArguments) -> None:
    """What a finished run still owes to a tracker or a Hub that was down at its end."""
    if not is_main_process():
        return
    if training.push_to_hub and is_pending(output_dir):
        push_output(output_dir, training)
    elif training.push_to_hub:
        logger.info("no push is due; scripts/export.py %s --stock --push_to_hub sends a finished model", output_dir)
    record = read_record(output_dir)
    if "mlflow" in training.report_to and record and not record["mlflow"]["complete"]:
        replay(output_dir, "FINISHED")


def _where_to_start(
    lock: ExitStack, output_dir: Path, training: PretrainingArguments, contract: dict[str, Any]
) -> Start | None:
    """Decided by the main process alone, with the output folder locked; None where the run is finished."""
    lock.enter_context(_alone_in(output_dir))
    tidy(output_dir)
    # An interrupted --overwrite goes on when called again, with or without the word.
    goes_on = _is_overwriting(output_dir, contract, training.allow_change)
    if training.overwrite and not goes_on:
        return Start(None, begin_lineage(None), afresh=True)
    if not goes_on and _is_finished(output_dir, contract, training.allow_change):
        logger.info("%s: this run is finished; nothing to do (--overwrite true starts afresh)", output_dir)
        return None
    checkpoint = _checkpoint_to_resume(output_dir, training.resume_from_checkpoint)
    changes = check_contract(checkpoint, contract, training.allow_change) if checkpoint else {}
    for name, (old, new) in changes.items():
        logger.warning("%s: made with %s %s, goes on with %s as allowed", checkpoint, name, old, new)
    return Start(checkpoint, begin_lineage(checkpoint, changes))


def _is_finished(output_dir: Path, contract: dict[str, Any], allowed: list[str]) -> bool:
    """True if the result of this very run is there; after an allowed change it is one to go on from."""
    if read_manifest(output_dir) is None or check_contract(output_dir, contract, allowed):
        return False
    damage = find_damage(output_dir)
    if damage:
        mend = f"remove its {MANIFEST} and run again: its checkpoints are still there"
        raise UserError(output_dir, damage, mend, CORRUPT_ARTIFACT)
    return True


def _checkpoint_to_resume(output_dir: Path, named: str | None) -> Path | None:
    if named in (None, "auto"):
        checkpoint = find_checkpoint(output_dir)
        if checkpoint is None and checkpoints(output_dir):
            mend = "name a folder in --resume_from_checkpoint, or start afresh with --overwrite true"
            raise UserError(output_dir, "none of its checkpoints is whole and of this run", mend, CORRUPT_ARTIFACT)
        return checkpoint
    checkpoint = Path(named)
    if not (checkpoint / "trainer_state.json").is_file():
        raise config_error(checkpoint, "not a checkpoint folder", "name one, or auto")
    objection = find_objection(checkpoint)
    if objection:
        raise UserError(checkpoint, objection, "name another checkpoint folder, or auto", CORRUPT_ARTIFACT)
    return checkpoint


@contextmanager
def _alone_in(output_dir: Path) -> Iterator[None]:
    """Refuse an output folder that another run is writing to."""
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


def _begin(
    output_dir: Path, start: Start, args: RunArguments, trainer: PretrainingTrainer, contract: dict[str, Any]
) -> None:
    """The last thing before training: is there room, and whose folder is it from here on?

    On a fresh start old checkpoints go, the old result stays until the new one replaces it. A mark says that this run
    is replacing it, so that it can be resumed beside the old result.
    """
    _check_room(output_dir, args, trainer)
    if start.afresh:
        for path in checkpoints(output_dir):
            remove(path)
        (output_dir / "generated_samples.txt").unlink(missing_ok=True)
    if start.afresh or read_manifest(output_dir) is not None:
        write_json(output_dir / OVERWRITING, contract)
    save_lineage(output_dir, start.lineage)


def _check_room(output_dir: Path, args: RunArguments, trainer: PretrainingTrainer) -> None:
    """Refuse a disk that is too small for the checkpoints that will be kept, one more and the final model."""
    training, weights = trainer.args, trainer.checkpoint_bytes()
    sizes = [num_bytes(path) for path in checkpoints(output_dir)]
    moments = 2 * weights if training.optim.startswith("adamw_torch") else 0  # the optimizer is not made yet
    one = max(sizes, default=weights + moments)
    kept = checkpoints_kept(args) if training.save_total_limit else min(1, checkpoints_kept(args))
    more = kept + (kept > 0)
    check_room(output_dir, max(0, more * one - sum(sizes)) + weights)


def _is_overwriting(output_dir: Path, contract: dict[str, Any], allowed: list[str]) -> bool:
    """True if a run with this contract began to overwrite `output_dir` and has not finished."""
    try:
        old = json.loads((output_dir / OVERWRITING).read_text("utf-8"))
        return all(name in allowed or old.get(name) == value for name, value in contract.items())
    except (OSError, ValueError, AttributeError, RecursionError):
        return False
