"""transformers' Trainer with two stages in one train(), an exact loss, streamed metrics and committed checkpoints.

    trainer = PretrainingTrainer(model, args, rows, collator, tokenizer, nsp_class_weights)
    trainer.train(resume_from_checkpoint=None)
"""

import json
import logging
import time
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from operator import itemgetter
from pathlib import Path
from threading import Thread
from typing import Any

import torch
import torch.nn.functional as F
from datasets import DatasetDict
from torch.distributed.tensor import DTensor
from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerFast, Trainer
from transformers.trainer_utils import EvalLoopOutput

from turkbert.arguments import PretrainingArguments
from turkbert.artifacts import Sealer, num_bytes, staged
from turkbert.data.collator import IGNORED, DataCollatorForPretraining
from turkbert.errors import UserError, config_error
from turkbert.model import TurkBertForPreTraining
from turkbert.tokenization import save_tokenizer
from turkbert.training.allocator import keep_freed_memory
from turkbert.training.checkpoint import PREFIX, Lineage, agreed, describe_run, load_errors, rotate
from turkbert.training.metrics import batch_sums, compute_metrics
from turkbert.training.sampler import EvaluationRows, StagedBatchSampler, StagedRows, plan_stages
from turkbert.training.sharding import shard
from turkbert.training.speed import SpeedMeter, flop_per_token, peak_flops, peak_memory

logger = logging.getLogger(__name__)

MAX_BAD_STEPS = 3  # in a row, then the run stops


class PretrainingTrainer(Trainer):
    """Trains both tasks over rows of several block sizes.

    Args:
        rows: {block size: DatasetDict(train, validation)}, one block size a stage.
        nsp_class_weights: {block size: weights of IS_NEXT and NOT_NEXT}; empty where NSP is off.
        contract: what a checkpoint must agree on to be resumed; written into its manifest.
        lineage: the run and those it goes on from; written there as well.
        mlm_probability: share of the words that are labelled, to reckon the model's FLOPs with.
    """

    def __init__(
        self,
        model: TurkBertForPreTraining,
        args: PretrainingArguments,
        rows: Mapping[int, DatasetDict],
        collator: DataCollatorForPretraining,
        tokenizer: PreTrainedTokenizerFast,
        nsp_class_weights: Mapping[int, list[float]],
        contract: dict[str, Any] | None = None,
        mlm_probability: float = 0.15,
        lineage: Lineage | None = None,
        **kwargs: Any,
    ):
        num_rows = {block_size: splits["train"].num_rows for block_size, splits in rows.items()}
        stages = plan_stages(num_rows, args.stage_fractions, args.stage_batch_sizes, args.max_steps)
        data_seed = args.seed if args.data_seed is None else args.data_seed
        sampler = StagedBatchSampler(
            stages, args.gradient_accumulation_steps, args.process_index, args.world_size, data_seed
        )
        train_rows = {block_size: splits["train"].with_format("arrow") for block_size, splits in rows.items()}
        eval_rows = rows[args.eval_block_size or max(rows)]["validation"].with_format("arrow")
        self.sampler = sampler
        # Shapes are the model's own; a sharded parameter (FSDP) no longer shows how many dimensions it has.
        self.decayed = {name for name, parameter in model.named_parameters() if parameter.dim() >= 2}
        super().__init__(
            model=model,
            args=args,
            train_dataset=StagedRows(train_rows, sampler, collator),
            eval_dataset=EvaluationRows(eval_rows, args.per_device_eval_batch_size, args.max_eval_steps, collator),
            processing_class=tokenizer,
            **kwargs,
        )
        self.nsp_class_weights = {
            block_size: torch.tensor(weights, device=args.device) for block_size, weights in nsp_class_weights.items()
        }
        if args.device.type == "cpu":
            keep_freed_memory()
        self.contract = contract or {}
        self.lineage = lineage or Lineage()
        self._saved_bytes = 0  # of the last checkpoint
        self._removal: Thread | None = None  # of those before it
        # Trainer counts the labelled tokens of the whole step for us, over micro-batches and processes ...
        self.model_accepts_loss_kwargs = True
        # ... and the loss below is already divided by them.
        self.loss_is_scaled_for_ga = True
        self._task_losses = torch.zeros(2, device=args.device)  # sums of (MLM, NSP) since the last log
        # Steps with a gradient that is not finite: (since the last log, in a row)
        self._bad_steps = torch.zeros(2, device=args.device)
        sizes = {
            name: getattr(model.config, name)
            for name in ("hidden_size", "num_hidden_layers", "intermediate_size", "vocab_size")
        }
        flop = {size: flop_per_token(**sizes, block_size=size, mlm_probability=mlm_probability) for size in rows}
        half = args.bf16 or args.fp16
        peak = args.peak_tflops * 1e12 if args.peak_tflops else peak_flops(args.device) if half else None
        self.meter = SpeedMeter(sampler, flop, peak)

    def train(self, *args: Any, **kwargs: Any):
        """As Trainer's; however it ends, nothing is being removed any more."""
        try:
            return super().train(*args, **kwargs)
        finally:
            self._await_removal()

    # ---- data

    def get_train_dataloader(self) -> DataLoader:
        """Micro-batches by number; each process makes its own, so accelerate has nothing to shard."""
        return DataLoader(
            self.train_dataset,
            batch_sampler=self.sampler,
            collate_fn=itemgetter(0),
            generator=torch.Generator(),  # else the loader would draw from the generator of the dropout masks
            **self._loader_options(),
        )

    def get_eval_dataloader(self, eval_dataset=None) -> DataLoader:
        """Every world_size-th validation batch, equally many a process: a sharded model needs all at every batch."""
        batches = eval_dataset or self.eval_dataset
        world_size = self.args.world_size
        last = -(-len(batches) // world_size) * world_size
        mine = [number % len(batches) for number in range(self.args.process_index, last, world_size)]
        return DataLoader(
            batches, sampler=mine, batch_size=None, generator=torch.Generator(), **self._loader_options()
        )

    def _loader_options(self) -> dict[str, Any]:
        args = self.args
        workers = args.dataloader_num_workers
        return {
            "num_workers": workers,
            "pin_memory": args.dataloader_pin_memory and args.device.type == "cuda",
            "persistent_workers": workers > 0 and args.dataloader_persistent_workers,
            "prefetch_factor": args.dataloader_prefetch_factor if workers > 0 else None,
            "multiprocessing_context": args.dataloader_multiprocessing_context if workers > 0 else None,
            "in_order": args.dataloader_in_order,
        }

    def get_batch_samples(self, epoch_iterator, num_batches, device):
        """The micro-batches of a step, while the time that is waited for them is taken."""
        self.meter.start(self.state.global_step)
        started = time.perf_counter()
        batches, num_labelled = super().get_batch_samples(epoch_iterator, num_batches, device)
        self.meter.waited += time.perf_counter() - started
        for batch in batches:
            mask = batch.get("attention_mask")
            self.meter.useful_tokens += batch["input_ids"].numel() if mask is None else int(mask.sum())
        return batches, num_labelled

    def _get_num_items_in_batch(self, batch_samples, device):
        """Labelled tokens of the step over all processes, counted on the host, where the batches still are."""
        if not batch_samples:
            return None
        number = sum(batch["labels"].ne(IGNORED).sum() for batch in batch_samples)
        if self.args.world_size == 1:
            return number
        if device.type == "cuda":
            number = number.pin_memory()
        return self.accelerator.reduce(number.to(device, non_blocking=True), "sum")

    def _prepare_input(self, data):
        """Pinned tensors are copied while the device computes; a plain copy would wait for it, tensor by tensor."""
        return data.to(self.args.device, non_blocking=True) if torch.is_tensor(data) else super()._prepare_input(data)

    # ---- loss and optimizer

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """Both losses, each a sum of this micro-batch's terms over the global number of them.

        MLM: cross-entropy / labelled tokens of the optimizer step. NSP: class-weighted cross-entropy / rows of the
        step. Added up over micro-batches and averaged over processes (which DDP does), that is the loss of one large
        batch, however it is split.
        """
        outputs = model(**inputs, return_logits=return_outputs)
        num_rows, block_size = inputs["input_ids"].shape
        num_processes = self.accelerator.num_processes
        num_labelled = (inputs["labels"] != IGNORED).sum()
        mlm_loss = outputs.mlm_loss * num_labelled / num_items_in_batch * num_processes
        nsp_loss = torch.zeros_like(mlm_loss)
        if self.nsp_class_weights:
            weights = self.nsp_class_weights[block_size]
            logits, labels = outputs.seq_relationship_logits.float(), inputs["next_sentence_label"]
            terms = F.cross_entropy(logits, labels, weight=weights, reduction="sum")
            nsp_loss = terms / (num_rows * self.args.gradient_accumulation_steps)
        self._task_losses += torch.stack([mlm_loss.detach(), nsp_loss.detach()])
        loss = mlm_loss + nsp_loss
        return (loss, outputs) if return_outputs else loss

    def create_optimizer(self, model=None):
        """Its parameters are the shards, where the model is spread over the processes."""
        if self.accelerator.is_fsdp2:
            dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(self.accelerator.mixed_precision)
            shard(self.model, self.accelerator.state.fsdp_plugin, dtype)
        return super().create_optimizer(model)

    def get_decay_parameter_names(self, model) -> list[str]:
        """Matrices decay; biases and norms, of one dimension, do not."""
        names = [name for name, _ in model.named_parameters()]
        wrappers = ("module.", "_orig_mod.", "_fsdp_wrapped_module.")
        return [name for name in names if _without(name, wrappers) in self.decayed]

    def _get_grad_norm(self, model, grad_norm=None):
        """Turn a step whose gradient is not finite into nothing, on the device and without waiting for it.

        The fused optimizer reads `found_inf` where it would read a gradient scaler's; the host learns of it at the
        next log.
        """
        grad_norm = super()._get_grad_norm(model, grad_norm)
        if isinstance(grad_norm, DTensor):  # of a sharded model
            grad_norm = grad_norm.full_tensor()
        if self.accelerator.scaler is None and torch.is_tensor(grad_norm):
            is_bad = (~grad_norm.isfinite()).float()
            self._bad_steps = torch.stack([self._bad_steps[0] + is_bad, (self._bad_steps[1] + 1) * is_bad])
            optimizer = getattr(self.optimizer, "optimizer", self.optimizer)
            if getattr(optimizer, "_step_supports_amp_scaling", False):
                optimizer.found_inf = is_bad
            elif is_bad:  # waits for the device, but such an optimizer cannot be told there
                optimizer.zero_grad()
        return grad_norm

    def floating_point_ops(self, inputs) -> int:
        """Useful FLOPs of a micro-batch; Trainer's own guess walks over all parameters at every step."""
        return round(inputs["input_ids"].numel() * self.meter.flop_per_token[inputs["input_ids"].shape[1]])

    def _report_bad_steps(self, since: int, step: int) -> None:
        bad, in_a_row = self._bad_steps.tolist()
        if bad:
            logger.warning("steps %d to %d: %d had a gradient that is not finite and were left out", since, step, bad)
        if in_a_row >= MAX_BAD_STEPS:
            what = f"{in_a_row:.0f} steps in a row had a gradient that is not finite"
            raise UserError(f"step {step}", what, "lower learning_rate and run again: it resumes before them")
        self._bad_steps = self._bad_steps * torch.tensor([0.0, 1.0], device=self._bad_steps.device)

    # ---- evaluation

    def evaluation_loop(
        self, dataloader, description, prediction_loss_only=None, ignore_keys=None, metric_key_prefix="eval"
    ) -> EvalLoopOutput:
        """Metrics over all processes from nine sums a batch; no logits are kept."""
        started = time.perf_counter()
        model = self.model
        if not self.is_in_train:
            model = self.accelerator.prepare_model(model, evaluation_mode=True)
        model.eval()
        num_batches = -(-len(self.eval_dataset) // self.args.world_size)
        sums = torch.zeros(num_batches, 9, dtype=torch.float64, device=self.args.device)
        with torch.no_grad():
            for number, inputs in enumerate(dataloader):
                inputs = self._prepare_inputs(inputs)
                of_batch = batch_sums(model(**inputs), inputs)
                if number * self.args.world_size + self.args.process_index < len(self.eval_dataset):
                    sums[number] = of_batch
        sums = self.accelerator.gather(sums).cpu().numpy()
        metrics = compute_metrics(sums, with_nsp=bool(self.nsp_class_weights))
        num_rows = int(sums[:, 5].sum())
        self.meter.aside += time.perf_counter() - started
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in metrics.items()}
        return EvalLoopOutput(predictions=None, label_ids=None, metrics=metrics, num_samples=num_rows)

    def _determine_best_metric(self, metrics, trial) -> bool:
        """A new best model is saved, whatever save_steps says: the final model is made from it."""
        is_best = super()._determine_best_metric(metrics, trial)
        self.control.should_save |= is_best and self.args.save_strategy != "no"
        return is_best

    # ---- logs

    def _maybe_log_save_evaluate(self, tr_loss, *args, **kwargs) -> None:
        """Trainer begins its next sum of losses by subtracting the last from itself, which keeps a NaN for good."""
        logs = self.control.should_log
        super()._maybe_log_save_evaluate(tr_loss, *args, **kwargs)
        if logs:
            tr_loss.nan_to_num_(0.0)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the two losses and the speed since the last log to Trainer's own values."""
        if "loss" in logs and self.is_in_train:
            step = self.state.global_step
            since = self.meter.step
            here = torch.tensor([self.meter.waited, self.meter.useful_tokens], device=self.args.device)
            sums = self.accelerator.reduce(torch.cat([self._task_losses, here]), "mean").tolist()
            mlm_loss, nsp_loss, waited, useful_tokens = sums
            logs |= {
                "mlm_loss": mlm_loss / max(step - since, 1),
                "nsp_loss": nsp_loss / max(step - since, 1),
                "block_size": self.sampler.stage_of(step - 1).block_size,
                **self.meter.figures(step, waited, useful_tokens * self.args.world_size),
                "peak_memory_gb": peak_memory(self.args.device) / 1e9,
            }
            self._task_losses.zero_()
            self._report_bad_steps(since, step)
        logs.pop("train_samples_per_second", None)  # Trainer reckons it with a batch size that is not the stages'
        if self.state.epoch is not None:  # Trainer's own is the share of max_steps
            self.state.epoch = self.sampler.passes_before(self.state.global_step)
        super().log(logs, start_time)

    # ---- checkpoints

    def init_hf_repo(self, token: str | None = None, private: bool | None = None) -> None:
        """Nothing yet: stock Trainer makes a public repository before the first step; see hub.push_output."""

    def _save_checkpoint(self, model, trial) -> None:
        """Write everything beside, hash and sync it, then rename: a checkpoint is whole or not there."""
        started = time.perf_counter()
        self._await_removal()  # its room may be needed
        self.check_finite()
        self.store_flos()
        output_dir = Path(self.args.output_dir)
        final = output_dir / f"{PREFIX}{self.state.global_step}"
        if self.state.best_global_step:
            self.state.best_model_checkpoint = str(output_dir / f"{PREFIX}{self.state.best_global_step}")
        with ExitStack() as stack:
            folder, sealer = final.with_name(f"_staging-{final.name}"), Sealer()
            with agreed(self.accelerator, final):
                if self.args.should_save:
                    key = {"step": self.state.global_step, **self.contract}
                    stack.enter_context(staged(final, key, self.describe_run(), self.checkpoint_bytes(), sealer))
            self._write_checkpoint(folder, sealer)
        if self.args.should_save:
            self._saved_bytes = num_bytes(final)
            limit, best = self.args.save_total_limit, self.state.best_model_checkpoint
            self._removal = rotate(output_dir, limit, best, self.lineage)
        self.meter.aside += time.perf_counter() - started

    def _await_removal(self) -> None:
        if self._removal is not None:
            self._removal.join()

    def check_finite(self) -> None:
        """Raises: UserError if a weight or a moment of the optimizer is not finite; such a model is worth no file."""
        for what, tensors in (("weights", self.model.parameters()), ("moments of the optimizer", self._moments())):
            mine = [tensor.to_local() if isinstance(tensor, DTensor) else tensor for tensor in tensors]
            is_bad = torch.tensor(float(not all_finite(mine)), device=self.args.device)
            if self.accelerator.reduce(is_bad, "sum") > 0:
                where, mend = f"step {self.state.global_step}", "lower learning_rate and run again"
                raise UserError(where, f"{what} are not finite, so nothing is saved", mend)

    def checkpoint_bytes(self) -> int:
        """The room that the next checkpoint takes: its tensors, or what the last one took."""
        tensors = [*self.model.parameters(), *self._moments()]
        return max(self._saved_bytes, sum(tensor.numel() * tensor.element_size() for tensor in tensors))

    def _moments(self) -> list[torch.Tensor]:
        states = self.optimizer.state.values() if self.optimizer is not None else ()
        return [t for state in states for t in state.values() if torch.is_tensor(t) and t.is_floating_point()]

    def describe_run(self) -> dict[str, Any]:
        """Where this state of the model comes from, for a manifest."""
        stage = self.sampler.stages.index(self.sampler.stage_of(self.state.global_step - 1)) + 1
        here = {"stage": stage, "world_size": self.args.world_size}
        return describe_run(self.lineage, self.model.config.to_dict()) | here

    def _write_checkpoint(self, folder: Path, sealer: Sealer) -> None:
        parts = (
            lambda: self._save_optimizer_and_scheduler(str(folder)),  # the largest file first, to be sealed meanwhile
            lambda: self.save_model(str(folder), _internal_call=True),
            lambda: self._save_scaler(str(folder)),
            lambda: self._save_rng_state(str(folder)),
            lambda: self._save_state(folder),
        )
        for write in parts:
            with agreed(self.accelerator, folder):
                write()
            for path in (folder / "optimizer.pt", folder / "model.safetensors"):
                if self.args.should_save and path.is_file():
                    sealer.seal(path)

    def _save_state(self, folder: Path) -> None:
        if self.args.should_save:
            self.state.stateful_callbacks["TrainerControl"] = self.control.state()
            self.state.save_to_json(str(folder / "trainer_state.json"))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model=None) -> None:
        is_sharded = Path(resume_from_checkpoint, "optimizer.bin").is_file()
        if is_sharded != self.is_fsdp_enabled:
            how = "with" if is_sharded else "without"
            raise config_error(resume_from_checkpoint, f"made {how} FSDP", f"launch this run {how} FSDP again")
        with load_errors(resume_from_checkpoint):
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """The state of both; settings that were allowed to change are those of now."""
        settings = [{name: group[name] for name in group if name != "params"} for group in self.optimizer.param_groups]
        schedule = self.lr_scheduler.scheduler if hasattr(self.lr_scheduler, "scheduler") else self.lr_scheduler
        peaks = schedule.base_lrs
        with load_errors(checkpoint):
            super()._load_optimizer_and_scheduler(checkpoint)
        if self.lineage.changes:
            schedule.base_lrs = peaks
            rates = [peak * share(schedule.last_epoch) for peak, share in zip(peaks, schedule.lr_lambdas, strict=True)]
            for group, own, rate in zip(self.optimizer.param_groups, settings, rates, strict=True):
                group.update(own | {"lr": rate})
            schedule._last_lr = rates

    def _load_rng_state(self, checkpoint: str | None) -> None:
        with load_errors(checkpoint):
            super()._load_rng_state(checkpoint)

    def _load_scaler(self, checkpoint: str | None) -> None:
        if self.accelerator.scaler is None:  # as where fp16 was given up by an allowed change
            return
        with load_errors(checkpoint):
            super()._load_scaler(checkpoint)

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        """Weights, tokenizer and settings; settings as JSON, since a pickle could carry code and tokens."""
        if not self.args.should_save:
            return
        model = self.accelerator.unwrap_model(self.model, keep_torch_compile=False)
        if state_dict is not None:  # of a sharded model, where tied weights no longer are one tensor
            state_dict = {n: tensor for n, tensor in state_dict.items() if n not in model.all_tied_weights_keys}
        model.save_pretrained(output_dir, state_dict=state_dict)
        save_tokenizer(self.processing_class, output_dir)
        settings = json.dumps(self.args.to_sanitized_dict(), indent=1, ensure_ascii=False)
        Path(output_dir, "training_args.json").write_text(settings + "\n", "utf-8")


@torch.no_grad()
def all_finite(tensors: Iterable[torch.Tensor]) -> bool:
    """Whether no number among them is NaN or infinite."""
    tensors = [tensor for tensor in tensors if tensor.numel()]
    if not tensors or torch.stack([tensor.sum().float().cpu() for tensor in tensors]).isfinite().all():
        return True  # a sum is several times as fast as looking at each number, and one bad number spoils it
    return all(bool(tensor.isfinite().all()) for tensor in tensors)  # but large numbers can spoil it too


def _without(name: str, parts: tuple[str, ...]) -> str:
    for part in parts:
        name = name.replace(part, "")
    return name
