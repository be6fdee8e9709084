"""A run that is told to end saves and resumes exactly; a gradient that is not finite changes nothing."""

import json
import logging
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.training.tiny import run, tiny_arguments
from turkbert.errors import PREEMPTED, UserError
from turkbert.training.checkpoint import find_checkpoint
from turkbert.training.run import build_trainer

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "pretrain.py"
LONG = {"max_steps": 400, "eval_strategy": "no", "save_steps": 400, "logging_steps": 400}


def start(config: Path) -> subprocess.Popen:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(SCRIPT), str(config)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=environment)


def wait_for(process: subprocess.Popen, words: str) -> None:
    for line in process.stderr:
        if words in line:
            return


# R10
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_told_to_end_it_saves_and_goes_on_exactly(tiny_dir, prepared, tmp_path, number):
    output_dir = tmp_path / "out"
    args = tiny_arguments(tiny_dir, output_dir, **LONG)
    process = start(tmp_path / "out.json")
    wait_for(process, "stage 1 of 2")
    time.sleep(0.5)
    process.send_signal(number)
    errors = process.stderr.read()
    assert process.wait(timeout=60) == PREEMPTED
    assert "run the same command again" in errors.splitlines()[-1]
    assert json.loads((output_dir / "STATUS.json").read_text())["state"] == "preempted"
    stopped_at = int(find_checkpoint(output_dir).name.removeprefix("checkpoint-"))
    assert 0 < stopped_at < 400
    run(args, prepared)

    run(tiny_arguments(tiny_dir, tmp_path / "whole", **LONG), prepared)
    resumed, whole = (load_file(d / "checkpoint-400" / "model.safetensors") for d in (output_dir, tmp_path / "whole"))
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)
    shutil.rmtree(output_dir)


@pytest.fixture
def poisoned(tiny_dir, prepared, tmp_path):
    """A trainer whose loss is `.poison` (NaN) at the steps in `.bad`."""
    args = tiny_arguments(tiny_dir, tmp_path / "out", eval_strategy="no", save_steps=10, logging_steps=5)
    trainer = build_trainer(args, args.training(), prepared.tokenizer, prepared.rows, checkpoint=None)
    trainer.bad, trainer.poison = set(), float("nan")
    compute_loss = trainer.compute_loss

    def with_nan(model, inputs, **kwargs):
        loss = compute_loss(model, inputs, **kwargs)
        return loss * trainer.poison if trainer.state.global_step in trainer.bad else loss

    trainer.compute_loss = with_nan
    trainer.seen = []
    training_step = trainer.training_step

    def remember(*arguments, **kwargs):
        trainer.seen.append([parameter.detach().clone() for parameter in trainer.model.parameters()])
        return training_step(*arguments, **kwargs)

    trainer.training_step = remember
    return trainer


# R9
@pytest.mark.parametrize("poison", [float("nan"), float("inf"), float("-inf")])
def test_step_that_is_not_finite_changes_nothing_and_is_named(poisoned, caplog, poison):
    poisoned.bad, poisoned.poison = {3}, poison
    with caplog.at_level(logging.WARNING):
        poisoned.train()
    before, after, later = poisoned.seen[3:6]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(after, later, strict=True))
    assert "steps 0 to 5: 1 had a gradient that is not finite" in caplog.text
    assert all(parameter.isfinite().all() for parameter in poisoned.model.parameters())
    moments = [tensor for state in poisoned.optimizer.state.values() for tensor in state.values()]
    assert moments and all(tensor.isfinite().all() for tensor in moments)
    checkpoint = find_checkpoint(Path(poisoned.args.output_dir))
    assert checkpoint.name == "checkpoint-10"
    assert all(tensor.isfinite().all() for tensor in load_file(checkpoint / "model.safetensors").values())
    shown = [log["loss"] for log in poisoned.state.log_history if "loss" in log]
    assert not math.isfinite(shown[0]) and math.isfinite(shown[1])  # never shown as 0.0


def test_several_in_a_row_stop_the_run(poisoned):
    poisoned.bad = {2, 3, 4}
    with pytest.raises(UserError, match="3 steps in a row"):
        poisoned.train()


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
@pytest.mark.parametrize("what", ["weights", "moments"])
def test_what_is_not_finite_is_never_saved(poisoned, what, poison):
    """One number among all the weights, or among what the optimizer remembers, an hour after the last whole save."""
    save = poisoned._save_checkpoint

    def spoil_and_save(model, trial):
        if poisoned.state.global_step == 10:
            weight = list(model.parameters())[3]
            spoiled = weight if what == "weights" else poisoned.optimizer.state[weight]["exp_avg_sq"]
            spoiled.data.view(-1)[-1] = poison
        save(model, trial)

    poisoned.args.save_steps = poisoned.state.save_steps = 5
    poisoned._save_checkpoint = spoil_and_save
    with pytest.raises(UserError, match=f"{what}.* are not finite, so nothing is saved"):
        poisoned.train()
    output_dir = Path(poisoned.args.output_dir)
    assert find_checkpoint(output_dir).name != "checkpoint-10" and not list(output_dir.glob("*checkpoint-10"))
