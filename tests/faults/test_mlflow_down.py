"""R11: MLflow down at the start, killed midway, accepting and never answering, answering 500 to everything."""

import logging
import runpy
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.mlflow_servers import black_hole, broken_server, free_port, mlflow_server, stop
from tests.training.conftest import prepared, tiny_dir  # noqa: F401
from tests.training.test_tracking import logged, told
from tests.training.tiny import tiny_arguments
from turkbert.training.callbacks import SamplesCallback
from turkbert.training.run import pretrain
from turkbert.training.run_record import read_record

pytest.importorskip("mlflow")

ROOT = Path(__file__).resolve().parents[2]
SHORT = {"max_steps": 6, "eval_steps": 3, "save_steps": 3, "stage_fractions": [0.5, 0.5]}
ADDED_SECONDS = 5


@contextmanager
def down():
    yield f"http://127.0.0.1:{free_port()}"


FAULTS = {"down at the start": down, "black hole": black_hole, "500s": broken_server}


def seconds_of(tiny_dir, prepared, output_dir, **changes):  # noqa: F811
    args = tiny_arguments(tiny_dir, output_dir, **{**SHORT, **changes})
    started = time.monotonic()
    pretrain(args, args.training(), prepared.tokenizer, prepared.rows)
    return time.monotonic() - started


@pytest.fixture(scope="module")
def plain(tiny_dir, prepared, tmp_path_factory):  # noqa: F811
    """The folder of a run without a tracker, and its seconds (of a second run: the first one imports)."""
    folder = tmp_path_factory.mktemp("plain")
    seconds_of(tiny_dir, prepared, folder / "first")
    return folder / "first", seconds_of(tiny_dir, prepared, folder / "second")


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


def warnings_of(caplog) -> list[str]:
    return [r.getMessage() for r in caplog.records if "MLflow" in r.getMessage() and r.levelno >= logging.WARNING]


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("replayed", ["by hand", "by the same command"])
def test_a_fault_costs_seconds_and_nothing_else(
    tiny_dir, prepared, tmp_path, monkeypatch, caplog, plain, fault, replayed  # noqa: F811
):
    if (replayed == "by hand") != (fault == "500s"):
        pytest.skip("each fault is replayed in one way")
    out = tmp_path / "out"
    with FAULTS[fault]() as address, caplog.at_level(logging.INFO):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        seconds = seconds_of(tiny_dir, prepared, out, report_to="mlflow")
    assert weights(out) == weights(plain[0])
    assert seconds <= plain[1] + ADDED_SECONDS
    assert len(warnings_of(caplog)) == 1 and "metrics.jsonl" in warnings_of(caplog)[0]
    assert not read_record(out)["mlflow"]["complete"]

    database = f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", database)
    monkeypatch.chdir(tmp_path)
    if replayed == "by hand":
        monkeypatch.setattr(sys, "argv", ["replay_metrics.py", str(out)])
        (out / "STATUS.json").write_text('{"state": "finished"}')
        runpy.run_path(str(ROOT / "scripts" / "replay_metrics.py"), run_name="__main__")
    else:
        seconds_of(tiny_dir, prepared, out, report_to="mlflow")
    _, run, history = told(database, out)
    assert history == logged(out) and run.info.status == "FINISHED"


@pytest.mark.slow
def test_a_server_that_is_killed_midway(tiny_dir, prepared, tmp_path, monkeypatch, caplog, plain):  # noqa: F811
    """It comes back after the run; the same command sends what it missed, into the same MLflow run, nothing twice."""
    out, port = tmp_path / "out", free_port()
    with mlflow_server(tmp_path / "server", port) as (address, process):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        on_evaluate = SamplesCallback.on_evaluate

        def killing(self, args, state, control, **kwargs):
            if state.global_step == 3:
                end = time.monotonic() + 20  # let it have something first
                while time.monotonic() < end and not read_record(out)["mlflow"]["run_id"]:
                    time.sleep(0.05)
                killing.waited = time.monotonic() + 20 - end
                stop(process)
            on_evaluate(self, args, state, control, **kwargs)

        with monkeypatch.context() as patched:
            patched.setattr(SamplesCallback, "on_evaluate", killing)
            seconds = seconds_of(tiny_dir, prepared, out, report_to="mlflow") - killing.waited
    first = read_record(out)["mlflow"]
    assert first["run_id"] and not first["complete"]
    assert weights(out) == weights(plain[0]) and seconds <= plain[1] + ADDED_SECONDS
    assert len(warnings_of(caplog)) == 1
    with mlflow_server(tmp_path / "server", port) as (address, _):
        seconds_of(tiny_dir, prepared, out, report_to="mlflow")
        client, run, history = told(address, out)
        assert run.info.run_id == first["run_id"] and run.info.status == "FINISHED"
        assert history == logged(out)
        assert len(client.get_metric_history(run.info.run_id, "mlm_loss")) == SHORT["max_steps"]
