"""Evaluation keeps nine sums a batch: memory does not grow with the validation rows."""

import weakref

from tests.model.test_loss import LargestTensor
from tests.training.tiny import tiny_arguments
from turkbert.training.callbacks import SamplesCallback
from turkbert.training.run import build_trainer


def most_logits_alive(trainer, monkeypatch) -> int:
    """Evaluates; how many elements of earlier batches' word logits are still held when a batch begins."""
    forward, made, most = trainer.model.forward, [], 0

    def watched(**inputs):
        nonlocal most
        most = max(most, sum(logits.numel() for reference in made if (logits := reference()) is not None))
        outputs = forward(**inputs)
        made.append(weakref.ref(outputs.prediction_logits))
        return outputs

    monkeypatch.setattr(trainer.model, "forward", watched)
    trainer.evaluate()
    monkeypatch.setattr(trainer.model, "forward", forward)
    assert len(made) == len(trainer.eval_dataset)
    return most


def test_no_logits_outlive_their_batch(tiny_dir, prepared, tmp_path, monkeypatch):
    args = tiny_arguments(tiny_dir, tmp_path / "out", max_eval_steps=20, per_device_eval_batch_size=1)
    trainer = build_trainer(args, args.training(), prepared.tokenizer, prepared.rows, checkpoint=None)
    assert len(trainer.eval_dataset) == 20
    trainer.remove_callback(SamplesCallback)
    assert most_logits_alive(trainer, monkeypatch) == 0


def test_no_tensor_is_larger_over_ten_times_the_rows(tiny_dir, prepared, tmp_path):
    for max_eval_steps in (2, 20):
        settings = {"max_eval_steps": max_eval_steps, "per_device_eval_batch_size": 1}
        args = tiny_arguments(tiny_dir, tmp_path / f"out{max_eval_steps}", **settings)
        trainer = build_trainer(args, args.training(), prepared.tokenizer, prepared.rows, checkpoint=None)
        trainer.remove_callback(SamplesCallback)
        with LargestTensor() as tensors:
            trainer.evaluate()
        most_labels = max(
            trainer.eval_dataset[number]["labelled_positions"].numel() for number in range(max_eval_steps)
        )
        assert tensors.elements == max(most_labels, 16) * 1000  # a batch's logits, or the word embeddings
