"""Validation metrics as `evaluate` modules that come with the package: sums of batches -> loss, accuracy, F1.

They take one row of sums a batch, not predictions: nothing of the vocabulary's size is kept, memory does not grow
with the validation rows, and sums of several processes add up exactly.
"""

import importlib
import math
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import datasets
import numpy as np
import torch
import torch.nn.functional as F

from turkbert.data.collator import IGNORED
from turkbert.data.pairs import NOT_NEXT


def _import_evaluate() -> ModuleType:
    """The evaluate library: `python scripts/X.py` puts scripts/ first on the path, and evaluate.py there hides it."""
    path = sys.path.copy()
    sys.path[:] = [folder for folder in path if not Path(folder, "evaluate.py").is_file()]
    try:
        return importlib.import_module("evaluate")
    finally:
        sys.path[:] = path


if TYPE_CHECKING:
    import evaluate
else:
    evaluate = _import_evaluate()

MLM_SUMS = ("loss", "correct", "labelled")
NSP_SUMS = ("loss", "correct", "rows", "true_random", "said_random", "was_random")


class _SumsMetric(evaluate.Metric):
    """An evaluate.Metric whose inputs are one column of sums each."""

    sums: tuple[str, ...]

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=type(self).__doc__,
            citation="",
            inputs_description=", ".join(self.sums),
            features=datasets.Features({name: datasets.Value("float64") for name in self.sums}),
        )


class MaskedLMMetric(_SumsMetric):
    """Cross-entropy (nats), accuracy and perplexity over the labelled tokens."""

    sums = MLM_SUMS

    def _compute(self, **sums: list[float]) -> dict[str, float]:
        total = {name: math.fsum(values) for name, values in sums.items()}
        labelled = max(total["labelled"], 1)
        loss = total["loss"] / labelled
        return {"loss": loss, "accuracy": total["correct"] / labelled, "perplexity": math.exp(min(loss, 700))}


class NextSentenceMetric(_SumsMetric):
    """Cross-entropy (nats) and accuracy over the rows, F1 of the random pairs."""

    sums = NSP_SUMS

    def _compute(self, **sums: list[float]) -> dict[str, float]:
        total = {name: math.fsum(values) for name, values in sums.items()}
        rows = max(total["rows"], 1)
        f1 = 2 * total["true_random"] / max(total["said_random"] + total["was_random"], 1)
        return {"loss": total["loss"] / rows, "accuracy": total["correct"] / rows, "f1": f1}


def batch_sums(outputs, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """One batch's row for both metrics, MLM_SUMS then NSP_SUMS: `(9,)` float64 on the model's device."""
    labels = inputs["labels"].flatten()[inputs["labelled_positions"]]
    labelled = labels != IGNORED
    correct = outputs.prediction_logits.argmax(-1) == labels
    next_labels = inputs["next_sentence_label"]
    next_logits = outputs.seq_relationship_logits.float()
    said = next_logits.argmax(-1)
    was_random, said_random = next_labels == NOT_NEXT, said == NOT_NEXT
    sums = (
        outputs.mlm_loss.float() * labelled.sum(),
        correct.sum(),
        labelled.sum(),
        F.cross_entropy(next_logits, next_labels, reduction="sum"),
        (said == next_labels).sum(),
        torch.ones_like(next_labels).sum(),
        (was_random & said_random).sum(),
        said_random.sum(),
        was_random.sum(),
    )
    return torch.stack([value.double() for value in sums])


def compute_metrics(sums: np.ndarray, with_nsp: bool) -> dict[str, float]:
    """Rows of batch_sums, `(num_batches, 9)` -> loss, mlm_*, nsp_*."""
    mlm, nsp = MaskedLMMetric(keep_in_memory=True), NextSentenceMetric(keep_in_memory=True)
    mlm.add_batch(**dict(zip(MLM_SUMS, sums.T[: len(MLM_SUMS)], strict=True)))
    nsp.add_batch(**dict(zip(NSP_SUMS, sums.T[len(MLM_SUMS) :], strict=True)))
    metrics = {f"mlm_{name}": value for name, value in mlm.compute().items()}
    if with_nsp:
        metrics |= {f"nsp_{name}": value for name, value in nsp.compute().items()}
    return {"loss": metrics["mlm_loss"] + metrics.get("nsp_loss", 0.0), **metrics}
