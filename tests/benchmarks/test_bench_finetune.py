"""The fine-tuning benchmark's arms do the same steps on the same rows, and its table divides by the stock arm."""

from argparse import Namespace

import pytest
from bench_finetune import ARMS, BATCH_SIZE, run_arm, table
from transformers import BertConfig, BertModel

from tests.finetuning.rows import pair_rows, write_rows


@pytest.mark.parametrize("arm", ["stock, fp32", "turkbert, fp32"])
def test_an_arm_runs(arm, sample_tokenizer, tmp_path):
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    BertModel(BertConfig(vocab_size=len(sample_tokenizer), **sizes)).save_pretrained(tmp_path / "model")
    sample_tokenizer.save_pretrained(tmp_path / "model")
    rows = [{"text": row["sentence1"], "label": row["label"]} for row in pair_rows(2 * BATCH_SIZE, 0)]
    for split in ("train", "validation"):
        write_rows(tmp_path / "data" / f"{split}.jsonl", rows)
    options = Namespace(model=str(tmp_path / "model"), dataset_name=str(tmp_path / "data"), rows=len(rows))
    result = run_arm(arm, options)
    assert result["seconds"] > 0 and result["end"] >= 1 and result["quarter"] >= 1


def test_table_by_hand():
    results = {arm: [{"seconds": 10.0 / place, "quarter": 100, "end": 110}] for place, arm in enumerate(ARMS, start=1)}
    lines = table(results, 1000).splitlines()
    assert lines[2] == "| stock, fp32 | 10.0 | 100 | 1.00 | 100 | 110 |"
    assert lines[3] == "| stock, bf16 | 5.0 | 200 | 2.00 | 100 | 110 |"
