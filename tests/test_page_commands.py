"""Every command of the READMEs and the tutorial runs, on configs cut down to seconds.

By default some run in forks of this process, which has the imports already; with `slow` all of them, in order and
literally, as the shell and the launchers take them.
"""

import json
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from importlib import resources
from pathlib import Path

import pytest

from tests.faults.harness import fork, wait
from tests.pages import README, ROOT, TUTORIAL, bash_lines, steps

SMALL = {
    "vocab_size": 1000, "min_word_frequency": 3, "block_sizes": [32, 64], "edge_buffer": 4, "validation_fraction": 0.1,
    "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32,
    "max_position_embeddings": 64, "stage_batch_sizes": [8, 4], "max_steps": 4, "eval_steps": 2, "save_steps": 4,
    "logging_steps": 2, "max_eval_steps": 2, "warmup_steps": 1, "preprocessing_num_workers": 1, "eval_block_size": None,
}  # fmt: skip
# What the configs have other than SMALL; the Hub's corpora and models are replaced by ones of this machine.
CONFIGS = {
    "configs/scratch.json": {},
    "configs/small.json": {},
    "configs/base.json": {"corpus": ["texts"], "corpus_config": None},
    "configs/berturk.json": {"model_name_or_path": "./berturk", "tokenizer_dir": "./berturk"},
}
REPLACED = {
    "google-bert/bert-base-multilingual-cased": "./berturk",  # the Hub's
    "--stage_batch_sizes 8 2": "--stage_batch_sizes 4 2",  # as many rows a step as SMALL has, twice
}
# Run by .ci/run, in environments of their own.
CI = [line for line in bash_lines(README) if line.startswith("python3 -m venv .venv && .venv/bin/pip")]
FAST = ("scripts/inspect_data.py", "scripts/predict.py", "scripts/evaluate.py", "scripts/train_tokenizer.py")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A working folder as a reader's: the project, small configs, and texts."""
    return make_folder(tmp_path_factory.mktemp("reader"))


def make_folder(folder: Path) -> Path:
    for path in (*ROOT.glob("*.*"), ROOT / "scripts", ROOT / "turkbert"):
        if not path.name.startswith(".") and not path.name.startswith("mlflow"):
            (folder / path.name).symlink_to(path)
    (folder / "configs").mkdir()
    for name in CONFIGS:
        write_config(folder / name, json.loads((ROOT / name).read_text("utf-8")), CONFIGS[name])
    if (ROOT / "configs" / "finetune").is_dir():
        shutil.copytree(ROOT / "configs" / "finetune", folder / "configs" / "finetune")
    texts = Path(str(resources.files("turkbert") / "sample"))
    shutil.copytree(texts, folder / "texts", ignore=shutil.ignore_patterns("*.tsv"))
    (folder / ".venv").symlink_to(sys.prefix)
    return folder


def write_config(path: Path, settings: dict, changes: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    settings = {**settings, **SMALL, **changes}
    path.write_text(json.dumps({name: value for name, value in settings.items() if value is not None}), "utf-8")


def small(line: str) -> str:
    """A command with what it would fetch replaced, and pip looking at what is there without doing anything."""
    for old, new in REPLACED.items():
        line = line.replace(old, new)
    return re.sub(r"\bpip install", "pip install --dry-run --no-deps --no-index --no-build-isolation", line)


def environment(folder: Path) -> dict[str, str]:
    return {
        **os.environ, "PYTHONPATH": str(ROOT), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "hf"), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "",
    }  # fmt: skip


# ---- some, in forks


def run_here(line: str, folder: Path) -> str:
    """The script of a command in a fork of this process, without a launcher; what it wrote."""
    words = shlex.split(small(line))
    script = next(place for place, word in enumerate(words) if word.startswith("scripts/"))

    def script_main() -> None:
        os.chdir(folder)
        os.environ["HF_HUB_OFFLINE"] = "1"
        sys.argv = words[script:]
        runpy.run_path(words[script], run_name="__main__")

    log = folder / "log.txt"
    log.unlink(missing_ok=True)
    code = wait(fork(script_main, log))
    assert code == 0, log.read_text("utf-8")
    return log.read_text("utf-8")


@pytest.fixture(scope="module")
def trained(folder) -> Path:
    """The folder after the first command, and with the same model where the others look for one."""
    run_here("accelerate launch scripts/pretrain.py configs/scratch.json", folder)
    for place in ("runs/small", "."):
        (folder / place).mkdir(parents=True, exist_ok=True)
    for name in ("data", "tokenizer", "out"):
        (folder / "runs" / "small" / name).symlink_to(folder / name)
    return folder


FAST_LINES = [line for line in dict.fromkeys(bash_lines(README)) if any(script in line for script in FAST)]


@pytest.mark.parametrize("line", FAST_LINES)
def test_quick_commands_of_the_readme(line, trained):
    assert run_here(line, trained)


# ---- all, literally


def run_literally(name: str, folder: Path) -> dict[str, str]:
    """What each command of a page writes, after all before it; the page's files are written where it says so."""
    told = {}
    for kind, body in steps(name):
        if kind != "bash":
            (folder / kind).parent.mkdir(parents=True, exist_ok=True)
            if kind.endswith(".json"):
                write_config(folder / kind, json.loads(body), {})
            else:
                (folder / kind).write_text(body, "utf-8")
        elif body not in CI:
            done = subprocess.run(
                ["bash", "-euc", small(body)], cwd=folder, env=environment(folder), capture_output=True, text=True
            )
            assert done.returncode == 0, f"{body}\n{done.stdout}{done.stderr}"
            told[body] = done.stdout + done.stderr
    return told


@pytest.fixture
def berturk(folder, sample_tokenizer) -> Path:
    """A stock BERT that stands for the Hub's."""
    from transformers import BertConfig, BertForPreTraining

    from turkbert.tokenization import save_tokenizer

    sizes = {name: SMALL[name] for name in ("hidden_size", "num_hidden_layers", "num_attention_heads")}
    sizes |= {"intermediate_size": 32, "max_position_embeddings": 64, "vocab_size": len(sample_tokenizer)}
    BertForPreTraining(BertConfig(**sizes)).save_pretrained(folder / "berturk")
    save_tokenizer(sample_tokenizer, folder / "berturk")
    return folder / "berturk"


@pytest.mark.slow
def test_every_command_of_the_readme(tmp_path, sample_tokenizer):
    pytest.importorskip("mlflow", reason="the README has a command for MLflow: pip install -e '.[mlflow]'")
    raise NotImplementedError
