"""Labelled data (jsonl, csv, parquet or the Hub) -> splits of rows that know the line each row came from.

    splits = load_splits(TaskArguments(dataset_name="tasks/sentiment_mixed"))
    splits["train"].rows[0], splits["train"].place(0)    # {"text": ..., "label": ...}, "tasks/.../train.jsonl.xz:1"
"""

import csv
import json
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow.parquet as pq

from turkbert.data.raw_text import COMPRESSIONS, decode_chunks, read_chunks
from turkbert.errors import BAD_INPUT, ENVIRONMENT, UserError, config_error
from turkbert.finetuning.arguments import TaskArguments
from turkbert.hub_ids import is_hub_id

logger = logging.getLogger(__name__)

SPLITS = ("train", "validation", "test")
ENDINGS = (".jsonl", ".csv", ".parquet")
SAMPLING_SEED = 13013  # which rows are drawn depends on the data alone, never on a run's seed

Rows = list[dict[str, Any]]


@dataclass
class Split:
    """Rows of one split.

    Attributes:
        source: the file, or the data set and its split.
        rows: each with all its columns.
        numbers: of each row the line (jsonl, csv) or the row, from 1.
        names: of columns that the data set itself gives names for its class numbers.
    """

    source: str
    rows: Rows
    numbers: list[int]
    names: dict[str, list[str]]

    def place(self, index: int) -> str:
        """Where a row stands, for an error."""
        return f"{self.source}:{self.numbers[index]}"

    def take(self, indices: list[int]) -> "Split":
        """Some of the rows, in that order."""
        rows, numbers = [self.rows[i] for i in indices], [self.numbers[i] for i in indices]
        return Split(self.source, rows, numbers, self.names)

    def sample(self, number: int | None) -> "Split":
        """At most `number` rows, drawn evenly, in their old order; the same ones each time."""
        if number is None or number >= len(self.rows):
            return self
        drawn = np.random.Generator(np.random.Philox(SAMPLING_SEED)).permutation(len(self.rows))[:number]
        return self.take(sorted(drawn.tolist()))


def load_splits(task: TaskArguments) -> dict[str, Split]:
    """The splits that there are, of "train", "validation" and "test"; the first two always.

    Raises:
        UserError: a file, a data set or a split is missing, unreadable or empty.
    """
    files = find_files(task)
    if files:
        splits = {name: read_file(path) for name, path in files.items()}
    else:
        splits = load_from_hub(task)
    if "train" not in splits:
        raise UserError(task.dataset_name or "train_file", "no training data", "name train_file or train_split")
    if "validation" not in splits:
        splits["train"], splits["validation"] = _split_off(splits["train"], task.validation_fraction)
    return splits


def find_files(task: TaskArguments) -> dict[str, Path]:
    """{split: file} of the named files and, where dataset_name is a folder, of the files in it; {} for the Hub."""
    files: dict[str, Path] = {}
    folder = Path(task.dataset_name).expanduser() if task.dataset_name else None
    if folder is not None and folder.is_dir():
        stems = dict(zip(SPLITS, (task.train_split, task.validation_split, task.test_split), strict=True))
        for split, stem in stems.items():
            found = sorted(path for path in folder.glob(f"{stem}.*") if _ending(path) in ENDINGS)
            if len(found) > 1:
                raise UserError(folder, f"{found[0].name} and {found[1].name} are both there", "leave one of them")
            files |= {split: found[0]} if found else {}
        if not files:
            raise UserError(folder, "holds no train, validation or test file", f"they end in {', '.join(ENDINGS)}")
    elif folder is not None and not is_hub_id(task.dataset_name or "", bare=True):
        raise UserError(folder, "no such folder", "name the folder of the data, or a Hub data set")
    for split in SPLITS:
        named = getattr(task, f"{split}_file")
        files |= {split: Path(named).expanduser()} if named else {}
    return files


def find_task_files(names: list[str]) -> list[Path]:
    """The named files, and the data files of the named folders.

    Raises:
        UserError: one is not there, or a folder holds no data.
    """
    files = []
    for name in names:
        path = Path(name).expanduser()
        inside = sorted(p for p in path.iterdir() if _ending(p) in ENDINGS) if path.is_dir() else [path]
        if not inside:
            raise UserError(path, "holds no data", f"data files end in {', '.join(ENDINGS)}")
        files += inside
    return files


def _ending(path: Path) -> str:
    stem, ending = os.path.splitext(path.name.lower())
    return os.path.splitext(stem)[1] if ending in COMPRESSIONS else ending


def read_file(path: Path) -> Split:
    """One file, whole.

    Raises:
        UserError: with the line of whatever is wrong.
    """
    if not path.is_file():
        raise UserError(path, "no such file", "check the name")
    readers: dict[str, Callable[[Path], Iterator[tuple[int, dict]]]] = {
        ".jsonl": _read_jsonl, ".csv": _read_csv, ".parquet": _read_parquet,
    }  # fmt: skip
    if _ending(path) not in readers:
        raise UserError(path, "not a kind of file that is read here", f"they end in {', '.join(ENDINGS)}")
    numbers, rows = [], []
    for number, row in readers[_ending(path)](path):
        numbers.append(number)
        rows.append(row)
    if not rows:
        raise UserError(path, "no rows", "give a file with data")
    return Split(str(path), rows, numbers, {})


def _lines(path: Path) -> Iterator[str]:
    rest = ""
    for text in decode_chunks(read_chunks(path), path, lambda what, number: None):
        *lines, rest = (rest + text).split("\n")
        yield from lines
    if rest:
        yield rest


def _read_jsonl(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(_lines(path), start=1):
        if not line or line.isspace():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path}:{number}", f"not JSON ({error})", "mend or remove the line") from error
        if not isinstance(row, dict):
            raise UserError(f"{path}:{number}", "not a JSON object", 'write {"text": ..., "label": ...}')
        yield number, row


def _read_csv(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    reader = csv.DictReader(f"{line}\n" for line in _lines(path))
    try:
        for row in reader:
            if None in row or None in row.values():
                what = f"not {len(reader.fieldnames or [])} fields as in the first line"
                raise UserError(f"{path}:{reader.line_num}", what, "mend the line, or quote its commas")
            yield reader.line_num, row
    except csv.Error as error:
        raise UserError(f"{path}:{reader.line_num}", f"not CSV ({error})", "mend the line") from error


def _read_parquet(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        yield from enumerate(pq.read_table(path).to_pylist(), start=1)
    except (OSError, ValueError) as error:
        if getattr(error, "errno", None):
            raise
        raise UserError(path, f"not readable as parquet ({error})", "fetch or write the file again") from error


def load_from_hub(task: TaskArguments) -> dict[str, Split]:
    """The splits of a Hub data set, of several configurations joined; `glue/mrpc` is mrpc of nyu-mll/glue.

    Raises:
        UserError: not found, or no network.
    """
    name, configs = task.dataset_name or "", task.dataset_config_name
    if name.startswith("glue/"):
        name, configs = "nyu-mll/glue", [name.removeprefix("glue/")]
    loaded = [_load_dataset(name, config, task.dataset_revision) for config in configs or [None]]
    wanted = {"train": task.train_split, "validation": task.validation_split, "test": task.test_split}
    splits = {}
    for split, own in wanted.items():
        parts = [dataset[own] for dataset in loaded if own in dataset]
        if parts:
            splits[split] = _from_dataset(f"{name} {own}", datasets.concatenate_datasets(parts))
    return splits


def _load_dataset(name: str, config: str | None, revision: str | None) -> datasets.DatasetDict:
    try:
        return datasets.load_dataset(name, config, revision=revision)
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        if getattr(error, "errno", None):  # the disk, not the Hub
            raise
        offline = isinstance(error, ConnectionError)
        mend = "check the network" if offline else "check the id, dataset_config_name and `hf auth login`"
        what = f"no such folder, and as a Hub data set: {error}"
        raise UserError(f"data set '{name}'", what, mend, ENVIRONMENT if offline else BAD_INPUT) from error


def _from_dataset(source: str, dataset: datasets.Dataset) -> Split:
    names = {}
    for column, feature in dataset.features.items():
        feature = getattr(feature, "feature", feature)  # of the elements of a list
        if isinstance(feature, datasets.ClassLabel):
            names[column] = list(feature.names)
    return Split(source, dataset.to_list(), list(range(1, len(dataset) + 1)), names)


def _split_off(train: Split, fraction: float) -> tuple[Split, Split]:
    """(train, validation) of a data set without validation rows, the same cut each time."""
    number = round(fraction * len(train.rows))
    if not 0 < number < len(train.rows):
        raise config_error("validation_fraction", f"{len(train.rows)} rows are too few", "give validation_file")
    shuffled = np.random.Generator(np.random.Philox(SAMPLING_SEED)).permutation(len(train.rows))
    logger.info("%s: no validation rows; %s of the training rows are taken", train.source, f"{number:,}")
    return train.take(sorted(shuffled[number:].tolist())), train.take(sorted(shuffled[:number].tolist()))


def keep_good_rows(split: Split, check: Callable[[dict[str, Any]], tuple[str, str] | None], bad_rows: str) -> Split:
    """The split itself if all rows pass; else an error for the first bad one, or the others, counted by reason.

    Args:
        check: a row -> what is wrong with it and how to mend it, or None.
        bad_rows: "error" or "reject".
    """
    reasons: dict[str, int] = {}
    good = []
    for index, row in enumerate(split.rows):
        fault = check(row)
        if fault is None:
            good.append(index)
        elif bad_rows == "error":
            raise UserError(split.place(index), fault[0], f"{fault[1]}, or leave such rows out: --bad_rows reject")
        else:
            reasons[fault[0]] = reasons.get(fault[0], 0) + 1
    if not reasons:
        return split
    told = "; ".join(f"{reason} ({number:,})" for reason, number in list(reasons.items())[:5])
    num_bad = sum(reasons.values())
    logger.warning("%s: %s of %s rows left out: %s", split.source, f"{num_bad:,}", f"{len(split.rows):,}", told)
    if not good:
        raise UserError(split.source, f"no good row is left: {told}", "mend the file")
    return split.take(good)
