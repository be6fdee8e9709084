"""Trajectories: the stages switch at their step, and a batch is the same however it is split."""

import json

import pytest
import torch

from tests.training.launch import launch_two
from tests.training.tiny import run, tiny_arguments

SWITCH = 6  # the first step of stage 2: 0.6 of 10


def test_batch_sizes_switch_at_the_step(tiny_dir, prepared, tmp_path):
    trainer = run(tiny_arguments(tiny_dir, tmp_path / "out", save_total_limit=None, save_steps=10), prepared)
    sizes = [log["block_size"] for log in trainer.state.log_history if "loss" in log]
    assert sizes == [32] * SWITCH + [64] * (10 - SWITCH)
    assert (tmp_path / "out" / f"checkpoint-{SWITCH}").is_dir()


def split_losses(tiny_dir, prepared, output_dir, batch_sizes, accumulation):
    trainer = run(
        tiny_arguments(
            tiny_dir,
            output_dir,
            stage_batch_sizes=batch_sizes,
            gradient_accumulation_steps=accumulation,
            max_eval_steps=3,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        ),
        prepared,
    )
    return logged(trainer.state.log_history), evaluated(trainer.state.log_history)


def evaluated(history: list[dict]) -> torch.Tensor:
    rows = [[log["eval_mlm_loss"], log["eval_mlm_accuracy"], log["eval_nsp_loss"], log["eval_nsp_accuracy"]]
            for log in history if "eval_loss" in log]  # fmt: skip
    return torch.tensor(rows, dtype=torch.float64)


def logged(history: list[dict]) -> torch.Tensor:
    rows = [[log["loss"], log["mlm_loss"], log["nsp_loss"], log["grad_norm"]] for log in history if "loss" in log]
    return torch.tensor(rows, dtype=torch.float64)


def test_accumulation_is_exact(tiny_dir, prepared, tmp_path):
    whole, _ = split_losses(tiny_dir, prepared, tmp_path / "whole", [8, 4], 1)
    split, _ = split_losses(tiny_dir, prepared, tmp_path / "split", [2, 1], 4)
    assert len(whole) == 10
    torch.testing.assert_close(split, whole, rtol=1e-5, atol=1e-7)


@pytest.mark.slow
def test_two_processes_are_exact(tiny_dir, prepared, tmp_path):
    one, one_evaluated = split_losses(tiny_dir, prepared, tmp_path / "one", [8, 4], 1)
    two_dir = tmp_path / "two"
    args = tiny_arguments(
        tiny_dir,
        two_dir,
        stage_batch_sizes=[4, 2],
        ddp_backend="gloo",
        max_eval_steps=3,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    launched = launch_two("two_processes.py", tmp_path / "two.json", tmp_path / "report.json")
    assert launched.returncode == 0, launched.stderr[-3000:]
    state = json.loads((two_dir / "checkpoint-10" / "trainer_state.json").read_text())
    torch.testing.assert_close(logged(state["log_history"]), one, rtol=1e-5, atol=1e-7)
    # Three validation batches over two processes: the second one has less to do.
    torch.testing.assert_close(evaluated(state["log_history"]), one_evaluated, rtol=1e-5, atol=1e-7)
    report = json.loads((tmp_path / "report.json").read_text())
    assert report == {"world_size": 2, "wrapper": "DistributedDataParallel"}
    assert args.setting("stage_batch_sizes") == [4, 2]
