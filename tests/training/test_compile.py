"""torch_compile: the same losses, one graph for each kind of batch, and none after a stage's first steps."""

import shutil

import pytest
import torch
from torch._dynamo.utils import counters
from transformers import TrainerCallback

from tests.training.tiny import tiny_arguments
from turkbert.training.run import build_trainer

STILL = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "eval_strategy": "no", "save_strategy": "no"}
SWITCH = 6  # the first step of stage 2: 0.6 of 10


class Graphs(TrainerCallback):
    """How many graphs were compiled up to the end of each step."""

    def __init__(self):
        self.compiled = []

    def on_step_end(self, args, state, control, **kwargs):
        self.compiled.append(counters["stats"]["unique_graphs"])


@pytest.fixture(autouse=True)
def no_graphs_of_others():
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


def with_padding(trainer) -> None:
    """Every other batch gets a padded row; the tiny rows have none."""
    make = trainer.train_dataset.__class__.__getitem__

    class Padded(trainer.train_dataset.__class__):
        def __getitem__(self, number):
            batch = make(self, number)
            if number % 2:
                batch["attention_mask"] = torch.ones_like(batch["input_ids"])
                batch["attention_mask"][0, -3:] = 0
            return batch

    trainer.train_dataset.__class__ = Padded


def losses(tiny_dir, prepared, folder, padded: bool, **settings) -> tuple[list[float], list[int]]:
    """Of each step: its loss, and the number of graphs so far."""
    folder.mkdir()
    args = tiny_arguments(tiny_dir, folder / "out", **STILL, **settings)
    trainer = build_trainer(args, args.training(), prepared.tokenizer, prepared.rows, checkpoint=None)
    graphs = Graphs()
    trainer.add_callback(graphs)
    if padded:
        with_padding(trainer)
    trainer.train()
    return [log["loss"] for log in trainer.state.log_history if "loss" in log], graphs.compiled


def check(tiny_dir, prepared, folder, padded: bool, **settings) -> None:
    plain, none = losses(tiny_dir, prepared, folder / "plain", padded)
    compiled, graphs = losses(tiny_dir, prepared, folder / "compiled", padded, torch_compile=True, **settings)
    assert none == [0] * 10 and len(plain) == 10
    assert compiled == pytest.approx(plain, rel=1e-5)
    if padded:  # with a mask and without, in each stage
        assert graphs == [1] + [2] * (SWITCH - 1) + [3] + [4] * (9 - SWITCH)
    else:
        assert graphs == [1] * SWITCH + [2] * (10 - SWITCH)


def test_one_graph_a_stage_and_kind_of_batch(tiny_dir, prepared, tmp_path):
    check(tiny_dir, prepared, tmp_path, padded=True, torch_compile_backend="eager")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="inductor wants a C++ compiler")
@pytest.mark.parametrize("padded", [False, True], ids=["full", "padded"])
def test_inductor_trains_both_stages(tiny_dir, prepared, tmp_path, padded):
    check(tiny_dir, prepared, tmp_path, padded)
