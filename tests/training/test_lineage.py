"""Whose a checkpoint is: what belongs to another run, or to a branch that was given up, is passed over by name."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file

import turkbert
from tests.training.tiny import tiny_arguments
from turkbert.artifacts import read_manifest
from turkbert.errors import UserError
from turkbert.training.checkpoint import RUN, Lineage, begin_lineage, checkpoints, find_checkpoint, rotate, tidy
from turkbert.training.run import pretrain

PLAN = {"save_steps": 2, "eval_strategy": "no", "save_total_limit": None}


def train(tiny_dir, prepared, output_dir: Path, **changes) -> None:
    args = tiny_arguments(tiny_dir, output_dir, **{**PLAN, **changes})
    pretrain(args, args.training(), prepared.tokenizer, prepared.rows)


def names(output_dir: Path) -> list[str]:
    return [path.name for path in checkpoints(output_dir)]


@pytest.fixture(scope="module")
def whole_dir(tiny_dir, prepared, tmp_path_factory) -> Path:
    output_dir = tmp_path_factory.mktemp("lineage") / "out"
    train(tiny_dir, prepared, output_dir)
    return output_dir


@pytest.fixture
def output_dir(whole_dir, tmp_path) -> Path:
    """As a run that has died after step 8 leaves its folder."""
    for step in (2, 4, 6, 8):
        shutil.copytree(whole_dir / f"checkpoint-{step}", tmp_path / "out" / f"checkpoint-{step}")
    shutil.copy(whole_dir / RUN, tmp_path / "out")
    return tmp_path / "out"


def run_of(folder: Path) -> dict:
    return read_manifest(folder)["run"]


def test_a_manifest_says_where_its_checkpoint_comes_from(whole_dir):
    first, last = (read_manifest(whole_dir / f"checkpoint-{step}") for step in (2, 10))
    assert (first["key"]["step"], first["run"]["stage"]) == (2, 1)
    assert (last["key"]["step"], last["run"]["stage"]) == (10, 2)
    for manifest in (first, last, read_manifest(whole_dir)):
        run, key = manifest["run"], manifest["key"]
        assert run["run_id"] == json.loads((whole_dir / RUN).read_text())["run_id"] and run["parents"] == []
        versions = {"turkbert": turkbert.__version__, "transformers": transformers.__version__}
        assert run["versions"] == versions | {"torch": str(torch.__version__)}
        assert run["world_size"] == 1 and len(run["config"]) == 16
        assert (key["global_batch_sizes"], key["seed"]) == ([8, 4], 13013)
        assert len(key["tokenizer"]) == 64 and set(key["data"]) == {"32", "64"}


def test_each_start_is_a_run_and_names_the_one_before(tiny_dir, prepared, output_dir):
    before = run_of(output_dir / "checkpoint-8")
    train(tiny_dir, prepared, output_dir)
    run = run_of(output_dir / "checkpoint-10")
    assert run["run_id"] != before["run_id"]
    assert run["parents"] == [{"run_id": before["run_id"], "step": 8, "changes": {}}]
    assert run_of(output_dir / "checkpoint-8") == before


def test_a_foreign_checkpoint_is_passed_over(tiny_dir, prepared, output_dir, whole_dir, tmp_path, caplog):
    train(tiny_dir, prepared, tmp_path / "other", max_steps=12)
    shutil.copytree(tmp_path / "other" / "checkpoint-12", output_dir / "checkpoint-12")
    train(tiny_dir, prepared, output_dir, save_total_limit=2)
    assert "checkpoint-12: it belongs to another run; trying the one before" in caplog.text
    assert run_of(output_dir / "checkpoint-10")["parents"][0]["step"] == 8
    assert names(output_dir) == ["checkpoint-8", "checkpoint-10", "checkpoint-12"]  # neither counted nor removed
    found, expected = (load_file(folder / "checkpoint-10" / "model.safetensors") for folder in (output_dir, whole_dir))
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_a_branch_given_up_is_never_picked_again(tiny_dir, prepared, output_dir, caplog):
    """Back to step 4 by name, with another learning rate; the run dies at step 6."""
    old = run_of(output_dir / "checkpoint-8")["run_id"]
    arguments = {"learning_rate": 0.02, "allow_change": ["learning_rate"]}
    named = str(output_dir / "checkpoint-4")
    with pytest.MonkeyPatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("turkbert.training.trainer.rotate", interrupt_at(6))
        train(tiny_dir, prepared, output_dir, resume_from_checkpoint=named, **arguments)
    new = run_of(output_dir / "checkpoint-6")
    assert new["parents"] == [{"run_id": old, "step": 4, "changes": {"learning_rate": [0.01, 0.02]}}]
    assert find_checkpoint(output_dir) == output_dir / "checkpoint-6"
    assert "checkpoint-8: the run went on from step 4 instead; trying the one before" in caplog.text
    train(tiny_dir, prepared, output_dir, learning_rate=0.02)  # the change is in checkpoint-6 by now
    parents = run_of(output_dir / "checkpoint-8")["parents"]
    assert [(parent["run_id"], parent["step"]) for parent in parents] == [(old, 4), (new["run_id"], 6)]
    assert names(output_dir) == [f"checkpoint-{step}" for step in (2, 4, 6, 8, 10)]


def interrupt_at(step: int):
    def instead_of_rotation(output_dir, *args):
        if (output_dir / f"checkpoint-{step}").is_dir() and run_of(output_dir / f"checkpoint-{step}")["parents"]:
            raise KeyboardInterrupt

    return instead_of_rotation


def test_killed_before_its_first_save_a_run_leaves_no_trace(output_dir):
    lineage = begin_lineage(output_dir / "checkpoint-4")
    (output_dir / RUN).write_text(json.dumps({"run_id": lineage.run_id, "parents": lineage.parents}))
    assert find_checkpoint(output_dir) == output_dir / "checkpoint-4"
    again = begin_lineage(output_dir / "checkpoint-4")
    assert again.parents == lineage.parents and again.run_id != lineage.run_id


@pytest.mark.parametrize("content", ["", "[]", '{"run_id": 3, "parents": []}', '{"run_id": "a", "parents": [{}]}'])
def test_without_a_record_the_newest_whole_one_is_it(output_dir, caplog, content):
    (output_dir / RUN).write_text(content)
    assert find_checkpoint(output_dir) == output_dir / "checkpoint-8"
    assert "RUN.json: damaged" in caplog.text
    (output_dir / RUN).unlink()
    assert find_checkpoint(output_dir) == output_dir / "checkpoint-8"


def test_only_foreign_checkpoints_are_no_reason_to_start_afresh(tiny_dir, prepared, output_dir):
    (output_dir / RUN).write_text('{"run_id": "a", "parents": []}')
    with pytest.raises(UserError, match="none of its checkpoints is whole and of this run"):
        train(tiny_dir, prepared, output_dir)


def test_rotation_takes_branches_given_up_first(output_dir):
    """Went on from step 4: 6 and 8 are given up, and 2 is older, but still of the lineage."""
    lineage = begin_lineage(output_dir / "checkpoint-4")
    rotate(output_dir, 3, None, lineage).join()
    assert names(output_dir) == ["checkpoint-2", "checkpoint-4", "checkpoint-8"]
    rotate(output_dir, 1, str(output_dir / "checkpoint-2"), lineage).join()
    assert names(output_dir) == ["checkpoint-2", "checkpoint-4"]
    rotate(output_dir, 1, None, Lineage()).join()
    assert names(output_dir) == ["checkpoint-2", "checkpoint-4"]


def test_what_a_killed_run_left_is_tidied_up(output_dir):
    (output_dir / "checkpoint-8").rename(output_dir / "_dead-checkpoint-8")  # killed between two renames
    (output_dir / "checkpoint-2").rename(output_dir / "_dead-checkpoint-2")  # killed while it was being removed
    (output_dir / "_dead-checkpoint-2" / "optimizer.pt").unlink()
    (output_dir / "_staging-checkpoint-10").mkdir()
    (output_dir / "_staging-checkpoint-10" / "model.safetensors").write_bytes(b"half")
    tidy(output_dir)
    assert sorted(path.name for path in output_dir.iterdir()) == [RUN, "checkpoint-4", "checkpoint-6", "checkpoint-8"]
    assert find_checkpoint(output_dir) == output_dir / "checkpoint-8"
