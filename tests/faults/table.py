"""The same faults for turkbert and for the stock Trainer, side by side.

    python -m tests.faults.table --runs 10      # -> benchmarks/results/faults_<hardware>_<yyyymmdd>.md

Both train the same tiny BERT on the same rows, one stage of them for the stock Trainer, with a save at every step. The
stock Trainer resumes from what get_last_checkpoint names; where that fails, the newest checkpoint is removed by hand.
"""

import argparse
import datetime
import json
import os
import platform
import random
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file

from tests.faults.arms import Stock, Turkbert
from tests.faults.harness import (
    Run,
    differences,
    killed,
    live,
    newest_checkpoint,
    newest_step,
    one_life,
    same_tensors,
    wait_until,
)
from tests.training.tiny import tiny_arguments
from turkbert.data.prepare import prepare_dataset
from turkbert.errors import PREEMPTED

Row = dict[str, str]  # {what: figure}
RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
SHORT = {"max_steps": 12, "eval_steps": 6, "logging_steps": 1, "save_total_limit": None}
RESUMED_AT = 8


def is_exact(run: Run, whole: Run) -> bool:
    pairs = zip(run.weights(), whole.weights(), strict=True)
    return all(mine.exists() and same_tensors(mine, other) for mine, other in pairs)


def goes_on(arm, whole: Run, folder: Path, change: Callable[[Path], None] | None = None) -> tuple[Run, int]:
    """The whole run's first checkpoints, changed, and one life more; with its exit code."""
    shutil.rmtree(folder, ignore_errors=True)
    run = Run(folder / "out", arm.max_steps)
    for step in range(1, RESUMED_AT + 1):
        name = f"checkpoint-{step}"
        shutil.copytree(whole.output_dir / name, run.output_dir / name)
    if change is not None:
        change(run.output_dir)
    return run, one_life(arm, run)


# ---- R1


def kills(arm, folder: Path, num_runs: int) -> Row:
    whole, rng = live(arm, folder / "whole" / "out"), random.Random(3)
    runs = [killed(arm, folder / str(number) / "out", rng, kills=4) for number in range(num_runs)]
    found = [differences(run, whole) for run in runs]
    rows_differ = sum(any("rows" in what or "left out" in what for what in of_run) for of_run in found)
    return {
        "R1 kills with -9 (inside a save)": f"{sum(r.kills for r in runs)} ({sum(r.kills_in_save for r in runs)})",
        "R1 restarts that failed": str(sum(len(run.errors) for run in runs)),
        "R1 final weights bit-identical": f"{sum(is_exact(run, whole) for run in runs)} of {num_runs} runs",
        "R1 runs with rows lost, repeated or in another order": str(rows_differ),
    }


# ---- R3


def damages(folder: Path) -> dict[str, Callable[[Path], None]]:
    """{what happens to a file: how}; `folder` is a checkpoint of another step."""

    def flip(path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)

    return {
        "missing": Path.unlink,
        "empty": lambda path: os.truncate(path, 0),
        "halved": lambda path: os.truncate(path, path.stat().st_size // 2),
        "one byte short": lambda path: os.truncate(path, path.stat().st_size - 1),
        "a bit flipped": flip,
        "of another step": lambda path: shutil.copy(folder / path.name, path),
    }


def damaged(arm, whole: Run, folder: Path) -> Row:
    """Every file of the newest checkpoint, damaged in every way."""
    files = sorted(path.name for path in (whole.output_dir / f"checkpoint-{RESUMED_AT}").iterdir())
    ways = damages(whole.output_dir / f"checkpoint-{RESUMED_AT - 3}")
    ends: Counter[str] = Counter()
    for file in files:
        for way, harm in ways.items():
            newest, older = (whole.output_dir / f"checkpoint-{step}" / file for step in (RESUMED_AT, RESUMED_AT - 3))
            if way == "of another step" and newest.read_bytes() == older.read_bytes():
                continue
            where = Path(f"checkpoint-{RESUMED_AT}", file)
            run, code = goes_on(arm, whole, folder, lambda output_dir, h=harm, w=where: h(output_dir / w))
            first = min(run.lives[0], default=arm.max_steps)
            if code != 0:
                ends["died"] += 1
            elif first < RESUMED_AT and is_exact(run, whole):
                ends["fell back"] += 1
            else:
                ends["used, end exact" if is_exact(run, whole) else "used, end silently wrong"] += 1
    total = sum(ends.values())
    return {
        "R3 damaged files of the newest checkpoint": str(total),
        "R3 fell back to the one before, end exact": f"{ends['fell back']} of {total}",
        "R3 restart died": f"{ends['died']} of {total}",
        "R3 used it, end silently wrong": f"{ends['used, end silently wrong']} of {total}",
        "R3 used it, end exact all the same": f"{ends['used, end exact']} of {total}",
    }


# ---- R4


def resumed(arm, folder: Path) -> tuple[int, int]:
    """(exact, tried) over loaders, accumulation and points of a run."""
    exact = tried = 0
    for accumulation in (1, 2):
        split = arm.with_settings(gradient_accumulation_steps=accumulation)
        whole = live(split, folder / f"whole-{accumulation}" / "out")
        for workers in (0, 2):
            for step in (2, 5, 9):
                run = Run(folder / f"{accumulation}-{workers}-{step}" / "out", arm.max_steps)
                for number in range(1, step + 1):
                    name = f"checkpoint-{number}"
                    shutil.copytree(whole.output_dir / name, run.output_dir / name)
                code = one_life(split.with_settings(dataloader_num_workers=workers), run)
                tried += 1
                exact += code == 0 and is_exact(run, whole) and run.history() == whole.history()
    return exact, tried


# ---- R8

CHANGES = {
    "seed": 7,
    "data_seed": 7,
    "max_steps": 14,
    "warmup_steps": 4,
    "learning_rate": 0.02,
    "lr_scheduler_type": "linear",
    "weight_decay": 0.3,
    "adam_beta1": 0.5,
    "gradient_accumulation_steps": 2,
}


def changed(arm, whole: Run, folder: Path) -> Row:
    refused = 0
    for name, value in CHANGES.items():
        run, code = goes_on(arm.with_settings(**{name: value}), whole, folder)
        refused += code != 0 and newest_step(run.output_dir) == RESUMED_AT
    return {"R8 changed settings refused on resuming": f"{refused} of {len(CHANGES)}"}


# ---- R9


def poisoned(arm, folder: Path) -> Row:
    """The loss of one step is NaN."""
    run = Run(folder / "out", arm.max_steps)
    code = one_life(arm.with_settings(nan_step=5), run)
    newest = newest_checkpoint(run.output_dir)
    weights = load_file(newest / "model.safetensors")
    finite = all(tensor.isfinite().all() for tensor in weights.values())
    history = json.loads((newest / "trainer_state.json").read_text())["log_history"]
    loss = next((log["loss"] for log in history if log["step"] == 6 and "loss" in log), None)
    end = "to its end" if code == 0 else f"until exit {code}"
    return {"R9 one NaN step: weights, logged loss, run": f"{'finite' if finite else 'NaN'}, {loss}, {end}"}


# ---- R10


def told(arm, folder: Path, times: int) -> Row:
    arm = arm.with_settings(max_steps=600, save_steps=600, logging_steps=600, eval_strategy="no")
    whole, rng = live(arm, folder / "whole" / "out"), random.Random(4)
    saved, exact, slowest = 0, 0, 0.0
    for number in range(times):
        run = Run(folder / str(number) / "out", arm.max_steps)
        step, name = rng.randrange(500), rng.choice([signal.SIGTERM, signal.SIGINT])
        sent_at = 0.0

        def tell(process: int, rows_log: Path, step: int = step, name: signal.Signals = name) -> None:
            nonlocal sent_at
            wait_until(process, lambda: rows_log.read_bytes().count(b"\n") > step, 60)
            sent_at = time.monotonic()
            os.kill(process, name)

        code = one_life(arm, run, tell)
        slowest = max(slowest, time.monotonic() - sent_at)
        saved += newest_checkpoint(run.output_dir) is not None and code in (0, PREEMPTED)
        exact += one_life(arm, run) == 0 and is_exact(run, whole) and min(run.lives[-1]) > 0
    return {
        "R10 SIGTERM or SIGINT: saved": f"{saved} of {times} (slowest end {slowest:.1f} s)",
        "R10 went on exactly from there": f"{exact} of {times}",
    }


# ---- all


def measure(arm, other_masks, folder: Path, runs: int) -> Row:
    """All figures of one arm; `other_masks` is the arm with masks of the other kind."""
    short = arm.with_settings(**SHORT)
    figures = kills(arm, folder / "kills", runs)
    whole = live(short, folder / "short" / "out")
    figures |= damaged(short, whole, folder / "damaged")
    for name, one in (("static", arm), ("dynamic", other_masks)):
        exact, tried = resumed(one.with_settings(**SHORT), folder / f"resumed-{name}")
        figures[f"R4 resumed exactly, {name} masks"] = f"{exact} of {tried}"
    figures |= changed(short, whole, folder / "changed")
    figures |= poisoned(short, folder / "poisoned")
    return figures | told(arm, folder / "told", max(3, runs))


def render(tables: dict[str, Row], runs: int) -> str:
    names = list(tables)
    lines = [f"| what | {' | '.join(names)} |", "|---|" + "---|" * len(names)]
    lines += [f"| {what} | {' | '.join(tables[name][what] for name in names)} |" for what in tables[names[0]]]
    machine = f"{os.cpu_count()} cores, {platform.machine()}, torch {torch.__version__}, {datetime.date.today()}"
    command = f"python -m tests.faults.table --runs {runs}"
    return f"# Faults\n\n{machine}; `{command}`\n\n" + "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10, help="runs of R1, of 4 kills each")
    runs = parser.parse_args().runs
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        static = {"masking": "static", "data_dir": str(folder / "static")}
        of_masks = {
            "dynamic": prepare_dataset(tiny_arguments(folder, folder / "out")),
            "static": prepare_dataset(tiny_arguments(folder, folder / "out", **static)),
        }
        ours = Turkbert(folder, of_masks["static"], **static), Turkbert(folder, of_masks["dynamic"])
        stock = Stock(of_masks["static"]), Stock(of_masks["dynamic"])
        tables = {arms[0].name: measure(*arms, folder / arms[0].name, runs) for arms in (ours, stock)}
    path = RESULTS / f"faults_{os.cpu_count()}cores_{datetime.date.today():%Y%m%d}.md"
    path.write_text(render(tables, runs), "utf-8")


if __name__ == "__main__":
    main()
