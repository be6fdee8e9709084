"""What is wrong in the data is one line with file and line; or the rows are left out and counted."""

import gzip
import json

import pytest

from tests.finetuning.conftest import pair_rows, question_rows, tag_rows, write_rows
from turkbert.errors import UserError
from turkbert.finetuning.arguments import TaskArguments
from turkbert.finetuning.examples import load_splits, read_file
from turkbert.finetuning.run import prepare_task

ROWS = {"classification": pair_rows, "token_classification": tag_rows, "question_answering": question_rows}
CASES = [
    ("classification", "validation", {"label": "başka"}, "label 'başka' is in no training row (there are aynı"),
    ("classification", "train", {"sentence2": " "}, "sentence2 is empty"),
    ("classification", "test", {"sentence1": 3}, "sentence1 is no text"),
    ("classification", "train", {"label": None}, "label None is no class"),
    ("classification", "train", {"label": ""}, "label '' is no class"),
    ("token_classification", "train", {"tokens": ["a", "b"]}, "2 tokens and 5 tags"),
    ("token_classification", "validation", {"tokens": ["a"], "tags": ["B-X"]}, "tag 'B-X' of word 1 is in no"),
    ("token_classification", "train", {"tokens": ["a", ""], "tags": ["O", "O"]}, "word 2 is empty"),
    ("token_classification", "test", {"tokens": [], "tags": []}, "a sentence without words"),
    ("token_classification", "train", {"tags": "O O"}, "no list 'tags' (there are tokens, tags)"),
    ("question_answering", "train", {"answers": {"text": ["yok"], "answer_start": [0]}}, "answer 'yok' is not in"),
    ("question_answering", "train", {"answers": {"text": ["a"], "answer_start": []}}, "1 texts and 0 starts"),
    ("question_answering", "test", {"answers": ["Ankara"]}, "no answers"),
    ("question_answering", "validation", {"question": ""}, "question is empty"),
    ("question_answering", "train", {"context": "  "}, "context is empty"),
]


@pytest.fixture
def prepare(tiny_model, tmp_path):
    """(task, split, change to its third row, settings) -> prepared data."""

    def make(kind, split=None, change=None, **settings):
        for seed, name in enumerate(("train", "validation", "test")):
            rows = ROWS[kind](24, seed)
            if kind == "token_classification" and split:
                rows[2] = {"tokens": ["Ali", "Veli", "dün", "geldi", "."], "tags": ["B-PER", "I-PER", "O", "O", "O"]}
            if name == split:
                rows[2] |= change or {}
            write_rows(tmp_path / f"{name}.jsonl", rows)
        keys = {"dataset_name": str(tmp_path), "model_name_or_path": str(tiny_model), "max_seq_length": 48}
        keys |= {"doc_stride": 8, **settings}
        return prepare_task(TaskArguments(task=kind, **keys))

    return make


@pytest.mark.parametrize(("kind", "split", "change", "what"), CASES, ids=[case[3] for case in CASES])
def test_it_is_one_line_with_file_and_line(prepare, tmp_path, kind, split, change, what):
    with pytest.raises(UserError) as caught:
        prepare(kind, split, change)
    assert caught.value.where == f"{tmp_path}/{split}.jsonl:3" and what in caught.value.what
    assert "--bad_rows reject" in str(caught.value) and caught.value.exit_code == 2


@pytest.mark.parametrize(("kind", "split", "change", "what"), CASES, ids=[case[3] for case in CASES])
def test_it_is_left_out_and_counted_on_request(prepare, caplog, kind, split, change, what):
    data = prepare(kind, split, change, bad_rows="reject")
    assert len(data.task.splits[split].rows) == 23
    assert "1 of 24 rows left out" in caplog.text and what in caplog.text


@pytest.mark.parametrize("kind", ["classification", "token_classification"])
def test_one_class_only(prepare, tmp_path, monkeypatch, kind):
    one = {"label": "aynı"} if kind == "classification" else {"tokens": ["ev", "su"], "tags": ["O", "O"]}
    monkeypatch.setitem(ROWS, kind, lambda number, seed: [{**row, **one} for row in pair_rows(number, seed)])
    with pytest.raises(UserError, match="give training rows") as caught:
        prepare(kind)
    assert caught.value.where == f"{tmp_path}/train.jsonl" and " only (" in caught.value.what


def test_a_text_longer_than_the_model_is_cut_and_counted(prepare, caplog):
    caplog.set_level("INFO", "turkbert")
    data = prepare("classification", "train", {"sentence1": "ev " * 200})
    assert max(data.encoded["train"]["length"]) == 48
    assert "train.jsonl: 1 of 24 rows are cut after 48 tokens" in caplog.text


def test_more_tokens_than_the_model_has(prepare):
    with pytest.raises(UserError, match="max_seq_length: 65 is over the model's 64 tokens"):
        prepare("classification", max_seq_length=65)


@pytest.mark.parametrize(
    ("name", "content", "where", "what"),
    [
        ("a.jsonl", '{"text": "a"}\n{"text": \n', ":2", "not JSON"),
        ("a.jsonl", '\n[1]\n', ":2", "not a JSON object"),
        ("a.jsonl", "", "", "no rows"),
        ("a.csv", "text,label\nev,1\nyol\n", ":3", "not 2 fields"),
        ("a.parquet", "nothing of the sort", "", "not readable as parquet"),
        ("a.doc", "x", "", "not a kind of file"),
    ],
)
def test_a_broken_file(tmp_path, name, content, where, what):
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError) as caught:
        read_file(tmp_path / name)
    assert caught.value.where == f"{tmp_path / name}{where}" and what in caught.value.what


def test_bytes_that_are_no_utf8(tmp_path):
    (tmp_path / "a.jsonl").write_bytes('{"text": "ışık"}'.encode("cp1254"))
    with pytest.raises(UserError, match="cp1254"):
        read_file(tmp_path / "a.jsonl")


def test_the_same_rows_from_every_kind_of_file(tmp_path):
    import pandas

    rows = [{"text": "ağaç, \"kuş\"", "label": "a"}, {"text": "iki\nsatır", "label": "b"}]
    frame = pandas.DataFrame(rows)
    frame.to_parquet(tmp_path / "a.parquet")
    frame.to_csv(tmp_path / "a.csv", index=False)
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
    for name in ("a.parquet", "a.csv", "a.jsonl.gz"):
        assert read_file(tmp_path / name).rows == rows


def test_no_validation_rows_are_taken_from_training(tmp_path):
    write_rows(tmp_path / "train.jsonl", pair_rows(40, 0))
    splits = load_splits(TaskArguments(dataset_name=str(tmp_path), validation_fraction=0.25))
    assert (len(splits["train"].rows), len(splits["validation"].rows)) == (30, 10)
    assert sorted(splits["train"].numbers + splits["validation"].numbers) == list(range(1, 41))


def test_samples_are_the_same_each_time_and_spread(tmp_path):
    split = read_file(write_rows(tmp_path / "a.jsonl", pair_rows(1000, 0)))
    drawn = split.sample(100).numbers
    assert drawn == split.sample(100).numbers == sorted(set(drawn))
    assert 400 < sum(drawn) / 100 < 600
