"""R18, by hand: hours of training, killed every 20 to 90 seconds.

    python -m tests.faults.soak --minutes 120

One life follows another until the time is over. Said at the end, and the exit code is 1 if one of these was broken:
no restart fails, the memory of a life does not grow by more than 2 % from life to life, and the disk never holds more
than the checkpoints to keep and one more.
"""

import argparse
import os
import random
import signal
import statistics
import sys
import tempfile
import time
from pathlib import Path

import psutil

from tests.faults.arms import Turkbert
from tests.faults.harness import Run, newest_step, one_life, wait_until
from tests.training.tiny import tiny_arguments
from turkbert.data.prepare import prepare_dataset

KEPT = 2
SETTINGS = {
    "max_steps": 10_000_000,
    "save_steps": 50,
    "eval_steps": 500,
    "logging_steps": 50,
    "save_total_limit": KEPT,
    "learning_rate": 1e-3,
}
WATCH_SECONDS = 0.5
SETTLED_SECONDS = 15.0  # a life's memory is that after so long


class Watcher:
    """Lets a life be for some seconds, looks at its memory and at the disk, then kills it."""

    def __init__(self, output_dir: Path, seconds: float):
        self.output_dir, self.seconds = output_dir, seconds
        self.resident: list[int] = []  # bytes, once settled
        self.most_checkpoints = 0

    def __call__(self, process: int, rows_log: Path) -> None:
        started = time.monotonic()
        end = started + self.seconds
        while time.monotonic() < end:
            wait_until(process, lambda: False, WATCH_SECONDS)
            if psutil.Process(process).status() == psutil.STATUS_ZOMBIE:
                return
            if time.monotonic() - started > SETTLED_SECONDS:
                self.resident.append(psutil.Process(process).memory_info().rss)
            self.most_checkpoints = max(self.most_checkpoints, len(list(self.output_dir.glob("*checkpoint-*"))))
        os.kill(process, signal.SIGKILL)


def soak(folder: Path, minutes: float, rng: random.Random) -> list[str]:
    """Run the lives; returns what was broken, in words."""
    prepared = prepare_dataset(tiny_arguments(folder, folder / "out"))
    run = Run(folder / "out", SETTINGS["max_steps"])
    arm = Turkbert(folder, prepared, **SETTINGS)
    end = time.monotonic() + 60 * minutes
    broken, memory, most, rewound = [], [], 0, 0
    while time.monotonic() < end:
        reached = newest_step(run.output_dir)
        watcher = Watcher(run.output_dir, rng.uniform(20, 90))
        code = one_life(arm, run, watcher)
        life = run.lives.pop()  # rows of hours need not be kept
        if code != -signal.SIGKILL:
            broken.append(f"life {len(run.seconds)} ended by itself with {code}")
        if life and min(life) < reached:
            rewound += 1
        if watcher.resident:
            memory.append((statistics.median(watcher.resident[:5]), statistics.median(watcher.resident[-5:])))
        most = max(most, watcher.most_checkpoints)
        sys.stdout.write(f"life {len(run.seconds)}: {run.seconds[-1]:.0f} s, step {newest_step(run.output_dir)}\n")
    growth = max((last / first for first, last in memory), default=1.0) - 1
    drift = max((first for first, _ in memory), default=1) / memory[0][0] - 1 if memory else 0.0
    sys.stdout.write(
        f"{len(run.seconds)} lives, {len(broken)} failures; memory +{growth:.1%} within a life, "
        f"+{drift:.1%} from life to life; at most {most} checkpoint folders ({KEPT} to keep)\n"
    )
    broken += [f"memory grew by {max(growth, drift):.1%}"] * (max(growth, drift) > 0.02)
    broken += [f"{most} checkpoint folders"] * (most > KEPT + 1)
    broken += [f"{rewound} lives began before the newest checkpoint"] * (rewound > 0)
    return broken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=120)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        broken = soak(Path(folder), options.minutes, random.Random(options.seed))
    sys.stdout.write("".join(f"broken: {what}\n" for what in broken))
    raise SystemExit(bool(broken))


if __name__ == "__main__":
    main()
