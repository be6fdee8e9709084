"""Training beside stock transformers: tokens a second, useful FLOPs, waiting and memory, all through the Trainer.

    python benchmarks/bench_train.py                             # what a CPU is for; --only cpu_small, cpu_base, gpu
    python benchmarks/bench_train.py --data_dir runs/base/data   # rows of your own, with static masks

Needs nothing but the repository: without --data_dir the rows are random token ids under the real row schema, with
whole-word masks over 15 % of the words, since no bundled text could fill a vocabulary of 32,000.

Every arm (turkbert or stock_pretraining.py, compiled or not) is one train() in a process of its own, which stops
after each window of steps until its turn comes again: A B A B, so that a noisy neighbour meets both. A first window
warms up and is left out; so are the first steps of each window. Ratios are medians over the rounds.
"""

import argparse
import dataclasses
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from train_settings import SETTINGS, TINY, Arm, Prepared, Setting

ROOT = Path(__file__).resolve().parent.parent
Figures = dict[Arm, list[dict[str, Any]]]  # the windows of each arm; of one that failed, {"error": the reason}


# ---- processes; they alone import torch


def prepare(*arguments):
    """train_arm.prepare_rows."""
    from train_arm import prepare_rows

    return prepare_rows(*arguments)


def train(*arguments) -> None:
    """train_arm.run_arm."""
    from train_arm import run_arm

    run_arm(*arguments)


def process_context(setting: Setting):
    """Forks of a server that has the imports start faster; an import may touch the GPU, which no fork survives."""
    context = get_context("forkserver" if setting.use_cpu else "spawn")
    context.set_forkserver_preload(["turkbert.training.trainer"])
    return context


# ---- all arms, in turns


def measure(setting: Setting, folder: Path, windows: int) -> Figures:
    """Start all arms and let them run their windows in turns."""
    context = process_context(setting)
    connections, processes = {}, []
    for arm in setting.arms:
        connections[arm], theirs = context.Pipe()
        processes.append(context.Process(target=train, args=(arm, setting, folder, windows, theirs)))
        processes[-1].start()
        theirs.close()
    results: Figures = {arm: [] for arm in setting.arms}
    for number in range(1 + windows):
        for arm in [arm for arm in setting.arms if not failure(results[arm])]:
            figures = take_turn(connections[arm])
            if "error" in figures:
                results[arm] = [figures]
            elif number:  # the first one warmed up
                results[arm].append(figures)
    for process in processes:
        process.join()
    return results


def take_turn(connection: Connection) -> dict[str, Any]:
    """Let an arm run one window."""
    try:
        connection.send("go")
        return connection.recv()
    except (EOFError, OSError):
        return {"error": "its process died"}


def failure(windows: list[dict[str, Any]]) -> str | None:
    """Why an arm gave no figures; None where it did."""
    return windows[0].get("error") if windows else None


# ---- the table

Row = tuple[str, str, str]  # what, measured, asked


def tabulate(setting: Setting, results: Figures, prepared: Prepared) -> list[Row]:
    """The rows of one setting."""
    table = []
    for arm, windows in results.items():
        if failure(windows):
            table.append((f"{setting.title}: {arm}", f"failed: {failure(windows)}", ""))
        else:
            table += arm_rows(arm, setting, windows, prepared)
    ours, stock = (best_arm(results, program) for program in ("turkbert", "stock"))
    if ours and stock:
        table += ratio_rows(setting, ours, stock, results)
    return table


def useful_flop(setting: Setting, labelled_share: float) -> float:
    """Useful FLOPs of a token, by the share of the tokens that the rows have labels for."""
    from turkbert.training.speed import flop_per_token  # here, so that this process holds no torch beside the arms

    sizes = {name: size for name, size in setting.sizes.items() if name != "num_attention_heads"}
    share = labelled_share * setting.block_size / (setting.block_size - 3)
    return flop_per_token(**sizes, block_size=setting.block_size, mlm_probability=share)


def arm_rows(arm: Arm, setting: Setting, windows: list[dict[str, Any]], prepared: Prepared) -> list[Row]:
    """Speed, useful FLOPs, share of the limit, waiting and memory of one arm."""
    title, asked = f"{setting.title}: {arm}", setting.asked if arm.program == "turkbert" else {}
    tokens = setting.steps * setting.batch_size * setting.block_size
    flop = tokens * prepared.useful * useful_flop(setting, prepared.labelled)
    table = [
        (f"{title}, tokens/s", f"{median(tokens / w['seconds'] for w in windows):,.0f}", ""),
        (f"{title}, useful TFLOP/s", f"{median(flop / w['seconds'] for w in windows) / 1e12:.3f}", ""),
    ]
    if windows[0]["limit"]:
        limit = f"of the {setting.matrix} x {setting.matrix} matrix rate" if setting.use_cpu else "MFU"
        share = median(flop / w["seconds"] / w["limit"] for w in windows)
        table.append((f"{title}, {limit}", f"{share:.1%}", asked.get("limit", "")))
    waiting = median(w["waiting"] / w["seconds"] for w in windows)
    table.append((f"{title}, waiting for data", f"{waiting:.2%}", asked.get("waiting", "")))
    if windows[0]["peak"]:
        table.append((f"{title}, peak memory, GiB", f"{peak(windows) / 2**30:.1f}", ""))
    return table


def ratio_rows(setting: Setting, ours: Arm, stock: Arm, results: Figures) -> list[Row]:
    """The faster turkbert beside the faster stock, round by round."""
    title, pairs = f"{setting.title}: {ours} / {stock}", zip(results[ours], results[stock], strict=True)
    speed = median(b["seconds"] / a["seconds"] for a, b in pairs)
    table = [(f"{title}, tokens/s", f"{speed:.2f}", setting.asked.get("ratio", ""))]
    if results[ours][0]["peak"]:
        memory = peak(results[ours]) / peak(results[stock])
        table.append((f"{title}, peak memory", f"{memory:.2f}", setting.asked.get("memory", "")))
    return table


def best_arm(results: Figures, program: str) -> Arm | None:
    """The fastest arm of a program that did not fail."""
    arms = [arm for arm, windows in results.items() if arm.program == program and not failure(windows)]
    return min(arms, key=lambda arm: median(window["seconds"] for window in results[arm]), default=None)


def median(values: Iterable[float]) -> float:
    """Of seconds or ratios."""
    return statistics.median(values)


def peak(windows: list[dict[str, Any]]) -> int:
    """Most memory of any window, in bytes."""
    return max(window["peak"] for window in windows)


def write_table(table: list[Row], prepared: Prepared, output: Path) -> str:
    """Write train_<hardware>_<yyyymmdd>.md; returns the table."""
    lines = ["| what | measured | asked |", "|---|---:|---:|", *(f"| {a} | {b} | {c} |" for a, b, c in table)]
    date, text = time.strftime("%Y%m%d"), "\n".join(lines) + "\n"
    output.mkdir(parents=True, exist_ok=True)
    hardware = prepared.hardware.replace(" ", "_")
    header = f"# Training, {hardware}, torch {prepared.torch_version}, {date}\n\n"
    (output / f"train_{hardware}_{date}.md").write_text(header + text)
    return text


def chosen_settings(only: str | None, tiny: bool, steps: int | None) -> list[Setting]:
    """The settings of a group, or of both for a CPU."""
    groups = [only] if only else ["cpu_small", "cpu_base"]
    chosen = TINY if tiny else [setting for setting in SETTINGS if setting.group in groups]
    return [dataclasses.replace(setting, steps=steps) if steps else setting for setting in chosen]


def main() -> None:
    """Run what is asked for and write its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("cpu_small", "cpu_base", "gpu"))
    parser.add_argument("--windows", type=int, default=5)
    parser.add_argument("--steps_per_window", type=int, help="else 6 on a CPU and 12 on a GPU")
    parser.add_argument("--tiny", action="store_true", help="a useless model, in seconds: shows that this runs")
    parser.add_argument("--data_dir", type=Path, help="rows that prepare_data.py made")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results")
    arguments = parser.parse_args()
    table: list[Row] = []
    with tempfile.TemporaryDirectory() as work:
        for setting in chosen_settings(arguments.only, arguments.tiny, arguments.steps_per_window):
            with ProcessPoolExecutor(1, process_context(setting)) as pool:
                prepared = pool.submit(prepare, setting, arguments.data_dir, Path(work)).result()
            table += tabulate(setting, measure(setting, prepared.folder, arguments.windows), prepared)
            text = write_table(table, prepared, arguments.output)  # each time: what stops us loses one setting
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
