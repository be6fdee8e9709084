"""What a run ended with, as numbers and as the table that is shown at its end."""

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from turkbert.training.estimate import duration
from turkbert.training.metrics_file import METRICS_FILE


@dataclass(frozen=True)
class RunResult:
    """What a run ended with.

    Attributes:
        metrics: of the final model on the validation rows, eval_*; empty without evaluation.
        predictions: for the sample texts.
        weights: which ones the final model has.
        baselines: unigram_loss and majority_accuracy on the same rows; in the main process alone, as the next.
        totals: of metrics_file.training_totals.
    """

    output_dir: Path
    metrics: dict[str, float]
    predictions: str
    weights: str
    baselines: dict[str, float] = dataclasses.field(default_factory=dict)
    totals: dict[str, float] = dataclasses.field(default_factory=dict)

    def validation(self) -> dict[str, float]:
        """mlm_loss, mlm_accuracy, mlm_perplexity, nsp_loss, nsp_accuracy, nsp_f1, as far as they were measured."""
        found = {name.removeprefix("eval_"): value for name, value in self.metrics.items()}
        return {name: value for name, value in found.items() if name[:4] in ("mlm_", "nsp_")}

    def guessing(self) -> dict[str, float]:
        """What a model that learned nothing would have instead: token frequencies, and a coin for the pairs."""
        found = {"nsp_loss": math.log(2), "nsp_accuracy": 0.5}
        if self.baselines:
            unigram_loss = self.baselines["unigram_loss"]
            found |= {"mlm_loss": unigram_loss, "mlm_perplexity": math.exp(unigram_loss)}
            found["mlm_accuracy"] = self.baselines["majority_accuracy"]
        return found

    def summary(self) -> str:
        """Losses, accuracies, tokens, time, and where everything lies."""
        return "\n".join([*self._quality(), "", *self._cost(), "", *self._places()])

    def _quality(self) -> Iterator[str]:
        training = {name: self.totals[name] for name in ("mlm_loss", "nsp_loss") if self.totals.get(name)}
        columns = {"training": training, "validation": self.validation(), "guessing": self.guessing()}
        yield f"{'':<16}" + "".join(f"{title:>12}" for title in columns)
        for name in columns["validation"] or training:
            cells = (f"{values[name]:.4f}" if name in values else "" for values in columns.values())
            yield f"{name:<16}{''.join(f'{cell:>12}' for cell in cells)}".rstrip()

    def _cost(self) -> Iterator[str]:
        if self.totals:
            yield f"{'steps':<16}{self.totals['steps']:,}"
            yield f"{'tokens':<16}{self.totals['tokens']:,}"
            yield f"{'time of steps':<16}{duration(self.totals['seconds'])}"
            yield f"{'tokens/s':<16}{self.totals['tokens_per_second']:,.0f}"

    def _places(self) -> Iterator[str]:
        yield f"{'model':<16}{self.output_dir} ({self.weights})"
        for what, name in (
            ("card", "README.md"), ("plots", "plots"), ("samples", "generated_samples.txt"), ("all logs", METRICS_FILE)
        ):  # fmt: skip
            if (self.output_dir / name).exists():
                yield f"{what:<16}{self.output_dir / name}"
