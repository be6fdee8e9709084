"""A tiny encoder of stock classes and the data of rows.py, written on the spot."""

from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import BertConfig, BertModel

from tests.finetuning.rows import pair_rows, question_rows, tag_rows, write_rows

TINY_MODEL = {
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
    "initializer_range": 0.1,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
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
