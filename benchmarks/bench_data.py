"""Speed and memory of the data stages, beside the bare tokenizer on the same text: one run, every figure and ratio.

    python benchmarks/bench_data.py --corpus "texts/*.txt.xz" --output benchmarks/results

Each stage is the real script in a fresh process with empty caches: imports, hashing, statistics and report included.
"""

import argparse
import glob
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parent.parent
ONE_BLOCK = {"block_sizes": [128], "stage_fractions": [1.0], "stage_batch_sizes": [64]}
BOTH_BLOCKS = {"block_sizes": [128, 512], "stage_fractions": [0.9, 0.1], "stage_batch_sizes": [64, 16]}
CONFIG = {"vocab_size": 32000, "masking": "static", **ONE_BLOCK}

BARE = """
import sys, time
from turkbert.data.documents import CorpusLedger, read_documents
from turkbert.tokenization import load_tokenizer
texts = [text for path in sys.argv[2:] for text in read_documents(path, CorpusLedger())]
tokenizer = load_tokenizer(sys.argv[1]).backend_tokenizer
size = sum(len(text.encode()) for text in texts)
start = time.perf_counter()
for first in range(0, len(texts), 256):
    tokenizer.encode_batch_fast(texts[first:first + 256], add_special_tokens=False)
print(size, time.perf_counter() - start)
"""

TRAINING = """
import sys, time
from tokenizers import Tokenizer, models, trainers
from turkbert.data.documents import CorpusLedger, read_documents
from turkbert.tokenization import SPECIAL_TOKENS, load_tokenizer, train_tokenizer
texts = (text for path in sys.argv[3:] for text in read_documents(path, CorpusLedger()))
start = time.perf_counter()
if sys.argv[1] == "ours":
    train_tokenizer(texts, vocab_size=32000)
else:
    rules = load_tokenizer(sys.argv[2]).backend_tokenizer
    bare = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    bare.normalizer, bare.pre_tokenizer = rules.normalizer, rules.pre_tokenizer
    special = list(SPECIAL_TOKENS.values())
    bare.train_from_iterator(
        texts, trainers.WordPieceTrainer(vocab_size=32000, limit_alphabet=200, special_tokens=special)
    )
print(0, time.perf_counter() - start)
"""

LOADING = """
import sys, time
import numpy as np
from turkbert.arguments import parse_args
from turkbert.data import load_prepared
from turkbert.data.prepare import build_collator
from turkbert.tokenization import load_tokenizer
from turkbert.training.sampler import Stage, StagedBatchSampler, StagedRows
args = parse_args(sys.argv[1:])
rows = load_prepared(args.data.data_dir, [128])[128]["train"].with_format("arrow")
collator = build_collator(args, load_tokenizer(args.tokenizer.tokenizer_dir), 0)
sampler = StagedBatchSampler([Stage(128, len(rows), 32, 0, 10**6)], 1, 0, 1, 0)
batches = StagedRows({128: rows}, sampler, collator)
for number in range(50):
    batches[number]
start = time.perf_counter()
for number in range(50, 550):
    batches[number]
print(500 * 32 * 128, time.perf_counter() - start)
"""


TENTH = """
import sys, time
from turkbert.data.documents import CorpusLedger, read_documents
texts = [text for path in sys.argv[2:] for text in read_documents(path, CorpusLedger())]
open(sys.argv[1], "w").write("\\n\\n".join(texts[::10]))
print(0, 0)
"""

ASKED = {
    "one process / bare": ">= 0.6",
    "two processes / bare two": ">= 0.6",
    "two / one": ">= 1.8",
    "blocks 128 and 512 / 128": "<= 1.3",
    "different rows of 1, 2 and 4 processes": "1",
}
Row = tuple[str, str, str]


class PeakMemory(threading.Thread):
    """Samples the largest anonymous memory (RssAnon, bytes) of any process of a tree, stage by stage."""

    def __init__(self, process: subprocess.Popen, folder: Path):
        super().__init__(daemon=True)
        self.process = psutil.Process(process.pid)
        self.folder = folder
        self.peaks: dict[str, int] = {}

    def run(self) -> None:
        """Watch until the process has ended."""
        while self.process.is_running() and self.process.status() != psutil.STATUS_ZOMBIE:
            staging = next(self.folder.glob("**/_staging-*"), None)
            stage = staging.name.removeprefix("_staging-") if staging else "between"
            try:
                for member in [self.process, *self.process.children(recursive=True)]:
                    self.peaks[stage] = max(self.peaks.get(stage, 0), _anonymous_bytes(member.pid))
            except (psutil.NoSuchProcess, OSError):
                pass
            time.sleep(0.03)


def _anonymous_bytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return next((1024 * int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon")), 0)


def run_script(name: str, folder: Path, corpus: list[str], **settings) -> tuple[float, dict[str, int]]:
    """Seconds and peak RssAnon (bytes) by stage of one script in a fresh process."""
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "config.json"
    paths = {"data_dir": str(folder / "data"), "corpus": corpus}
    config.write_text(json.dumps({**CONFIG, **paths, **settings}))
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "scripts" / name), str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    memory = PeakMemory(process, folder)
    memory.start()
    _, errors = process.communicate()
    if process.returncode:
        raise SystemExit(errors.decode()[-2000:])
    return time.perf_counter() - start, memory.peaks


def run_code(code: str, *words: str, processes: int = 1) -> float:
    """Work a second (seconds, where it prints no work) of a snippet, summed over processes with all the work each."""
    environment = {**os.environ, "TOKENIZERS_PARALLELISM": "false", "RAYON_NUM_THREADS": "1"}
    started = [
        subprocess.Popen([sys.executable, "-c", code, *words], stdout=subprocess.PIPE, text=True, env=environment)
        for _ in range(processes)
    ]
    outputs = [process.communicate()[0].split() for process in started]
    return sum(float(work) / float(seconds) if float(work) else float(seconds) for work, seconds in outputs)


def hashes(folder: Path) -> str:
    """What the rows of a data folder are, whatever made them."""
    manifests = sorted(folder.glob("data/block_*/MANIFEST.json"))
    blocks = [json.loads(path.read_text())["files"] for path in manifests]
    for files in blocks:
        del files["recipe.json"]  # it names the folders and the number of processes
    return json.dumps(blocks, sort_keys=True)


def main() -> None:
    """Write the benchmark's files and its table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", nargs="+", required=True)
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    files = sorted(path for pattern in arguments.corpus for path in glob.glob(pattern))
    work = Path(tempfile.mkdtemp(prefix="bench_data_"))
    try:
        rows = measure(work, files, arguments.repeats)
    finally:
        shutil.rmtree(work)
    date = time.strftime("%Y%m%d")
    lines = ["| what | measured | asked |", "|---|---:|---:|", *(f"| {a} | {b} | {c} |" for a, b, c in rows)]
    table = "\n".join(lines)
    sys.stdout.write(table + "\n")
    header = f"# Data stages, {os.cpu_count()} cores, {platform.machine()}, {date}\n\n"
    (arguments.output / f"data_{os.cpu_count()}cores_{date}.md").write_text(header + table + "\n")


def measure(work: Path, files: list[str], repeats: int) -> list[Row]:
    """(what, measured, asked); every ratio is between figures of one repeat, and the median of them is told."""
    run_script("train_tokenizer.py", work / "first", files, tokenizer_dir=str(work / "tokenizer"))
    (work / "tokenizer" / "MANIFEST.json").unlink()  # a given tokenizer, which fits any corpus
    tokenizer_dir = str(work / "tokenizer")
    figures: dict[str, list[float]] = {}
    for repeat in range(repeats):
        folder = work / "repeat"
        for name, value in speeds(folder, files, tokenizer_dir).items():
            figures.setdefault(name, []).append(value)
        if repeat == 0:
            rows = memory(folder, files, tokenizer_dir)
            rows += loading(folder, files, tokenizer_dir) + training(files, tokenizer_dir)
        shutil.rmtree(folder)
    return [(name, f"{statistics.median(values):.2f}", ASKED.get(name, "")) for name, values in figures.items()] + rows


def speeds(folder: Path, files: list[str], tokenizer_dir: str) -> dict[str, float]:
    """Raw text to committed rows with 1 and 2 processes and with both block sizes, beside the bare tokenizer."""
    bare = {n: run_code(BARE, tokenizer_dir, *files, processes=n) / 1e6 for n in (1, 2)}
    runs = {
        "one": {"preprocessing_num_workers": 1},
        "two": {"preprocessing_num_workers": 2},
        "four": {"preprocessing_num_workers": 4},
        "both": {"preprocessing_num_workers": 1, **BOTH_BLOCKS},
    }
    seconds = {
        name: run_script("prepare_data.py", folder / name, files, tokenizer_dir=tokenizer_dir, **settings)[0]
        for name, settings in runs.items()
    }
    megabytes = json.loads((folder / "one" / "data" / "documents" / "ledger.json").read_text())["bytes"] / 1e6
    rows = {hashes(folder / name) for name in ("one", "two", "four")}
    return {
        "bare tokenizer, one process, MB/s": bare[1],
        "bare tokenizer, two processes, MB/s": bare[2],
        "one process, MB/s": megabytes / seconds["one"],
        "two processes, MB/s": megabytes / seconds["two"],
        "one process / bare": megabytes / seconds["one"] / bare[1],
        "two processes / bare two": megabytes / seconds["two"] / bare[2],
        "two / one": seconds["one"] / seconds["two"],
        "blocks 128 and 512 / 128": seconds["both"] / seconds["one"],
        "different rows of 1, 2 and 4 processes": len(rows),
    }


def memory(folder: Path, files: list[str], tokenizer_dir: str) -> list[Row]:
    """Peak RssAnon of each stage for a tenth of the documents and for all of them, and the speed of random words."""
    settings = {"tokenizer_dir": tokenizer_dir, "preprocessing_num_workers": 1}
    tenth = folder / "tenth.txt"
    run_code(TENTH, str(tenth), *files)
    _, of_tenth = run_script("prepare_data.py", folder / "tenth", [str(tenth)], **settings)
    _, of_whole = run_script("prepare_data.py", folder / "whole", files, **settings)
    shutil.rmtree(folder / "whole" / "data" / "random_words")
    seconds, _ = run_script("build_random_words.py", folder / "whole", files, **settings)
    megabytes = json.loads((folder / "whole" / "data" / "documents" / "ledger.json").read_text())["bytes"] / 1e6
    speed = ("random words from token rows, MB/s of text", f"{megabytes / seconds:.1f}", ">= 3")
    return [speed] + [
        (
            f"peak RssAnon of {stage}, a tenth and the whole, MB",
            f"{of_tenth[stage] / 1e6:.0f}, {of_whole[stage] / 1e6:.0f}",
            "< 1000, + 10 %" if stage != "tokens" else "< 1000 (words remembered: up to 300)",
        )
        for stage in of_whole
        if stage in of_tenth and stage != "between"
    ]


def loading(folder: Path, files: list[str], tokenizer_dir: str) -> list[Row]:
    """Tokens a second from Arrow rows to tensors, one process."""
    single = ["--block_sizes", "128", "--stage_fractions", "1.0", "--stage_batch_sizes", "32"]
    common = [*single, "--tokenizer_dir", tokenizer_dir]
    static = run_code(LOADING, *common, "--data_dir", str(folder / "one" / "data"))
    run_script("prepare_data.py", folder / "dynamic", files, tokenizer_dir=tokenizer_dir, masking="dynamic")
    dynamic = run_code(LOADING, *common, "--data_dir", str(folder / "dynamic" / "data"), "--masking", "dynamic")
    return [
        ("loading, static masks, M tokens/s", f"{static / 1e6:.2f}", ">= 3"),
        ("loading, dynamic masks, M tokens/s", f"{dynamic / 1e6:.2f}", ">= 1"),
    ]


def training(files: list[str], tokenizer_dir: str) -> list[Row]:
    """Training the tokenizer, beside a bare train_from_iterator on the same stream of documents."""
    ratio = run_code(TRAINING, "ours", tokenizer_dir, *files) / run_code(TRAINING, "bare", tokenizer_dir, *files)
    return [("training the tokenizer / bare train_from_iterator", f"{ratio:.2f}", "<= 1.3")]


if __name__ == "__main__":
    main()
