"""Which runs a benchmark does, that it goes on where it stopped, and its numbers by hand."""

import json

import pytest

from turkbert.errors import UserError
from turkbert.finetuning import benchmark
from turkbert.finetuning.benchmark import RUNS_FILE, append_record, parse_suite, read_records, run_suite
from turkbert.finetuning.benchmark_report import markdown_table, model_index, write_reports
from turkbert.finetuning.comparison import compare, paired_difference


@pytest.fixture
def suite(tiny_model, data_dir, tmp_path):
    """(more of the command line) -> a suite of one small task."""
    keys = {"task": "classification", "dataset_name": str(data_dir / "pairs"), "max_seq_length": 24}
    keys |= {"num_train_epochs": 1, "use_cpu": True, "max_train_samples": 16, "max_test_samples": 8}
    (tmp_path / "pairs.json").write_text(json.dumps(keys))
    (tmp_path / "suite.json").write_text(json.dumps({"tasks": ["pairs"], "seeds": [1, 2]}))

    def make(*argv):
        given = [str(tiny_model), str(tmp_path / "suite.json"), "--output_dir", str(tmp_path / "runs"), *argv]
        return parse_suite(given)

    return make


def test_search_then_seeds_then_resume(suite, tmp_path, monkeypatch):
    done = []
    original = benchmark._Session._do

    def count(session, rate, seed):
        done.append((session.arm.untrained, rate, seed))
        return original(session, rate, seed)

    monkeypatch.setattr(benchmark._Session, "_do", count)
    argv = ("--untrained", "--learning_rates", "1e-4", "1e-2")
    chosen = run_suite(suite(*argv))
    assert done[:2] == [(False, 1e-4, 1), (False, 1e-2, 1)] and len(done) == 6
    arms = ("tiny", "tiny (untrained)")
    assert {(r["arm"], r["seed"]) for r in chosen} == {(arm, seed) for arm in arms for seed in (1, 2)}
    best = {r["arm"]: r["learning_rate"] for r in chosen}
    for record in read_records(tmp_path / "runs" / RUNS_FILE):
        score = record["scores"]["validation"]["accuracy"]
        rival = [r for r in chosen if r["arm"] == record["arm"] and r["seed"] == 1][0]
        assert record["seed"] == 2 or score <= rival["scores"]["validation"]["accuracy"]
    path = tmp_path / "runs" / RUNS_FILE
    lines = path.read_text("utf-8").splitlines(keepends=True)
    path.write_text("".join(lines[:-1]) + lines[-1][:40], "utf-8")  # killed within the last line
    del done[:]
    again = run_suite(suite(*argv))
    assert done == [(True, best["tiny (untrained)"], 2)]
    assert [r["scores"] for r in again] == [r["scores"] for r in chosen]
    assert len(read_records(path)) == 6


def test_other_settings_are_other_runs(suite):
    def key(*argv):
        made = suite(*argv)
        return benchmark.settings_hash(made.run_of("pairs", made.arms[0]), made.arms[0])

    assert key() == key("--seeds", "7") != key("--max_train_samples", "12")


def test_what_the_command_line_lacks(suite, tmp_path):
    with pytest.raises(UserError, match="give models and one suite file"):
        parse_suite(["out"])
    with pytest.raises(UserError, match="did you mean 'seeds'"):
        suite("--seed_s", "1")
    with pytest.raises(UserError, match="no such file"):
        run_suite(suite("--tasks", "nothing"))


def test_what_a_killed_run_left_is_told_and_done_again(tmp_path, caplog):
    path = tmp_path / "runs.jsonl"
    append_record(path, {"a": "ş"})
    path.write_bytes(path.read_bytes() + b'{"b": "\xc5')
    append_record(path, {"c": 1})
    assert read_records(path) == [{"a": "ş"}, {"c": 1}]
    assert "runs.jsonl:2: not a whole line" in caplog.text


def record(arm, seed, score, seconds=10.0):
    scores = {"validation": {"f1": 0.0}, "test": {"f1": score, "accuracy": score / 2, "loss": 1.0}}
    rows = {"train": 1000, "validation": 10, "test": 20}
    return {
        "task": "ner", "kind": "token_classification", "arm": arm, "seed": seed, "metric": "f1", "scores": scores,
        "learning_rate": 1e-4, "seconds": seconds, "rows": rows,
    }  # fmt: skip


RECORDS = [record("a", s, v) for s, v in ((1, 80), (2, 82), (3, 84))] + [
    record("b", s, v, 20.0) for s, v in ((3, 80), (1, 79), (2, 81))
]


def test_comparison_by_hand():
    row = compare(RECORDS)[0]
    assert (row.cells["a"].mean, row.cells["a"].deviation, row.cells["a"].difference) == (82, 2, None)
    assert (row.cells["b"].mean, row.cells["b"].deviation, row.cells["b"].seconds) == (80, 1, 20)
    # paired by seed: 1, 1, 4; mean 2, sd sqrt(3), standard error 1; t(0.975, 2) = 4.3027
    difference = row.cells["b"].difference
    assert difference.mean == pytest.approx(2) and difference.low == pytest.approx(2 - 4.3027, abs=1e-4)
    assert difference.high == pytest.approx(2 + 4.3027, abs=1e-4)


def test_one_pair_has_no_interval():
    assert paired_difference([3.0]) is None


def test_reports(tmp_path):
    rows = compare(RECORDS)
    assert "| ner | f1 | 1,000 / 20 | a | 82.00 ± 2.00 (accuracy 41.00) |" in markdown_table(rows)
    assert "+2.00 [-2.30, +6.30]" in markdown_table(rows)
    for path in write_reports(rows, tmp_path):
        assert path.stat().st_size > 200
    assert "data:image/png;base64," in (tmp_path / "benchmark.html").read_text("utf-8")
    index = model_index(rows)
    assert "name: a" in index and "value: 82" in index and "type: token-classification" in index
