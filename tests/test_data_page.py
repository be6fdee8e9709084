"""The numbers of docs/data.md and of the README's output are those of a run on the bundled sample."""

import json
from pathlib import Path

import pytest
from datasets import load_from_disk

from tests.pages import README, ROOT, output_block, read, table_rows
from turkbert.arguments import parse_args
from turkbert.data.prepare import PreparedData, prepare_dataset
from turkbert.data.random_words import RandomWordSet
from turkbert.data.sentences import split_sentences

PAGE = " ".join(read("docs/data.md").split())  # without its line breaks


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("sample") / "data"


@pytest.fixture(scope="module")
def prepared(data_dir) -> PreparedData:
    """What configs/scratch.json makes of the sample."""
    folders = ["--data_dir", str(data_dir), "--tokenizer_dir", str(data_dir.with_name("tokenizer"))]
    return prepare_dataset(parse_args([str(ROOT / "configs" / "scratch.json"), *folders]))


def test_the_document(prepared, data_dir):
    texts = load_from_disk(str(data_dir / "documents" / "text"))["text"]
    text = texts[0]
    assert f": {len(text):,} characters, {len(text.split())} words. It is one of {len(texts)};" in PAGE
    assert f"**Sentences.** {len(split_sentences(text))}. " in PAGE


def test_its_tokens(prepared, data_dir):
    documents = load_from_disk(str(data_dir / "tokens" / "documents"))
    tokens, ends = documents[0]["input_ids"], documents[0]["sentence_ends"]
    shown = " ".join(prepared.tokenizer.convert_ids_to_tokens(tokens[:12]))
    assert f"**Tokens.** {len(tokens)}: `{shown} ...`, and `sentence_ends` {' '.join(map(str, ends))}." in PAGE
    lengths = list(map(len, documents["input_ids"]))
    assert f"The whole sample has {sum(lengths):,}; a document {min(lengths)} to {max(lengths)}." in PAGE


def test_its_rows(prepared, data_dir):
    tokens = load_from_disk(str(data_dir / "tokens" / "documents"))[0]["input_ids"]
    rows = prepared.rows[64]["train"]
    told = table_rows(read("docs/data.md").split("5. **Rows.**")[1].split("6. **All")[0])
    assert [int(cells[0]) for cells in told] == [0, 1, 2, 9]
    for number, start, length_a, length_b, label in (cells[:5] for cells in told):
        row = rows[int(number)]
        assert row["length_a"] == int(length_a) and row["length"] - row["length_a"] - 3 == int(length_b)
        assert row["next_sentence_label"] == int(label[0])
        assert row["input_ids"][1 : 1 + int(length_a)] == tokens[int(start) : int(start) + int(length_a)]
    of_the_document = [rows[number]["next_sentence_label"] for number in range(10)]
    assert of_the_document.count(0) == 4 and "Four of the ten rows keep their B." in PAGE
    assert rows[10]["input_ids"][1] != tokens[0] and rows[10]["length_a"] == 33  # the next document's first


def test_all_rows(prepared):
    sizes = {}
    for size, splits in prepared.rows.items():
        labels = splits["train"]["next_sentence_label"]
        sizes[size] = len(labels), labels.count(0), labels.count(1), len(splits["validation"])
        assert set(splits["train"]["length"]) == {size}, "padding"
    hidden = [sum(map(len, splits["validation"]["masked_lm_positions"])) for splits in prepared.rows.values()]
    (train, kept, drawn, validation), (train_128, kept_128, drawn_128, validation_128) = sizes[64], sizes[128]
    assert (
        f"{train:,} training rows of 64 ({kept} with label 0, {drawn} with label 1), {train_128} of 128 ({kept_128}, "
        f"{drawn_128}); {validation} and {validation_128} for validation, where {hidden[0]} and {hidden[1]} tokens are"
    ) in PAGE


def test_random_words(prepared, data_dir):
    groups = RandomWordSet.load(data_dir / "random_words").groups
    assert list(groups) == [1]
    assert f"**Random words.** {len(groups[1]):,} words of one token occur three times or more" in PAGE


def test_the_output_in_the_readme(prepared, data_dir):
    output = output_block(README, "pretrain")
    ledger = json.loads((data_dir / "documents" / "ledger.json").read_text("utf-8"))
    documents = load_from_disk(str(data_dir / "tokens" / "documents"))
    assert f"data/documents: {ledger['documents_kept']} documents" in output
    assert f"tokenizer: {len(prepared.tokenizer):,} tokens" in output
    assert f"data/tokens: {sum(map(len, documents['input_ids'])):,} tokens" in output
    rows = {name: len(split) for name, split in prepared.rows[128].items()}
    assert f"train {rows['train']} rows" in output and f"validation {rows['validation']} rows" in output
