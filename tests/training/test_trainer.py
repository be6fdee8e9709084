"""The trainer against a plain loop with stock transformers; schedule, weights, precision, checkpoints, logs."""

import itertools
import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from transformers import get_scheduler

from tests.training.tiny import run, tiny_arguments
from turkbert.data.prepare import load_stats
from turkbert.model import to_stock
from turkbert.training import run as run_module
from turkbert.training import trainer as trainer_module
from turkbert.training.checkpoint import checkpoints
from turkbert.training.run import build_trainer, nsp_class_weights

STILL = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
NEVER = {"eval_strategy": "no", "save_strategy": "no"}


@pytest.fixture
def trainer_of(tiny_dir, prepared, tmp_path):
    """A trainer, not yet run, for some changes of the tiny settings."""
    numbers = itertools.count()

    def make(**changes):
        args = tiny_arguments(tiny_dir, tmp_path / f"out{next(numbers)}", **changes)
        return build_trainer(args, args.training(), prepared.tokenizer, prepared.rows, checkpoint=None)

    return make


def logged(trainer, name: str) -> list[float]:
    return [log[name] for log in trainer.state.log_history if "loss" in log]


# ---- the loss and the step


def test_equals_a_plain_loop_with_stock_bert(trainer_of):
    trainer = trainer_of(max_steps=20, nsp_balance="weighted", nsp_probability=0.5, **STILL, **NEVER)
    trainer.nsp_class_weights = {32: torch.tensor([0.6, 2.5]), 64: torch.tensor([1.4, 0.8])}
    stock = to_stock(trainer.model).train()
    trainer.train()

    decayed = [p for p in stock.parameters() if p.dim() >= 2]
    plain = [p for p in stock.parameters() if p.dim() < 2]
    groups = [{"params": decayed, "weight_decay": 0.01}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=0.01)
    floor = {"scheduler_specific_kwargs": {"min_lr": 1e-7}}
    scheduler = get_scheduler("cosine_with_min_lr", optimizer, num_warmup_steps=2, num_training_steps=20, **floor)
    losses, norms = [], []
    for step in range(20):
        batch = trainer.train_dataset[step]
        outputs = stock(**{n: batch[n] for n in ("input_ids", "token_type_ids", "attention_mask") if n in batch})
        mlm_loss = F.cross_entropy(outputs.prediction_logits.flatten(0, 1), batch["labels"].flatten())
        weights = trainer.nsp_class_weights[batch["input_ids"].shape[1]]
        labels = batch["next_sentence_label"]
        terms = F.cross_entropy(outputs.seq_relationship_logits, labels, reduction="none") * weights[labels]
        loss = mlm_loss + terms.sum() / len(labels)
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(stock.parameters(), 1.0).item())
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert any(norm > 1 for norm in norms) and len({len(trainer.train_dataset[s]["labels"]) for s in (0, 19)}) == 2
    assert logged(trainer, "loss") == pytest.approx(losses, rel=1e-5)
    assert logged(trainer, "grad_norm") == pytest.approx(norms, rel=1e-4)


def test_matrices_decay_and_nothing_else(trainer_of):
    trainer = trainer_of()
    optimizer = trainer.create_optimizer()
    assert isinstance(optimizer, torch.optim.AdamW) and optimizer.defaults["fused"]
    decays = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert len(decays) == len(list(trainer.model.parameters()))
    for name, parameter in trainer.model.named_parameters():
        assert decays[id(parameter)] == (0.01 if parameter.dim() >= 2 else 0.0), name


@pytest.mark.parametrize("shape", ["cosine", "linear"])
def test_schedule_warms_up_and_ends_at_the_floor(trainer_of, shape):
    trainer = trainer_of(lr_scheduler_type=shape, min_learning_rate=1e-4, warmup_steps=4)
    trainer.create_optimizer_and_scheduler(num_training_steps=20)
    rates = []
    for _ in range(20):
        rates.append(trainer.lr_scheduler.get_last_lr()[0])
        trainer.optimizer.step()
        trainer.lr_scheduler.step()
    assert rates[:5] == pytest.approx([0, 0.0025, 0.005, 0.0075, 0.01])
    assert rates[4:] == sorted(rates[4:], reverse=True)
    progress = 0.25  # step 8 of 4 to 20
    share = (1 + math.cos(math.pi * progress)) / 2 if shape == "cosine" else 1 - progress
    assert rates[8] == pytest.approx(1e-4 + (0.01 - 1e-4) * share)
    assert trainer.lr_scheduler.get_last_lr()[0] == pytest.approx(1e-4)


def test_warmup_below_one_is_a_share(trainer_of):
    trainer = trainer_of(warmup_steps=0.5)
    assert trainer.args.get_warmup_steps(10) == 5


def test_nsp_weights_are_one_on_average(tiny_dir, tmp_path):
    weighted = nsp_class_weights(tiny_arguments(tiny_dir, tmp_path / "out", nsp_balance="weighted"))
    for block_size, (is_next, not_next) in weighted.items():
        stats = load_stats(tiny_dir / "data", block_size)["train"]
        assert stats["is_next"] != stats["not_next"]
        assert is_next * stats["is_next"] == pytest.approx(not_next * stats["not_next"])
        assert (is_next * stats["is_next"] + not_next * stats["not_next"]) / stats["rows"] == pytest.approx(1)
    none = nsp_class_weights(tiny_arguments(tiny_dir, tmp_path / "out", nsp_balance="none"))
    assert none == {32: [1.0, 1.0], 64: [1.0, 1.0]}


def test_without_nsp_the_loss_is_the_mlm_loss(trainer_of):
    trainer = trainer_of(nsp_probability=0.0, max_steps=2, eval_steps=2)
    trainer.train()
    assert logged(trainer, "loss") == pytest.approx(logged(trainer, "mlm_loss"))
    assert logged(trainer, "nsp_loss") == [0, 0]
    evaluated = [log for log in trainer.state.log_history if "eval_loss" in log][-1]
    assert evaluated["eval_loss"] == evaluated["eval_mlm_loss"]
    assert not [name for name in evaluated if "nsp" in name]


# ---- memory and speed


def test_activation_checkpointing_changes_no_loss(trainer_of):
    losses = []
    for on in (False, True):
        trainer = trainer_of(activation_checkpointing=on, max_steps=4, **NEVER)
        trainer.train()
        assert trainer.model.is_activation_checkpointing == on
        losses.append(logged(trainer, "loss"))
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


@pytest.mark.slow
def test_compiled_equals_eager_in_both_stages(trainer_of):
    losses = []
    for on in (False, True):
        trainer = trainer_of(torch_compile=on, max_steps=6, **STILL, **NEVER)
        trainer.train()
        losses.append(logged(trainer, "loss"))
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


# ---- checkpoints


def test_rotation_keeps_the_best_and_the_last(tiny_dir, prepared, tmp_path, monkeypatch):
    """The validation loss rises from the first evaluation (step 2) on: the best stays, out is made from it."""
    count = itertools.count(1)

    def rising(sums, with_nsp):
        return {**compute_metrics(sums, with_nsp), "loss": float(next(count))}

    compute_metrics = trainer_module.compute_metrics
    monkeypatch.setattr(trainer_module, "compute_metrics", rising)
    args = tiny_arguments(tiny_dir, tmp_path / "out", save_total_limit=2, eval_steps=2, save_steps=3)
    run_module.pretrain(args, args.training(), prepared.tokenizer, prepared.rows)
    output_dir = tmp_path / "out"
    assert [path.name for path in checkpoints(output_dir)] == ["checkpoint-2", "checkpoint-10"]
    best = weights_of(output_dir / "checkpoint-2")
    out, last = weights_of(output_dir), weights_of(output_dir / "checkpoint-10")
    assert all(torch.equal(out[name], best[name]) for name in out)
    assert not all(torch.equal(out[name], last[name]) for name in out)
    assert "the best weights by validation loss, of step 2" in (output_dir / "README.md").read_text("utf-8")
    assert not list(output_dir.rglob("training_args.bin"))


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


@pytest.mark.parametrize(
    ("metric", "greater"),
    [("loss", False), ("mlm_perplexity", False), ("mlm_accuracy", True), ("nsp_f1", True), (None, False)],
)
def test_best_is_the_right_way_round(tiny_dir, tmp_path, metric, greater):
    training = tiny_arguments(tiny_dir, tmp_path / "out", metric_for_best_model=metric).training()
    assert training.greater_is_better == greater


def test_save_strategy_no_saves_nothing(trainer_of):
    trainer = trainer_of(save_strategy="no")
    trainer.train()
    assert not checkpoints(Path(trainer.args.output_dir))


def test_resuming_runs_no_code_from_a_checkpoint(tiny_dir, prepared, tmp_path, monkeypatch):
    """Every torch.load of a resumed run is weights_only, and nothing else unpickles."""
    output_dir = tmp_path / "out"
    run(tiny_arguments(tiny_dir, output_dir, eval_strategy="no", save_steps=5), prepared)
    (output_dir / "checkpoint-10").rename(tmp_path / "later")
    load, asked = torch.load, []

    def watched(*args, **kwargs):
        asked.append(kwargs.get("weights_only"))
        return load(*args, **kwargs)

    monkeypatch.setattr(torch, "load", watched)
    run(tiny_arguments(tiny_dir, output_dir, eval_strategy="no", save_steps=5), prepared)
    assert len(asked) >= 3 and all(asked)  # optimizer, schedule, random states


# ---- logs


def test_logs_are_there_and_plausible(trainer_of):
    trainer = trainer_of(logging_steps=2, **NEVER)
    trainer.train()
    logs = [log for log in trainer.state.log_history if "loss" in log]
    assert [log["step"] for log in logs] == [2, 4, 6, 8, 10]
    assert [log["block_size"] for log in logs] == [32, 32, 32, 64, 64]
    for log in logs:
        assert log["loss"] == pytest.approx(log["mlm_loss"] + log["nsp_loss"], rel=1e-4)
        assert 0 < log["mlm_loss"] < 2 * math.log(1000) and 0 < log["nsp_loss"] < 2
        assert log["tokens_per_second"] == pytest.approx(log["pairs_per_second"] * log["block_size"])
        assert 0 < log["grad_norm"] < 100 and 0 < log["learning_rate"] <= 0.01
        assert 0 < log["useful_tokens_per_second"] <= log["tokens_per_second"]
        assert 0 <= log["waiting_for_data"] < 1 and log["peak_memory_gb"] > 0.1
    assert [log["tokens_seen"] for log in logs] == [256 * log["step"] for log in logs]
    short, long = (stage.num_rows for stage in trainer.sampler.stages)
    passes = [2 * 8 / short, 4 * 8 / short, 6 * 8 / short, 2 * 4 / long, 4 * 4 / long]
    assert [log["epoch"] for log in logs] == pytest.approx(passes)
    final = trainer.state.log_history[-1]
    assert "train_loss" in final and "train_samples_per_second" not in final


def test_speed_leaves_evaluation_and_saving_out(trainer_of, monkeypatch):
    """A clock that gains one second a micro-batch and a thousand a save or evaluation."""
    trainer = trainer_of(logging_steps=1, max_steps=6, eval_steps=2, gradient_accumulation_steps=2)
    now = [0.0]
    for module in ("trainer", "speed"):
        monkeypatch.setattr(f"turkbert.training.{module}.time", SimpleNamespace(perf_counter=lambda: now[0]))
    for name, seconds in (("training_step", 1), ("_write_checkpoint", 1000)):
        monkeypatch.setattr(trainer, name, slowed(getattr(trainer, name), now, seconds))
    monkeypatch.setattr(trainer_module, "compute_metrics", slowed(trainer_module.compute_metrics, now, 1000))
    trainer.train()
    assert now[0] > 9000
    assert logged(trainer, "pairs_per_second") == pytest.approx([8, 8, 8, 8, 4, 4])
    assert logged(trainer, "tokens_per_second") == pytest.approx([256] * 6)


def slowed(function, now: list[float], seconds: float):
    def call(*args, **kwargs):
        result = function(*args, **kwargs)
        now[0] += seconds
        return result

    return call
