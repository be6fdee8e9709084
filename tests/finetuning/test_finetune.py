"""The three kinds of tasks from files to a folder that pipelines read; the loop beside the Trainer; the Hub."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader
from transformers import AutoModelForSequenceClassification, pipeline

from tests.finetuning.rows import write_rows
from tests.hub_stand_in import hub  # noqa: F401
from turkbert.errors import UserError
from turkbert.finetuning.arguments import parse_finetuning_args, parse_loop_args
from turkbert.finetuning.output import open_output
from turkbert.finetuning.run import build_trainer, finetune, prepare_task, train_and_score
from turkbert.finetuning.trainer import balanced_weights

ROOT = Path(__file__).parents[2]


def script(name):
    """A script as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_classification_end_to_end(settings, tmp_path, monkeypatch, capsys):
    argv = settings("pairs", num_train_epochs=6)
    monkeypatch.setattr("sys.argv", ["x", *argv])
    script("finetune_classification").main()
    out = tmp_path / "out"
    scores = json.loads((out / "all_results.json").read_text("utf-8"))
    assert scores["validation"]["accuracy"] >= 60 and "test" in scores
    assert "accuracy" in capsys.readouterr().out
    assert json.loads((out / "STATUS.json").read_text())["state"] == "finished"
    answer = pipeline("text-classification", model=str(out))({"text": "ev su", "text_pair": "ev su"})
    assert answer["label"] in ("aynı", "farklı")
    card = (out / "README.md").read_text("utf-8")
    assert "aynı, farklı" in card and "model-index" in card and str(tmp_path) not in card
    assert not list(out.glob("training_args.bin"))
    before = (out / "model.safetensors").stat().st_mtime_ns
    script("finetune_classification").main()  # once more: it is there
    assert (out / "model.safetensors").stat().st_mtime_ns == before
    with pytest.raises(UserError, match="another seed"):
        open_output(parse_finetuning_args("classification", [*argv, "--seed=5"]))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("all of it")
    with pytest.raises(UserError, match="holds thesis.txt, which no fine-tuning left"):
        open_output(parse_finetuning_args("classification", [*argv, f"--output_dir={tmp_path / 'mine'}"]))


def test_names_end_to_end(settings, tmp_path):
    result = finetune(parse_finetuning_args("token_classification", settings("tags", num_train_epochs=4)))
    assert result.scores["test"]["f1"] > 90
    find = pipeline("token-classification", model=str(tmp_path / "out"), aggregation_strategy="simple")
    assert [entity["entity_group"] for entity in find("dün eve gitti Ankara .")] == ["LOC"]


def test_answers_end_to_end(settings, tmp_path):
    argv = settings("questions", num_train_epochs=12, doc_stride=8)
    result = finetune(parse_finetuning_args("question_answering", argv))
    assert result.scores["test"]["f1"] > 50
    assert json.loads((tmp_path / "out" / "config.json").read_text())["architectures"] == ["BertForQuestionAnswering"]


def test_no_answer_is_learned_from_questions_without_one(settings, data_dir, tmp_path):
    rows = [json.loads(line) for line in (data_dir / "questions" / "train.jsonl").read_text("utf-8").splitlines()]
    for row in rows[::2]:
        row |= {"context": row["context"].replace("adı", "sanki"), "answers": {"text": [], "answer_start": []}}
    for split in ("train", "validation"):
        write_rows(tmp_path / "data" / f"{split}.jsonl", rows)
    argv = settings("questions", dataset_name=tmp_path / "data", num_train_epochs=12, doc_stride=8)
    run = parse_finetuning_args("question_answering", argv)
    trainer = build_trainer(run.task, run.training(), prepare_task(run.task))
    scores = train_and_score(trainer).scores["validation"]
    assert scores["no_answer_f1"] > 60 and "has_answer_f1" in scores


def test_regression(settings, data_dir, tmp_path):
    for split in ("train", "validation"):
        rows = [json.loads(line) for line in (data_dir / "pairs" / f"{split}.jsonl").read_text("utf-8").splitlines()]
        rows = [{**row, "label": 5.0 if row["label"] == "aynı" else 0.5} for row in rows]
        write_rows(tmp_path / "data" / f"{split}.jsonl", rows)
    run = parse_finetuning_args("classification", settings("pairs", dataset_name=tmp_path / "data"))
    data = prepare_task(run.task)
    trainer = build_trainer(run.task, run.training(), data)
    assert trainer.model.config.problem_type == "regression" and trainer.model.num_labels == 1
    assert set(train_and_score(trainer).scores["validation"]) == {"loss", "pearson", "spearman", "combined", "mse"}


def test_a_script_refuses_the_config_of_another_task(tmp_path, settings):
    with pytest.raises(UserError, match="run scripts/finetune_token_classification.py"):
        parse_finetuning_args("classification", [*settings("pairs"), "--task=token_classification"])


def test_an_unknown_key_names_the_nearest(settings):
    with pytest.raises(UserError, match="did you mean 'max_train_samples'"):
        parse_finetuning_args("classification", [*settings("pairs"), "--max_train_sample=3"])


def test_the_encoder_stays_frozen(settings):
    run = parse_finetuning_args("classification", settings("pairs", freeze_encoder=True, num_train_epochs=1))
    trainer = build_trainer(run.task, run.training(), prepare_task(run.task))
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    train_and_score(trainer)
    after = trainer.model.state_dict()
    changed = {name for name, value in after.items() if not torch.equal(before[name].cpu(), value.cpu())}
    assert changed == {"classifier.weight", "classifier.bias"}


def test_class_weights_by_hand(settings):
    assert balanced_weights([30, 10]) == [40 / 60, 2.0] and balanced_weights([4, 0]) == [0.5, 1.0]
    run = parse_finetuning_args("classification", settings("pairs", class_weights="balanced"))
    trainer = build_trainer(run.task, run.training(), prepare_task(run.task))
    trainer.class_weights = torch.tensor([1.0, 3.0])
    batch = next(iter(trainer.get_eval_dataloader()))
    trainer.model.eval()
    logits = trainer.model(**{k: v for k, v in batch.items() if k != "labels"}).logits
    losses = -torch.log_softmax(logits, -1)[torch.arange(len(logits)), batch["labels"]]
    weights = torch.tensor([1.0, 3.0])[batch["labels"]]
    loss = trainer.compute_loss(trainer.model, dict(batch))
    assert loss.item() == pytest.approx(((losses * weights).sum() / weights.sum()).item(), rel=1e-5)


def test_early_stopping(settings):
    argv = settings("pairs", learning_rate=1e-12, num_train_epochs=9, early_stopping_patience=1)
    run = parse_finetuning_args("classification", argv)
    trainer = build_trainer(run.task, run.training(), prepare_task(run.task))
    assert train_and_score(trainer).steps == 2 * 8  # the second pass is no better than the first


def test_accumulation_does_not_scale_the_gradient(settings):
    keys = {"num_train_epochs": 1, "logging_steps": 1, "train_sampling_strategy": "sequential"}

    def first_norm(size, together):
        changes = {"per_device_train_batch_size": size, "gradient_accumulation_steps": together}
        run = parse_finetuning_args("classification", settings("pairs", **keys, **changes))
        trainer = build_trainer(run.task, run.training(), prepare_task(run.task))
        trainer.train()
        return trainer.state.log_history[0]["grad_norm"]

    assert first_norm(8, 1) == pytest.approx(first_norm(2, 4), rel=1e-3)


def test_the_loop_is_the_trainer(settings, tmp_path, monkeypatch):
    """With the rows in one order and no dropout, the same weights and scores; what is left is the order of rows."""
    keys = {"load_best_model_at_end": False, "save_strategy": "no", "weight_decay": 0.1}
    argv = settings("pairs", **keys, train_sampling_strategy="sequential")
    trained = finetune(parse_finetuning_args("classification", argv))
    loop = script("finetune_loop")
    monkeypatch.setattr(loop, "DataLoader", lambda *args, **kwargs: DataLoader(*args, **{**kwargs, "shuffle": False}))
    run = parse_finetuning_args("classification", settings("pairs", **keys, output_dir=tmp_path / "loop"))
    looped = loop.train(run)
    for split, scores in looped.items():
        assert scores == pytest.approx({name: trained.scores[split][name] for name in scores}, rel=1e-6), split
    models = [AutoModelForSequenceClassification.from_pretrained(tmp_path / name) for name in ("out", "loop")]
    assert models[1].config.id2label == {0: "aynı", 1: "farklı"}
    for (name, ours), theirs in zip(models[0].named_parameters(), models[1].parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5, msg=name)


def test_a_log_file_gets_lines_and_no_dicts(settings, caplog, capfd):
    caplog.set_level("INFO", logger="turkbert")
    finetune(parse_finetuning_args("classification", settings("pairs", logging_steps=4, disable_tqdm=False)))
    lines = [record.getMessage() for record in caplog.records if record.name == "turkbert.finetuning.progress"]
    assert [line.partition(":")[0] for line in lines] == [f"step {n} of 16" for n in (4, 8)] + ["step 8"] + [
        f"step {n} of 16" for n in (12, 16)
    ] + ["step 16"]
    assert lines[2].startswith("step 8: validation accuracy ") and "runtime" not in lines[2]
    told = capfd.readouterr()
    assert "{'" not in told.out + told.err and "%|" not in told.out + told.err


def test_a_key_that_the_loop_does_not_read_is_refused(settings, tmp_path):
    keys = settings("pairs", logging_steps=None)
    assert parse_loop_args([*keys, "--max_train_samples=8"]).task.max_train_samples == 8
    with pytest.raises(UserError, match="freeze_encoder: the loop does not read it"):
        parse_loop_args([*keys, "--freeze_encoder=true"])


def test_push_to_hub(settings, tmp_path, hub):  # noqa: F811
    argv = settings("pairs", num_train_epochs=1, push_to_hub=True, hub_model_id="pairs")
    finetune(parse_finetuning_args("classification", argv))
    manifest = json.loads((tmp_path / "out" / "MANIFEST.json").read_text())
    files = hub.model("pairs").files
    assert set(files) == set(manifest["files"]) and hub.refused == []
    assert b"accuracy" in files["README.md"] and "training_args.bin" not in files
    assert hub.model("pairs").private
