"""Runs as a user starts them, by scripts/pretrain.py and scripts/evaluate.py: files, exit codes, one-line errors."""

import hashlib
import json
import logging
import os
import re
import runpy
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from safetensors.torch import load_file
from transformers import (
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForNextSentencePrediction,
    AutoModelForPreTraining,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    BertConfig,
    BertForMaskedLM,
)

import turkbert
from tests.training.tiny import TINY
from turkbert.artifacts import read_manifest

SCRIPTS = Path(__file__).parents[2] / "scripts"
SHORT = {**TINY, "max_steps": 4, "eval_steps": 2, "save_steps": 2, "stage_fractions": [0.5, 0.5]}

STRANGER = """
import json, sys
sys.modules["turkbert"] = None  # import turkbert raises ImportError
import torch
from transformers import AutoModel, AutoModelForMaskedLM, AutoModelForPreTraining, AutoTokenizer, pipeline
folder = sys.argv[1]
tokenizer = AutoTokenizer.from_pretrained(folder)
inputs = tokenizer("İstanbul'un en [MASK] yeri.", "Çok güzel.", return_tensors="pt")
report, logits = {"type_ids": inputs["token_type_ids"][0].tolist()}, {}
for auto in (AutoModel, AutoModelForMaskedLM, AutoModelForPreTraining):
    model, info = auto.from_pretrained(folder, output_loading_info=True)
    report[auto.__name__] = [type(model).__name__, sorted(info["missing_keys"])]
with torch.no_grad():
    outputs = model(**inputs)
torch.save([dict(inputs), outputs.prediction_logits, outputs.seq_relationship_logits], sys.argv[2])
report["fill"] = len(pipeline("fill-mask", model=folder)("Türkiye'nin başkenti [MASK]."))
print(json.dumps(report))
"""


def write_config(folder: Path, tiny_dir: Path, **changes) -> Path:
    """A config file in `folder`; data and tokenizer are those of the shared tiny data set."""
    folder.mkdir(parents=True, exist_ok=True)
    places = {"tokenizer_dir": tiny_dir / "tokenizer", "data_dir": tiny_dir / "data", "output_dir": folder / "out"}
    settings = {**SHORT, **{name: str(path) for name, path in places.items()}, **changes}
    (folder / "config.json").write_text(json.dumps(settings))
    return folder / "config.json"


def in_new_process(*command: str | Path) -> subprocess.CompletedProcess:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, *map(str, command)], capture_output=True, text=True, env=environment)


@pytest.fixture
def script(monkeypatch, capsys, caplog):
    """(name, arguments) -> exit code, stdout, the error line; runs in this process, as `python scripts/NAME.py`."""

    def call(name: str, *argv: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, argv)])
        code = 0
        with caplog.at_level(logging.INFO, "turkbert"):
            try:
                runpy.run_path(str(SCRIPTS / f"{name}.py"), run_name="__main__")
            except SystemExit as end:
                code = end.code
        captured = capsys.readouterr()
        errors = [line for line in captured.err.splitlines() if line.startswith("turkbert: error: ")]
        assert len(errors) == (code != 0) and "Traceback" not in captured.err
        return code, captured.out, "".join(errors)

    return call


@pytest.fixture(scope="module")
def first_run(tiny_dir, tmp_path_factory):
    folder = tmp_path_factory.mktemp("first")
    process = in_new_process(SCRIPTS / "pretrain.py", write_config(folder, tiny_dir))
    return folder, process


@pytest.fixture
def finished(first_run, tiny_dir, tmp_path) -> Path:
    """A copy of the finished run, to be changed: out/ and config.json."""
    shutil.copytree(first_run[0] / "out", tmp_path / "out")
    write_config(tmp_path, tiny_dir)
    return tmp_path


def make_unfinished(folder: Path, *checkpoints: str) -> None:
    """As a run that died with these checkpoints."""
    for path in list((folder / "out").iterdir()):
        if path.is_file():
            path.unlink()
        elif path.name not in checkpoints:
            shutil.rmtree(path)


def status(folder: Path) -> dict:
    return json.loads((folder / "out" / "STATUS.json").read_text())


def hashes(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def same_weights(a: Path, b: Path) -> bool:
    first, second = (load_file(folder / "model.safetensors") for folder in (a, b))
    return all(torch.equal(first[name], second[name]) for name in second)


# ---- a run and its files


def test_first_run(first_run):
    folder, process = first_run
    assert process.returncode == 0, process.stderr[-3000:]
    for name in ("mlm_loss", "mlm_accuracy", "mlm_perplexity", "nsp_loss", "nsp_accuracy", "nsp_f1"):
        assert name in process.stdout
    assert "Türkiye'nin başkenti [MASK].\n    " in process.stdout and "B follows A: 0." in process.stdout
    assert "stage 2 of 2, blocks of 64 tokens" in process.stderr
    assert status(folder)["state"] == "finished"
    names = {"model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json", "README.md"}
    assert names <= read_manifest(folder / "out")["files"].keys()
    samples = (folder / "out" / "generated_samples.txt").read_text("utf-8")
    assert re.findall(r"^step \d+$", samples, re.MULTILINE) == ["step 2", "step 4"]  # appended at each evaluation
    assert json.loads((folder / "out" / "config.json").read_text())["model_type"] == "bert"
    assert not [path for path in folder.rglob("*") if path.name == "training_args.bin"]


def test_second_run_changes_nothing(finished, script, caplog):
    before = hashes(finished / "out")
    assert script("pretrain", finished / "config.json")[0] == 0
    assert hashes(finished / "out") == before
    assert "this run is finished; nothing to do" in caplog.text


def test_overwrite_starts_afresh(finished, script):
    assert script("pretrain", finished / "config.json", "--overwrite", "true", "--learning_rate", "0.02")[0] == 0
    settings = json.loads((finished / "out" / "run_config.json").read_text())
    assert settings["learning_rate"] == 0.02
    assert json.loads((finished / "out" / "checkpoint-4" / "training_args.json").read_text())["learning_rate"] == 0.02
    assert read_manifest(finished / "out")["key"]["learning_rate"] == 0.02


@pytest.mark.parametrize("again", [("--overwrite", "true"), ()])
def test_interrupted_overwrite_goes_on(finished, script, again, monkeypatch):
    """Told to end at step 2 of an overwriting run; the same command, or the one without the word, finishes it."""
    from turkbert.training.preemption import PreemptionCallback

    on_step_end = PreemptionCallback.on_step_end

    def told_at_two(self, args, state, control, **kwargs):
        self._told = state.global_step == 2
        on_step_end(self, args, state, control, **kwargs)

    changed = ("--learning_rate", "0.02")
    with monkeypatch.context() as patched:
        patched.setattr(PreemptionCallback, "on_step_end", told_at_two)
        assert script("pretrain", finished / "config.json", "--overwrite", "true", *changed)[0] == 75
    assert read_manifest(finished / "out")["key"]["learning_rate"] != 0.02  # the old result is still there
    assert (finished / "out" / "checkpoint-2").is_dir()
    made = (finished / "out" / "checkpoint-2" / "trainer_state.json").stat().st_mtime_ns
    assert script("pretrain", finished / "config.json", *again, *changed)[0] == 0
    assert (finished / "out" / "checkpoint-2" / "trainer_state.json").stat().st_mtime_ns == made
    assert read_manifest(finished / "out")["key"]["learning_rate"] == 0.02
    assert not (finished / "out" / "OVERWRITING.json").exists()


def test_overwrite_that_cannot_start_takes_nothing_away(finished, script):
    save_bert(finished / "bert", vocab_size=500)
    before = hashes(finished / "out")
    arguments = ("--overwrite", "true", "--model_name_or_path", finished / "bert")
    assert script("pretrain", finished / "config.json", *arguments)[0] == 3
    after = hashes(finished / "out")
    changed = [name for name in before if after.get(name) != before[name]]
    assert changed == [str(finished / "out" / "STATUS.json")]


@pytest.mark.parametrize(
    ("name", "value"),
    [("learning_rate", 2.0), ("seed", 1), ("max_steps", 5), ("edge_buffer", 5), ("hidden_size", 32)],
)
@pytest.mark.parametrize("state", ["finished", "unfinished"])
def test_changed_setting_is_refused(finished, script, name, value, state):
    if state == "unfinished":
        make_unfinished(finished, "checkpoint-2")
    code, _, error = script("pretrain", finished / "config.json", f"--{name}", str(value))
    assert code == 3 and name in error and str(value) in error
    assert status(finished)["state"] == "failed" and status(finished)["message"] in error


def test_unfinished_run_is_resumed(finished, first_run, script, caplog):
    make_unfinished(finished, "checkpoint-2")
    assert script("pretrain", finished / "config.json")[0] == 0
    assert "resuming from" in caplog.text and "checkpoint-2" in caplog.text
    assert same_weights(finished / "out" / "checkpoint-4", first_run[0] / "out" / "checkpoint-4")
    assert same_weights(finished / "out", first_run[0] / "out")


def test_damaged_newest_is_named_and_passed_over(finished, first_run, script, caplog):
    make_unfinished(finished, "checkpoint-2", "checkpoint-4")
    (finished / "out" / "checkpoint-4" / "optimizer.pt").write_bytes(b"damage")
    assert script("pretrain", finished / "config.json")[0] == 0
    assert "checkpoint-4: optimizer.pt has 6 bytes" in caplog.text and "checkpoint-2" in caplog.text
    assert same_weights(finished / "out", first_run[0] / "out")


@pytest.mark.parametrize(
    ("argument", "code", "what"),
    [
        ("auto", 5, "none of its checkpoints is whole"),
        ("out/checkpoint-2", 5, "model.safetensors is missing"),
        ("out/checkpoint-3", 3, "not a checkpoint"),
    ],
)
def test_no_whole_checkpoint(finished, script, monkeypatch, argument, code, what):
    make_unfinished(finished, "checkpoint-2")
    (finished / "out" / "checkpoint-2" / "model.safetensors").unlink()
    monkeypatch.chdir(finished)
    found, _, error = script("pretrain", "config.json", "--resume_from_checkpoint", argument)
    assert found == code and what in error


def test_two_runs_in_one_folder(tiny_dir, tmp_path, script, monkeypatch):
    monkeypatch.setattr("turkbert.training.run.LOCK_SECONDS", 0.1)
    with FileLock(tmp_path / ".out.lock"):
        code, _, error = script("pretrain", write_config(tmp_path, tiny_dir))
    assert code == 4 and "another run is writing there" in error
    assert not list((tmp_path / "out").glob("checkpoint-*"))


def test_finished_but_damaged_since(finished, script):
    (finished / "out" / "model.safetensors").write_bytes(b"")
    code, _, error = script("pretrain", finished / "config.json")
    assert code == 5 and "model.safetensors has 0 bytes" in error


# ---- who can load it


def test_a_stranger_loads_out(first_run, tmp_path):
    out = first_run[0] / "out"
    (tmp_path / "stranger.py").write_text(STRANGER)
    process = in_new_process(tmp_path / "stranger.py", out, tmp_path / "logits.pt")
    assert process.returncode == 0, process.stderr[-3000:]
    report = json.loads(process.stdout.splitlines()[-1])
    assert report["AutoModel"] == ["BertModel", []]
    assert report["AutoModelForMaskedLM"] == ["BertForMaskedLM", []]
    assert report["AutoModelForPreTraining"] == ["BertForPreTraining", []]
    assert report["fill"] == 5 and set(report["type_ids"]) == {0, 1}
    inputs, words, next_sentence = torch.load(tmp_path / "logits.pt", weights_only=True)
    outputs = turkbert.TurkBertForPreTraining.from_pretrained(out)(**inputs)
    torch.testing.assert_close(outputs.prediction_logits, words, rtol=0, atol=1e-5)
    torch.testing.assert_close(outputs.seq_relationship_logits, next_sentence, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("auto", "kind"),
    [
        (AutoModel, turkbert.TurkBertModel),
        (AutoModelForPreTraining, turkbert.TurkBertForPreTraining),
        (AutoModelForMaskedLM, turkbert.TurkBertForMaskedLM),
        (AutoModelForNextSentencePrediction, turkbert.TurkBertForNextSentencePrediction),
        (AutoModelForSequenceClassification, turkbert.TurkBertForSequenceClassification),
        (AutoModelForTokenClassification, turkbert.TurkBertForTokenClassification),
        (AutoModelForQuestionAnswering, turkbert.TurkBertForQuestionAnswering),
    ],
)
def test_auto_classes_load_a_checkpoint(first_run, auto, kind):
    model, info = auto.from_pretrained(first_run[0] / "out" / "checkpoint-4", output_loading_info=True)
    assert type(model) is kind
    new_head = {name for name in info["missing_keys"] if not name.startswith(("classifier.", "qa_outputs."))}
    assert not new_head


# ---- starting points


def save_bert(folder: Path, tokenizer_dir: Path | None = None, **changes) -> Path:
    """A stock BERT with an MLM head alone, and with a tokenizer beside it if one is given."""
    sizes = {"vocab_size": 1000, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = BertConfig(**{**sizes, "intermediate_size": 32, "max_position_embeddings": 64, **changes})
    BertForMaskedLM(config).save_pretrained(folder)
    if tokenizer_dir:
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(tokenizer_dir / name, folder)
    return folder


def test_starts_from_a_stock_bert(tiny_dir, tmp_path, script, caplog):
    bert = save_bert(tmp_path / "bert", tiny_dir / "tokenizer")
    barely = {"learning_rate": 1e-9, "min_learning_rate": 0, "max_steps": 2}
    config = write_config(tmp_path, tiny_dir, model_name_or_path=str(bert), **barely)
    assert script("pretrain", config)[0] == 0
    assert "newly initialised: bert.pooler.dense.bias" in caplog.text and "parameters loaded" in caplog.text
    word = "bert.embeddings.word_embeddings.weight"
    out, stock = (load_file(folder / "model.safetensors")[word] for folder in (tmp_path / "out", bert))
    torch.testing.assert_close(out, stock, rtol=0, atol=1e-6)


# R14 rows 31 and 34
def test_model_settings_are_checked_before_the_data(tiny_dir, tmp_path, script, monkeypatch):
    """Nothing is built, and what looks like a path is never looked up on the Hub."""

    def no_network(*args, **kwargs):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    bert = save_bert(tmp_path / "bert", max_position_embeddings=32)
    wrong_samples = tmp_path / "texts.txt"
    wrong_samples.write_bytes("Yarın [MASK] olacak.".encode("iso-8859-9"))
    for changes, code, what in (
        ({"model_name_or_path": "./no/such/bert"}, 3, "no such folder"),
        ({"model_name_or_path": str(tmp_path / "brt")}, 3, "no such folder"),
        ({"model_name_or_path": str(bert)}, 3, "64 is over the model's 32 positions"),
        ({"sample_texts": str(wrong_samples)}, 2, "not UTF-8"),
        ({"sample_texts": "nowhere.txt"}, 2, "nowhere.txt"),
        ({"max_position_embeddings": 32}, 3, "64 is over the model's positions"),
        ({"hiden_size": 32}, 3, "unknown key 'hiden_size'; did you mean 'hidden_size'?"),
    ):
        config = write_config(tmp_path, tiny_dir, data_dir=str(tmp_path / "data"), **changes)
        found, _, error = script("pretrain", config)
        assert found == code and what in error
        assert not (tmp_path / "data").exists()


# R14 row 18
def test_a_model_that_does_not_fit_the_tokenizer(tiny_dir, tmp_path, script):
    other = json.loads((tiny_dir / "tokenizer" / "tokenizer.json").read_text("utf-8"))
    vocab = other["model"]["vocab"]
    a, b = list(vocab)[-2:]
    vocab[a], vocab[b] = vocab[b], vocab[a]  # as many tokens, two of them swapped
    swapped = save_bert(tmp_path / "swapped", tiny_dir / "tokenizer")
    (swapped / "tokenizer.json").write_text(json.dumps(other), "utf-8")
    broken = save_bert(tmp_path / "broken", tiny_dir / "tokenizer")
    (broken / "model.safetensors").write_bytes((broken / "model.safetensors").read_bytes()[:-9])
    for model, code, what in (
        (save_bert(tmp_path / "small", vocab_size=500), 3, "the tokenizer has 1000 tokens, the model 500"),
        (swapped, 3, "its vocabulary is not the one that comes with"),
        (broken, 5, "its weights cannot be read"),
    ):
        found, _, error = script("pretrain", write_config(tmp_path, tiny_dir, model_name_or_path=str(model)))
        assert found == code and what in error


# ---- bad input


@pytest.mark.parametrize(
    ("changes", "code", "what"),
    [
        ({"corpus": ["nowhere/*.txt"]}, 2, "nowhere/*.txt"),
        ({"corpus": ["one.txt"], "vocab_size": 20}, 2, "documents"),
        ({"report_to": "nonsense"}, 3, "'nonsense' is not installed"),
        ({"output_dir": "one.txt"}, 3, "one.txt is a file"),
        ({"metric_for_best_model": "accuracy"}, 3, "choose from loss, mlm_loss"),
        ({"hidden_act": "geluu"}, 3, "'geluu' is not supported"),
        ({"attn_implementation": "fast"}, 3, "'fast' is not supported"),
        ({"save_steps": 2.5}, 3, "save_steps"),
        ({"fsdp": "full_shard"}, 3, "one process"),
        ({"overlap": 61}, 3, "61 is not below the window"),
    ],
)
def test_bad_settings_and_input(tiny_dir, tmp_path, script, monkeypatch, changes, code, what):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "one.txt").write_text("Bir cümle. " * 500, "utf-8")
    places = {"data_dir": "data", "tokenizer_dir": "tokenizer"} if "corpus" in changes else {}
    found, _, error = script("pretrain", write_config(tmp_path, tiny_dir, **places, **changes))
    assert found == code and what in error


@pytest.mark.parametrize(
    "changes",
    [
        {"stage_batch_sizes": [400, 200], "max_steps": 2},
        {"max_steps": 1, "warmup_steps": 1000},
        {"stage_fractions": [0.999, 0.001], "eval_steps": 1000, "save_steps": 1000},
        {"eval_strategy": "no", "save_strategy": "no", "logging_strategy": "no"},
        {"per_device_eval_batch_size": 1, "max_eval_steps": 1, "save_steps": 0.5, "eval_steps": 0.5},
    ],
)
def test_odd_sizes(tiny_dir, tmp_path, script, changes):
    assert script("pretrain", write_config(tmp_path, tiny_dir, **changes))[0] == 0
    assert status(tmp_path)["state"] == "finished"
    assert script("pretrain", tmp_path / "config.json")[0] == 0


# ---- samples, evaluation, trackers, the Hub


def test_sample_texts_of_the_user(tiny_dir, tmp_path, script):
    (tmp_path / "texts.txt").write_text("# mine\nKedi [MASK] içti.\nBir.\tİki.\n", "utf-8")
    config = write_config(tmp_path, tiny_dir, sample_texts=str(tmp_path / "texts.txt"), max_steps=2)
    out = script("pretrain", config)[1]
    written = (tmp_path / "out" / "generated_samples.txt").read_text("utf-8")
    for text in (out, written):
        assert "Kedi [MASK] içti.\n    " in text and "Bir. → İki.\n    B follows A: 0." in text
        assert "# mine" not in text and "başkenti" not in text


def test_evaluate(first_run, tiny_dir, tmp_path, script):
    run_dir = first_run[0]
    config = write_config(tmp_path, tiny_dir)
    ours = json.loads((run_dir / "out" / "eval_results.json").read_text())
    bert = save_bert(tmp_path / "bert", tiny_dir / "tokenizer")
    for model in (run_dir / "out", run_dir / "out" / "checkpoint-4", bert):
        code, out, _ = script("evaluate", config, "--model_name_or_path", model)
        found = json.loads((tmp_path / "out" / "evaluation.json").read_text())
        assert code == 0 and found["model"] == str(model)
        assert f"mlm_loss{found['mlm_loss']:>24.4f}" in out
        assert 3 < found["unigram_loss"] < 6.9 and 0 < found["majority_accuracy"] < 0.2
        if model == run_dir / "out":
            assert found["mlm_loss"] == pytest.approx(ours["eval_mlm_loss"], rel=1e-6)
            assert found["nsp_f1"] == pytest.approx(ours["eval_nsp_f1"])


@pytest.mark.parametrize(
    ("arguments", "code", "what"),
    [
        ((), 3, "no model is named"),
        (("--model_name_or_path", "OUT", "--data_dir", "nowhere"), 2, "no prepared rows"),
        (("--model_name_or_path", "OUT", "--tokenizer_dir", "nowhere"), 3, "no folder nowhere"),
        (("--model_name_or_path", "OUT/nothing"), 3, "no such folder"),
    ],
)
def test_evaluate_refuses(first_run, tiny_dir, tmp_path, script, arguments, code, what):
    arguments = [word.replace("OUT", str(first_run[0] / "out")) for word in arguments]
    found, _, error = script("evaluate", write_config(tmp_path, tiny_dir), *arguments)
    assert found == code and what in error


def test_mlflow_needs_a_database(tiny_dir, tmp_path, script, monkeypatch):
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "file:mlruns")
    code, _, error = script("pretrain", write_config(tmp_path, tiny_dir, report_to="mlflow"))
    assert code == 3 and "sqlite:///mlflow.db" in error


@pytest.mark.slow
def test_mlflow_gets_both_losses(tiny_dir, tmp_path):
    sqlite3 = pytest.importorskip("sqlite3")
    pytest.importorskip("mlflow")
    config = write_config(tmp_path, tiny_dir, report_to="mlflow")
    environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    command = [sys.executable, SCRIPTS / "pretrain.py", config]
    assert subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True).returncode == 0
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        counts = dict(database.execute("select key, count(*) from metrics group by key"))
    assert counts["mlm_loss"] == counts["nsp_loss"] == counts["loss"] == 4
    assert counts["eval_mlm_loss"] == counts["eval_nsp_f1"] == 3
