"""R2: death before and after each open, write, fsync, rename and unlink of a save, and the order of these calls.

kill -9 keeps what was written in the page cache, so the deaths alone say nothing of a power cut: the order does.
"""

import builtins
import functools
import io
import itertools
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import safetensors.torch
import torch
import transformers.modeling_utils

import turkbert.training.checkpoint
import turkbert.training.run
from tests.faults.arms import Ranks, Turkbert
from tests.faults.harness import Run, differences, live, newest_step, one_life
from turkbert.artifacts import MANIFEST, find_damage, read_manifest
from turkbert.training.trainer import PretrainingTrainer

STEP = 4  # whose save is watched: the third to last, so that it rotates an older one out
MOMENTS = ("before", "after", "halved")  # halved: before, and what was last written in the folder is half there


class Call(NamedTuple):
    """One call that changes the disk."""

    name: str
    path: str
    target: str = ""


def watch(see: Callable[[Call, str], None]) -> None:
    """In this process, call `see(call, "before" or "after")` around every call that changes the disk."""

    def wrap(owner, name: str, position: int = 0, writes: Callable = lambda *args, **kwargs: True) -> None:
        original = getattr(owner, name)

        @functools.wraps(original)
        def watched(*args, **kwargs):
            if not writes(*args, **kwargs):
                return original(*args, **kwargs)
            num_paths = 2 if name in ("rename", "replace") else 1
            call = Call(name, *(_path(arg, kwargs.get("dir_fd")) for arg in args[position : position + num_paths]))
            see(call, "before")
            result = original(*args, **kwargs)
            see(call, "after")
            return result

        setattr(owner, name, watched)

    for name in ("mkdir", "rename", "replace", "unlink", "rmdir", "fsync", "truncate"):
        wrap(os, name)
    wrap(builtins, "open", writes=_is_for_writing)
    io.open = builtins.open  # what pathlib calls
    wrap(torch, "save", position=1)  # these write outside Python
    wrap(transformers.modeling_utils, "safe_save_file", position=1)
    wrap(safetensors.torch, "save_file", position=1)


def _path(path: str | int | os.PathLike, dir_fd: int | None) -> str:
    if isinstance(path, int):
        return os.readlink(f"/proc/self/fd/{path}")
    return os.path.abspath(path if dir_fd is None else os.path.join(_path(dir_fd, None), path))


def _is_for_writing(file, mode: str = "r", *args, **kwargs) -> bool:
    return isinstance(file, str | os.PathLike) and any(letter in mode for letter in "wax+")


class AtOnce:
    """A thread that is over when it has started, so that a save makes the same calls every time."""

    def __init__(self, target: Callable[[], object]):
        self.start = target

    def join(self) -> None:
        pass


def train_watched(arm, see: Callable[[Call, str], None], what: str) -> Callable[[Path, Path], None]:
    """arm.train, watched only while it saves the checkpoint of STEP or publishes the final model."""
    active = False

    def see_if_active(call: Call, moment: str) -> None:
        if active:
            see(call, moment)

    def train(output_dir: Path, rows_log: Path) -> None:
        nonlocal active
        owner, name = {
            "checkpoint": (PretrainingTrainer, "_save_checkpoint"),
            "model": (turkbert.training.run, "publish_result"),
        }[what]
        original = getattr(owner, name)

        def saved(*args, **kwargs):
            nonlocal active
            active = what == "model" or args[0].state.global_step == STEP
            original(*args, **kwargs)
            active = False

        setattr(owner, name, saved)
        turkbert.training.checkpoint.Thread = AtOnce  # of this process: the caller forks
        watch(see_if_active)
        arm.train(output_dir, rows_log)

    return train


class Watched:
    """An arm whose save is watched."""

    def __init__(self, arm, see: Callable[[Call, str], None], what: str):
        self.max_steps = arm.max_steps
        self.train = train_watched(arm, see, what)


def die_at(number: int, moment: str, output_dir: Path) -> Callable[[Call, str], None]:
    """Dies at the `number`-th call."""
    calls = itertools.count()

    def see(call: Call, when: str) -> None:
        wanted = "after" if moment == "after" else "before"
        if when != wanted or next(calls) != number:
            return
        if moment == "halved":
            staged = [path for path in output_dir.glob("_staging-*/**/*") if path.is_file()]
            if staged:
                newest = max(staged, key=lambda path: path.stat().st_mtime_ns)
                os.ftruncate(descriptor := os.open(newest, os.O_WRONLY), newest.stat().st_size // 2)
                os.close(descriptor)
        os.kill(os.getpid(), signal.SIGKILL)

    return see


@pytest.fixture(scope="module")
def short_arm(arm):
    return arm.with_settings(max_steps=6, eval_steps=3, logging_steps=1, stage_fractions=[0.5, 0.5])


@pytest.fixture(scope="module")
def whole(short_arm, tmp_path_factory) -> Run:
    return live(short_arm, tmp_path_factory.mktemp("whole") / "out")


def recorded(arm, what: str, folder: Path) -> list[Call]:
    """The calls of one save, in order."""
    record = folder / "calls"

    def see(call: Call, moment: str) -> None:
        if moment == "after":
            descriptor = os.open(record, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.write(descriptor, ("\t".join(call) + "\n").encode())
            os.close(descriptor)

    live(Watched(arm, see, what), folder / "out")
    return [Call(*line.split("\t")) for line in record.read_text().splitlines()]


@pytest.fixture(scope="module")
def calls(short_arm, tmp_path_factory) -> dict[str, list[Call]]:
    return {what: recorded(short_arm, what, tmp_path_factory.mktemp(what)) for what in ("checkpoint", "model")}


def index(calls: list[Call], name: str, path: str) -> int:
    """The place of the last such call, of which there must be one. `path` is its end."""
    return max(n for n, call in enumerate(calls) if call.name == name and call.path.endswith(path))


# ---- order


def test_checkpoint_is_on_the_disk_before_it_gets_its_name(calls, whole):
    of_save = calls["checkpoint"]
    staging = f"/_staging-checkpoint-{STEP}"
    renamed = index(of_save, "rename", staging)
    files = {path.name for path in (whole.output_dir / f"checkpoint-{whole.max_steps}").iterdir()}
    assert {"model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json"} <= files
    synced = {name: index(of_save, "fsync", f"{staging}/{name}") for name in files}
    assert max(synced.values()) < index(of_save, "fsync", staging) < renamed
    for number, call in enumerate(of_save):  # nothing is written to a file after its sync
        name = call.path.rpartition("/")[2]
        if call.name in ("open", "save", "save_file", "safe_save_file") and staging in call.path:
            assert number < synced[name], f"{name} is written after its sync"


def test_the_manifest_comes_last(calls):
    of_save = calls["checkpoint"]
    written = index(of_save, "open", f"/{MANIFEST}")
    others = [n for n, call in enumerate(of_save) if call.name == "fsync" and Path(call.path).is_relative_to("/")
              and f"/_staging-checkpoint-{STEP}/" in call.path and not call.path.endswith(MANIFEST)]  # fmt: skip
    assert len(others) >= 5 and max(others) < written


def test_the_name_is_on_the_disk_before_an_older_checkpoint_goes(calls):
    of_save = calls["checkpoint"]
    renamed = index(of_save, "rename", f"/_staging-checkpoint-{STEP}")
    named = next(n for n, c in enumerate(of_save) if n > renamed and c.name == "fsync" and c.path.endswith("/out"))
    aside = [n for n, call in enumerate(of_save) if call.name == "rename" and "/_dead-" in call.target]
    assert aside and named < min(aside)
    removed = [n for n, call in enumerate(of_save) if call.name in ("unlink", "rmdir") and "/checkpoint-" in call.path]
    assert removed == []  # never file by file under its own name


def test_the_model_is_on_the_disk_before_its_manifest(calls):
    of_publishing = calls["model"]
    last = index(of_publishing, "replace", f"/_staging-model/{MANIFEST}")
    moved = [n for n, c in enumerate(of_publishing) if c.name == "replace" and "/_staging-model/" not in c.target]
    assert max(moved) == last
    for number in moved:
        assert index(of_publishing, "fsync", of_publishing[number].path) < number
    assert any(call.name == "fsync" and call.path.endswith("/out") for call in of_publishing[last:])


class SlowRank(Turkbert):
    """The second process takes its time to write its part of a checkpoint."""

    def train(self, output_dir: Path, rows_log: Path) -> None:
        save: Callable = PretrainingTrainer._save_rng_state

        def save_late(*args):
            time.sleep(0.5 * int(os.environ["RANK"]))
            save(*args)

        PretrainingTrainer._save_rng_state = save_late
        super().train(output_dir, rows_log)


def test_a_slow_rank_is_waited_for(short_arm, tmp_path):
    settings = {**short_arm.settings, "save_steps": 3, "stage_batch_sizes": [4, 2], "ddp_backend": "gloo"}
    ranks = Ranks(SlowRank(short_arm.tiny_dir, short_arm.prepared, **settings))
    run = live(ranks, tmp_path / "out")
    for step in (3, 6):
        folder = run.output_dir / f"checkpoint-{step}"
        assert {"rng_state_0.pth", "rng_state_1.pth"} <= read_manifest(folder)["files"].keys()
        assert find_damage(folder) is None


# ---- deaths


def die_and_restart(arm, whole: Run, what: str, number: int, moment: str, folder: Path) -> None:
    run = Run(folder / "out", arm.max_steps)
    watched = Watched(arm, die_at(number, moment, run.output_dir), what)
    assert one_life(watched, run) == -signal.SIGKILL, f"call {number}"
    for path in run.output_dir.glob("checkpoint-*"):
        assert find_damage(path) is None, f"{path.name} after death {moment} call {number}"
    reached = newest_step(run.output_dir)
    assert reached in ((STEP - 1, STEP) if what == "checkpoint" else (arm.max_steps,))
    assert one_life(arm, run) == 0, f"restart after death {moment} call {number}"
    assert min(run.lives[1], default=arm.max_steps) == reached
    assert differences(run, whole) == []
    assert find_damage(run.output_dir) is None
    left = [path.name for path in run.output_dir.iterdir() if path.name.startswith("_")]
    assert left == [], f"left over after death {moment} call {number}"
    shutil.rmtree(folder)


@pytest.mark.parametrize(("what", "name", "path", "moment"), [
    ("checkpoint", "safe_save_file", "model.safetensors", "after"),
    ("checkpoint", "fsync", MANIFEST, "halved"),
    ("checkpoint", "rename", f"_staging-checkpoint-{STEP}", "before"),
    ("checkpoint", "rename", f"_staging-checkpoint-{STEP}", "after"),
    ("model", "replace", "model.safetensors", "after"),
])  # fmt: skip
def test_death_at_a_call(short_arm, whole, calls, tmp_path, what, name, path, moment):
    die_and_restart(short_arm, whole, what, index(calls[what], name, path), moment, tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("what", ["checkpoint", "model"])
def test_death_at_every_call(short_arm, whole, calls, tmp_path, what, moment):
    for number in range(len(calls[what])):
        die_and_restart(short_arm, whole, what, number, moment, tmp_path / str(number))
