"""Validation metrics: sums of batches -> loss, accuracy, perplexity, F1, the same however the rows are split."""

import math
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score

from tests.training.tiny import tiny_arguments
from turkbert.data.collator import IGNORED
from turkbert.training import metrics as metrics_module
from turkbert.training.metrics import (
    MLM_SUMS,
    NSP_SUMS,
    MaskedLMMetric,
    NextSentenceMetric,
    batch_sums,
    compute_metrics,
)
from turkbert.training.run import build_trainer

HALF = math.log(2)  # the loss of a coin


def two_rows() -> tuple[SimpleNamespace, dict[str, torch.Tensor]]:
    """Two rows of three tokens; tokens 1 and 5 are labelled; the third position is padding (0, never labelled)."""
    labels = torch.tensor([[IGNORED, 2, IGNORED], [IGNORED, IGNORED, 1]])
    logits = torch.tensor([[0.0, 0.0, 9.0], [9.0, 0.0, 0.0], [0.0, 0.0, 9.0]])  # right, wrong, padding
    outputs = SimpleNamespace(
        prediction_logits=logits,
        mlm_loss=torch.tensor(1.5),
        seq_relationship_logits=torch.tensor([[0.0, 0.0], [1.0, 3.0]]),
    )
    inputs = {
        "labels": labels,
        "labelled_positions": torch.tensor([1, 5, 0]),
        "next_sentence_label": torch.tensor([1, 1]),
    }
    return outputs, inputs


def test_sums_of_a_batch_by_hand():
    second = math.log(1 + math.exp(-2))
    # mean loss 1.5 over 2 labels, 1 of them right; a tie is read as 0, so one of two random pairs is found
    expected = [3.0, 1, 2, HALF + second, 1, 2, 1, 1, 2]
    assert batch_sums(*two_rows()).tolist() == pytest.approx(expected, rel=1e-6)


def test_metrics_by_hand():
    rows = np.array([[6.0, 1, 2, 1.0, 2, 3, 1, 1, 2], [3.0, 2, 4, 3.0, 1, 1, 0, 1, 0]])
    expected = {
        "loss": 2.5,
        "mlm_loss": 1.5,
        "mlm_accuracy": 0.5,
        "mlm_perplexity": math.exp(1.5),
        "nsp_loss": 1.0,
        "nsp_accuracy": 0.75,
        "nsp_f1": 0.5,
    }
    assert compute_metrics(rows, with_nsp=True) == pytest.approx(expected)
    without = compute_metrics(rows, with_nsp=False)
    assert without == pytest.approx({"loss": 1.5, **{n: v for n, v in expected.items() if n.startswith("mlm")}})


def test_modules_take_batches_as_evaluate_does(tmp_path):
    mlm, nsp = MaskedLMMetric(cache_dir=str(tmp_path)), NextSentenceMetric(cache_dir=str(tmp_path))
    for sums in ([2.0, 1, 2], [4.0, 0, 1]):
        mlm.add_batch(**{name: [value] for name, value in zip(MLM_SUMS, sums, strict=True)})
    nsp.add_batch(**{name: [1.0, 1.0] for name in NSP_SUMS})
    assert mlm.compute() == pytest.approx({"loss": 2.0, "accuracy": 1 / 3, "perplexity": math.exp(2)})
    assert nsp.compute() == pytest.approx({"loss": 1.0, "accuracy": 1.0, "f1": 1.0})


def test_nothing_labelled_is_no_division_by_zero():
    assert compute_metrics(np.zeros((1, 9)), with_nsp=True)["loss"] == 0


def test_imports_past_an_evaluate_py(tmp_path, monkeypatch):
    (tmp_path / "evaluate.py").write_text("raise AssertionError('the wrong evaluate')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "evaluate")
    path = sys.path.copy()
    assert metrics_module._import_evaluate().Metric.__module__ == "evaluate.module"
    assert sys.path == path


# ---- over the validation rows


@pytest.fixture(scope="module")
def trainer_of(tiny_dir, prepared, tmp_path_factory):
    """A trainer with an untrained model for an evaluation batch size; all validation rows count."""

    def make(batch_size: int):
        output_dir = tmp_path_factory.mktemp("evaluation") / "out"
        changes = {"per_device_eval_batch_size": batch_size, "max_eval_steps": 10_000, "initializer_range": 1.0}
        args = tiny_arguments(tiny_dir, output_dir, **changes)
        return build_trainer(args, args.training(), prepared.tokenizer, prepared.rows, checkpoint=None)

    return make


def timeless(metrics: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if "mlm" in name or "nsp" in name}


def test_batch_size_does_not_matter(trainer_of, prepared):
    whole = trainer_of(8).evaluate()
    assert whole["eval_nsp_f1"] > 0
    for batch_size in (1, 3):
        assert timeless(trainer_of(batch_size).evaluate()) == pytest.approx(timeless(whole), rel=1e-5)


def test_equals_scikit_learn_and_a_plain_loop(trainer_of, prepared):
    trainer = trainer_of(8)
    found = trainer.evaluate()
    said, labels, losses = [], [], []
    for inputs in trainer.get_eval_dataloader():
        with torch.no_grad():
            outputs = trainer.model.eval()(input_ids=inputs["input_ids"], token_type_ids=inputs["token_type_ids"],
                                           attention_mask=inputs.get("attention_mask"))  # fmt: skip
        said += outputs.seq_relationship_logits.argmax(-1).tolist()
        labels += inputs["next_sentence_label"].tolist()
        logits = outputs.prediction_logits.flatten(0, 1)
        losses.append(torch.nn.functional.cross_entropy(logits, inputs["labels"].flatten(), reduction="none"))
        losses[-1] = losses[-1][inputs["labels"].flatten() != IGNORED]
    assert len(labels) == prepared.rows[64]["validation"].num_rows
    assert found["eval_nsp_f1"] == pytest.approx(f1_score(labels, said, pos_label=1))
    assert found["eval_nsp_accuracy"] == pytest.approx(np.mean(np.array(labels) == said))
    assert found["eval_mlm_loss"] == pytest.approx(torch.cat(losses).mean().item(), rel=1e-5)
    assert found["eval_mlm_perplexity"] == pytest.approx(math.exp(found["eval_mlm_loss"]))


def test_keeps_nine_numbers_a_batch(trainer_of, monkeypatch):
    shapes = []

    def seen(sums: np.ndarray, with_nsp: bool) -> dict[str, float]:
        shapes.append(sums.shape)
        return compute_metrics(sums, with_nsp)

    monkeypatch.setattr("turkbert.training.trainer.compute_metrics", seen)
    trainer = trainer_of(8)
    output = trainer.evaluation_loop(trainer.get_eval_dataloader(), "evaluation")
    assert output.predictions is None and output.label_ids is None
    assert shapes == [(len(trainer.eval_dataset), 9)]


def test_max_eval_steps_spreads_over_the_rows(tiny_dir, prepared, tmp_path):
    args = tiny_arguments(tiny_dir, tmp_path / "out", per_device_eval_batch_size=2, max_eval_steps=3)
    rows = build_trainer(args, args.training(), prepared.tokenizer, prepared.rows, checkpoint=None).eval_dataset
    last = prepared.rows[64]["validation"].num_rows - 1
    assert len(rows) == 3
    assert rows.numbers[[0, -1]].tolist() == [0, last] and np.ptp(np.diff(rows.numbers)) <= 1
