"""Runs of several models -> means, standard deviations, and paired differences with confidence intervals.

    table = compare(records)
    table[0].cells["out"].mean, table[0].cells["other"].difference    # 86.1, Difference(4.2, 3.1, 5.3)
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from scipy.stats import t as student_t

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Difference:
    """The first model's score less another's: mean over the seeds, and the ends of the confidence interval."""

    mean: float
    low: float
    high: float


@dataclass
class Cell:
    """One model on one task.

    Attributes:
        scores: test scores (validation, where there is no test), one a seed.
        difference: how far the first model is ahead; None for itself, and with fewer than two common seeds.
        seconds: median time of a run, training and evaluation.
        others: mean of each other score.
    """

    scores: list[float]
    learning_rate: float
    seconds: float
    others: dict[str, float] = field(default_factory=dict)
    difference: Difference | None = None

    @property
    def mean(self) -> float:
        return statistics.fmean(self.scores)

    @property
    def deviation(self) -> float:
        """Sample standard deviation over the seeds, 0 for a single one."""
        return statistics.stdev(self.scores) if len(self.scores) > 1 else 0.0


@dataclass
class Row:
    """One task: its kind (the Hub's name, with _ for -), its main score, its rows, and a cell for each model."""

    task: str
    kind: str
    metric: str
    split: str
    rows: dict[str, int]
    cells: dict[str, Cell]


def compare(records: Sequence[dict[str, Any]]) -> list[Row]:
    """The chosen runs of a benchmark -> one Row a task, in their order; the first arm is what others are held to."""
    rows = []
    arms = list(dict.fromkeys(record["arm"] for record in records))
    for task in dict.fromkeys(record["task"] for record in records):
        of_task = [record for record in records if record["task"] == task]
        split = "test" if all("test" in record["scores"] for record in of_task) else "validation"
        metric = of_task[0]["metric"]
        by_arm = {arm: {r["seed"]: r for r in of_task if r["arm"] == arm} for arm in arms}
        by_arm = {arm: runs for arm, runs in by_arm.items() if runs}
        cells = {arm: _cell(list(runs.values()), split, metric) for arm, runs in by_arm.items()}
        first = by_arm.get(arms[0], {})
        for arm, runs in by_arm.items():
            if arm != arms[0]:
                seeds = [seed for seed in first if seed in runs]
                pairs = [first[s]["scores"][split][metric] - runs[s]["scores"][split][metric] for s in seeds]
                cells[arm].difference = paired_difference(pairs)
        rows.append(Row(task, of_task[0]["kind"], metric, split, of_task[0]["rows"], cells))
    return rows


def paired_difference(differences: Sequence[float], confidence: float = CONFIDENCE) -> Difference | None:
    """Mean and Student's t interval of paired differences; None for fewer than two.

    The interval speaks of other seeds on the same rows, not of other rows.
    """
    if len(differences) < 2:
        return None
    mean = statistics.fmean(differences)
    error = statistics.stdev(differences) / math.sqrt(len(differences))
    half = float(student_t.ppf((1 + confidence) / 2, len(differences) - 1)) * error
    return Difference(mean, mean - half, mean + half)


def _cell(runs: list[dict[str, Any]], split: str, metric: str) -> Cell:
    scores = [run["scores"][split][metric] for run in runs]
    others = {
        name: statistics.fmean(run["scores"][split][name] for run in runs)
        for name in runs[0]["scores"][split]
        if name not in (metric, "loss")
    }
    return Cell(scores, runs[0]["learning_rate"], statistics.median(run["seconds"] for run in runs), others)
