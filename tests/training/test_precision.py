"""Precision by device, on devices of the tests' own: what really runs on a GPU is in test_gpu.py."""

import pytest
import torch
from transformers import TrainingArguments

from tests.training.tiny import tiny_arguments
from turkbert import arguments
from turkbert.training.run import build_trainer

# name -> (an accelerator is there, CUDA is there, native bf16 there, the CPU has bf16 instructions, CUDA capability)
DEVICES = {
    "cpu without bf16": (False, False, False, False, None),
    "cpu with bf16": (False, False, False, True, None),
    "hopper": (True, True, True, True, (9, 0)),
    "ampere": (True, True, True, False, (8, 0)),
    "turing, which emulates bf16": (True, True, False, True, (7, 5)),
    "volta, which emulates bf16": (True, True, False, False, (7, 0)),
    "an accelerator without cuda": (True, False, False, True, None),
}


@pytest.fixture
def device(request, monkeypatch):
    accelerator, cuda, native, cpu, capability = DEVICES[request.param]
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: cpu)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: accelerator)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: capability)
    # torch counts emulated bf16 unless told not to
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: cuda and (including_emulation or native)
    )
    return request.param


@pytest.fixture
def untouched(monkeypatch):
    """TrainingArguments that do not look for the device they are told of."""
    monkeypatch.setattr(TrainingArguments, "__post_init__", lambda self: None)


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize(
    ("device", "bf16", "fp16", "tf32"),
    [
        ("cpu without bf16", False, False, None),
        ("cpu with bf16", True, False, None),
        ("hopper", True, False, True),
        ("ampere", True, False, True),
        ("turing, which emulates bf16", False, True, None),
        ("volta, which emulates bf16", False, True, None),
        ("an accelerator without cuda", False, False, None),
    ],
    indirect=["device"],
)
def test_precision_follows_the_device(device, tmp_path, bf16, fp16, tf32):
    training = arguments.PretrainingArguments(output_dir=str(tmp_path))
    assert (training.bf16, training.fp16, training.tf32) == (bf16, fp16, tf32)


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize(
    ("device", "bf16"),
    [("hopper", True), ("volta, which emulates bf16", False), ("ampere", False)],
    indirect=["device"],
)
def test_a_cpu_run_beside_a_gpu_follows_the_cpu(device, tmp_path, bf16):
    training = arguments.PretrainingArguments(output_dir=str(tmp_path), use_cpu=True)
    assert (training.bf16, training.fp16, training.tf32) == (bf16, False, None)


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("device", DEVICES, indirect=True)
@pytest.mark.parametrize(("bf16", "fp16"), [(True, None), (None, True), (False, False), (False, None)])
def test_what_the_user_asks_for_is_taken(device, tmp_path, bf16, fp16):
    training = arguments.PretrainingArguments(output_dir=str(tmp_path), bf16=bf16, fp16=fp16, tf32=False)
    assert (training.bf16, training.fp16, training.tf32) == (bool(bf16), bool(fp16), False)


@pytest.mark.parametrize("device", ["cpu without bf16", "cpu with bf16"], indirect=True)
def test_the_choice_reaches_autocast(device, tiny_dir, prepared, tmp_path):
    """On a CPU, where it can be tried: weights stay in fp32, and there is no scaler."""
    args = tiny_arguments(tiny_dir, tmp_path / "out", bf16=None, fp16=None, max_steps=2, save_strategy="no")
    trainer = build_trainer(args, args.training(), prepared.tokenizer, prepared.rows, checkpoint=None)
    assert trainer.accelerator.mixed_precision == ("bf16" if device == "cpu with bf16" else "no")
    assert trainer.accelerator.scaler is None
    trainer.train()
    assert all(parameter.dtype == torch.float32 for parameter in trainer.model.parameters())
