"""What only a GPU shows: nothing waits for it between logs, precision by device, MFU and memory in the logs."""

import pytest
import torch
from transformers import TrainerCallback

from tests.training.tiny import tiny_arguments
from turkbert.training.run import build_trainer

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")]

NEVER = {"eval_strategy": "no", "save_strategy": "no"}


def trainer_of(tiny_dir, prepared, tmp_path, **settings):
    """A trainer on the GPU, in the precision it chooses itself unless `settings` say another."""
    changes = {"use_cpu": False, "bf16": None, "fp16": None, **settings}
    args = tiny_arguments(tiny_dir, tmp_path / "out", **changes)
    return build_trainer(args, args.training(), prepared.tokenizer, prepared.rows, checkpoint=None)


class RefuseToWait(TrainerCallback):
    """From step 2 on whatever waits for the GPU in a step raises; logging comes after it."""

    def __init__(self):
        self.watched = 0

    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step >= 2:
            torch.cuda.set_sync_debug_mode("error")
            self.watched += 1

    def on_step_end(self, args, state, control, **kwargs):
        torch.cuda.set_sync_debug_mode("default")


@pytest.fixture
def waiting_allowed_again():
    yield
    torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("accumulation", [1, 2])
def test_nothing_waits_for_the_gpu_between_logs(tiny_dir, prepared, tmp_path, waiting_allowed_again, accumulation):
    settings = {"max_steps": 12, "logging_steps": 6, "dataloader_num_workers": 2, "dataloader_pin_memory": True}
    settings["gradient_accumulation_steps"] = accumulation
    trainer = trainer_of(tiny_dir, prepared, tmp_path, **settings, **NEVER)
    watch = RefuseToWait()
    trainer.add_callback(watch)
    trainer.train()
    assert watch.watched == 10


def test_the_watch_above_sees_what_waits(waiting_allowed_again):
    number = torch.ones(1, device="cuda")
    torch.cuda.set_sync_debug_mode("error")
    with pytest.raises(RuntimeError, match="synchroniz"):
        number.item()


def test_bf16_and_tf32_where_they_are_native(tiny_dir, prepared, tmp_path):
    trainer = trainer_of(tiny_dir, prepared, tmp_path, max_steps=2, **NEVER)
    native = torch.cuda.is_bf16_supported(including_emulation=False)
    assert (trainer.args.bf16, trainer.args.fp16) == (native, not native)
    assert torch.backends.cuda.matmul.allow_tf32 == (torch.cuda.get_device_capability()[0] >= 8)
    assert trainer.accelerator.mixed_precision == ("bf16" if native else "fp16")
    trainer.train()
    assert next(trainer.model.parameters()).dtype == torch.float32


def test_mfu_and_peak_memory_are_logged(tiny_dir, prepared, tmp_path):
    trainer = trainer_of(tiny_dir, prepared, tmp_path, peak_tflops=1000, **NEVER)
    trainer.train()
    logs = [log for log in trainer.state.log_history if "loss" in log]
    assert len(logs) == 10
    total = torch.cuda.get_device_properties(0).total_memory / 1e9
    assert all(0 < log["mfu"] < 1 and 0 < log["peak_memory_gb"] < total for log in logs)


def test_fp16_leaves_out_steps_that_overflow_and_goes_on(tiny_dir, prepared, tmp_path):
    trainer = trainer_of(tiny_dir, prepared, tmp_path, bf16=False, fp16=True, max_steps=30, **NEVER)
    trainer.accelerator.scaler = torch.amp.GradScaler("cuda", init_scale=2.0**40)  # the first gradients overflow
    before = [parameter.detach().clone() for parameter in trainer.model.parameters()]
    trainer.train()
    assert trainer.accelerator.scaler.get_scale() < 2.0**40
    after = list(trainer.model.parameters())
    assert all(parameter.isfinite().all() for parameter in after)
    assert any(not torch.equal(old, new) for old, new in zip(before, after, strict=True))


def test_compiled_losses_are_the_same(tiny_dir, prepared, tmp_path):
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "bf16": False, "fp16": False}
    histories = []
    for compiled in (False, True):
        (tmp_path / str(compiled)).mkdir()
        settings = {"torch_compile": compiled, "tf32": False, **still, **NEVER}
        trainer = trainer_of(tiny_dir, prepared, tmp_path / str(compiled), **settings)
        trainer.train()
        histories.append([log["loss"] for log in trainer.state.log_history if "loss" in log])
    assert histories[1] == pytest.approx(histories[0], rel=1e-4)
