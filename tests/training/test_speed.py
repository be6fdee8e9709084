"""FLOPs by the figures of the field, and the speed of a run on a clock of the test's own."""

from types import SimpleNamespace

import pytest
import torch

from turkbert.training.sampler import Stage, StagedBatchSampler
from turkbert.training.speed import SpeedMeter, flop_per_token, peak_flops

BASE = {"hidden_size": 768, "num_hidden_layers": 12, "intermediate_size": 3072, "vocab_size": 32000}


@pytest.mark.parametrize(("block_size", "mega"), [(128, 545), (512, 588)])
def test_bert_base(block_size, mega):
    assert round(flop_per_token(**BASE, block_size=block_size, mlm_probability=0.15) / 1e6) == mega


def test_a_tiny_model_by_hand():
    sizes = {"hidden_size": 4, "num_hidden_layers": 2, "intermediate_size": 8, "vocab_size": 10}
    layer = 4 * 4 * 4 + 2 * 4 * 8  # query, key, value, output; in and out
    attention = 2 * 2 * 7 * 4  # scores and sum: 2 FLOPs each, forward, for each of 7 tokens
    expected = 2 * (6 * layer + 3 * attention) + 6 * 0.5 * (4 / 7) * 10 * 4
    assert flop_per_token(**sizes, block_size=7, mlm_probability=0.5) == pytest.approx(expected)


def test_peak_by_name(monkeypatch):
    assert peak_flops(torch.device("cpu")) is None
    for name, peak in (
        ("NVIDIA H200", 989e12), ("NVIDIA H100 PCIe", 756e12), ("NVIDIA H100 80GB HBM3", 989e12), ("Tesla T4", 65e12),
        ("NVIDIA A100-SXM4-40GB", 312e12), ("NVIDIA GH200 480GB", 989e12), ("Tesla V100-SXM2-16GB", 125e12),
        ("NVIDIA L4", 121e12), ("NVIDIA L40S", 362e12), ("NVIDIA GeForce RTX 4090", 165e12),
        ("GTX 970", None), ("NVIDIA RTX A1000", None), ("NVIDIA L40", None), ("NVIDIA A10G", None),
        ("NVIDIA RTX A4000", None), ("NVIDIA GeForce RTX 3090 Ti", None), ("NVIDIA GeForce RTX 4090 D", None),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
    ):  # fmt: skip
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device, name=name: name)
        assert peak_flops(torch.device("cuda")) == peak


def test_figures_over_a_stage_switch(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("turkbert.training.speed.time", SimpleNamespace(perf_counter=lambda: now[0]))
    stages = [Stage(32, 100, 4, 0, 6), Stage(64, 100, 2, 6, 10)]
    sampler = StagedBatchSampler(stages, 2, 0, 3, 0)  # 24 rows of 32, then 12 rows of 64: 768 tokens a step
    meter = SpeedMeter(sampler, {32: 1e6, 64: 2e6}, peak=1e9)
    now[0] = 110.0
    meter.start(4)  # resumed at step 4
    meter.start(5)
    now[0] = 120.0
    meter.aside = 6.0
    assert meter.figures(8, waited=1.0, useful_tokens=2000) == {
        "pairs_per_second": 72 / 4,
        "tokens_per_second": 4 * 768 / 4,
        "useful_tokens_per_second": 500,
        "waiting_for_data": 0.25,
        "tokens_seen": 8 * 768,
        "mfu": pytest.approx((2 * 768 * 1e6 + 2 * 768 * 2e6) * (2000 / 3072) / 4 / 3e9),  # without padding
    }
    now[0] = 121.0
    assert meter.figures(9, 0.0, 768)["tokens_per_second"] == 768


def test_no_mfu_where_the_peak_is_unknown():
    meter = SpeedMeter(StagedBatchSampler([Stage(32, 100, 4, 0, 6)], 1, 0, 1, 0), {32: 1e6}, peak=None)
    meter.start(0)
    assert "mfu" not in meter.figures(2, 0.0, 256)
