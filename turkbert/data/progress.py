"""How far a stage is: one bar in bytes of text, whichever processes do the work.

    with Progress(folder / "progress", total=95_000_000, what="data/tokens") as progress:
        ...                             # here or in worker processes, which get `progress` by fork or pickle
        progress.advance(4_000_000)

    data/tokens:  43%|████▎     | 41.0M/95.4M [00:05<00:06, 8.1MB/s]
"""

import logging
import multiprocessing
import signal
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
from tqdm import tqdm

logger = logging.getLogger(__name__)

_BAR_SECONDS, _LOG_SECONDS = 0.5, 30.0


class Progress:
    """Shows the bytes done so far: a bar on a terminal, a line now and then in a log.

    A process of its own draws, so that it is drawn whatever the others are busy with; a thread would be in the way of
    their forks. Bytes done are appended to a file, which any process can do at once with others.

    Args:
        file: where the bytes done are kept; made here.
        total: bytes to do, None where nobody knows.
        what: the stage.
        with_bar: false for lines on a terminal too.
    """

    def __init__(self, file: Path, total: int | None, what: str, with_bar: bool = True):
        self.file, self.total, self.what, self.with_bar = str(file), total, what, with_bar

    def advance(self, num_bytes: int) -> None:
        """Say that so many more bytes are done."""
        with open(self.file, "ab", buffering=0) as file:  # 8 bytes at once: appended whole
            file.write(int(num_bytes).to_bytes(8, "little"))

    def __enter__(self) -> "Progress":
        Path(self.file).touch()
        fork = multiprocessing.get_context("fork")
        ours, theirs = fork.Pipe()
        self._drawing = fork.Process(target=_draw, args=(self, ours, theirs), daemon=True)
        self._drawing.start()
        theirs.close()
        self._end = ours
        return self

    def __exit__(self, *exception: object) -> None:
        self._end.send_bytes(b"end")
        self._drawing.join()
        self._end.close()
        Path(self.file).unlink()

    def __getstate__(self) -> dict:
        """What worker processes get: enough to advance."""
        return {name: value for name, value in vars(self).items() if not name.startswith("_")}

    def done(self) -> int:
        """Bytes done so far."""
        return int(np.fromfile(self.file, dtype="<i8").sum())


def _draw(progress: Progress, others: Connection, end: Connection) -> None:
    """Until the stage says that it ends, or is dead."""
    others.close()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if not (progress.with_bar and sys.stderr.isatty()):
        _log(progress, end)
        return
    with tqdm(total=progress.total, desc=progress.what, unit="B", unit_scale=True, leave=False) as bar:
        ended = False
        while not ended:
            ended = end.poll(_BAR_SECONDS)
            bar.update(progress.done() - bar.n)


def _log(progress: Progress, end: Connection) -> None:
    started = time.perf_counter()
    while not end.poll(_LOG_SECONDS):
        done = progress.done()
        speed = done / (time.perf_counter() - started)
        left = f" of {progress.total / 1e6:,.0f}" if progress.total else ""
        time_left = f", {(progress.total - done) / speed:,.0f} s left" if progress.total and done else ""
        logger.info("%s: %s%s MB, %.1f MB/s%s", progress.what, f"{done / 1e6:,.0f}", left, speed / 1e6, time_left)
