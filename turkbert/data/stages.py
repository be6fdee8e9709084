"""What every data stage shares: reused or built, cut into units for the worker processes, its progress shown.

    def build(stage: Stage) -> str:
        stage.save(stage.map(tokenize_unit, sizes, features, "tokens"), "documents")
        return "20,000,000 tokens"

    run_stage(args, Path("data/tokens"), key, 95_000_000, build)
"""

import ctypes
import logging
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
from datasets import Dataset

import turkbert
from turkbert.arguments import RunArguments
from turkbert.artifacts import RECIPE, reuse_or_build, write_json
from turkbert.data.arrow import list_array
from turkbert.data.counts import Counts, add_up
from turkbert.data.progress import Progress
from turkbert.errors import ENVIRONMENT, UserError

logger = logging.getLogger(__name__)

_COUNTS = datasets.Features(
    {
        "name": datasets.Value("string"),
        "keys": datasets.List(datasets.Value("int64")),
        "counts": datasets.List(datasets.Value("int64")),
    }
)


CountRows = Callable[..., Counts]  # Stage.count or count_here


class Units:
    """Runs of rows of about `unit_size` together, by the size of each row: `units[number]` is a table."""

    def __init__(self, rows: Dataset, sizes: np.ndarray, unit_size: int):
        self.rows = rows.with_format("arrow")
        unit = (np.cumsum(sizes, dtype=np.int64) - 1) // unit_size
        first = np.unique(unit, return_index=True)[1]
        self.bounds = np.append(first, sizes.size).tolist()
        self.sizes = np.add.reduceat(sizes, first, dtype=np.int64)

    def __len__(self) -> int:
        return len(self.bounds) - 1

    def __getitem__(self, number: int) -> pa.Table:
        return self.rows[self.bounds[number] : self.bounds[number + 1]]


def count_here(
    count: Callable[[pa.Table], Counts],
    rows: Dataset,
    sizes: np.ndarray,
    unit_size: int,
    name: str = "",
    share: float = 1.0,
) -> Counts:
    """What Stage.count does, in this process alone and without a word."""
    units = Units(rows, sizes, unit_size)
    return add_up(count(units[number]) for number in range(len(units)))


class Stage:
    """A stage that is being built.

    Args:
        folder: what will be committed; `_cache` in it is thrown away before.
        num_workers: processes to work with.
        max_shard_size: the largest Arrow file.
        progress: counts bytes of text, `num_bytes` in all.
    """

    def __init__(self, folder: Path, num_workers: int, max_shard_size: str, progress: Progress):
        self.folder, self.cache = folder, folder / "_cache"
        self.num_workers, self.max_shard_size, self.progress = num_workers, max_shard_size, progress

    def map(
        self,
        build: Callable[[int], pa.Table],
        sizes: np.ndarray,
        features: datasets.Features,
        name: str,
        share: float = 1.0,
    ) -> Dataset:
        """Call `build` on the number of each unit, in worker processes; the tables end to end, in their order.

        Args:
            sizes: of the units, in whatever is in proportion to the text they come from.
            share: how much of the stage's work this is.
        """
        num_bytes = np.diff(np.cumsum(sizes / sizes.sum()) * share * (self.progress.total or 0), prepend=0)

        def build_unit(table: pa.Table) -> pa.Table:
            unit = table["unit"][0].as_py()
            built = build(unit)
            self.progress.advance(int(num_bytes[unit]))
            return built

        workers = min(self.num_workers, len(sizes))
        return (
            Dataset.from_dict({"unit": np.arange(len(sizes))})
            .with_format("arrow")
            .map(
                build_unit,
                batched=True,
                batch_size=1,
                remove_columns=["unit"],
                features=features,
                num_proc=workers if workers > 1 else None,
                cache_file_name=str(self.cache / f"{name}.arrow"),
                new_fingerprint=name,  # the committed folder is the cache; this file is thrown away
                load_from_cache_file=False,
            )
        )

    def count(
        self,
        count: Callable[[pa.Table], Counts],
        rows: Dataset,
        sizes: np.ndarray,
        unit_size: int,
        name: str,
        share: float = 1.0,
    ) -> Counts:
        """Add up what `count` finds in each unit of about `unit_size`, in worker processes.

        Args:
            sizes: of the rows; see `map` for `share`.
        """
        units = Units(rows, sizes, unit_size)

        def tabulate(unit: int) -> pa.Table:
            found = count(units[unit])
            lengths = np.array([keys.size for keys, _ in found.values()])
            keys, counts = (pa.array(np.concatenate(parts)) for parts in zip(*found.values(), strict=True))
            columns = {"keys": list_array(keys, lengths), "counts": list_array(counts, lengths)}
            return pa.table({"name": list(found), **columns})

        tables = self.map(tabulate, units.sizes, _COUNTS, name, share).with_format("arrow")
        return add_up(_untabulate(tables[number : number + 1]) for number in range(len(tables)))

    def save(self, rows: Dataset, name: str) -> None:
        """Write rows into the stage's folder."""
        # Made anew without the history of its fingerprint and sizes, which would tell the number of processes.
        plain = Dataset(rows.data, indices_table=rows._indices, fingerprint=name)  # the rows that select() left
        plain.save_to_disk(str(self.folder / name), max_shard_size=self.max_shard_size)


def _untabulate(row: pa.Table) -> Counts:
    keys, counts = (row[name].combine_chunks().flatten().to_numpy() for name in ("keys", "counts"))
    return {row["name"][0].as_py(): (keys, counts)}


def num_workers(args: RunArguments) -> int:
    """Processes of the data stages."""
    return args.data.preprocessing_num_workers or len(os.sched_getaffinity(0))


def run_stage(
    args: RunArguments,
    folder: Path,
    key: dict[str, Any],
    num_bytes: int | None,
    build: Callable[[Stage], str],
    overwrite: bool = False,
    need_bytes: int = 0,
) -> Path:
    """The committed folder that stands for `key`: found, or built and described in one line.

    Args:
        num_bytes: how much text there is to work on, None where nobody knows.
        build: writes into the stage's folder and says what came out.
        need_bytes: what it writes at least.

    Raises:
        UserError: see artifacts.reuse_or_build.
    """

    def build_and_describe(staging: Path) -> None:
        (staging / "_cache").mkdir()
        # A fast tokenizer that was used before a fork hangs the children, unless told to be single-threaded.
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
        with_bar = not args.setting("disable_tqdm")
        started = time.perf_counter()
        with (
            _worker_errors(folder),
            _without_bars(),
            Progress(staging / "_cache" / "progress", num_bytes, str(folder), with_bar) as progress,
        ):
            found = build(Stage(staging, num_workers(args), args.data.max_shard_size, progress))
            num_done = progress.done()
        shutil.rmtree(staging / "_cache")
        _return_memory()
        write_json(staging / RECIPE, args.resolved())
        seconds = time.perf_counter() - started
        logger.info("%s: %s; %.1f s, %.1f MB/s", folder, found, seconds, num_done / seconds / 1e6)

    key = {**key, "turkbert": turkbert.__version__}
    return reuse_or_build(folder, key, build_and_describe, overwrite or args.setting("overwrite"), need_bytes)


def _return_memory() -> None:
    """Allocators keep what a stage has freed; the next stage, in the same process, would come on top of it."""
    pa.default_memory_pool().release_unused()
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)


@contextmanager
def _without_bars() -> Iterator[None]:
    """datasets' own bars count rows, and one of them is drawn for each step of a stage."""
    were_off = datasets.utils.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if not were_off:
            datasets.enable_progress_bars()


@contextmanager
def _worker_errors(folder: Path) -> Iterator[None]:
    """What became of a worker process, in the user's terms."""
    try:
        yield
    except RuntimeError as error:
        if "abruptly died" not in str(error):
            raise
        what = "a worker process was killed, most likely for want of memory"
        raise UserError(folder, what, "run again with fewer --preprocessing_num_workers", ENVIRONMENT) from error
