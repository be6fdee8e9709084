"""A gradient that is not finite changes nothing, and weights that are not finite are never saved."""

import logging
from pathlib import Path

import pytest
import torch

from tests.training.tiny import tiny_arguments
from turkbert.errors import UserError
from turkbert.training.checkpoint import find_checkpoint
from turkbert.training.run import build_trainer


@pytest.fixture
def poisoned(tiny_dir, prepared, tmp_path):
    """A trainer whose loss is NaN at the steps in `.bad`."""
    args = tiny_arguments(tiny_dir, tmp_path / "out", eval_strategy="no", save_steps=10, logging_steps=5)
    trainer = build_trainer(args, args.training(), prepared.tokenizer, prepared.rows, checkpoint=None)
    trainer.bad = set()
    compute_loss = trainer.compute_loss

    def with_nan(model, inputs, **kwargs):
        loss = compute_loss(model, inputs, **kwargs)
        return loss * float("nan") if trainer.state.global_step in trainer.bad else loss

    trainer.compute_loss = with_nan
    trainer.seen = []
    training_step = trainer.training_step

    def remember(*arguments, **kwargs):
        trainer.seen.append([parameter.detach().clone() for parameter in trainer.model.parameters()])
        return training_step(*arguments, **kwargs)

    trainer.training_step = remember
    return trainer


def test_step_that_is_not_finite_changes_nothing_and_is_named(poisoned, caplog):
    poisoned.bad = {3}
    with caplog.at_level(logging.WARNING):
        poisoned.train()
    before, after, later = poisoned.seen[3:6]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(after, later, strict=True))
    assert "steps 0 to 5: 1 had a gradient that is not finite" in caplog.text
    assert all(parameter.isfinite().all() for parameter in poisoned.model.parameters())


def test_several_in_a_row_stop_the_run(poisoned):
    poisoned.bad = {2, 3, 4}
    with pytest.raises(UserError, match="3 steps in a row"):
        poisoned.train()


def test_weights_that_are_not_finite_are_never_saved(poisoned):
    with torch.no_grad():
        next(poisoned.model.parameters()).fill_(float("inf"))
    with pytest.raises(UserError, match="nothing is saved"):
        poisoned._save_checkpoint(poisoned.model, None)
    assert find_checkpoint(Path(poisoned.args.output_dir)) is None
