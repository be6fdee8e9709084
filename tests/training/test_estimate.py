"""The cost of a run on paper: a tiny case by hand, parameters against the model, a script that writes nothing."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch

from turkbert.arguments import parse_args
from turkbert.errors import UserError
from turkbert.model import TurkBertConfig, TurkBertForPreTraining
from turkbert.training import estimate
from turkbert.training.estimate import amount, count_parameters, describe, duration, estimate_run, gpu_seconds, short

ROOT = Path(__file__).parent.parent.parent
TINY = {
    "vocab_size": 50,
    "block_sizes": [32, 64],
    "stage_fractions": [0.75, 0.25],
    "stage_batch_sizes": [6, 2],
    "gradient_accumulation_steps": 2,
    "max_steps": 8,
    "mlm_probability": 0.5,
    "hidden_size": 4,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 8,
    "max_position_embeddings": 64,
    "save_steps": 3,
    "save_total_limit": 2,
}


def arguments(tmp_path, **changes):
    config = tmp_path / "config.json"
    config.write_text(json.dumps({**TINY, **changes}))
    return parse_args([str(config)])


def test_a_tiny_run_by_hand(tmp_path):
    cost = estimate_run(arguments(tmp_path), num_processes=3)
    assert [(s.block_size, s.num_steps, s.rows_per_step) for s in cost.stages] == [(32, 6, 36), (64, 2, 12)]
    short_tokens, long_tokens = 6 * 36 * 32, 2 * 12 * 64
    assert cost.tokens == short_tokens + long_tokens
    matrices = 2 * (4 * 4 * 4 + 2 * 4 * 8)  # two layers: query, key, value, output; in and out

    def flop(block_size):  # forward 2 a weight and 4 T H a layer; forward and backward are three times that
        head = 0.5 * (block_size - 3) / block_size * 4 * 50
        return 3 * (2 * (matrices + head) + 2 * 4 * block_size * 4)

    assert cost.flop == pytest.approx(short_tokens * flop(32) + long_tokens * flop(64))


def test_the_corpus_is_looked_at(tmp_path):
    (tmp_path / "a.txt").write_text("x" * 10_000)
    assert "Data: about 10.0 kB of text, 47.1 kB once prepared" in describe(
        estimate_run(arguments(tmp_path, corpus=[str(tmp_path / "*.txt")]))
    )
    assert "Data:" not in describe(estimate_run(arguments(tmp_path, corpus=["owner/name"])))
    with pytest.raises(UserError, match="no corpus file there"):
        estimate_run(arguments(tmp_path, corpus=[str(tmp_path / "*.jsonl")]))


def test_processes_come_from_the_launcher(tmp_path, monkeypatch):
    args = arguments(tmp_path)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    one = estimate_run(args)
    monkeypatch.setenv("WORLD_SIZE", "8")
    assert (estimate_run(args).num_processes, estimate_run(args).tokens) == (8, 8 * one.tokens)
    assert "those of 1 process;" in describe(one) and "those of 8 processes;" in describe(estimate_run(args))


def test_seconds_and_devices():
    flop = 3600 * estimate.PEAK * estimate.MFU
    assert gpu_seconds(flop, 1) == pytest.approx(3600)
    assert gpu_seconds(flop, 8) == pytest.approx(3600 / 8 / 0.95)
    assert gpu_seconds(flop, 64) == pytest.approx(3600 / 64 / 0.85)
    assert gpu_seconds(flop, 1, peak=estimate.PEAK / 2) == pytest.approx(7200)


@pytest.mark.parametrize("changes", [{}, {"hidden_size": 8, "num_hidden_layers": 3, "type_vocab_size": 4}])
def test_parameters_are_those_of_the_model(changes):
    names = ("vocab_size", "hidden_size", "num_hidden_layers", "intermediate_size", "max_position_embeddings")
    sizes = {**{name: TINY[name] for name in names}, "type_vocab_size": 2, **changes}
    with torch.device("meta"):
        model = TurkBertForPreTraining(TurkBertConfig(**sizes, num_attention_heads=2))
    assert count_parameters(sizes) == model.num_parameters()


def test_sizes_of_a_model_to_start_from(tmp_path):
    sizes = {name: TINY[name] for name in ("vocab_size", "hidden_size", "num_hidden_layers", "intermediate_size")}
    sizes |= {"max_position_embeddings": 80, "type_vocab_size": 2}
    (tmp_path / "model").mkdir()
    config = {**sizes, "model_type": "bert", "num_attention_heads": 2}
    (tmp_path / "model" / "config.json").write_text(json.dumps(config))
    args = arguments(tmp_path, model_name_or_path=str(tmp_path / "model"), hidden_size=768, vocab_size=32000)
    assert estimate_run(args, 1).sizes == sizes
    with pytest.raises(UserError, match="name a folder or Hub id of a BERT"):
        estimate_run(arguments(tmp_path, model_name_or_path=str(tmp_path / "nowhere")), 1)


@pytest.mark.parametrize(
    ("changes", "kept"),
    [
        ({}, 2),
        ({"save_total_limit": None}, 3),  # at steps 3, 6 and 8
        ({"save_total_limit": 9}, 3),
        ({"save_total_limit": None, "save_steps": 0.5}, 2),
        ({"save_strategy": "no"}, 0),
    ],
)
def test_checkpoints(tmp_path, changes, kept):
    cost = estimate_run(arguments(tmp_path, **changes), 1)
    assert cost.num_checkpoints == kept
    one = 12 * count_parameters(cost.sizes)
    assert f"Checkpoints: {kept} x {short(one, 'B')} = {short(kept * one, 'B')} kept" in describe(cost)


def test_the_table_of_base():
    """12 layers x 768, 819 M tokens: 4.50e17 FLOPs at 989 TFLOP/s and 40 % are 1,138 s, but 100,000 steps 2,000 s."""
    text = describe(estimate_run(parse_args([str(ROOT / "configs" / "base.json")]), 1))
    rows = {line[:14].strip(): line[14:].split() for line in text.splitlines()}
    assert rows["1 GPU *"] == ["33.3", "min", "0.56", "1.39"]
    assert rows["8 GPUs *"] == ["33.3", "min", "4.44", "11.11"]
    assert rows["64 GPUs *"] == ["33.3", "min", "35.56", "88.89"]
    assert "737.3 M" in text and "81.9 M" in text and "111.2 M parameters" in text and "= 6.7 GB kept" in text


def test_passes_over_the_prepared_rows(tmp_path):
    args = arguments(tmp_path, data_dir=str(tmp_path / "data"))
    text = describe(estimate_run(args, 1))
    assert "those with a ? are not prepared yet" in text and text.count(" ? ") == 3
    for block_size, rows in ((32, 24), (64, 16)):
        folder = tmp_path / "data" / f"block_{block_size}"
        folder.mkdir(parents=True)
        (folder / "stats.json").write_text(json.dumps({"train": {"rows": rows}}))
    cost = estimate_run(args, 1)
    assert [stage.passes for stage in cost.stages] == [6 * 12 / 24, 2 * 4 / 16]
    assert "?" not in describe(cost)
    first, second = describe(cost).splitlines()[3:5]
    assert f"{'3.0':>10}" in first and f"{'0.5':>10}" in second


def test_peak_and_marks(tmp_path):
    large = {"hidden_size": 1024, "num_hidden_layers": 24, "intermediate_size": 4096, "num_attention_heads": 16}
    sizes = {"block_sizes": [128, 512], "max_position_embeddings": 512, "stage_batch_sizes": [4096, 1024]}
    busy = describe(estimate_run(arguments(tmp_path, **large, **sizes), 1))
    assert "*" not in busy and "64 GPUs " in busy and "989 TFLOP/s" in busy
    other = describe(estimate_run(arguments(tmp_path, **large, **sizes, peak_tflops=312.0), 1))
    assert "312 TFLOP/s a GPU (peak_tflops; an H100 has 989)" in other  # whose peak it is, and how to change it
    small_batch = describe(estimate_run(arguments(tmp_path, **{**large, **sizes, "stage_batch_sizes": [4096, 16]}), 1))
    assert "64 GPUs *" in small_batch and "1 GPU  " in small_batch  # 2 x 16 rows cannot be shared out over 64


def test_numbers_as_read():
    assert [duration(s) for s in (0.2, 90, 7200, 4 * 86400)] == ["0.2 s", "1.5 min", "2.0 h", "4.0 days"]
    assert [amount(v) for v in (1234.5, 0.789, 0.001, 0.0)] == ["1,234", "0.79", "< 0.01", "0.00"]
    assert [short(v, "B") for v in (1.34e9, 999, 0)] == ["1.3 GB", "999 B", "0 B"]


def test_the_script_prints_and_touches_nothing(tmp_path, monkeypatch, capfd):
    config = {**TINY, "data_dir": "data", "tokenizer_dir": "tokenizer", "output_dir": "out", "corpus": ["of/the_hub"]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    spec = importlib.util.spec_from_file_location("pretrain", ROOT / "scripts" / "pretrain.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    monkeypatch.setattr(script, "set_up_script", lambda: None)  # the logs of the tests stay as they are
    monkeypatch.setattr(sys, "argv", ["pretrain.py", "config.json", "--estimate"])
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    script.main()
    printed, errors = capfd.readouterr()
    assert errors == ""
    assert printed == describe(estimate_run(parse_args(["config.json"]), 1))
    assert estimate.FORMULA in printed and all(assumption in printed for assumption in estimate.ASSUMPTIONS)
    assert "MFU 40 %" in printed and "2.50 US dollars" in printed
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]
    monkeypatch.setenv("RANK", "1")
    script.main()
    assert capfd.readouterr().out == ""  # one process speaks


def test_a_flag_of_a_script():
    flag = {"estimate": False}
    assert parse_args([], extra=flag).given["estimate"] is False
    assert parse_args(["--estimate"], extra=flag).given["estimate"] is True
    assert parse_args(["--estimate", "false"], extra=flag).given["estimate"] is False
    args = parse_args(["--estimate", str(ROOT / "configs" / "small.json")], extra=flag)
    assert args.given["estimate"] is True and args.model.hidden_size == 256
    with pytest.raises(UserError, match="did you mean 'estimate'"):
        parse_args(["--estimat"], extra=flag)
