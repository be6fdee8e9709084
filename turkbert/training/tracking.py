"""MLflow, best effort: a copy of TRACKING.json and metrics.jsonl that a run never waits for and never fails by.

    with tracked(trainer, settings):
        trainer.train()

One background thread reads the files on from where it was and sends what is new. A server that is down, slow or broken
costs a warning and at most END_SECONDS at the end; what it missed is in the files, and the next run, or
scripts/replay_metrics.py, sends it. MLflow ignores a metric that it has already, so sending twice does no harm.
"""

import json
import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.integrations import MLflowCallback

from turkbert.artifacts import write_json
from turkbert.errors import PREEMPTED, UserError
from turkbert.redaction import redact
from turkbert.training.metrics_file import METRICS_FILE, read_metrics
from turkbert.training.run_record import RUN_FILE, open_record, read_record
from turkbert.training.trainer import PretrainingTrainer

logger = logging.getLogger(__name__)

END_SECONDS = 2.5  # a run waits for a server at its end; importing MLflow takes one or two more
MORE_SECONDS = 2.0  # if it has answered all along
PATIENT_SECONDS = 60.0  # for a database file, which takes seconds to create, and where no run is held up
RETRY_SECONDS = (5.0, 60.0)  # between two tries while a server is down: at first, and at most
METRICS_A_REQUEST = 1000
PARAMS_A_REQUEST = 100
PARAM_LENGTH = 500  # characters, which older servers take too; TRACKING.json goes up whole
TAG_LENGTH = 5000
RUN_TAG = "turkbert.run_id"
NOT_METRICS = {"step", "time", "final"}
ARTIFACTS = (
    RUN_FILE, METRICS_FILE, "run_config.json", "eval_results.json", "generated_samples.txt", "README.md", "plots/*",
)  # fmt: skip


class MlflowRun:
    """The MLflow run of an output folder. Its methods raise whatever MLflow raises where it cannot be reached."""

    def __init__(self, output_dir: Path):
        self.output_dir = output_dir
        self.record = read_record(output_dir)
        self._client: Any = None
        self._id = ""
        self._offset = 0  # bytes of metrics.jsonl that were sent

    def send(self) -> None:
        """The settings, if they are not there yet, and the metrics that are new."""
        if self._client is None:
            self._connect()
        for end, metrics in self._unsent():
            self._client.log_batch(self._id, metrics=metrics)
            self._offset = end

    def finish(self, status: str) -> None:
        """The rest of the metrics, how the run ended (FINISHED, FAILED, KILLED) and its small files."""
        self.send()
        self._client.set_terminated(self._id, status)
        for pattern in ARTIFACTS:
            for path in sorted(self.output_dir.glob(pattern)):
                self._client.log_artifact(self._id, str(path), str(Path(pattern).parent).removeprefix("."))
        settings = self.record["settings"]
        for path in sorted(Path(settings.get("data_dir") or "").glob("block_*/stats.json")):
            if int(path.parent.name.removeprefix("block_")) in (settings.get("block_sizes") or ()):
                self._client.log_artifact(self._id, str(path), f"data/{path.parent.name}")
        self._remember(complete=True)

    def _connect(self) -> None:
        """Find the run that TRACKING.json names, or one that was made but whose answer got lost, or make one."""
        from mlflow.tracking import MlflowClient

        logging.getLogger("mlflow").setLevel(logging.WARNING)
        client = MlflowClient()
        experiment = _experiment_id(client, os.environ.get("MLFLOW_EXPERIMENT_NAME", "Default"))
        mine = f"tags.`{RUN_TAG}` = '{self.record['run_id']}'"
        runs = client.search_runs([experiment], mine, max_results=1)
        if runs:
            self._id = runs[0].info.run_id
            client.update_run(self._id, status="RUNNING")
        else:
            tags = {RUN_TAG: self.record["run_id"]}
            name = self.record["settings"].get("run_name")
            self._id = client.create_run(experiment, tags=tags, run_name=name).info.run_id
        self._remember(run_id=self._id)
        self._log_settings(client)
        self._client = client

    def _log_settings(self, client: Any) -> None:
        """MLflow never changes a parameter: it keeps the first value, and a tag tells what became of it."""
        from mlflow.entities import Param, RunTag

        params = [Param(name, str(value)[:PARAM_LENGTH]) for name, value in self.record["settings"].items()]
        for start in range(0, len(params), PARAMS_A_REQUEST):
            client.log_batch(self._id, params=params[start : start + PARAMS_A_REQUEST])
        changes: dict[str, str] = {}
        for change in self.record["changes"]:
            told = changes.get(change["name"], str(change["old"]))
            changes[change["name"]] = f"{told}; from step {change['step']}: {change['new']}"
        if changes:
            tags = [RunTag(f"changed.{name}", text[-TAG_LENGTH:]) for name, text in changes.items()]
            client.log_batch(self._id, tags=tags)

    def _unsent(self) -> Iterator[tuple[int, list[Any]]]:
        from mlflow.entities import Metric

        batch: list[Any] = []
        last = self._offset
        for end, line in read_metrics(self.output_dir / METRICS_FILE, self._offset):
            when = round(line["time"] * 1000)
            values = {name: value for name, value in line.items() if name not in NOT_METRICS}
            if len(batch) + len(values) > METRICS_A_REQUEST:
                yield last, batch
                batch = []
            batch += [Metric(name, float(value), when, line["step"]) for name, value in values.items()]
            last = end
        if batch:
            yield last, batch

    def _remember(self, **facts: Any) -> None:
        self.record["mlflow"] |= facts
        write_json(self.output_dir / RUN_FILE, self.record)


def _experiment_id(client: Any, name: str) -> str:
    experiment = client.get_experiment_by_name(name)
    return experiment.experiment_id if experiment else client.create_experiment(name)


class MlflowSender(threading.Thread):
    """Sends in the background. Whatever goes wrong is one warning and a later try, never an error of the run."""

    def __init__(self, output_dir: Path):
        super().__init__(name="mlflow", daemon=True)  # a process never waits for it at its exit
        self.run_copy = MlflowRun(output_dir)
        self.has_warned = False
        self._wake = threading.Event()
        self._status: str | None = None
        self._pause, self._not_before = RETRY_SECONDS[0], 0.0

    def wake(self) -> None:
        """Something was logged."""
        self._wake.set()

    def close(self, status: str, seconds: float = END_SECONDS) -> bool:
        """Send the rest, but give up at the first failure or after `seconds`. True if MLflow has everything."""
        self._status = status
        self._wake.set()
        seconds = PATIENT_SECONDS if _address().startswith("sqlite:") else seconds
        self.join(seconds)
        if not self.has_warned:
            self.join(MORE_SECONDS)
        complete = self.run_copy.record["mlflow"]["complete"]
        if not complete:
            self._warn(f"it did not take everything within {seconds + MORE_SECONDS:g} s")
        return complete

    def run(self) -> None:
        while self._status is None:
            self._wake.wait()
            self._wake.clear()
            if self._status is None and time.monotonic() >= self._not_before:
                self._try(self.run_copy.send)
        self._try(lambda: self.run_copy.finish(self._status))

    def _try(self, send: Any) -> None:
        try:
            send()
            self._pause = RETRY_SECONDS[0]
        except Exception as error:  # MLflow raises its own errors, those of requests, of SQLAlchemy, of its stores ...
            self._not_before = time.monotonic() + self._pause
            self._pause = min(2 * self._pause, RETRY_SECONDS[1])
            self._warn(" ".join(str(error).split())[:200])

    def _warn(self, reason: str) -> None:
        if not self.has_warned:
            self.has_warned = True
            later = f"the run goes on; {METRICS_FILE} has it all, for when MLflow answers or scripts/replay_metrics.py"
            logger.warning("MLflow at %s: %s; %s", redact(_address()), reason, later)


class WakeCallback(TrainerCallback):
    """Tells the sender of every log."""

    def __init__(self, sender: MlflowSender):
        self.sender = sender

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs):
        self.sender.wake()


@contextmanager
def tracked(trainer: PretrainingTrainer, settings: dict[str, Any]) -> Iterator[None]:
    """While this lasts, the run is recorded in TRACKING.json and, where report_to asks for it, copied to MLflow.

    Args:
        settings: every setting of the run.
    """
    trainer.remove_callback(MLflowCallback)  # stock, it ends a run whose server is down
    if not trainer.is_world_process_zero():
        yield
        return
    output_dir = Path(trainer.args.output_dir)
    output_dir.mkdir(parents=True, exist_ok=True)
    parents = trainer.lineage.parents
    first = parents[0]["run_id"] if parents else trainer.lineage.run_id
    open_record(output_dir, first, settings, parents[-1]["step"] if parents else 0)
    if "mlflow" not in trainer.args.report_to:
        yield
        return
    sender = MlflowSender(output_dir)
    trainer.add_callback(WakeCallback(sender))
    sender.start()
    sender.wake()
    status = "FAILED"
    try:
        yield
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    except UserError as error:
        status = "KILLED" if error.exit_code == PREEMPTED else "FAILED"
        raise
    finally:
        sender.close(status)


def replay(output_dir: Path, status: str | None = None) -> bool:
    """Send what MLflow missed of a run that is over. True if it has everything now."""
    sender = MlflowSender(output_dir)
    sender.start()
    return sender.close(status or _how_it_ended(output_dir), PATIENT_SECONDS)


def _how_it_ended(output_dir: Path) -> str:
    try:
        state = json.loads((output_dir / "STATUS.json").read_text("utf-8"))["state"]
    except (OSError, ValueError, KeyError):
        state = ""
    return {"finished": "FINISHED", "preempted": "KILLED"}.get(state, "FAILED")


def _address() -> str:
    return os.environ.get("MLFLOW_TRACKING_URI", "")
