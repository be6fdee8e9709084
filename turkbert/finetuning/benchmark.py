"""Every task of a suite x models x learning rates x seeds; one JSON line a run, so that it goes on where it stopped.

    suite = parse_suite(["out", "dbmdz/bert-base-turkish-cased", "configs/finetune/suite.json", "--untrained"])
    run_suite(suite)    # output_dir/runs.jsonl

The learning rate of a task and model is the one with the best validation score at the first seed; the other seeds
follow at that rate. Test scores choose nothing.
"""

import gc
import hashlib
import json
import logging
import os
import shutil
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from turkbert.artifacts import file_hash
from turkbert.errors import config_error
from turkbert.finetuning.arguments import GROUPS, REFUSED, FinetuningRun, make_run, parse_finetuning_args
from turkbert.finetuning.examples import find_files
from turkbert.finetuning.run import TaskData, build_trainer, prepare_task, train_and_score
from turkbert.parsing import key, parse_keys, read_json_object

logger = logging.getLogger(__name__)

RUNS_FILE = "runs.jsonl"
KINDS = {"classification": "text_classification"}  # the Hub's name
# A benchmark wants the last weights of a fixed number of passes, the same for all models.
FIXED = {"eval_strategy": "no", "save_strategy": "no", "load_best_model_at_end": False, "disable_tqdm": True}
_NOT_CONTENT = {"output_dir", "seed", "learning_rate", "model_name_or_path", "overwrite", "debug", "disable_tqdm"}


@dataclass
class SuiteArguments:
    """Which runs."""

    tasks: list[str] = key([], "configs beside the suite file, without .json")
    seeds: list[int] = key([1, 2, 3, 4, 5], "of the heads and of the order of the rows")
    learning_rates: list[float] = key([], "tried at the first seed; empty: each task's own learning_rate")
    untrained: bool = key(False, "also the first model's architecture with random weights")


@dataclass(frozen=True)
class Arm:
    """One column of the table: a model, or its architecture alone."""

    model: str
    untrained: bool = False

    @property
    def name(self) -> str:
        """As the tables say it: of a path no more than its end, since folders tell of users and machines."""
        short = self.model if not os.path.exists(self.model) else Path(self.model).resolve().name
        return f"{short} (untrained)" if self.untrained else short


@dataclass
class Suite:
    """The parsed settings of a benchmark."""

    arguments: SuiteArguments
    arms: list[Arm]
    folder: Path
    changes: dict[str, Any]

    @property
    def output_dir(self) -> Path:
        return Path(self.changes.get("output_dir", "benchmark"))

    def run_of(self, task: str, arm: Arm) -> FinetuningRun:
        """The settings of a task's runs: its config file's, and over them the suite's and the command line's."""
        path = self.folder / f"{task}.json"
        kind = read_json_object(path).get("task")
        if kind is None:
            raise config_error(path, "no key 'task'", "say classification, token_classification or question_answering")
        given = parse_finetuning_args(kind, [str(path), "--model_name_or_path", arm.model]).given
        return make_run({**given, **self.changes, "model_name_or_path": arm.model, "task": kind})


def parse_suite(argv: list[str], description: str | None = None) -> Suite:
    """MODEL... SUITE.json [--key value ...] -> Suite; keys of a fine-tuning run hold for all tasks.

    Raises:
        UserError: with exit code 3, naming what is wrong.
    """
    num_words = next((i for i, word in enumerate(argv) if word.startswith("-")), len(argv))
    words, options = argv[:num_words], argv[num_words:]
    files = [word for word in words if word.endswith(".json")]
    given = parse_keys((SuiteArguments, *GROUPS), REFUSED, [*files[:1], *options], description)
    models = [word for word in words if word not in files]
    if not models or len(files) != 1:
        raise config_error("command line", "give models and one suite file", "MODEL... SUITE.json [--key value ...]")
    if "model_name_or_path" in given or len(set(models)) < len(models):
        raise config_error("command line", "a model comes twice", "name each model once, before the suite file")
    own = {f.name for f in fields(SuiteArguments)}
    arguments = SuiteArguments(**{name: value for name, value in given.items() if name in own})
    if not arguments.tasks or not arguments.seeds:
        raise config_error(files[0], "no tasks or no seeds", "name some")
    arms = [Arm(model) for model in models] + ([Arm(models[0], untrained=True)] if arguments.untrained else [])
    changes = {name: value for name, value in given.items() if name not in own}
    return Suite(arguments, arms, Path(files[0]).parent, changes)


def run_suite(suite: Suite) -> list[dict[str, Any]]:
    """Do the runs that are not in runs.jsonl yet; give back those that the tables are made of.

    Several processes may share an output_dir, each with tasks of its own.

    Raises:
        UserError: bad settings or data, all of them looked at before the first run.
    """
    runs = {(task, arm): suite.run_of(task, arm) for task in suite.arguments.tasks for arm in suite.arms}
    keys = {pair: settings_hash(run, pair[1]) for pair, run in runs.items()}
    records = read_records(suite.output_dir / RUNS_FILE)
    chosen = []
    for (task, arm), run in runs.items():
        session = _Session(suite, task, arm, run, keys[task, arm], records)
        rates = suite.arguments.learning_rates or [run.setting("learning_rate")]
        first, *others = suite.arguments.seeds
        searched = [session.record(rate, first) for rate in rates]
        best = max(searched, key=lambda record: record["scores"]["validation"][record["metric"]])
        chosen += [best, *(session.record(best["learning_rate"], seed) for seed in others)]
    return chosen


class _Session:
    """The runs of one task and arm, whose data is prepared only if one of them is missing."""

    def __init__(self, suite: Suite, task: str, arm: Arm, run: FinetuningRun, key: str, records: list[dict[str, Any]]):
        self.suite, self.task, self.arm, self.run, self.key, self.records = suite, task, arm, run, key, records
        self.data: TaskData | None = None

    def record(self, learning_rate: float, seed: int) -> dict[str, Any]:
        wanted = {"key": self.key, "learning_rate": learning_rate, "seed": seed}
        for record in self.records:
            if all(record.get(name) == value for name, value in wanted.items()):
                return record
        done = self._do(learning_rate, seed)
        record = {"task": self.task, "arm": self.arm.name, **wanted, **done}
        append_record(self.suite.output_dir / RUNS_FILE, record)
        self.records.append(record)
        return record

    def _do(self, learning_rate: float, seed: int) -> dict[str, Any]:
        self.data = self.data or prepare_task(self.run.task)
        work_dir = self.suite.output_dir / f"_work-{os.getpid()}"
        fixed = {name: value for name, value in FIXED.items() if name not in self.run.given}
        training = self.run.training(**fixed, learning_rate=learning_rate, seed=seed, output_dir=str(work_dir))
        gc.collect()  # the trainer before is a ring of references, and holds a model and its optimizer
        try:
            trainer = build_trainer(self.run.task, training, self.data, self.arm.untrained)
            result = train_and_score(trainer)
        finally:
            shutil.rmtree(work_dir, ignore_errors=True)
        metric = training.metric_for_best_model or self.data.task.main_metric
        score = result.scores.get("test", result.scores["validation"])[metric]
        told = (self.task, self.arm.name, learning_rate, seed, metric, score, result.seconds)
        logger.info("%s, %s, rate %g, seed %d: %s %.2f; %.0f s", *told)
        return {
            "kind": KINDS.get(self.run.task.task or "", self.run.task.task),
            "metric": metric,
            "scores": result.scores,
            "steps": result.steps,
            "train_seconds": round(result.train_seconds, 2),
            "seconds": round(result.seconds, 2),
            "rows": {name: len(split.rows) for name, split in self.data.task.splits.items()},
            "parameters": trainer.model.num_parameters(),
        }


def settings_hash(run: FinetuningRun, arm: Arm) -> str:
    """What a run's scores depend on besides rate and seed: settings, the data's files, the model's files."""
    settings = {name: value for name, value in run.resolved().items() if name not in _NOT_CONTENT}
    data = {name: file_hash(path) for name, path in find_files(run.task).items() if path.is_file()}
    content = {"settings": settings, "data": data, "model": model_hash(arm.model), "untrained": arm.untrained}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def model_hash(model: str) -> str:
    """Of a folder the weights, config and tokenizer; of a Hub id the id itself."""
    folder = Path(model).expanduser()
    if not folder.is_dir():
        return model
    names = [name for name in ("config.json", "model.safetensors", "tokenizer.json") if (folder / name).is_file()]
    return hashlib.sha256("".join(file_hash(folder / name) for name in names).encode()).hexdigest()


def read_records(path: Path) -> list[dict[str, Any]]:
    """The runs that are done; a line that a killed run left unfinished is none."""
    records = []
    for number, line in enumerate(path.read_text("utf-8", "replace").split("\n") if path.exists() else [], start=1):
        try:
            records += [json.loads(line)] if line else []
        except ValueError:
            logger.warning("%s:%d: not a whole line, left out; that run is done again", path, number)
    return records


def append_record(path: Path, record: dict[str, Any]) -> None:
    """One line in one write, on disk when this returns; on a line of its own whatever a killed run left."""
    path.parent.mkdir(parents=True, exist_ok=True)
    line = json.dumps(record, ensure_ascii=False).encode() + b"\n"
    with open(path, "ab+") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            line = line if file.read(1) == b"\n" else b"\n" + line
        file.write(line)
        file.flush()
        os.fsync(file.fileno())
