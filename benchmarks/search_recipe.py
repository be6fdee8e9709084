"""Recipes by trial: short pretraining runs on the same rows, each measured on the same validation rows.

    python benchmarks/search_recipe.py configs/small.json trials.json --results runs/trials --eval_minutes 2 5 10 20

trials.json is {name: {key: value, ...}, ...}; the keys lie over those of the config, whose rows must be prepared.
Give each trial the max_steps that fill its time: the schedule ends with it. Every trial is a fresh process; one that
has a result is left out, so the list can grow. Writes <results>/trials.jsonl and <results>/curves.png.
"""

import argparse
import json
import math
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerFast, TrainerCallback

from turkbert.arguments import parse_args
from turkbert.data.collator import IGNORED
from turkbert.data.prepare import load_prepared
from turkbert.tokenization import load_tokenizer
from turkbert.training.run import build_trainer
from turkbert.training.sampler import EvaluationRows
from turkbert.training.unigrams import unigram_baselines

QUIET = {
    "eval_strategy": "no", "save_strategy": "no", "report_to": "none", "disable_tqdm": True, "overwrite": True,
    "resume_from_checkpoint": None, "max_eval_steps": 50, "per_device_eval_batch_size": 32,
}  # fmt: skip


class EvaluateAt(TrainerCallback):
    """Asks for an evaluation after given minutes of training, and at the end; evaluation itself does not count."""

    def __init__(self, minutes: list[float], batches: Any):
        self.due, self.batches = sorted(minutes), batches
        self.curve: list[dict[str, float]] = []
        self.tokens, self.seconds = 0, 0.0

    def on_step_begin(self, args, state, control, **kwargs):
        """Start the clock of a step."""
        self.step_began = time.perf_counter()

    def on_step_end(self, args, state, control, **kwargs):
        """Stop it; ask for an evaluation when one is due."""
        self.seconds += time.perf_counter() - self.step_began
        stage = self.batches.stage_of(state.global_step - 1)
        self.tokens += stage.batch_size * stage.block_size * args.gradient_accumulation_steps
        if state.global_step == state.max_steps or (self.due and self.seconds / 60 >= self.due[0]):
            self.due = [minutes for minutes in self.due if minutes > self.seconds / 60]
            control.should_evaluate = True

    def on_evaluate(self, args, state, control, metrics, **kwargs):
        """Add a point to the curve."""
        names = ("mlm_loss", "mlm_accuracy", "nsp_accuracy")
        figures = {name: round(metrics[f"eval_{name}"], 4) for name in names if f"eval_{name}" in metrics}
        place = {"minutes": round(self.seconds / 60, 2), "step": state.global_step, "tokens": self.tokens}
        self.curve.append({**place, **figures})


def run_trial(config: Path, name: str, settings: dict[str, Any], folder: Path, eval_minutes: list[float]) -> dict:
    """Train one trial to its last step; what it was and what it reached, ready for a line of JSON."""
    trial = folder / f"{name}.json"
    base = json.loads(config.read_text("utf-8"))
    trial.write_text(json.dumps({**base, **QUIET, **settings, "output_dir": str(folder / name)}), "utf-8")
    args = parse_args([str(trial)])
    rows = load_prepared(args.data.data_dir, args.data.block_sizes)
    tokenizer = load_tokenizer(args.tokenizer.tokenizer_dir)
    trainer = build_trainer(args, args.training(), tokenizer, rows, None)
    watch = EvaluateAt(eval_minutes, trainer.sampler)
    trainer.add_callback(watch)
    trainer.train()
    block_size = trainer.args.eval_block_size or max(rows)
    baselines = unigram_baselines(rows[block_size]["train"], trainer.eval_dataset, tokenizer)
    last = watch.curve[-1]
    characters = characters_per_label(trainer.eval_dataset, tokenizer)
    return {
        "name": name,
        "settings": settings,
        **last,
        "threads": torch.get_num_threads(),
        "tokens_per_second": round(last["tokens"] / watch.seconds),
        "below_unigram": round(baselines["unigram_loss"] - last["mlm_loss"], 4),
        "bits_per_character": round(last["mlm_loss"] / math.log(2) / characters, 4),
        **baselines,
        "curve": watch.curve,
    }


def characters_per_label(batches: EvaluationRows, tokenizer: PreTrainedTokenizerFast) -> float:
    """Mean characters of a labelled token, with which losses of different vocabularies become comparable."""
    pieces = [token.removeprefix("##") for token in tokenizer.convert_ids_to_tokens(range(len(tokenizer)))]
    lengths = torch.tensor([len(piece) for piece in pieces])
    labels = torch.cat([batches[number]["labels"].flatten() for number in range(len(batches))])
    return lengths[labels[labels != IGNORED]].double().mean().item()


def draw_curves(results: list[dict[str, Any]], path: Path) -> None:
    """Validation MLM loss over minutes of training, a line a trial, and the line of unigram frequencies."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for result in results:
        points = result["curve"]
        axes.plot([p["minutes"] for p in points], [p["mlm_loss"] for p in points], marker="o", label=result["name"])
    axes.axhline(results[-1]["unigram_loss"], color="gray", linestyle=":", label="unigram frequencies")
    axes.set(xlabel="minutes of training", ylabel="validation MLM loss (nats)")
    axes.legend()
    figure.savefig(path, dpi=120)


def main() -> None:
    """Run the trials that have no result yet and draw all curves."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("trials", type=Path)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--eval_minutes", type=float, nargs="*", default=[])
    parser.add_argument("--only", help="run this trial alone, in this process")
    given = parser.parse_args()
    trials = json.loads(given.trials.read_text("utf-8"))
    given.results.mkdir(parents=True, exist_ok=True)
    table = given.results / "trials.jsonl"
    if given.only:
        result = run_trial(given.config, given.only, trials[given.only], given.results, given.eval_minutes)
        with table.open("a", encoding="utf-8") as file:
            file.write(json.dumps(result, ensure_ascii=False) + "\n")
        return
    for name in trials:
        if name not in [result["name"] for result in read_results(table)]:
            subprocess.run([sys.executable, *sys.argv, "--only", name], check=False)
    draw_curves(read_results(table), given.results / "curves.png")


def read_results(table: Path) -> list[dict[str, Any]]:
    """The trials that came to their end; one that diverged or was killed has no line."""
    return [json.loads(line) for line in table.read_text("utf-8").splitlines()] if table.is_file() else []


if __name__ == "__main__":
    main()
