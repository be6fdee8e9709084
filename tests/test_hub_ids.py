"""What goes to the network and what does not."""

from pathlib import Path

import pytest

from turkbert.hub_ids import is_hub_id


@pytest.fixture(autouse=True)
def near(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("near/tokenizer").mkdir(parents=True)
    Path("file").touch()
    Path("word").mkdir()


@pytest.mark.parametrize("name", ["owner/name", "dbmdz/bert-base-turkish-cased", "oscar-corpus/OSCAR-23.01", "a/_b"])
def test_ids(name):
    assert is_hub_id(name) and is_hub_id(name, bare=True)


@pytest.mark.parametrize(
    "name",
    ["", ".", "./owner/name", "../name", "/owner", "/", "~/name", "owner/", "a/b/c", "near/tokenizer", "near/typo",
     "file", "file/x", "word", "owner\\name", "-x/name", "ş/name", "owner name/x", "owner/name\n"],
)  # fmt: skip
def test_paths(name):
    assert not is_hub_id(name) and not is_hub_id(name, bare=True)


def test_single_words():
    assert not is_hub_id("bert-base-uncased") and is_hub_id("bert-base-uncased", bare=True)
