"""R10: SIGTERM and SIGINT at drawn moments, through launchers too: all ranks save in seconds and resume exactly."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.faults.arms import Ranks
from tests.faults.harness import Run, live, newest_step, one_life, same_tensors, wait_until
from tests.training.tiny import tiny_arguments
from turkbert.errors import PREEMPTED

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "pretrain.py"
LONG = {"max_steps": 400, "eval_strategy": "no", "save_steps": 400, "logging_steps": 400}
OF_RANKS = {**LONG, "max_steps": 150, "stage_batch_sizes": [4, 2], "ddp_backend": "gloo"}
SECONDS = 10 + 1  # to end in: the promise, and a save
TERM, INT = signal.SIGTERM, signal.SIGINT


@pytest.fixture(scope="module")
def long_arm(arm):
    return arm.with_settings(**LONG)


@pytest.fixture(scope="module")
def long_ranks(arm):
    return Ranks(arm.with_settings(**OF_RANKS))


@pytest.fixture(scope="module")
def whole(long_arm, tmp_path_factory) -> Run:
    return live(long_arm, tmp_path_factory.mktemp("one") / "out")


@pytest.fixture(scope="module")
def whole_of_ranks(long_ranks, tmp_path_factory) -> Run:
    return live(long_ranks, tmp_path_factory.mktemp("two") / "out")


def assert_goes_on_exactly(arm, whole: Run, run: Run) -> None:
    """It stopped with a checkpoint between two saves, and ends as the run that nobody told to end."""
    status = json.loads((run.output_dir / "STATUS.json").read_text())
    assert (status["state"], status["exit_code"]) == ("preempted", PREEMPTED)
    stopped_at = newest_step(run.output_dir)
    assert 0 < stopped_at < arm.max_steps
    assert one_life(arm, run) == 0
    assert min(run.lives[-1]) == stopped_at
    assert all(same_tensors(mine, other) for mine, other in zip(run.weights(), whole.weights(), strict=True))


# ---- without a launcher


class Told:
    """Sends a signal to some of a run's processes at a drawn moment of its training."""

    def __init__(self, number: signal.Signals, seed: int, ranks: tuple[int, ...] = ()):
        rng = random.Random(seed)
        self.number, self.ranks = number, ranks
        self.line, self.seconds = rng.randrange(1, 250), rng.uniform(0, 0.05)
        self.sent_at = 0.0

    def __call__(self, process: int, rows_log: Path) -> None:
        wait_until(process, lambda: rows_log.read_bytes().count(b"\n") > self.line, 60)
        time.sleep(self.seconds)
        told = [process]
        if self.ranks:
            processes = json.loads(rows_log.with_suffix(".ranks").read_text())
            told = [processes[rank] for rank in self.ranks]
        self.sent_at = time.monotonic()
        for one in told:
            os.kill(one, self.number)


def check_told(arm, whole: Run, folder: Path, told: Told) -> None:
    run = Run(folder / "out", arm.max_steps)
    assert one_life(arm, run, told) == PREEMPTED
    assert time.monotonic() - told.sent_at < SECONDS
    assert_goes_on_exactly(arm, whole, run)


@pytest.mark.parametrize(
    ("number", "seed"),
    [(TERM, 0), *(pytest.param(n, s, marks=pytest.mark.slow) for n in (TERM, INT) for s in range(1, 5))],
)
def test_one_process(long_arm, whole, tmp_path, number, seed):
    check_told(long_arm, whole, tmp_path, Told(number, seed))


@pytest.mark.parametrize(
    ("number", "ranks", "seed"),
    [
        (INT, (1,), 0),
        *(
            pytest.param(number, ranks, seed, marks=pytest.mark.slow)
            for number in (TERM, INT)
            for ranks, seed in (((0,), 1), ((1,), 2), ((0, 1), 3))
        ),
    ],
)
def test_one_rank_only_or_both(long_ranks, whole_of_ranks, tmp_path, number, ranks, seed):
    check_told(long_ranks, whole_of_ranks, tmp_path, Told(number, seed, ranks))


# ---- as users start it

PYTHON = [sys.executable]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
ACCELERATE = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes=1"]


def start(launcher: list[str], config: Path) -> subprocess.Popen:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(SCRIPT.parents[1])}
    with open(config.with_suffix(".log"), "w") as log:
        return subprocess.Popen(
            [*launcher, str(SCRIPT), str(config)], stdout=log, stderr=log, env=environment, start_new_session=True
        )


def send(process: subprocess.Popen, whom: str, number: signal.Signals, rng: random.Random) -> list[psutil.Process]:
    """Signal the launcher, one of its children, or all (a terminal's Ctrl-C); returns the processes of the run."""
    launcher = psutil.Process(process.pid)
    children = [child for child in launcher.children() if str(SCRIPT) in child.cmdline()]
    if whom == "all":
        os.killpg(process.pid, number)
    elif whom == "child":
        rng.choice(children).send_signal(number)
    else:
        launcher.send_signal(number)
    return [launcher, *children]


def check_launched(launcher, whom, number, seed, arm, whole: Run, folder: Path) -> None:
    rng = random.Random(seed)
    run = Run(folder / "out", arm.max_steps)
    settings = arm.arm.settings if isinstance(arm, Ranks) else arm.settings
    tiny_dir = arm.arm.tiny_dir if isinstance(arm, Ranks) else arm.tiny_dir
    tiny_arguments(tiny_dir, run.output_dir, **settings)
    process = start(launcher, folder / "out.json")
    log = folder / "out.log"
    try:
        end = time.monotonic() + 120
        while "stage 1 of 2" not in log.read_text() and time.monotonic() < end:
            assert process.poll() is None, log.read_text()
            time.sleep(0.05)
        time.sleep(rng.uniform(0, 1))
        processes = send(process, whom, number, rng)
        sent_at = time.monotonic()
        with suppress(subprocess.TimeoutExpired):
            process.wait(SECONDS + 5)  # before psutil, which would keep the exit code
        gone, alive = psutil.wait_procs(processes, timeout=SECONDS + 5)
        assert alive == [], f"still there after {SECONDS + 5} seconds: {log.read_text()[-3000:]}"
        status = run.output_dir / "STATUS.json"
        saved_at = time.monotonic() - (time.time() - status.stat().st_mtime)
        assert saved_at - sent_at < SECONDS
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if launcher is PYTHON:
        assert process.returncode == PREEMPTED
    assert log.read_text().count("turkbert: error: ") == 1
    assert_goes_on_exactly(arm, whole, run)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("launcher", "whom", "number"),
    [
        (PYTHON, "launcher", TERM), (PYTHON, "launcher", INT), (ACCELERATE, "launcher", TERM),
        (ACCELERATE, "launcher", INT), (ACCELERATE, "child", TERM), (ACCELERATE, "child", INT),
        (ACCELERATE, "all", INT),
    ],
)  # fmt: skip
def test_one_launched_process(long_arm, whole, tmp_path, launcher, whom, number):
    check_launched(launcher, whom, number, 1, long_arm, whole, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize(("whom", "number"), [("launcher", TERM), ("launcher", INT), ("child", TERM), ("all", INT)])
def test_torchrun(long_ranks, whole_of_ranks, tmp_path, whom, number, seed):
    check_launched(TORCHRUN, whom, number, seed, long_ranks, whole_of_ranks, tmp_path)
