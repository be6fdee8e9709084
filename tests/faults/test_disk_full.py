"""A disk that fills up in the middle of a save: the checkpoint before it stays whole, one line says what is needed,
and with room the run goes on exactly (R13).

The disk is a small tmpfs in a mount namespace of the test's own, so that torch, safetensors and Python meet a real
ENOSPC.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.training.tiny import tiny_arguments
from turkbert.artifacts import find_damage, num_bytes
from turkbert.errors import ENVIRONMENT, UserError
from turkbert.training import checkpoint as checkpoint_module
from turkbert.training.checkpoint import checkpoints, find_checkpoint
from turkbert.training.run import pretrain

PLAN = {"max_steps": 4, "save_steps": 2, "stage_fractions": [0.5, 0.5], "eval_strategy": "no", "logging_steps": 1}
PAGE = 4096
SHARES = [number / 21 for number in range(1, 21)]  # of a checkpoint that still fits: 20 sizes of the disk


def train(tiny_dir, prepared, output_dir: Path, config_dir: Path) -> None:
    """The config lies elsewhere: the disk of output_dir is full."""
    args = tiny_arguments(tiny_dir, config_dir / "out", **PLAN)
    args.given["output_dir"] = str(output_dir)
    pretrain(args, args.training(), prepared.tokenizer, prepared.rows)


@pytest.fixture(scope="module")
def whole_dir(tiny_dir, prepared, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    train(tiny_dir, prepared, folder / "out", folder)
    return folder / "out"


@pytest.fixture
def disk(tmp_path) -> Iterator[Path]:
    """A tmpfs of 64 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("needs the right to mount a tmpfs")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def resize(disk: Path, num_bytes: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={num_bytes // PAGE * PAGE}", disk], check=True)


def used(disk: Path) -> int:
    usage = os.statvfs(disk)
    return (usage.f_blocks - usage.f_bfree) * usage.f_frsize


def died_after_step_2(whole_dir: Path, disk: Path) -> Path:
    output_dir = disk / "out"
    shutil.copytree(whole_dir / "checkpoint-2", output_dir / "checkpoint-2")
    shutil.copy(whole_dir / "RUN.json", output_dir)
    return output_dir


def goes_on_exactly(tiny_dir, prepared, output_dir: Path, whole_dir: Path, config_dir: Path) -> None:
    train(tiny_dir, prepared, output_dir, config_dir)
    for place in ("checkpoint-4", "."):
        found, expected = (load_file(folder / place / "model.safetensors") for folder in (output_dir, whole_dir))
        assert all(torch.equal(found[name], expected[name]) for name in expected)


def cases() -> list:
    return [pytest.param(share, marks=() if n in (3, 9, 17) else pytest.mark.slow) for n, share in enumerate(SHARES)]


@pytest.mark.parametrize("share", cases())
def test_a_disk_that_fills_up_within_a_save(tiny_dir, prepared, whole_dir, disk, tmp_path, monkeypatch, share):
    """Others take the room after it was looked for: the writers themselves meet the end of it."""
    output_dir = died_after_step_2(whole_dir, disk)
    one = num_bytes(whole_dir / "checkpoint-4")
    monkeypatch.setattr("turkbert.training.run.check_room", lambda *args: None)
    monkeypatch.setattr("turkbert.artifacts.check_room", lambda *args: None)
    resize(disk, used(disk) + PAGE + int(share * one))
    with pytest.raises(UserError, match=r"checkpoint-4: the disk is too full: need .* GB, have .* GB") as error:
        train(tiny_dir, prepared, output_dir, tmp_path)
    assert error.value.exit_code == ENVIRONMENT and "\n" not in str(error.value)
    assert [path.name for path in checkpoints(output_dir)] == ["checkpoint-2"]
    assert find_damage(output_dir / "checkpoint-2") is None
    assert not list(output_dir.glob("_*"))
    resize(disk, 64 << 20)
    goes_on_exactly(tiny_dir, prepared, output_dir, whole_dir, tmp_path)


def test_too_little_room_is_said_before_training(tiny_dir, prepared, whole_dir, disk, tmp_path):
    output_dir = died_after_step_2(whole_dir, disk)
    resize(disk, used(disk) + num_bytes(whole_dir / "checkpoint-4") // 2)
    before = sorted(output_dir.rglob("*"))
    with pytest.raises(UserError, match=r"out: the disk is too full: need \S+ GB, have \S+ GB") as error:
        train(tiny_dir, prepared, output_dir, tmp_path)
    assert error.value.exit_code == ENVIRONMENT
    assert sorted(output_dir.rglob("*")) == before


def test_too_little_room_is_said_before_a_save(tiny_dir, prepared, whole_dir, disk, tmp_path, monkeypatch):
    """Nothing of the checkpoint is written."""
    output_dir = died_after_step_2(whole_dir, disk)
    monkeypatch.setattr("turkbert.training.run.check_room", lambda *args: None)
    monkeypatch.setattr(
        "turkbert.training.trainer.PretrainingTrainer._write_checkpoint", lambda *args: pytest.fail("written")
    )
    resize(disk, used(disk) + num_bytes(whole_dir / "checkpoint-4") // 2)
    with pytest.raises(UserError, match=r"checkpoint-4: the disk is too full: need \S+ GB, have \S+ GB"):
        train(tiny_dir, prepared, output_dir, tmp_path)
    assert find_checkpoint(output_dir) == output_dir / "checkpoint-2"


def test_a_disk_that_fills_up_with_the_final_model(tiny_dir, prepared, whole_dir, disk, tmp_path, monkeypatch):
    output_dir = disk / "out"
    shutil.copytree(whole_dir / "checkpoint-4", output_dir / "checkpoint-4")
    shutil.copy(whole_dir / "RUN.json", output_dir)
    monkeypatch.setattr("turkbert.training.run.check_room", lambda *args: None)
    resize(disk, used(disk) + PAGE + (output_dir / "checkpoint-4" / "model.safetensors").stat().st_size // 2)
    with pytest.raises(UserError, match="the disk is too full") as error:
        train(tiny_dir, prepared, output_dir, tmp_path)
    assert error.value.exit_code == ENVIRONMENT
    assert not (output_dir / "MANIFEST.json").exists() and not list(output_dir.glob("_*"))
    resize(disk, 64 << 20)
    goes_on_exactly(tiny_dir, prepared, output_dir, whole_dir, tmp_path)


def test_the_room_asked_for_is_that_of_the_checkpoints_kept(tiny_dir, prepared, tmp_path, monkeypatch):
    """Two of limit and one more while it is written, and the final model, in bytes of weights (3 to a checkpoint)."""
    asked = []
    monkeypatch.setattr("turkbert.training.run.check_room", lambda folder, num_bytes: asked.append(num_bytes))
    monkeypatch.setattr("turkbert.training.trainer.PretrainingTrainer.train", stop)
    for limit, checkpoints_held in ((2, 3), (1, 2), (None, 2)):
        args = tiny_arguments(tiny_dir, tmp_path / "out", **{**PLAN, "save_total_limit": limit, "save_steps": 1})
        with pytest.raises(KeyboardInterrupt):
            pretrain(args, args.training(), prepared.tokenizer, prepared.rows)
        weights = asked[-1] / (3 * checkpoints_held + 1)
        assert weights == asked[0] / 10 and weights % 4 == 0
    assert json.loads((tmp_path / "out" / "RUN.json").read_text())["parents"] == []


def stop(self, **kwargs):
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("message", "is_of_a_write"),
    [
        ("[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534", True),
        ("PytorchStreamWriter failed writing file data/0: file write failed", True),
        ("basic_ios::clear: iostream error", True),
        ("CUDA error: out of memory", False),
    ],
)
def test_only_writes_are_taken_for_writes(tmp_path, message, is_of_a_write):
    """A writer of torch that fails though there is room is an error of the disk, not a lack of room."""
    with pytest.raises(OSError if is_of_a_write else RuntimeError) as error:
        with checkpoint_module.write_errors(tmp_path / "checkpoint-2"):
            raise RuntimeError(message)
    assert message in str(error.value) and not list(tmp_path.iterdir())
