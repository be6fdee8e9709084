"""Lives of a run: forked off a process that has the imports, killed at drawn moments, started again until it ends.

    whole = live(arm, folder / "whole")                        # nothing happens to it
    life = killed(arm, folder / "out", rng, kills=4)           # four times kill -9, then to the end
    assert differences(life, whole) == []

A fork costs milliseconds where a new Python costs seconds of imports, so hundreds of kills cost minutes. What only a
real process shows (launchers, signals through them) is in test_signals.py.
"""

import faulthandler
import json
import logging
import os
import random
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from tqdm.std import tqdm

SAVE_SECONDS = 0.06  # a kill that is to fall inside a save comes up to so long after its beginning
LIVELY_SECONDS = 1.5  # other kills come up to so long after the start of a life
POLL_SECONDS = 0.0005
LOGGED = (
    "step", "loss", "mlm_loss", "nsp_loss", "grad_norm", "learning_rate", "eval_loss", "eval_mlm_loss", "eval_nsp_f1",
)  # fmt: skip
Meanwhile = Callable[[int, Path], None]  # of (process, rows_log): what happens to a life
LIFE_SECONDS = 120  # longer is a hang


@dataclass
class Run:
    """What is known of a run after all its lives."""

    output_dir: Path
    max_steps: int
    kills: int = 0
    kills_in_save: int = 0
    errors: list[str] = field(default_factory=list)  # of lives that ended in an error, their last line
    seconds: list[float] = field(default_factory=list)  # of each life
    lives: list[dict[int, list]] = field(default_factory=list)  # {step: [[block size, rows], ...]} of each life

    def weights(self) -> list[Path]:
        """The weights of the last step and, where the arm publishes one, of the final model."""
        final = self.output_dir / "model.safetensors"
        return [self.output_dir / f"checkpoint-{self.max_steps}" / "model.safetensors"] + [final] * final.exists()

    def history(self) -> list[dict[str, float]]:
        """The logged values of every step, from the last checkpoint."""
        state = self.output_dir / f"checkpoint-{self.max_steps}" / "trainer_state.json"
        return [{n: log[n] for n in LOGGED if n in log} for log in json.loads(state.read_text())["log_history"]]

    def rows(self) -> dict[int, list]:
        """{step: [[block size, rows], ...]} of the training that led to the final weights."""
        return {step: rows for life in self.lives for step, rows in sorted(life.items())}


# ---- processes


def fork(function: Callable[[], Any], log: Path) -> int:
    """The id of a new process that calls `function`, writes to `log` and exits with its code."""
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        sys.stdout = sys.stderr = open(log, "a", buffering=1)
        os.dup2(sys.stderr.fileno(), 2)
        faulthandler.enable(sys.stderr)  # to say where it hangs, if it does
        _renew_locks()
        logging.basicConfig(level=logging.INFO, stream=sys.stderr, force=True)
        function()
        code = 0
    except SystemExit as end:
        code = end.code
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code if isinstance(code, int) else 1)


def _renew_locks(bar: type[tqdm] = tqdm) -> None:
    """Progress bars have a semaphore that all forks share: one that is killed in it would stop all later ones."""
    bar.set_lock(threading.RLock())
    for kind in bar.__subclasses__():
        _renew_locks(kind)


def wait(process: int, seconds: float = LIFE_SECONDS) -> int:
    """The exit code of a forked process, negative for a signal. Raises: TimeoutError if it hangs."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, status = os.waitpid(process, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(process, signal.SIGABRT)
    os.waitpid(process, 0)
    raise TimeoutError(f"process {process} was still there after {seconds} seconds")


# ---- runs


def live(arm, output_dir: Path) -> Run:
    """A run that nothing happens to."""
    run = Run(output_dir, arm.max_steps)
    code = one_life(arm, run)
    assert code == 0, last_line(run)
    return run


def killed(arm, output_dir: Path, rng: random.Random, kills: int) -> Run:
    """A run that is killed `kills` times at drawn moments (fewer if it ends before), then goes on to its end.

    Half of the kills are drawn around a save, at a drawn step; the others anywhere in a life. Where a life ends in an
    error, the newest checkpoint is removed by hand, as a user would have to.
    """
    run = Run(output_dir, arm.max_steps)
    while True:
        moment = None
        if run.kills < kills:
            moment = at_save(run, rng) if rng.random() < 0.5 else anywhere(run, rng)
        touched = time.time_ns()
        code = one_life(arm, run, moment)
        if code == 0:
            return run
        if code == -signal.SIGKILL:
            run.kills += 1
            run.kills_in_save += in_save(output_dir, touched)
        else:
            run.errors.append(last_line(run))
            assert len(run.errors) < 20, run.errors
            shutil.rmtree(newest_checkpoint(output_dir), ignore_errors=True)


def one_life(arm, run: Run, meanwhile: Meanwhile | None = None) -> int:
    """Start the run, do something to it, wait for its end, and take down what it trained on; returns the exit code."""
    rows_log = run.output_dir.with_name(f"{run.output_dir.name}-rows-{len(run.lives)}.jsonl")
    rows_log.parent.mkdir(parents=True, exist_ok=True)
    rows_log.touch()
    started = time.monotonic()
    process = fork(lambda: arm.train(run.output_dir, rows_log), log_of(run.output_dir))
    if meanwhile is not None:
        meanwhile(process, rows_log)
    code = wait(process)
    run.seconds.append(time.monotonic() - started)
    run.lives.append(read_rows(rows_log))
    rows_log.unlink()
    return code


def log_of(output_dir: Path) -> Path:
    """What the lives of a run wrote to stdout and stderr."""
    return output_dir.with_name(f"{output_dir.name}.log")


def last_line(run: Run) -> str:
    return [*log_of(run.output_dir).read_text().splitlines(), ""][-2:][0]


def read_rows(rows_log: Path) -> dict[int, list]:
    steps: dict[int, list] = {}
    for line in rows_log.read_text().splitlines():
        step, block_size, rows = json.loads(line)
        steps.setdefault(step, []).append([block_size, rows])
    return steps


# ---- moments to kill at


def anywhere(run: Run, rng: random.Random) -> Meanwhile:
    """A moment of a life: its start, steps, saves, evaluations or end."""
    seconds = rng.uniform(0, LIVELY_SECONDS)

    def kill(process: int, rows_log: Path) -> None:
        wait_until(process, lambda: False, seconds)
        os.kill(process, signal.SIGKILL)

    return kill


def at_save(run: Run, rng: random.Random) -> Meanwhile:
    """Up to SAVE_SECONDS after the beginning of the next save, once the run is at a drawn step."""
    step = rng.randrange(run.max_steps)
    seconds = rng.uniform(0, SAVE_SECONDS)

    def kill(process: int, rows_log: Path) -> None:
        started = time.time_ns()
        wait_until(process, lambda: newest_step(run.output_dir) >= step, LIFE_SECONDS)
        wait_until(process, lambda: in_save(run.output_dir, started), 1.0)
        wait_until(process, lambda: False, seconds)
        os.kill(process, signal.SIGKILL)

    return kill


def wait_until(process: int, is_so: Callable[[], bool], seconds: float) -> None:
    """Wait until something is so, the process has ended (it stays a zombie till it is waited for) or time is over."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and not is_so():
        if os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            return
        time.sleep(POLL_SECONDS)


def in_save(output_dir: Path, since: int) -> bool:
    """True if a checkpoint that is not whole was touched after `since` (ns): the process is, or died, in a save."""
    return any(_touched(path) > since for path in output_dir.glob("_staging-checkpoint-*"))


def _touched(path: Path) -> int:
    try:
        return path.stat().st_ctime_ns
    except FileNotFoundError:
        return 0


def newest_step(output_dir: Path) -> int:
    newest = newest_checkpoint(output_dir)
    return int(newest.name.rpartition("-")[2]) if newest else 0


def newest_checkpoint(output_dir: Path) -> Path | None:
    found = [path for path in output_dir.glob("checkpoint-*") if path.name.rpartition("-")[2].isdigit()]
    return max(found, key=lambda path: int(path.name.rpartition("-")[2]), default=None)


# ---- what must be equal


def differences(run: Run, whole: Run) -> list[str]:
    """In what a run differs from the one that nothing happened to, in words; empty if in nothing."""
    found = [f"a restart failed: {error}" for error in run.errors]
    for mine, other in zip(run.weights(), whole.weights(), strict=True):
        found += [f"{mine.parent.name}: weights differ"] * (not same_tensors(mine, other))
    if run.rows() != whole.rows():
        found.append("rows lost or repeated")
    for number, life in enumerate(run.lives):
        wrong = [step for step, rows in life.items() if not is_prefix(rows, whole.rows().get(step, []))]
        found += [f"life {number}: other rows at step {step}" for step in wrong[:1]]
    reached = 0
    for number, life in enumerate(run.lives):
        if life and min(life) > reached:
            found.append(f"life {number}: steps {reached} to {min(life)} were left out")
        reached = max([reached, *(step + 1 for step in life)])
    return found


def is_prefix(some: list, all_of_them: list) -> bool:
    """A life may end between two micro-batches of a step."""
    return some == all_of_them[: len(some)]


def same_tensors(mine: Path, other: Path) -> bool:
    first, second = load_file(mine), load_file(other)
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
