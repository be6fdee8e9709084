"""Every command of the READMEs and the tutorial runs, on configs cut down to seconds.

By default some run in forks of this process, which has the imports already; with `slow` all of them do, in order and
literally, as a shell and the launchers take them.
"""

import importlib.util
import json
import os
import re
import runpy
import shlex
import shutil
import signal
import subprocess
import sys
from importlib import resources
from pathlib import Path
from urllib.request import urlopen

import pytest
from transformers import BertConfig, BertForPreTraining

from tests.faults.harness import fork, wait
from tests.hub_stand_in import hub  # noqa: F401  a fixture
from tests.pages import README, ROOT, TUTORIAL, bash_lines, steps
from turkbert.tokenization import save_tokenizer
from turkbert.training import evaluation  # noqa: F401  the forks need not import it

SIZES = {
    "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32,
    "max_position_embeddings": 64,
}  # fmt: skip
SMALL = SIZES | {
    "vocab_size": 1000, "min_word_frequency": 3, "block_sizes": [32, 64], "edge_buffer": 4, "validation_fraction": 0.1,
    "stage_batch_sizes": [8, 4], "max_steps": 4, "warmup_steps": 1, "eval_steps": 2, "save_steps": 4,
    "logging_steps": 2, "max_eval_steps": 2, "preprocessing_num_workers": 1, "eval_block_size": None,
}  # fmt: skip
# What the configs have other than SMALL. The corpora and models of the Hub are replaced by ones that lie here.
CONFIGS = {
    "configs/scratch.json": {},
    "configs/small.json": {},
    "configs/base.json": {"corpus": ["texts"], "corpus_config": None},
    "configs/berturk.json": {"model_name_or_path": "./berturk", "tokenizer_dir": "./berturk"},
}
REPLACED = {
    "google-bert/bert-base-multilingual-cased": "./berturk",
    "--stage_batch_sizes 8 2 ": "--stage_batch_sizes 4 2 ",  # as many rows a step as SMALL has
    "accelerate_config.yaml ": "accelerate_config.yaml --num_processes 2 ",  # however many cores there are
    "--num_cpu_threads_per_process 8 ": "--num_cpu_threads_per_process 2 ",
    "pip install": "pip install --dry-run --no-deps --no-index --no-build-isolation",
}
FINETUNING = {"num_train_epochs": 1}
SENTENCES = "Yağmur başladı.\nŞemsiyemi açtım.\n"
QUICK = r"scripts/(inspect_data|evaluate|predict\.py out --fill_mask)"


def make_folder(folder: Path) -> Path:
    """A reader's working folder: the project with SMALL configs, an environment, texts and a stock BERT."""
    for path in (*ROOT.glob("*.yaml"), *ROOT.glob("*.toml"), *ROOT.glob("*.cfg"), *ROOT.glob("*.txt")):
        (folder / path.name).symlink_to(path)
    for name in ("README.md", "scripts", "turkbert"):
        (folder / name).symlink_to(ROOT / name)
    for name, changes in CONFIGS.items():
        write_config(folder / name, json.loads((ROOT / name).read_text("utf-8")), {**SMALL, **changes})
    sample = Path(str(resources.files("turkbert") / "sample"))
    shutil.copytree(sample, folder / "texts", ignore=shutil.ignore_patterns("*.tsv"))
    (folder / "sentences.txt").write_text(SENTENCES, "utf-8")
    (folder / "reviews").mkdir()
    for path, body in steps(TUTORIAL):
        if path.endswith(".jsonl"):
            (folder / "reviews" / Path(path).name).write_text(body, "utf-8")
    return folder


def write_config(path: Path, settings: dict, changes: dict) -> None:
    """`settings` with `changes`, without those that are None."""
    path.parent.mkdir(parents=True, exist_ok=True)
    settings = {name: value for name, value in {**settings, **changes}.items() if value is not None}
    path.write_text(json.dumps(settings), "utf-8")


def small(command: str) -> str:
    for old, new in REPLACED.items():
        command = command.replace(old, new)
    return command


# ---- some, in forks


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """The folder after the README's first command, with the same run where its later commands look for one."""
    folder = make_folder(tmp_path_factory.mktemp("reader"))
    run_here("scripts/pretrain.py configs/scratch.json", folder)
    (folder / "runs" / "small").mkdir(parents=True)
    for name in ("data", "tokenizer", "out"):
        (folder / "runs" / "small" / name).symlink_to(folder / name)
    return folder


def run_here(command: str, folder: Path) -> str:
    """What a script writes, run in a fork of this process without a launcher."""
    words = shlex.split(command[command.index("scripts/") :])

    def main() -> None:
        os.chdir(folder)
        sys.argv = words
        runpy.run_path(words[0], run_name="__main__")

    log = folder / "log.txt"
    log.unlink(missing_ok=True)
    code = wait(fork(main, log))
    assert code == 0, log.read_text("utf-8")
    return log.read_text("utf-8")


@pytest.mark.parametrize("command", [line for line in bash_lines(README) if re.search(QUICK, line)])
def test_quick_commands_of_the_readme(command, trained):
    assert run_here(command, trained)


# ---- all, literally


def follow(name: str, folder: Path, environment: dict[str, str]) -> dict[str, str]:
    """Do what a page says, step by step; what each command wrote."""
    told = {}
    for kind, body in steps(name):
        if kind in ("bash", "python"):
            if ".venv/bin/pip" not in body and not body.startswith("python3 -m venv"):  # .ci/run does
                told[body] = do(kind, small(body), folder, environment)
        elif kind.endswith(".json"):
            settings = json.loads(body)
            write_config(folder / kind, settings, FINETUNING if "num_train_epochs" in settings else SMALL)
        else:
            (folder / kind).parent.mkdir(parents=True, exist_ok=True)
            (folder / kind).write_text(body, "utf-8")
    return told


def do(kind: str, body: str, folder: Path, environment: dict[str, str]) -> str:
    command = ["bash", "-euc", body] if kind == "bash" else [sys.executable, "-c", body]
    if "scripts/demo.py" in body:
        return ask_demo(command, folder, environment)
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{body}\n{done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def ask_demo(command: list[str], folder: Path, environment: dict[str, str]) -> str:
    """What the demo says before it waits; its page is fetched once, then it is told to end."""
    with subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True) as demo:
        try:
            told = demo.stdout.readline()
            with urlopen(re.search(r"http://127\.0\.0\.1:\d+", told)[0], timeout=30) as answer:
                assert answer.status == 200
        finally:
            demo.send_signal(signal.SIGINT)
    return told


@pytest.fixture
def reader(tmp_path, sample_tokenizer, hub) -> tuple[Path, dict[str, str]]:  # noqa: F811
    """The folder, an environment in `.venv`, a BERT that stands for the Hub's, and a Hub on loopback to push to."""
    folder = make_folder(tmp_path)
    save_tokenizer(sample_tokenizer, folder / "berturk")
    BertForPreTraining(BertConfig(vocab_size=len(sample_tokenizer), **SIZES)).save_pretrained(folder / "berturk")
    programs = Path(sys.executable).parent
    (folder / ".venv" / "bin").mkdir(parents=True)
    (folder / ".venv" / "bin" / "activate").write_text(f'PATH="{programs}:$PATH"\n')
    environment = {**os.environ, **hub.environment(folder), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    environment |= {"PYTHONPATH": str(ROOT), "PATH": f"{programs}:{os.environ['PATH']}"}
    return folder, environment


EXTRAS = {"mlflow": "mlflow", "gradio": "demo", "onnx": "export", "seqeval": "finetune"}
MISSING = [extra for package, extra in EXTRAS.items() if importlib.util.find_spec(package) is None]


@pytest.mark.slow
@pytest.mark.skipif(bool(MISSING), reason=f"commands need the extras {', '.join(MISSING)}")
def test_every_command_of_the_readme(reader):
    folder, environment = reader
    # The page begins with a line that .ci/run runs, and goes on with its result.
    do("bash", "accelerate launch scripts/pretrain.py configs/scratch.json", folder, environment)
    told = follow(README, folder, environment)
    assert len(told) > 15
    assert (folder / "vectors.parquet").is_file() and (folder / "mlflow.db").is_file()
    for name in ("small", "base", "berturk", "mbert", "uncased"):
        assert (folder / "runs" / name / "out" / "model.safetensors").is_file()


@pytest.mark.slow
@pytest.mark.skipif("finetune" in MISSING, reason="a command needs the extra finetune")
def test_every_command_of_the_tutorial(reader, hub):  # noqa: F811
    folder, environment = reader
    told = follow(TUTORIAL, folder, environment)
    assert len(told) > 10
    assert (folder / "runs" / "ders" / "yorum_modeli" / "model.safetensors").is_file()
    assert "model.safetensors" in hub.model("turkbert-ders").files
