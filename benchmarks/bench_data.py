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


class PeakMemory(threading.Thread):
    """Samples the largest anonymous memory (RssAnon) of any process of a tree."""

    def __init__(self, process: subprocess.Popen):
        super().__init__(daemon=True)
        self.process = psutil.Process(process.pid)
        self.peak = 0

    def run(self) -> None:
        while self.process.is_running() and self.process.status() != psutil.STATUS_ZOMBIE:
            try:
                for member in [self.process, *self.process.children(recursive=True)]:
                    self.peak = max(self.peak, _anonymous_bytes(member.pid))
            except (psutil.NoSuchProcess, OSError):
                pass
            time.sleep(0.05)


def _anonymous_bytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return next((1024 * int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon")), 0)


def run_script(name: str, folder: Path, corpus: list[str], **settings) -> tuple[float, int]:
    """Seconds and peak RssAnon (bytes) of one script in a fresh process."""
    config = folder / "config.json"
    paths = {"data_dir": str(folder / "data"), "corpus": corpus}
    config.write_text(json.dumps({**CONFIG, **paths, **settings}))
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "scripts" / name), str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    memory = PeakMemory(process)
    memory.start()
    _, errors = process.communicate()
    if process.returncode:
        raise SystemExit(errors.decode()[-2000:])
    return time.perf_counter() - start, memory.peak


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
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", nargs="+", required=True)
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    files = sorted(path for pattern in arguments.corpus for path in glob.glob(pattern))
    work = Path(tempfile.mkdtemp(prefix="bench_data_"))
    tokenizer_dir = str(work / "tokenizer")
    rows: list[tuple[str, str, str]] = []
    try:
        run_script("train_tokenizer.py", work, files, tokenizer_dir=tokenizer_dir)
        measure(rows, work, files, tokenizer_dir, arguments.repeats)
    finally:
        shutil.rmtree(work)
    date = time.strftime("%Y%m%d")
    lines = ["| what | measured | asked |", "|---|---:|---:|", *(f"| {a} | {b} | {c} |" for a, b, c in rows)]
    table = "\n".join(lines)
    sys.stdout.write(table + "\n")
    header = f"# Data stages, {os.cpu_count()} cores, {platform.machine()}, {date}\n\n"
    (arguments.output / f"data_{os.cpu_count()}cores_{date}.md").write_text(header + table + "\n")


def measure(rows: list, work: Path, files: list[str], tokenizer_dir: str, repeats: int) -> None:
    """Append (what, measured, asked) rows; every ratio is between figures of the same repeat."""
    seconds: dict[str, list[float]] = {}
    ratios: dict[str, list[float]] = {}
    for repeat in range(repeats):
        bare = {n: run_code(BARE, tokenizer_dir, *files, processes=n) / 1e6 for n in (1, 2)}
        fresh = work / f"fresh_{repeat}"
        timed = {}
        for name, settings in {
            "one": {"preprocessing_num_workers": 1},
            "two": {"preprocessing_num_workers": 2},
            "both": {"preprocessing_num_workers": 1, **BOTH_BLOCKS},
        }.items():
            folder = fresh / name
            folder.mkdir(parents=True)
            timed[name], peak = run_script("prepare_data.py", folder, files, tokenizer_dir=tokenizer_dir, **settings)
            ratios.setdefault(f"peak RssAnon, {name} (MB)", []).append(peak / 1e6)
        megabytes = text_size(fresh / "one") / 1e6
        for name, value in timed.items():
            seconds.setdefault(name, []).append(megabytes / value)
        for n in (1, 2):
            seconds.setdefault(f"bare {n}", []).append(bare[n])
        ratios.setdefault("one process / bare", []).append(megabytes / timed["one"] / bare[1])
        ratios.setdefault("two processes / bare two", []).append(megabytes / timed["two"] / bare[2])
        ratios.setdefault("two / one", []).append(timed["one"] / timed["two"])
        ratios.setdefault("128 and 512 / 128", []).append(timed["both"] / timed["one"])
        same = hashes(fresh / "one") == hashes(fresh / "two")
        ratios.setdefault("rows equal for 1 and 2 processes", []).append(float(same))
        if repeat == 0:
            loading(rows, fresh / "one", tokenizer_dir, work, files)
            training(rows, tokenizer_dir, files)
        shutil.rmtree(fresh)
    for name, values in seconds.items():
        rows.append((f"{name}, MB/s of text", f"{statistics.median(values):.2f}", ""))
    asked = {"one process / bare": ">= 0.6", "two processes / bare two": ">= 0.6", "two / one": ">= 1.8"}
    asked |= {"128 and 512 / 128": "<= 1.3", "rows equal for 1 and 2 processes": "1"}
    for name, values in ratios.items():
        limit = asked.get(name, "< 1000" if "RssAnon" in name else "")
        rows.append((name, f"{statistics.median(values):.2f}", limit))


def text_size(folder: Path) -> int:
    """Bytes of UTF-8 text in data/documents."""
    from datasets import Dataset

    column = Dataset.load_from_disk(str(folder / "data" / "documents" / "text")).data.column("text")
    return sum(chunk.buffers()[2].size if chunk.buffers()[2] else 0 for chunk in column.chunks)


def loading(rows: list, folder: Path, tokenizer_dir: str, work: Path, files: list[str]) -> None:
    """Tokens a second from Arrow rows to tensors, one process."""
    single = ["--block_sizes", "128", "--stage_fractions", "1.0", "--stage_batch_sizes", "32"]
    common = [*single, "--tokenizer_dir", tokenizer_dir]
    static = run_code(LOADING, *common, "--data_dir", str(folder / "data"))
    rows.append(("loading, static masks, M tokens/s", f"{static / 1e6:.2f}", ">= 3"))
    dynamic_dir = work / "dynamic"
    dynamic_dir.mkdir()
    run_script("prepare_data.py", dynamic_dir, files, tokenizer_dir=tokenizer_dir, masking="dynamic")
    dynamic = run_code(LOADING, *common, "--data_dir", str(dynamic_dir / "data"), "--masking", "dynamic")
    rows.append(("loading, dynamic masks, M tokens/s", f"{dynamic / 1e6:.2f}", ">= 1"))


def training(rows: list, tokenizer_dir: str, files: list[str]) -> None:
    """Training the tokenizer, beside a bare train_from_iterator on the same stream of documents."""
    ratio = run_code(TRAINING, "ours", tokenizer_dir, *files) / run_code(TRAINING, "bare", tokenizer_dir, *files)
    rows.append(("training the tokenizer / bare train_from_iterator", f"{ratio:.2f}", "<= 1.3"))


if __name__ == "__main__":
    main()
