"""Who may tell a run to end, and when all ranks know; tests/faults/test_signals.py tells whole runs."""

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from transformers import TrainerControl, TrainerState

from turkbert.ranks import leave_group
from turkbert.training import preemption
from turkbert.training.preemption import AGREE_EVERY, Agreement, PreemptionCallback, is_launcher

ARGS = SimpleNamespace(save_strategy="steps")


def at_step(callback: PreemptionCallback, step: int) -> TrainerControl:
    return_to_trainer = TrainerControl()
    callback.on_step_end(ARGS, TrainerState(global_step=step, max_steps=100), return_to_trainer)
    return return_to_trainer


@pytest.mark.parametrize(
    ("name", "expected"),
    [("torchrun", True), ("accelerate", True), ("bash", False), ("run_torchrun.py", False)],
)
def test_launchers_by_their_command_line(tmp_path, name, expected):
    script = tmp_path / name
    script.write_text(WAITS)
    assert is_launcher_while_it_runs(str(script)) == expected


def test_launcher_started_as_a_module():
    assert is_launcher_while_it_runs("-c", WAITS, "torch.distributed.run")


WAITS = "print(flush=True); input()"


def is_launcher_while_it_runs(*words: str) -> bool:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, *words], **pipes) as process:
        process.stdout.readline()
        found = is_launcher(process.pid)
        process.communicate(b"\n")
    assert not is_launcher(process.pid)  # gone
    return found


@pytest.mark.parametrize("launched", [True, False])
def test_only_a_launchers_death_ends_a_run(monkeypatch, launched):
    """nohup pretrain & and then exit: the parent of the run changes, and the run goes on."""
    monkeypatch.setattr(preemption, "is_launcher", lambda process: launched)
    callback = PreemptionCallback(SimpleNamespace(num_processes=1))
    assert not at_step(callback, 1).should_training_stop
    monkeypatch.setattr(os, "getppid", lambda: 1)
    control = at_step(callback, 2)
    assert (control.should_training_stop, control.should_save, callback.preempted) == (launched,) * 3


class OneRank:
    """An Agreement whose other ranks never say anything, and which notes when it is asked."""

    def __init__(self):
        self.before, self.calls = False, 0

    def exchange(self, told: bool) -> bool:
        self.calls += 1
        self.before, answer = told, self.before
        return answer


def test_ranks_read_at_one_agreement_what_was_asked_at_the_one_before():
    callback = PreemptionCallback(SimpleNamespace(num_processes=2))
    callback._agreement = OneRank()
    callback._told = True
    stopped = [step for step in range(1, 4 * AGREE_EVERY) if at_step(callback, step).should_training_stop]
    assert stopped == [2 * AGREE_EVERY, 3 * AGREE_EVERY]
    assert callback._agreement.calls == 3


def test_agreement_between_ranks(tmp_path):
    """Three ranks, of which one is told after its second question: all stop at the fourth call, and none before."""
    torch.multiprocessing.start_processes(exchange, (str(tmp_path),), nprocs=3, start_method="fork")
    answers = [(tmp_path / str(rank)).read_text() for rank in range(3)]
    assert answers == ["[False, False, False, True, False]"] * 3


def exchange(rank: int, folder: str) -> None:
    torch.distributed.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=3)
    agreement = Agreement()
    answers = [agreement.exchange(rank == 1 and call == 2) for call in range(5)]
    agreement.close()
    leave_group()
    with open(f"{folder}/{rank}", "w") as file:
        file.write(str(answers))
