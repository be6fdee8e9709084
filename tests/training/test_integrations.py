"""The trackers that Trainer brings along, TensorBoard and W&B, work in a run of ours."""

import sys

import pytest

from tests.training.tiny import tiny_arguments
from turkbert.artifacts import read_manifest
from turkbert.training.run import pretrain

SHORT = {"max_steps": 2, "eval_steps": 2, "save_steps": 2, "stage_fractions": [0.5, 0.5]}


def train(tiny_dir, prepared, output_dir, **changes) -> None:
    args = tiny_arguments(tiny_dir, output_dir, **{**SHORT, **changes})
    assert pretrain(args, args.training(), prepared.tokenizer, prepared.rows) is not None


def test_tensorboard_gets_both_losses(tiny_dir, prepared, tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    train(tiny_dir, prepared, tmp_path / "out", report_to="tensorboard")
    (folder,) = (tmp_path / "out" / "runs").iterdir()
    events = accumulator.EventAccumulator(str(folder)).Reload()
    for name in ("train/mlm_loss", "train/nsp_loss", "train/tokens_per_second", "eval/mlm_loss", "eval/nsp_accuracy"):
        steps = [event.step for event in events.Scalars(name)]
        assert steps and steps[-1] == 2, name
    assert not any(name.startswith("runs/") for name in read_manifest(tmp_path / "out")["files"])


@pytest.mark.slow
def test_wandb_gets_both_losses_offline(tiny_dir, prepared, tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB_SILENT", "true")
    train(tiny_dir, prepared, tmp_path / "out", report_to="wandb")
    sys.modules["wandb"].finish()
    (log,) = (tmp_path / "wandb").glob("offline-run-*/*.wandb")
    content = log.read_bytes()
    for name in (b"train/mlm_loss", b"train/nsp_loss", b"eval/mlm_loss"):
        assert name in content
