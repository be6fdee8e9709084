"""metrics.jsonl holds each log once, whatever happens to the run; a real MLflow server gets all of it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mlflow_servers import mlflow_server
from tests.training.tiny import run, tiny_arguments
from turkbert.training.metrics_file import METRICS_FILE, keep_until, read_metrics
from turkbert.training.plots import NAMES
from turkbert.training.run_record import open_record, read_record

ROOT = Path(__file__).resolve().parents[2]
SHORT = {"max_steps": 4, "eval_steps": 2, "save_steps": 2, "stage_fractions": [0.5, 0.5]}


def lines_of(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / METRICS_FILE).read_text().splitlines()]


# ---- metrics.jsonl


def test_every_log_is_a_line(tiny_dir, prepared, tmp_path):
    trainer = run(tiny_arguments(tiny_dir, tmp_path / "out", **SHORT), prepared)
    lines = lines_of(tmp_path / "out")
    assert [line["step"] for line in lines] == [1, 2, 2, 3, 4, 4, 4]
    assert [line.get("final") for line in lines] == [None] * 6 + [True]
    assert [line["tokens_seen"] for line in lines][::3] == [8 * 32, 2 * 8 * 32 + 4 * 64, 2 * (8 * 32 + 4 * 64)]
    for line, logged in zip(lines, trainer.state.log_history, strict=True):
        assert {name: line[name] for name in logged} == logged
        assert abs(line["time"] - Path(tmp_path / "out" / METRICS_FILE).stat().st_mtime) < 60


def test_the_file_has_the_line_before_any_tracker_hears_of_it(tiny_dir, prepared, tmp_path):
    """The callbacks that report_to brings come before those that are added later."""
    from transformers import TrainerCallback

    from turkbert.training.run import build_trainer

    class Tracker(TrainerCallback):
        seen: list = []

        def on_log(self, args, state, control, logs=None, **kwargs):
            last = lines_of(Path(args.output_dir))[-1]
            self.seen.append(last["step"] == state.global_step and logs.items() <= last.items())

    args = tiny_arguments(tiny_dir, tmp_path / "out", **SHORT)
    trainer = build_trainer(args, args.training(), prepared.tokenizer, prepared.rows, checkpoint=None)
    trainer.callback_handler.callbacks.insert(1, Tracker())  # as early as those of report_to can be
    trainer.train()
    assert len(Tracker.seen) == 7 and all(Tracker.seen)


def test_a_resumed_run_has_each_step_once(tiny_dir, prepared, tmp_path):
    """Steps after the checkpoint are logged again; a line that a crash cut in two is gone."""
    import shutil

    args = tiny_arguments(tiny_dir, tmp_path / "out", **SHORT)
    run(args, prepared)
    whole = lines_of(tmp_path / "out")
    shutil.rmtree(tmp_path / "out" / "checkpoint-4")
    with open(tmp_path / "out" / METRICS_FILE, "a") as file:
        file.write('{"step": 5, "time": 17')
    assert len(list(read_metrics(tmp_path / "out" / METRICS_FILE))) == 7
    run(args, prepared)
    again = lines_of(tmp_path / "out")
    for name in ("step", "tokens_seen", "mlm_loss", "nsp_loss", "eval_mlm_loss", "final"):
        assert [line.get(name) for line in again] == [line.get(name) for line in whole]
    assert again[:3] == whole[:3] and again[3] != whole[3]  # kept, and logged at another time


def test_a_new_run_begins_an_empty_file(tmp_path):
    path = tmp_path / METRICS_FILE
    path.write_text('{"step": 0, "time": 1}\n{"step": 1, "time": 1}\n')
    keep_until(path, 0)
    assert path.read_text() == ""


def test_what_is_not_finite_is_written_as_json(tmp_path):
    from types import SimpleNamespace

    from turkbert.training.metrics_file import MetricsFileCallback

    args = SimpleNamespace(output_dir=str(tmp_path))
    state = SimpleNamespace(is_world_process_zero=True, global_step=3)
    logs = {"loss": float("nan"), "a": float("inf")}
    MetricsFileCallback(lambda step: 7 * step).on_log(args, state, None, logs=logs)
    text = (tmp_path / METRICS_FILE).read_text()
    assert json.loads(text, parse_constant=pytest.fail)["loss"] == "nan"
    ((_, line),) = read_metrics(tmp_path / METRICS_FILE)
    assert float(line["a"]) == float("inf") and line["tokens_seen"] == 21


# ---- TRACKING.json


def test_changed_settings_are_recorded_with_their_step(tmp_path, monkeypatch):
    monkeypatch.setenv("SOME_TOKEN", "geheim-geheim-geheim")
    first = {"a": 1, "b": [1, 2], "hub_token": "<HUB_TOKEN>", "c": "geheim-geheim-geheim"}
    assert open_record(tmp_path, "r1", first, 0)["settings"] == {"a": 1, "b": [1, 2]}
    open_record(tmp_path, "r1", {"a": 2, "b": [1, 2]}, 10)
    record = open_record(tmp_path, "r1", {"a": 3, "b": [1, 2]}, 20)
    assert record["settings"]["a"] == 1
    assert record["changes"] == [
        {"step": 10, "name": "a", "old": 1, "new": 2},
        {"step": 20, "name": "a", "old": 2, "new": 3},
    ]
    assert open_record(tmp_path, "r2", {"a": 3}, 0)["changes"] == []
    assert read_record(tmp_path)["run_id"] == "r2"


# ---- a real server


def start_run(folder: Path, tiny_dir: Path, address: str, **changes) -> subprocess.CompletedProcess:
    """scripts/pretrain.py with output_dir `folder`/out and MLflow at `address`."""
    folder.mkdir(exist_ok=True)
    tiny_arguments(tiny_dir, folder / "out", report_to="mlflow", **{**SHORT, **changes})
    environment = {**os.environ, "MLFLOW_TRACKING_URI": address, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(ROOT / "scripts" / "pretrain.py"), str(folder / "out.json")]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def told(address: str, folder: Path):
    """The MLflow run of an output folder, as a client of its own sees it, and {(metric, step, value as text)}."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(address)
    run = client.get_run(read_record(folder)["mlflow"]["run_id"])
    history = {
        (name, point.step, str(point.value))
        for name in run.data.metrics
        for point in client.get_metric_history(run.info.run_id, name)
    }
    return client, run, history


def logged(folder: Path) -> set[tuple[str, int, str]]:
    names = {"step", "time", "final"}
    return {(n, line["step"], str(float(v))) for line in lines_of(folder) for n, v in line.items() if n not in names}


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """Its address, once it has answered the first requests, which take seconds."""
    mlflow = pytest.importorskip("mlflow")
    folder = tmp_path_factory.mktemp("mlflow")
    with mlflow_server(folder) as (address, _):
        client = mlflow.MlflowClient(address)
        first = client.create_run("0").info.run_id
        client.log_batch(first, metrics=[mlflow.entities.Metric("a", 1.0, 1, 1)])
        client.search_runs(["0"], "tags.a = 'b'")
        client.log_artifact(first, str(folder / "server.log"))
        client.set_terminated(first)
        yield address


@pytest.mark.slow
def test_a_server_gets_the_whole_run(server, tiny_dir, tmp_path):
    process = start_run(tmp_path, tiny_dir, server)
    assert process.returncode == 0 and "MLflow" not in process.stderr, process.stderr[-3000:]
    client, run, history = told(server, tmp_path / "out")
    assert history == logged(tmp_path / "out") and ("nsp_loss", 4) in {(name, step) for name, step, _ in history}
    assert run.info.status == "FINISHED"
    assert run.data.params["learning_rate"] == "0.01" and run.data.params["vocab_size"] == "1000"
    assert len(run.data.params) > 150 and "hub_token" not in run.data.params
    names = {artifact.path for artifact in client.list_artifacts(run.info.run_id)}
    assert {"README.md", "run_config.json", "generated_samples.txt", METRICS_FILE, "data", "plots"} <= names
    plots = {artifact.path for artifact in client.list_artifacts(run.info.run_id, "plots")}
    assert plots == {f"plots/{name}" for name in NAMES}
    assert client.list_artifacts(run.info.run_id, "data/block_32")[0].path == "data/block_32/stats.json"


@pytest.mark.slow
def test_a_resumed_run_goes_on_in_the_same_mlflow_run(server, tiny_dir, tmp_path):
    """Ended by a signal it counts as killed; resumed it is the same run, and what was set otherwise is told."""
    from turkbert.errors import PREEMPTED

    start = {"save_strategy": "steps", "max_steps": 400, "save_steps": 400, "eval_steps": 400}
    tiny_arguments(tiny_dir, tmp_path / "out", report_to="mlflow", **{**SHORT, **start})
    environment = {**os.environ, "MLFLOW_TRACKING_URI": server, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(ROOT / "scripts" / "pretrain.py"), str(tmp_path / "out.json")]
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True)
    while not (tmp_path / "out" / METRICS_FILE).exists() or len(lines_of(tmp_path / "out")) < 20:
        assert process.poll() is None
    process.terminate()
    process.stderr.read()
    assert process.wait() == PREEMPTED
    _, first, _ = told(server, tmp_path / "out")
    assert first.info.status == "KILLED"

    assert start_run(tmp_path, tiny_dir, server, **start, run_name="renamed", logging_steps=7).returncode == 0
    _, second, history = told(server, tmp_path / "out")
    assert second.info.run_id == first.info.run_id and second.info.status == "FINISHED"
    assert second.data.params["logging_steps"] == first.data.params["logging_steps"] == "1.0"
    assert "; from step " in second.data.tags["changed.logging_steps"]
    assert second.data.tags["changed.logging_steps"].endswith(": 7")
    assert logged(tmp_path / "out") <= history


@pytest.mark.slow
def test_a_run_that_fails_is_told_as_failed(server, tiny_dir, tmp_path):
    bad = {"max_steps": 60, "learning_rate": 1e30, "min_learning_rate": 0, "warmup_steps": 0}
    process = start_run(tmp_path, tiny_dir, server, **bad)
    assert process.returncode not in (0, 75), process.stderr[-2000:]
    _, run, history = told(server, tmp_path / "out")
    assert run.info.status == "FAILED" and logged(tmp_path / "out") <= history
