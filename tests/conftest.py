"""A tokenizer trained on the bundled sample, and the sample prepared once with dynamic and once with static masks."""

import json
import os
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from turkbert.arguments import RunArguments, parse_args
from turkbert.data.prepare import PreparedData, prepare_dataset
from turkbert.tokenization import train_tokenizer

# Sums of floats depend on the number of threads: the tests and the processes they start all have one.
os.environ["OMP_NUM_THREADS"] = "1"
torch.set_num_threads(1)

SAMPLE = {
    "vocab_size": 2000,
    "min_word_frequency": 3,
    "block_sizes": [32, 64],
    "edge_buffer": 4,
    "validation_fraction": 0.2,
    "masking": "dynamic",
    "preprocessing_num_workers": 1,
    "stage_fractions": [0.9, 0.1],
    "stage_batch_sizes": [8, 4],
}


@pytest.fixture(scope="session")
def sample_texts() -> list[str]:
    """The documents of the bundled sample."""
    files = sorted(Path(str(resources.files("turkbert") / "sample")).glob("*.txt"))
    return [document for file in files for document in file.read_text("utf-8").split("\n\n")]


@pytest.fixture(scope="session")
def sample_tokenizer(sample_texts: list[str]) -> PreTrainedTokenizerFast:
    return train_tokenizer(sample_texts, vocab_size=2000)


@pytest.fixture(scope="session")
def sample_arguments() -> Callable[..., RunArguments]:
    """(folder, changes to SAMPLE) -> arguments as a config file in that folder gives them."""

    def make(folder: Path, **changes) -> RunArguments:
        folder.mkdir(parents=True, exist_ok=True)
        places = {"data_dir": folder / "data", "tokenizer_dir": folder / "tokenizer", "output_dir": folder / "out"}
        settings = {**SAMPLE, **{name: str(path) for name, path in places.items()}, **changes}
        config = folder / "config.json"
        config.write_text(json.dumps(settings), "utf-8")
        return parse_args([str(config)])

    return make


@pytest.fixture(scope="session")
def sample_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds tokenizer/ and data/ of the sample, dynamic masks. Not to be changed: copy it first."""
    return tmp_path_factory.mktemp("sample")


@pytest.fixture(scope="session")
def sample_prepared(sample_dir: Path, sample_arguments: Callable[..., RunArguments]) -> PreparedData:
    return prepare_dataset(sample_arguments(sample_dir))
