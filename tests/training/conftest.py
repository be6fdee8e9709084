"""A tiny prepared data set, shared by the tests of this folder."""

from pathlib import Path

import pytest

from tests.training.tiny import tiny_arguments
from turkbert.data.prepare import PreparedData, prepare_dataset


@pytest.fixture(scope="session")
def tiny_dir(tmp_path_factory) -> Path:
    """A folder with tokenizer/ and data/ for the TINY settings."""
    folder = tmp_path_factory.mktemp("tiny")
    prepare_dataset(tiny_arguments(folder, folder / "out"))
    return folder


@pytest.fixture(scope="session")
def prepared(tiny_dir: Path) -> PreparedData:
    return prepare_dataset(tiny_arguments(tiny_dir, tiny_dir / "out"))


@pytest.fixture
def draws() -> None:
    """For tests whose runs draw their plots."""


@pytest.fixture(autouse=True)
def without_plots(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other tests' runs do not: it would take as long as all the rest of a tiny run."""
    if "draws" not in request.fixturenames:
        monkeypatch.setattr("turkbert.training.callbacks.write_plots", lambda *args: [])
