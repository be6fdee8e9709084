"""A tiny encoder of stock classes, and small data sets that can be learned, written on the spot."""

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import BertConfig, BertModel

TINY_MODEL = {
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
    "initializer_range": 0.1,
}
RUN = {
    "max_seq_length": 48,
    "num_train_epochs": 2,
    "per_device_train_batch_size": 8,
    "learning_rate": 5e-3,
    "logging_steps": 1000,
    "disable_tqdm": True,
    "use_cpu": True,
    "bf16": False,
}


@pytest.fixture(scope="session")
def tiny_model(sample_tokenizer, tmp_path_factory) -> Path:
    """A folder with an untrained one-layer BERT and the sample's tokenizer."""
    folder = tmp_path_factory.mktemp("model") / "tiny"
    BertModel(BertConfig(vocab_size=len(sample_tokenizer), **TINY_MODEL)).save_pretrained(folder)
    sample_tokenizer.save_pretrained(folder)
    return folder


def write_rows(path: Path, rows: list[dict]) -> Path:
    """A jsonl file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return path


def pair_rows(number: int, seed: int) -> list[dict]:
    """Pairs that are the same sentence or two different ones, by their label."""
    words = "ev kitap deniz yol güneş şehir okul dağ kuş ağaç çocuk su".split()
    rng = random.Random(seed)
    rows = []
    for place in range(number):
        first = " ".join(rng.sample(words, 3))
        same = place % 2 == 0
        other = first if same else " ".join(rng.sample([word for word in words if word not in first.split()], 3))
        rows.append({"sentence1": first, "sentence2": other, "label": "aynı" if same else "farklı"})
    return rows


def tag_rows(number: int, seed: int) -> list[dict]:
    """Sentences with one name in them."""
    rng = random.Random(seed)
    names = [(["Ankara"], ["B-LOC"]), (["Ali", "Veli"], ["B-PER", "I-PER"]), (["İzmir"], ["B-LOC"])]
    rows = []
    for _ in range(number):
        tokens, tags = rng.choice(names)
        before = rng.sample(["dün", "akşam", "eve", "gitti", "güzel", "çok"], 3)
        rows.append({"tokens": [*before, *tokens, "."], "tags": ["O"] * 3 + tags + ["O"]})
    return rows


def question_rows(number: int, seed: int) -> list[dict]:
    """Questions whose answer is the word after "adı"."""
    rng = random.Random(seed)
    rows = []
    for place in range(number):
        name = rng.choice(["Ankara", "İzmir", "Ali", "Veli", "deniz"])
        before = " ".join(rng.choices(["güneş", "doğdu", "kuş", "uçtu", "su", "aktı"], k=rng.randint(2, 6)))
        context = f"{before} adı {name} dedi ve gitti"
        answers = {"text": [name], "answer_start": [context.index(name)]}
        rows.append({"id": str(place), "question": "adı ne", "context": context, "answers": answers})
    return rows


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory) -> Path:
    """pairs/, tags/ and questions/ with train, validation and test files."""
    folder = tmp_path_factory.mktemp("tasks")
    for name, make in (("pairs", pair_rows), ("tags", tag_rows), ("questions", question_rows)):
        for seed, (split, number) in enumerate((("train", 64), ("validation", 24), ("test", 20))):
            write_rows(folder / name / f"{split}.jsonl", make(number, seed))
    return folder


@pytest.fixture
def settings(tiny_model, data_dir, tmp_path) -> Callable[..., list[str]]:
    """(data, changes) -> the command line of a tiny run."""

    def make(data: str, **changes) -> list[str]:
        keys = {"dataset_name": data_dir / data, "model_name_or_path": tiny_model, "output_dir": tmp_path / "out"}
        keys |= {**RUN, **changes}
        return [f"--{name}={value}" for name, value in keys.items() if value is not None]

    return make
