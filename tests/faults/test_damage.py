"""Every file of a checkpoint damaged in every way: found, named, and the checkpoint before it used (R3)."""

import itertools
import json
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.training.tiny import tiny_arguments
from turkbert.artifacts import MANIFEST, write_manifest
from turkbert.training.checkpoint import RUN, checkpoints, find_checkpoint
from turkbert.training.run import pretrain

PLAN = {"max_steps": 6, "save_steps": 2, "stage_fractions": [0.5, 0.5], "eval_strategy": "no", "report_to": "none"}
FILES = (
    MANIFEST, "config.json", "model.safetensors", "optimizer.pt", "rng_state.pth", "scheduler.pt", "tokenizer.json",
    "tokenizer_config.json", "trainer_state.json", "training_args.json",
)  # fmt: skip
SAME_AT_EVERY_STEP = ("config.json", "tokenizer.json", "tokenizer_config.json", "training_args.json")


def train(tiny_dir, prepared, output_dir: Path, **changes) -> None:
    args = tiny_arguments(tiny_dir, output_dir, **{**PLAN, **changes})
    pretrain(args, args.training(), prepared.tokenizer, prepared.rows)


@pytest.fixture(scope="module")
def whole_dir(tiny_dir, prepared, tmp_path_factory) -> Path:
    """The output of a finished run with checkpoints 2, 3 (where the stage switches), 4 and 6."""
    output_dir = tmp_path_factory.mktemp("whole") / "out"
    train(tiny_dir, prepared, output_dir)
    return output_dir


@pytest.fixture
def output_dir(whole_dir, tmp_path) -> Path:
    """A copy of it as a run leaves it that has died after step 6."""
    for name in ("checkpoint-4", "checkpoint-6"):
        shutil.copytree(whole_dir / name, tmp_path / "out" / name)
    shutil.copy(whole_dir / RUN, tmp_path / "out")
    return tmp_path / "out"


def cut(end: Callable[[int], int]) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        content = path.read_bytes()
        path.write_bytes(content[: end(len(content))])

    return change


def flip(place: Callable[[int], int], bit: int = 0) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[place(len(content))] ^= 1 << bit
        path.write_bytes(content)

    return change


def take_from_step_4(path: Path) -> None:
    shutil.copy(path.parent.with_name("checkpoint-4") / path.name, path)


def replace_by_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGES = {
    "missing": os.unlink,
    "empty": cut(lambda size: 0),
    "halved": cut(lambda size: size // 2),
    "one byte short": cut(lambda size: size - 1),
    "first bit": flip(lambda size: 0),
    "middle bit": flip(lambda size: size // 2, 4),
    "from step 4": take_from_step_4,
    "a folder": replace_by_a_folder,
}


def test_the_files_are_all_there_are(output_dir):
    assert sorted(os.listdir(output_dir / "checkpoint-6")) == sorted(FILES)
    assert find_checkpoint(output_dir) == output_dir / "checkpoint-6"


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", FILES)
def test_damage_is_found_and_named(output_dir, caplog, name, damage):
    path = output_dir / "checkpoint-6" / name
    DAMAGES[damage](path)
    found = find_checkpoint(output_dir)
    if damage == "from step 4" and name in SAME_AT_EVERY_STEP:
        assert found == output_dir / "checkpoint-6"
        return
    assert found == output_dir / "checkpoint-4"
    (line,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    named = "it was made at step 4" if (damage, name) == ("from step 4", MANIFEST) else name
    assert line.startswith(f"{output_dir / 'checkpoint-6'}: ") and named in line


@pytest.mark.parametrize("name", ["pytorch_model.bin", "scaler.pt", "optimizer.bin", "pytorch_model_0/.metadata"])
def test_a_file_that_would_be_loaded_though_nobody_wrote_it(output_dir, caplog, name):
    path = output_dir / "checkpoint-6" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"x")
    assert find_checkpoint(output_dir) == output_dir / "checkpoint-4"
    assert f"{name} was added to it" in caplog.text
    path.rename(output_dir / "checkpoint-6" / "notes.txt")
    assert find_checkpoint(output_dir) == output_dir / "checkpoint-6"


def test_a_checkpoint_under_another_ones_name(output_dir, caplog):
    shutil.copytree(output_dir / "checkpoint-4", output_dir / "checkpoint-40")
    assert find_checkpoint(output_dir) == output_dir / "checkpoint-6"
    assert "checkpoint-40: it was made at step 4; trying the one before" in caplog.text


@pytest.mark.parametrize(
    ("section", "content"),
    [("key", {"step": "six"}), ("key", {}), ("run", {"run_id": 5}), ("run", {"run_id": "x", "parents": [5]})],
)
def test_a_manifest_of_something_else(output_dir, section, content):
    """With its own hash right, as a program would write it."""
    folder = output_dir / "checkpoint-6"
    manifest = json.loads((folder / MANIFEST).read_text())
    sections = {"key": manifest["key"], "run": manifest["run"], section: content}
    write_manifest(folder, **sections)
    assert find_checkpoint(output_dir) == output_dir / "checkpoint-4"


def test_all_damaged_is_none(output_dir):
    for path in checkpoints(output_dir):
        (path / "optimizer.pt").write_bytes(b"")
    assert find_checkpoint(output_dir) is None


@pytest.mark.parametrize("damage", ["middle bit", "missing"])
def test_the_run_goes_on_from_the_one_before_exactly(tiny_dir, prepared, output_dir, whole_dir, caplog, damage):
    DAMAGES[damage](output_dir / "checkpoint-6" / "optimizer.pt")
    train(tiny_dir, prepared, output_dir)
    assert "checkpoint-6: optimizer.pt is" in caplog.text
    for place in ("checkpoint-6", "."):
        expected, found = (load_file(folder / place / "model.safetensors") for folder in (whole_dir, output_dir))
        assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_a_best_checkpoint_damaged_since_is_not_published(tiny_dir, prepared, tmp_path, caplog, monkeypatch):
    """The loss rises from the first evaluation on, so the best checkpoint is not the last."""
    from turkbert.training import trainer

    count, compute_metrics = itertools.count(1), trainer.compute_metrics
    evaluate_and_save = trainer.PretrainingTrainer._save_checkpoint

    def rising(sums, with_nsp):
        return {**compute_metrics(sums, with_nsp), "loss": float(next(count))}

    def save_and_damage(self, *args):
        evaluate_and_save(self, *args)
        if self.state.global_step == 6:
            Path(self.state.best_model_checkpoint, "model.safetensors").write_bytes(b"")

    monkeypatch.setattr(trainer, "compute_metrics", rising)
    monkeypatch.setattr(trainer.PretrainingTrainer, "_save_checkpoint", save_and_damage)
    train(tiny_dir, prepared, tmp_path / "out", eval_strategy="steps", eval_steps=4)
    assert "model.safetensors has 0 bytes instead of" in caplog.text
    last, final = (load_file(tmp_path / "out" / place / "model.safetensors") for place in ("checkpoint-6", "."))
    assert all(torch.equal(final[name], last[name]) for name in last)
