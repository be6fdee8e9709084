"""transformers' Trainer with what fine-tuning adds: class weights, scores that need the data's own rows, frozen parts.

    trainer = FinetuningTrainer(task=task, class_weights=[0.6, 3.0], model=model, args=training, train_dataset=...)
    trainer.evaluate(trainer.eval_dataset)    # {"eval_accuracy": ..., "eval_f1": ..., "eval_loss": ...}
"""

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from datasets import Dataset
from torch.utils.data import SequentialSampler
from transformers import (
    EarlyStoppingCallback,
    EvalPrediction,
    PreTrainedModel,
    PrinterCallback,
    ProgressCallback,
    Trainer,
)

from turkbert.finetuning.classification import Classification
from turkbert.finetuning.question_answering import QuestionAnswering
from turkbert.finetuning.token_classification import TokenClassification

Task = Classification | TokenClassification | QuestionAnswering
LOWER_IS_BETTER = ("loss", "mse")


class FinetuningTrainer(Trainer):
    """Trainer for a Task.

    Args:
        encoded: the task's encoded splits by name; evaluation splits come sorted by length.
        class_weights: (C,) weights of the classes in the cross-entropy, or None for the model's own loss.
        patience: evaluations without improvement before training stops, or None.
    """

    def __init__(
        self,
        task: Task,
        encoded: dict[str, Dataset],
        class_weights: list[float] | None = None,
        patience: int | None = None,
        **kwargs: Any,
    ):
        self.task = task
        self.encoded = encoded
        args = kwargs["args"]
        args.metric_for_best_model = args.metric_for_best_model or task.main_metric
        args.greater_is_better = not args.metric_for_best_model.endswith(LOWER_IS_BETTER)
        super().__init__(
            train_dataset=encoded["train"],
            eval_dataset=encoded["validation"],
            data_collator=task.collator,
            preprocess_logits_for_metrics=task.reduce_logits,
            **kwargs,
        )
        # Stock classes take any keyword, from which Trainer concludes that their loss is a sum: it is a mean.
        self.model_accepts_loss_kwargs = False
        self.class_weights = None if class_weights is None else torch.tensor(class_weights, device=args.device)
        for callback in (PrinterCallback, ProgressCallback):  # see progress.py
            self.remove_callback(callback)
        if patience:
            self.add_callback(EarlyStoppingCallback(patience))

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """The model's own loss, or cross-entropy with class weights over the labelled rows or tokens."""
        if self.class_weights is None:
            return super().compute_loss(model, inputs, return_outputs)
        labels = inputs.pop("labels")
        outputs = model(**inputs)
        logits = outputs.logits.float().flatten(0, -2)  # (rows or tokens, C)
        loss = F.cross_entropy(logits, labels.flatten(), weight=self.class_weights)
        return (loss, outputs) if return_outputs else loss

    def evaluate(self, eval_dataset=None, ignore_keys=None, metric_key_prefix="eval"):
        """Scores of a split, "validation" or "test"; None is the validation split."""
        split = eval_dataset if isinstance(eval_dataset, str) else "validation"
        self.compute_metrics = partial(self._score, split)
        return super().evaluate(self.encoded[split], ignore_keys, metric_key_prefix)

    def _score(self, split: str, prediction: EvalPrediction) -> dict[str, float]:
        return self.task.score(split, self.encoded[split], prediction.predictions, prediction.label_ids)

    def _get_eval_sampler(self, eval_dataset: Dataset) -> SequentialSampler:
        return SequentialSampler(eval_dataset)  # Trainer would shuffle by length, and scores need the order


def balanced_weights(counts: list[int]) -> list[float]:
    """Rows / (classes x rows of the class), scikit-learn's "balanced"; of a class without rows 1."""
    total = sum(counts)
    return [total / (len(counts) * count) if count else 1.0 for count in counts]


def freeze_encoder(model: PreTrainedModel) -> None:
    """Leave only the head's parameters trainable."""
    for parameter in model.base_model.parameters():
        parameter.requires_grad = False
