"""A data build that is killed, anywhere, and run again gives the same rows; nothing stale is ever served."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from datasets import Dataset

from turkbert.arguments import parse_args
from turkbert.data.prepare import prepare_dataset
from turkbert.data.stages import _worker_errors
from turkbert.errors import ENVIRONMENT, UserError

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = {
    "vocab_size": 1500,
    "min_word_frequency": 2,
    "block_sizes": [32, 64],
    "stage_batch_sizes": [8, 4],
    "edge_buffer": 4,
    "preprocessing_num_workers": 2,
    "max_position_embeddings": 64,
}


def start_build(folder: Path, **changes) -> subprocess.Popen:
    config = folder / "config.json"
    paths = {"data_dir": str(folder / "data"), "tokenizer_dir": str(folder / "tokenizer")}
    config.write_text(json.dumps({**SETTINGS, **paths, **changes}))
    command = [sys.executable, str(ROOT / "scripts" / "prepare_data.py"), str(config)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True, cwd=folder
    )


def build(folder: Path, **changes) -> tuple[int, str]:
    process = start_build(folder, **changes)
    _, errors = process.communicate(timeout=300)
    return process.returncode, errors


def hashes(folder: Path) -> dict[str, dict]:
    """{stage: {file: size and sha256}} of every committed folder."""
    manifests = [*folder.glob("data/*/MANIFEST.json"), folder / "tokenizer" / "MANIFEST.json"]
    stages = [path for path in manifests if not path.parent.name.startswith("_")]
    return {path.parent.name: rows_of(path) for path in stages}


def rows_of(manifest: Path) -> dict[str, dict]:
    files = json.loads(manifest.read_text())["files"]
    return {name: facts for name, facts in files.items() if name != "recipe.json"}  # it names the folders


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[Path, float]:
    """An undisturbed build and its seconds."""
    folder = tmp_path_factory.mktemp("whole")
    started = time.perf_counter()
    code, errors = build(folder)
    assert code == 0, errors
    return folder, time.perf_counter() - started


def kill_at_random(folder: Path, seconds: float, rng: random.Random, whom: str) -> None:
    """Start a build and kill a part of it at a random moment of its second half (the first half is imports)."""
    process = start_build(folder)
    time.sleep(seconds * rng.uniform(0.3, 1.0))
    try:
        children = psutil.Process(process.pid).children(recursive=True)
        if whom == "worker" and children:
            rng.choice(children).kill()
        elif whom == "interrupt":
            os.killpg(process.pid, signal.SIGINT)
        else:
            process.kill()
    except psutil.NoSuchProcess:
        pass
    _, errors = process.communicate(timeout=60)
    if whom == "interrupt" and "building" in errors:  # not before, while Python still imports
        assert process.returncode in (0, 130) and "Traceback" not in errors
        assert errors.count("turkbert: error: interrupted") == (process.returncode == 130)


# R14 rows 39 to 41 and R15
@pytest.mark.slow
@pytest.mark.parametrize("num_kills", [1, 30])
def test_killed_builds_end_in_the_same_rows(whole, tmp_path, num_kills):
    undisturbed, seconds = whole
    rng = random.Random(num_kills)
    for number in range(num_kills):
        folder = tmp_path / str(number)
        folder.mkdir()
        kill_at_random(folder, seconds, rng, whom=("parent", "worker", "interrupt")[number % 3])
        code, errors = build(folder)
        assert code == 0, errors
        assert hashes(folder) == hashes(undisturbed)
        shutil.rmtree(folder)


# R14 row 40
def test_killed_worker_is_named(tmp_path):
    """The message is datasets' own; if it changes, this turns red."""
    with pytest.raises(UserError, match="fewer --preprocessing_num_workers") as caught:
        with _worker_errors(tmp_path):
            Dataset.from_dict({"a": [1, 2]}).map(_die, num_proc=2)
    assert caught.value.exit_code == ENVIRONMENT


def _die(row: dict) -> dict:
    os.kill(os.getpid(), signal.SIGKILL)
    return row


# R14 rows 42 and 43; R17
def test_nothing_stale(tmp_path):
    """Unchanged: reused. Source edited with the same size and mtime, or the tokenizer changed: refused, not served."""
    corpus = tmp_path / "corpus.txt"
    sample = (ROOT / "turkbert" / "sample" / "tarih.txt").read_text("utf-8")
    corpus.write_text(sample, "utf-8")
    stamp = corpus.stat()

    def prepare(**changes) -> dict[Path, int]:
        config = tmp_path / "config.json"
        paths = {"data_dir": str(tmp_path / "data"), "tokenizer_dir": str(tmp_path / "tokenizer")}
        settings = {**SETTINGS, "preprocessing_num_workers": 1, "vocab_size": 800, "corpus": [str(corpus)], **paths}
        config.write_text(json.dumps({**settings, **changes}))
        prepare_dataset(parse_args([str(config)]))
        return {path: path.stat().st_mtime_ns for path in tmp_path.glob("data/*/MANIFEST.json")}

    assert prepare() == prepare()
    corpus.write_text(sample.replace("bir", "iki", 1), "utf-8")
    os.utime(corpus, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert corpus.stat().st_size == stamp.st_size
    with pytest.raises(UserError, match="the corpus changed since this was made"):
        prepare()
    corpus.write_text(sample, "utf-8")
    with pytest.raises(UserError, match="made with vocab_size 800, now 700"):
        prepare(vocab_size=700)
    with pytest.raises(UserError, match="tokens: the tokenizer changed since this was made"):
        prepare(vocab_size=700, tokenizer_dir=str(tmp_path / "other"))
