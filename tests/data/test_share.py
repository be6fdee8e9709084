"""prepare_data --push_to_hub: the rows, their tokenizer and a card, after a warning, private."""

import io
import json
import logging
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from tests.conftest import SAMPLE
from tests.hub_stand_in import Repository, hub  # noqa: F401
from turkbert.data import load_prepared

SCRIPT = Path(__file__).parents[2] / "scripts" / "prepare_data.py"

LOAD = """
import json
from datasets import load_dataset
splits = load_dataset("ada/rows", "block_64")
print(json.dumps([{name: part.num_rows for name, part in splits.items()}, splits["train"][0]]))
"""


@pytest.fixture
def prepare(sample_dir, sample_prepared, monkeypatch, tmp_path):
    """prepare_data on the prepared sample, with more arguments -> exit code."""
    config = tmp_path / "config.json"
    places = {"data_dir": str(sample_dir / "data"), "tokenizer_dir": str(sample_dir / "tokenizer")}
    config.write_text(json.dumps({**SAMPLE, **places, "output_dir": str(tmp_path / "out")}))

    def call(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["prepare_data.py", str(config), *arguments])
        try:
            runpy.run_path(str(SCRIPT), run_name="__main__")
        except SystemExit as end:
            return end.code
        return 0

    return call


def test_rows_go_up_with_their_tokenizer_and_a_card(prepare, hub, caplog, sample_dir):  # noqa: F811
    with caplog.at_level(logging.INFO):
        assert prepare("--push_to_hub", "--hub_dataset_id", "rows") == 0
    warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert len(warnings) == 1 and "text of every document can be read back" in warnings[0]
    repository = hub.dataset("rows")
    assert repository.private and hub.refused == []
    rows = load_prepared(sample_dir / "data")
    expected = {"README.md", "tokenizer/tokenizer.json", "tokenizer/tokenizer_config.json"}
    expected |= {f"block_{size}/{split}-00000-of-00001.parquet" for size in rows for split in ("train", "validation")}
    assert set(repository.files) == expected
    for size, splits in rows.items():
        for split, part in splits.items():
            table = pq.read_table(io.BytesIO(repository.files[f"block_{size}/{split}-00000-of-00001.parquet"]))
            unmasked = dict.fromkeys(set(table.column_names) - set(part.column_names))
            assert table.to_pylist() == [row | unmasked for row in part.to_list()]
            assert set(unmasked) == ({"masked_lm_positions", "masked_lm_ids"} if split == "train" else set())
    card = repository.files["README.md"].decode()
    configs = yaml.safe_load(card.split("---\n")[1])["configs"]
    assert [config["config_name"] for config in configs] == ["block_32", "block_64"]
    assert str(sample_dir) not in card and "next_sentence_label" in card
    assert not (sample_dir / "data" / "_staging-hub").exists()


def test_a_config_for_the_model_publishes_no_corpus(prepare, hub):  # noqa: F811
    assert prepare("--push_to_hub") == 0
    assert prepare("--hub_dataset_id", "rows") == 0
    assert hub.repositories == {}


def test_a_public_data_set_is_not_written_to_by_accident(prepare, hub, capsys):  # noqa: F811
    open_to_all = hub.repositories["dataset", "ada/rows"] = Repository("ada/rows", "dataset", private=False)
    open_to_all.commit("main", {}, "initial commit")
    assert prepare("--push_to_hub", "--hub_dataset_id", "rows") == 2
    assert "public already" in capsys.readouterr().err and open_to_all.files == {}
    assert prepare("--push_to_hub", "--hub_dataset_id", "rows", "--hub_private_repo", "false") == 0
    assert open_to_all.files


def test_a_hub_that_is_down_is_one_line(prepare, hub, capsys):  # noqa: F811
    hub.outage = "503"
    assert prepare("--push_to_hub", "--hub_dataset_id", "rows") == 4
    errors = capsys.readouterr().err
    assert "turkbert: error: rows: not pushed" in errors and "Traceback" not in errors


@pytest.mark.slow
def test_load_dataset_reads_it(prepare, hub, sample_dir, tmp_path):  # noqa: F811
    assert prepare("--push_to_hub", "--hub_dataset_id", "rows") == 0
    process = subprocess.run([sys.executable, "-c", LOAD], capture_output=True, text=True, env=dict(os.environ))
    assert process.returncode == 0, process.stderr[-2000:]
    counts, first = json.loads(process.stdout.splitlines()[-1])
    rows = load_prepared(sample_dir / "data")[64]
    assert counts == {name: part.num_rows for name, part in rows.items()}
    assert first == rows["train"][0] | {"masked_lm_positions": None, "masked_lm_ids": None}
    assert hub.refused == []
