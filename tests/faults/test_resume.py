"""R4 to R6: resumed at any point, with any loader, in any split of the batch, a run is the uninterrupted one."""

import math
import shutil
from pathlib import Path

import pytest
from datasets import DatasetDict

from tests.faults.arms import Ranks, Turkbert
from tests.faults.harness import Run, live, one_life, same_tensors

SMALL = {
    "max_steps": 16,
    "stage_fractions": [0.5, 0.5],
    "eval_steps": 5,
    "logging_steps": 1,
    "save_total_limit": None,
}
# Both stages have 8 steps and 4 steps a pass over their rows, so that they are passed over twice.
NUM_ROWS = {32: 32, 64: 16}
POINTS = {
    "stage 1, in pass 0": 2,
    "stage 1, between passes": 4,
    "stage 1, in pass 1": 6,
    "the switch of stage": 8,
    "stage 2, in pass 0": 10,
    "stage 2, between passes": 12,
    "stage 2, in pass 1": 15,
}


def on_few_rows(arm: Turkbert, accumulation: int = 1) -> Turkbert:
    rows = {
        size: DatasetDict(
            train=splits["train"].select(range(NUM_ROWS[size])).flatten_indices(), validation=splits["validation"]
        )
        for size, splits in arm.prepared.rows.items()
    }
    split = {"stage_batch_sizes": [8 // accumulation, 4 // accumulation], "gradient_accumulation_steps": accumulation}
    prepared = arm.prepared._replace(rows=rows)
    return Turkbert(arm.tiny_dir, prepared, **{**arm.settings, **SMALL, **split})


def resumed(arm, whole: Run, step: int, folder: Path) -> Run:
    """A run that finds the whole run's checkpoints up to a step (the best among them), and goes on."""
    run = Run(folder / "out", arm.max_steps)
    for path in whole.output_dir.glob("checkpoint-*"):
        if int(path.name.rpartition("-")[2]) <= step:
            shutil.copytree(path, run.output_dir / path.name)
    assert one_life(arm, run) == 0, run.output_dir
    return run


def assert_resumes_exactly(arm, whole: Run, step: int, folder: Path) -> None:
    run = resumed(arm, whole, step, folder)
    assert run.lives[0] == {number: rows for number, rows in whole.rows().items() if number >= step}
    assert run.history() == whole.history()
    for mine, other in zip(run.weights(), whole.weights(), strict=True):
        assert same_tensors(mine, other)


# ---- R4


@pytest.fixture(scope="module")
def whole_runs(arm, static_arm, tmp_path_factory):
    """(masks, accumulation) -> the arm and its uninterrupted run, made when first asked for."""
    made: dict[tuple[str, int], tuple[Turkbert, Run]] = {}

    def get(masks: str, accumulation: int) -> tuple[Turkbert, Run]:
        if (masks, accumulation) not in made:
            small = on_few_rows({"dynamic": arm, "static": static_arm}[masks], accumulation)
            made[masks, accumulation] = small, live(small, tmp_path_factory.mktemp("whole") / "out")
        return made[masks, accumulation]

    return get


def test_the_points_are_what_they_say(whole_runs):
    _, whole = whole_runs("dynamic", 1)
    rows = [(size, row) for step in range(16) for size, batch in whole.rows()[step] for row in batch]
    assert rows[:32] != rows[32:64]
    for size, first, last in ((32, 0, 64), (64, 64, 96)):  # row number + pass x rows: each number once
        assert sorted(rows[first:last]) == [(size, number) for number in range(2 * NUM_ROWS[size])]
    losses = [log for log in whole.history() if "loss" in log]
    assert len(losses) == 16 and len({log["mlm_loss"] for log in losses}) == 16


@pytest.mark.parametrize(("masks", "accumulation", "workers", "step"), [
    ("dynamic", 1, 2, 2),
    ("dynamic", 1, 0, 4),
    ("dynamic", 1, 0, 8),
    ("dynamic", 1, 2, 15),
])  # fmt: skip
def test_resumed_run_equals_uninterrupted(whole_runs, tmp_path, masks, accumulation, workers, step):
    small, whole = whole_runs(masks, accumulation)
    assert_resumes_exactly(small.with_settings(dataloader_num_workers=workers), whole, step, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("accumulation", [1, 2])
@pytest.mark.parametrize("masks", ["dynamic", "static"])
def test_resumed_anywhere(whole_runs, tmp_path, masks, accumulation, workers, point):
    small, whole = whole_runs(masks, accumulation)
    assert_resumes_exactly(small.with_settings(dataloader_num_workers=workers), whole, POINTS[point], tmp_path)


# ---- R5


STILL = {
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "eval_strategy": "no",
    "logging_steps": 1,
    "save_steps": 10,
    "save_total_limit": None,
}


def split(arm: Turkbert, batch_sizes: list[int], **settings) -> Turkbert:
    return arm.with_settings(**STILL, stage_batch_sizes=batch_sizes, **settings)


def farthest(run: Run, whole: Run, first_step: int = 0) -> float:
    """The largest relative difference of a loss, over all steps after `first_step`."""
    pairs = [(a, b) for a, b in zip(run.history(), whole.history(), strict=True) if "loss" in a]
    assert len(pairs) == whole.max_steps and all(a["step"] == b["step"] for a, b in pairs)
    return max(
        abs(a[name] - b[name]) / abs(b[name])
        for a, b in pairs
        for name in ("loss", "mlm_loss", "nsp_loss")
        if a["step"] > first_step
    )


def rows_of_steps(run: Run) -> dict[int, list[tuple[int, int]]]:
    """{step: its rows}, however they were split."""
    return {
        step: sorted((size, row) for size, rows in batches for row in rows) for step, batches in run.rows().items()
    }


def check_splits(arm: Turkbert, steps: int, folder: Path, limit: float) -> None:
    """One process, two micro-batches and two processes learn the same, and go on with each other's checkpoints."""
    one = split(arm, [8, 4], max_steps=steps)
    two = Ranks(split(arm, [4, 2], max_steps=steps, ddp_backend="gloo"))
    whole = live(one, folder / "one" / "out")
    others = {
        "accumulated": live(
            split(arm, [4, 2], max_steps=steps, gradient_accumulation_steps=2), folder / "acc" / "out"
        ),
        "two processes": live(two, folder / "two" / "out"),
    }
    for name, run in others.items():
        assert rows_of_steps(run) == rows_of_steps(whole), name
        assert math.isfinite(farthest(run, whole)) and farthest(run, whole) <= limit, name
    there = resumed(two, whole, 10, folder / "there")
    assert farthest(there, whole) <= limit
    back = resumed(one, there, 20, folder / "back")
    assert farthest(back, whole) <= limit
    assert rows_of_steps(back) == {step: rows for step, rows in rows_of_steps(whole).items() if step >= 20}


@pytest.mark.slow
def test_any_split_of_the_batch_is_the_same_run(arm, tmp_path):
    check_splits(arm, 60, tmp_path, limit=1e-6)


# ---- R6


@pytest.mark.parametrize(
    "step", [6, pytest.param(4, marks=pytest.mark.slow), pytest.param(12, marks=pytest.mark.slow)]
)
def test_two_processes_resume_exactly(arm, tmp_path, step):
    small = on_few_rows(arm).with_settings(stage_batch_sizes=[4, 2], ddp_backend="gloo")
    two = Ranks(small)
    whole = live(two, tmp_path / "whole" / "out")
    run = resumed(two, whole, step, tmp_path / "resumed")
    assert run.history() == whole.history()
    assert all(same_tensors(mine, other) for mine, other in zip(run.weights(), whole.weights(), strict=True))
