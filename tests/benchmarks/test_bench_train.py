import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from bench_train import arm_rows, best_arm, ratio_rows, useful_flop
from datasets import Dataset
from stock_pretraining import build_stock_model, build_stock_trainer, collate, stock_defaults
from train_arm import synthetic_rows, useful_shares
from train_settings import BASE, Arm, Prepared, Setting
from transformers import TrainingArguments

from turkbert import TurkBertConfig, TurkBertForPreTraining
from turkbert.data import DataCollatorForPretraining

ROOT = Path(__file__).resolve().parents[2]
SIZES = {
    "vocab_size": 50,
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 16,
}


@pytest.fixture(scope="module")
def rows() -> Dataset:
    return synthetic_rows(vocab_size=50, block_size=32, num_rows=24)


def test_flops_go_by_the_labels_of_the_rows():
    setting = Setting("cpu_base", "BERT-base", BASE, 8, 128, True, 1)
    assert round(useful_flop(setting, 0.15 * 125 / 128) / 1e6) == 545
    assert useful_flop(setting, 0.2) - useful_flop(setting, 0.1) == pytest.approx(6 * 0.1 * 768 * 32000)


def test_synthetic_rows_hide_whole_words_of_about_15_percent():
    rows = synthetic_rows(vocab_size=1000, block_size=128, num_rows=200)
    labelled = sum(len(positions) for positions in rows["masked_lm_positions"])
    assert useful_shares(rows) == (1.0, labelled / (200 * 128))
    assert labelled / (200 * 125) == pytest.approx(0.15, abs=0.01)
    batch = collate(list(rows.with_format("numpy")))
    continues = (batch["labels"] >= 700)[:, 1:]  # tokens that go on a word are hidden together with the one before
    assert (batch["labels"][:, :-1][continues] != -100).all()
    assert (batch["input_ids"] == 4).sum() > 0.7 * (batch["labels"] != -100).sum()


def test_stock_sees_the_batch_that_turkbert_sees(rows):
    chosen = [rows.with_format("numpy")[number] for number in (3, 17, 5)]
    stock, ours = collate(chosen), DataCollatorForPretraining()(chosen)
    for name in ("input_ids", "token_type_ids", "labels", "next_sentence_label"):
        assert torch.equal(stock[name], ours[name]), name
    assert stock["attention_mask"].all()


def test_stock_masks_the_padding(rows):
    row = {**rows.with_format("numpy")[0], "length": np.int16(20)}
    stock, ours = collate([row]), DataCollatorForPretraining()([row])
    assert torch.equal(stock["attention_mask"], ours["attention_mask"])
    assert torch.equal(stock["token_type_ids"], ours["token_type_ids"])


def test_stock_computes_the_loss_that_turkbert_computes(rows):
    stock, ours = build_stock_model(**SIZES).eval(), TurkBertForPreTraining(TurkBertConfig(**SIZES)).eval()
    ours.load_state_dict(stock.state_dict())
    chosen = [rows.with_format("numpy")[number] for number in range(8)]
    expected, found = stock(**collate(chosen)).loss, ours(**DataCollatorForPretraining()(chosen)).loss
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)


def test_stock_trains_every_row_and_every_labelled_token(rows, tmp_path):
    options = {**stock_defaults(use_cpu=True), "use_cpu": True, "report_to": "none", "disable_tqdm": True}
    args = TrainingArguments(
        str(tmp_path), per_device_train_batch_size=4, num_train_epochs=1, save_strategy="no", **options
    )
    trainer = build_stock_trainer(build_stock_model(**SIZES), args, rows)
    seen = []
    trainer.data_collator = lambda chosen: seen.append(collate(chosen)) or seen[-1]
    trainer.train()
    input_ids = torch.cat([batch["input_ids"] for batch in seen])
    assert sorted(input_ids.tolist()) == sorted(rows["input_ids"])
    num_labelled = sum((batch["labels"] != -100).sum().item() for batch in seen)
    assert num_labelled == sum(len(positions) for positions in rows["masked_lm_positions"])
    assert trainer.state.global_step == 6


def window(seconds: float, peak: int) -> dict[str, float]:
    return {"seconds": seconds, "waiting": 0.01 * seconds, "peak": peak, "limit": 1e6}


def test_the_better_stock_is_what_counts():
    asked = {"ratio": ">= 2.5", "memory": "<= 0.6"}
    setting = Setting("gpu", "tiny", SIZES, 4, 32, True, 10, asked)
    prepared = Prepared(Path("rows"), useful=0.5, labelled=0.0, hardware="GPU", torch_version="")
    ours, slow, fast = Arm("turkbert"), Arm("stock"), Arm("stock", compiled=True)
    results = {
        ours: [window(1.0, 5), window(4.0, 6)],
        slow: [window(9.0, 20), window(9.0, 20)],
        fast: [window(2.0, 10), window(12.0, 10)],
        Arm("turkbert", compiled=True): [{"error": "out of memory"}],
    }
    assert (best_arm(results, "turkbert"), best_arm(results, "stock")) == (ours, fast)
    table = ratio_rows(setting, ours, fast, results)
    assert [(measured, wanted) for _, measured, wanted in table] == [("2.50", ">= 2.5"), ("0.60", "<= 0.6")]
    speeds = {what: measured for what, measured, _ in arm_rows(ours, setting, results[ours], prepared)}
    title = "tiny, 4 x 32, bf16: turkbert"
    assert speeds[f"{title}, tokens/s"] == f"{(1280 / 1 + 1280 / 4) / 2:,.0f}"
    assert speeds[f"{title}, waiting for data"] == "1.00%"


@pytest.mark.slow
def test_tiny_mode_writes_its_table(tmp_path):
    command = [sys.executable, "benchmarks/bench_train.py", "--tiny", "--windows", "2", "--output", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    (path,) = tmp_path.glob("train_*cores_*.md")
    text = path.read_text()
    assert text.endswith(done.stdout)
    measured = dict(re.findall(r"^\| (.*?) \| (.*?) \|", done.stdout, re.MULTILINE))
    title = "2 layers x 32, 4 x 32, fp32"
    figures = ("tokens/s", "useful TFLOP/s", "of the 256 x 256 matrix rate", "waiting for data")
    expected = [f"{title}: {arm}, {figure}" for arm in ("turkbert", "stock") for figure in figures]
    assert list(measured)[1:] == [*expected, f"{title}: turkbert / stock, tokens/s"]
    assert all(float(measured[name].replace(",", "").rstrip("%")) > 0 for name in expected if "TFLOP" not in name)
