"""A refusal or a failure of one process reaches all: they end together, with one line."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

from tests.training.tiny import tiny_arguments

PLAN = {"max_steps": 4, "save_steps": 2, "stage_fractions": [0.5, 0.5], "eval_strategy": "no", "ddp_backend": "gloo"}
SCRIPT = Path(__file__).parents[2] / "scripts" / "pretrain.py"
# A rank whose part of a save meets a full disk: its random state.
FULL_FOR_RANK_1 = """
import errno, os, runpy, sys
from transformers import Trainer
write = Trainer._save_rng_state
def fail(self, folder):
    if self.args.process_index == 1:
        raise OSError(errno.ENOSPC, "No space left on device")
    write(self, folder)
Trainer._save_rng_state = fail
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def launch_two(*command: str | Path) -> tuple[list[str], int]:
    """(lines of turkbert, exit code of both) of two processes without a launcher, which would end the other one."""
    environment = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29577", "OMP_NUM_THREADS": "1"}
    ranks = [
        subprocess.Popen(
            [sys.executable, *map(str, command)],
            env={**os.environ, **environment, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        errors = [rank.communicate(timeout=90)[1] for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    assert all("Traceback" not in error for error in errors), errors
    lines = [line for error in errors for line in error.splitlines() if line.startswith("turkbert: error: ")]
    codes = {rank.returncode for rank in ranks}
    assert len(codes) == 1, errors
    return lines, codes.pop()


@pytest.mark.slow
def test_a_refusal_ends_all(tiny_dir, prepared, tmp_path):
    """Locked by another run: rank 0 alone can see it, and rank 1 would wait in its first collective."""
    tiny_arguments(tiny_dir, tmp_path / "out", **PLAN)
    with FileLock(tmp_path / ".out.lock"):
        lines, code = launch_two(SCRIPT, tmp_path / "out.json")
    assert code == 4 and len(lines) == 1 and "another run is writing there" in lines[0]


@pytest.mark.slow
def test_a_save_that_fails_in_one_process_ends_all(tiny_dir, prepared, tmp_path):
    tiny_arguments(tiny_dir, tmp_path / "out", **PLAN)
    (tmp_path / "full.py").write_text(FULL_FOR_RANK_1)
    lines, code = launch_two(tmp_path / "full.py", SCRIPT, tmp_path / "out.json")
    assert code == 4 and len(lines) == 1 and "another process could not save" in lines[0]
    assert not list((tmp_path / "out").glob("*checkpoint-*"))
    assert json.loads((tmp_path / "out" / "STATUS.json").read_text())["exit_code"] == 4
