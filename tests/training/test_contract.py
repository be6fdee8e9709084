"""A resumed run is refused every change that would make it another one, unless the change is allowed by name (R8)."""

import json
import shutil
from pathlib import Path

import pytest

from tests.training.tiny import tiny_arguments
from turkbert.artifacts import read_manifest
from turkbert.data.prepare import PreparedData, prepare_dataset
from turkbert.errors import BAD_CONFIG, UserError
from turkbert.training.checkpoint import find_checkpoint
from turkbert.training.contract import FIELDS, SETTLED, check_allowed, check_contract, run_contract
from turkbert.training.run import build_trainer, pretrain
from turkbert.training.trainer import PretrainingTrainer

PLAN = {"max_steps": 6, "save_steps": 3, "stage_fractions": [0.5, 0.5], "eval_strategy": "no", "logging_steps": 1}
STATIC = {"masking": "static"}


def train(tiny_dir: Path, prepared: PreparedData, output_dir: Path, **changes) -> None:
    args = tiny_arguments(tiny_dir, output_dir, **{**PLAN, **changes})
    pretrain(args, args.training(), prepared.tokenizer, prepared.rows)


@pytest.fixture(scope="module")
def finished_dir(tiny_dir, prepared, tmp_path_factory) -> Path:
    output_dir = tmp_path_factory.mktemp("contract") / "out"
    train(tiny_dir, prepared, output_dir)
    return output_dir


@pytest.fixture
def output_dir(finished_dir, tmp_path) -> Path:
    """An unfinished run with checkpoint-3 alone."""
    shutil.copytree(finished_dir / "checkpoint-3", tmp_path / "out" / "checkpoint-3")
    shutil.copy(finished_dir / "RUN.json", tmp_path / "out")
    return tmp_path / "out"


def refusal(tiny_dir: Path, prepared: PreparedData, output_dir: Path, **changes) -> str:
    with pytest.raises(UserError) as error:
        train(tiny_dir, prepared, output_dir, **changes)
    assert error.value.exit_code == BAD_CONFIG and "\n" not in str(error.value)
    assert read_manifest(output_dir / "checkpoint-3") is not None
    return str(error.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"seed": 7}, "seed 13013, now 7"),
        ({"data_seed": 7}, "data_seed 13013, now 7"),
        ({"stage_batch_sizes": [4, 4]}, "global_batch_sizes [8, 4], now [4, 4]"),
        ({"gradient_accumulation_steps": 2}, "global_batch_sizes [8, 4], now [16, 8]"),
        ({"stage_fractions": [0.75, 0.25]}, "stage_fractions [0.5, 0.5], now [0.75, 0.25]"),
        ({"max_steps": 8}, "max_steps 6, now 8"),
        ({"warmup_steps": 1}, "warmup_steps 2.0, now 1.0"),
        ({"learning_rate": 0.02}, "learning_rate 0.01, now 0.02"),
        ({"min_learning_rate": 0.001}, "min_learning_rate 1e-07, now 0.001"),
        ({"lr_scheduler_type": "linear"}, "lr_scheduler_type cosine, now linear"),
        ({"weight_decay": 0.1}, "weight_decay 0.01, now 0.1"),
        ({"adam_beta1": 0.8}, "adam_beta1 0.9, now 0.8"),
        ({"adam_beta2": 0.98}, "adam_beta2 0.999, now 0.98"),
        ({"max_grad_norm": 0.5}, "max_grad_norm 1.0, now 0.5"),
        ({"optim": "adamw_torch"}, "now adamw_torch"),
        ({"masking": "static"}, "masking dynamic, now static"),
        ({"mlm_probability": 0.2}, "mlm_probability 0.15, now 0.2"),
        ({"mask_replace_prob": 0.9}, "mask_replace_prob 0.8, now 0.9"),
        ({"random_replace_prob": 0.2}, "random_replace_prob 0.1, now 0.2"),
        ({"bf16": True}, "precision fp32, now bf16"),
        ({"hidden_dropout_prob": 0.0}, "hidden_dropout_prob 0.1, now 0.0"),
        ({"attention_probs_dropout_prob": 0.0}, "attention_probs_dropout_prob 0.1, now 0.0"),
        ({"nsp_balance": "weighted"}, "nsp_balance planned, now weighted"),
        ({"nsp_probability": 0.3}, "nsp_probability 0.5, now 0.3"),
        ({"hidden_size": 32}, "hidden_size 16, now 32"),
        ({"model_revision": "v2"}, "model_revision None, now v2"),
        ({"min_word_frequency": 4}, "min_word_frequency 3, now 4"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_change_is_refused_with_its_old_and_new_value(tiny_dir, prepared, output_dir, changes, said):
    error = refusal(tiny_dir, prepared, output_dir, **changes)
    assert f"made with {said}" in error or said in error
    (name,) = changes
    assert ("--allow_change" in error) == (name not in SETTLED)


def test_other_data_tokenizer_and_block_sizes(tiny_dir, prepared, output_dir, tmp_path):
    """The message says which part of the data differs: content and length, or the block sizes."""
    corpus = tmp_path / "corpus.txt"
    documents = [f"{n}. belge burada başlar. Irmağın kıyısında {n} ağaç vardı. Sonra yağmur yağdı." for n in range(90)]
    corpus.write_text("\n\n".join(documents), "utf-8")
    for name in ("tokenizer.json", "tokenizer_config.json"):  # the same one, now as a given one
        (tmp_path / "given").mkdir(exist_ok=True)
        shutil.copy(tiny_dir / "tokenizer" / name, tmp_path / "given")
    changes = {"corpus": [str(corpus)], "data_dir": str(tmp_path / "data"), "tokenizer_dir": str(tmp_path / "given")}
    other = prepare_dataset(tiny_arguments(tiny_dir, tmp_path / "other", **changes))
    error = refusal(tiny_dir, other, output_dir, data_dir=str(tmp_path / "data"))
    assert "made with num_rows {32: " in error and "made with data {32: " in error
    assert "made with tokenizer" not in error

    single = {"block_sizes": [32], "stage_fractions": [1.0], "stage_batch_sizes": [8]}
    rows = PreparedData(prepared.tokenizer, {32: prepared.rows[32]})
    assert "made with block_sizes [32, 64], now [32]" in refusal(tiny_dir, rows, output_dir, **single)

    shorter = {size: rows.copy() for size, rows in prepared.rows.items()}
    shorter[32]["train"] = shorter[32]["train"].select(range(100))
    error = refusal(tiny_dir, PreparedData(prepared.tokenizer, shorter), output_dir)
    assert "made with num_rows {32: " in error and "now {32: 100, " in error

    small = {"tokenizer_dir": str(tmp_path / "tokenizer"), "vocab_size": 900, "data_dir": str(tmp_path / "small")}
    other = prepare_dataset(tiny_arguments(tiny_dir, tmp_path / "other", **small))
    error = refusal(tiny_dir, other, output_dir, **small)
    assert "made with tokenizer " in error and "now " in error


def test_the_same_global_batch_split_otherwise_is_no_change(tiny_dir, prepared, output_dir):
    train(tiny_dir, prepared, output_dir, stage_batch_sizes=[4, 2], gradient_accumulation_steps=2)
    assert read_manifest(output_dir / "checkpoint-6")["run"]["parents"][0]["changes"] == {}


def test_several_changes_are_all_said(tiny_dir, prepared, output_dir):
    error = refusal(tiny_dir, prepared, output_dir, seed=7, weight_decay=0.1, allow_change=["weight_decay"])
    assert "made with seed 13013, now 7; made with data_seed 13013, now 7;" in error and "weight_decay" not in error


def test_the_fields_are_those_of_a_contract(tiny_dir, prepared, tmp_path):
    args = tiny_arguments(tiny_dir, tmp_path / "out")
    contract = run_contract(args, args.training(), prepared.tokenizer, prepared.rows)
    assert contract.keys() == FIELDS and SETTLED < FIELDS
    assert json.loads(json.dumps(contract)) == contract


@pytest.mark.parametrize(
    ("name", "said"),
    [("lerning_rate", "did you mean 'learning_rate'?"), ("hidden_size", "settled by the"), ("optim", "settled")],
)
def test_what_can_not_be_allowed(name, said):
    with pytest.raises(UserError, match="allow_change") as error:
        check_allowed(["seed", name])
    assert said in str(error.value) and name in str(error.value)


def resumed_trainer(tiny_dir, prepared, output_dir, **changes) -> PretrainingTrainer:
    """The trainer of a run that went on from checkpoint-3 to its end."""
    seen: list[PretrainingTrainer] = []

    def build_and_remember(*args):
        seen.append(build_trainer(*args))
        return seen[0]

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("turkbert.training.run.build_trainer", build_and_remember)
        train(tiny_dir, prepared, output_dir, **changes, allow_change=list(changes))
    return seen[0]


def history_of(output_dir: Path) -> list[dict]:
    return json.loads((output_dir / "checkpoint-6" / "trainer_state.json").read_text())["log_history"]


def test_an_allowed_change_takes_effect_and_is_recorded(tiny_dir, prepared, output_dir, finished_dir, caplog):
    changes = {"learning_rate": 0.02, "weight_decay": 0.2, "adam_beta2": 0.95, "hidden_dropout_prob": 0.0}
    trainer = resumed_trainer(tiny_dir, prepared, output_dir, **changes)
    histories = (history_of(finished_dir), trainer.state.log_history)
    rates = [[log["learning_rate"] for log in history if "loss" in log] for history in histories]
    assert rates[1][:3] == rates[0][:3]
    assert rates[1][3:5] == pytest.approx([2 * rate for rate in rates[0][3:5]], rel=1e-3)
    decayed, other = trainer.optimizer.param_groups
    assert (decayed["weight_decay"], other["weight_decay"], decayed["betas"]) == (0.2, 0.0, (0.9, 0.95))
    assert trainer.model.config.hidden_dropout_prob == 0.0
    assert all(part.p == 0.0 for name, part in trainer.model.named_modules() if name.endswith("embeddings.dropout"))
    (parent,) = read_manifest(output_dir / "checkpoint-6")["run"]["parents"]
    expected = {"learning_rate": [0.01, 0.02], "weight_decay": [0.01, 0.2], "adam_beta2": [0.999, 0.95]}
    assert parent["changes"] == expected | {"hidden_dropout_prob": [0.1, 0.0]} and parent["step"] == 3
    assert "made with learning_rate 0.01, goes on with 0.02 as allowed" in caplog.text


def test_allowing_what_has_not_changed_changes_nothing(tiny_dir, prepared, output_dir, finished_dir):
    train(tiny_dir, prepared, output_dir, allow_change=["learning_rate", "seed"])
    histories = [history_of(folder) for folder in (output_dir, finished_dir)]
    losses = [[log["loss"] for log in history if "loss" in log] for history in histories]
    assert losses[0] == losses[1]
    assert read_manifest(output_dir / "checkpoint-6")["run"]["parents"][0]["changes"] == {}


def test_a_finished_run_is_made_longer(tiny_dir, prepared, finished_dir, tmp_path):
    """The old result stays until the new one is there; the plain command then finds it finished."""
    output_dir = tmp_path / "out"
    shutil.copytree(finished_dir, output_dir)
    assert "max_steps 6, now 8" in refusal(tiny_dir, prepared, output_dir, max_steps=8)
    train(tiny_dir, prepared, output_dir, max_steps=8, allow_change=["max_steps"])
    assert find_checkpoint(output_dir).name == "checkpoint-8"
    manifest = read_manifest(output_dir)
    assert manifest["key"]["max_steps"] == 8
    assert [parent["step"] for parent in manifest["run"]["parents"]] == [6]
    before = {path.name: path.stat().st_mtime_ns for path in output_dir.iterdir()}
    train(tiny_dir, prepared, output_dir, max_steps=8)
    assert {path.name: path.stat().st_mtime_ns for path in output_dir.iterdir()} == before


def test_check_contract_names_what_an_old_checkpoint_lacks(finished_dir):
    contract = read_manifest(finished_dir)["key"]
    assert check_contract(finished_dir, contract) == {}
    with pytest.raises(UserError, match="made with new_field None, now 5"):
        check_contract(finished_dir, contract | {"new_field": 5})
    assert check_contract(finished_dir, contract | {"new_field": 5}, ["new_field"]) == {"new_field": [None, 5]}
