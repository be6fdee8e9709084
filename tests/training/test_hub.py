"""What goes to the Hub, by the real huggingface_hub client against a stand-in on loopback."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load, load_file
from transformers import AutoModelForMaskedLM

from tests.hub_stand_in import hub  # noqa: F401
from tests.training.tiny import tiny_arguments
from turkbert.artifacts import read_manifest
from turkbert.errors import BAD_CONFIG, UserError
from turkbert.training.hub import PENDING, STAGING, SavePusher
from turkbert.training.run import check_run, pretrain

SHORT = {"max_steps": 2, "eval_steps": 2, "save_steps": 2, "stage_fractions": [0.5, 0.5], "push_to_hub": True}

STRANGER = """
import sys, torch
sys.modules["turkbert"] = None  # import turkbert raises ImportError
from transformers import AutoModelForMaskedLM, AutoTokenizer
tokenizer, model = (auto.from_pretrained("ada/my-bert") for auto in (AutoTokenizer, AutoModelForMaskedLM))
inputs = tokenizer("İstanbul'un en [MASK] yeri.", return_tensors="pt")
with torch.no_grad():
    torch.save([dict(inputs), model(**inputs).logits], sys.argv[1])
"""


def train(tiny_dir: Path, prepared, output_dir: Path, **changes):
    args = tiny_arguments(tiny_dir, output_dir, **{**SHORT, "hub_model_id": "my-bert", **changes})
    training = args.training()
    check_run(args)
    pretrain(args, training, prepared.tokenizer, prepared.rows)
    return training


def plant_junk(folder: Path) -> None:
    (folder / "mlruns").mkdir(parents=True)
    for name in (".env", "id_rsa", "mlflow.db", "train.log", "mlruns/meta.yaml", "notes.md", "model.bin"):
        (folder / name).write_text("SECRET=1")


@pytest.mark.usefixtures("draws")
def test_the_upload_is_the_manifest_and_nothing_else(tiny_dir, prepared, tmp_path, hub):  # noqa: F811
    plant_junk(tmp_path / "out")
    train(tiny_dir, prepared, tmp_path / "out")
    repository = hub.model("my-bert")
    manifest = read_manifest(tmp_path / "out")
    assert set(repository.files) == set(manifest["files"]) and hub.refused == []
    assert {"plots/losses.png", "plots/accuracy.png", "plots/training.png"} <= set(repository.files)
    assert repository.files == {name: (tmp_path / "out" / name).read_bytes() for name in manifest["files"]}
    assert repository.private
    assert repository.tags == {f"run-{manifest['run']['run_id']}": repository.branches["main"]}
    assert not (tmp_path / "out" / PENDING).exists()
    assert not [p for p in tmp_path.rglob("*") if p.is_file() and hub.token.encode() in p.read_bytes()]
    assert str(tmp_path).encode() not in b"".join(repository.files.values())


@pytest.mark.slow
def test_a_stranger_loads_the_model_by_its_id(tiny_dir, prepared, tmp_path, hub):  # noqa: F811
    train(tiny_dir, prepared, tmp_path / "out")
    (tmp_path / "stranger.py").write_text(STRANGER)
    command = [sys.executable, str(tmp_path / "stranger.py"), str(tmp_path / "logits.pt")]
    process = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ))
    assert process.returncode == 0, process.stderr[-2000:]
    assert hub.refused == []
    inputs, logits = torch.load(tmp_path / "logits.pt", weights_only=True)
    with torch.no_grad():
        ours = AutoModelForMaskedLM.from_pretrained(tmp_path / "out")(**inputs).logits
    assert torch.equal(ours, logits)


def test_branch_and_openness_are_as_asked(tiny_dir, prepared, tmp_path, hub):  # noqa: F811
    train(tiny_dir, prepared, tmp_path / "out", hub_revision="trial", hub_private_repo=False)
    repository = hub.model("my-bert")
    assert not repository.private and repository.files == {}
    assert "model.safetensors" in repository.commits[repository.branches["trial"]]
    assert list(repository.tags.values()) == [repository.branches["trial"]]


def test_without_a_token_or_a_name_that_can_be(tiny_dir, tmp_path, hub, monkeypatch):  # noqa: F811
    def refusal(**changes) -> UserError:
        with pytest.raises(UserError) as error:
            check_run(tiny_arguments(tiny_dir, tmp_path / "out", **{**SHORT, **changes}))
        return error.value

    assert refusal(hub_model_id="my bert").where == "hub_model_id"
    monkeypatch.setenv("HF_TOKEN", "hf_anOldTokenOfNobody00")
    assert "does not accept the token" in str(refusal())
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    assert "no Hub token found; run `hf auth login` or set HF_TOKEN" in str(refusal())
    assert refusal().exit_code == BAD_CONFIG
    assert "choose from end, every_save, checkpoint" in str(refusal(hub_strategy="all_checkpoints"))


@pytest.mark.parametrize("strategy", [pytest.param("every_save", marks=pytest.mark.slow), "checkpoint"])
def test_a_save_is_pushed_from_a_process_of_its_own(tiny_dir, prepared, tmp_path, hub, strategy):  # noqa: F811
    out = tmp_path / "out"
    training = train(tiny_dir, prepared, out, push_to_hub=False)
    training.hub_strategy = strategy
    pusher = SavePusher()
    save(pusher, training, 2)
    assert pusher._process.exitcode == 0 and hub.refused == [] and not (out / PENDING).exists()
    files = hub.model("my-bert").files
    stock = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    whole = {*read_manifest(out / "checkpoint-2")["files"], "MANIFEST.json"} if strategy == "checkpoint" else set()
    assert set(files) == stock | {f"last-checkpoint/{name}" for name in whole}
    assert json.loads(files["config.json"])["model_type"] == "bert"
    ours = load_file(out / "checkpoint-2" / "model.safetensors")
    pushed = load(files["model.safetensors"])
    assert pushed and all(torch.equal(pushed[name], ours[name]) for name in pushed)
    for name in whole:
        assert files[f"last-checkpoint/{name}"] == (out / "checkpoint-2" / name).read_bytes()
    pusher.stop(out)
    assert not (out / STAGING).exists()


def save(pusher: SavePusher, training, step: int) -> None:
    """As Trainer after the save of a step, and wait for the push."""
    from types import SimpleNamespace

    pusher.on_save(training, SimpleNamespace(is_world_process_zero=True, global_step=step), None)
    pusher._process.join(100)


def test_hub_strategy_starts_the_pusher(tiny_dir, prepared, tmp_path, hub, monkeypatch):  # noqa: F811
    seen = []
    monkeypatch.setattr(SavePusher, "on_save", lambda self, args, state, *_, **named: seen.append(state.global_step))
    train(tiny_dir, prepared, tmp_path / "end", save_steps=1)
    assert seen == []
    train(tiny_dir, prepared, tmp_path / "saves", save_steps=1, hub_strategy="every_save")
    assert seen == [1, 2]
