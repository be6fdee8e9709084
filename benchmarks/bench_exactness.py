"""How exact the data stages are: sentences, labels, padding, what lengths tell of labels, masks; beside what is asked.

    python benchmarks/bench_exactness.py --corpus "texts/*.txt.xz" --sentences treebanks --output benchmarks/results

`treebanks` holds .txt files of consecutive sentences, one a line; each is a row of the table.
"""

import argparse
import glob
import json
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from bench_data import BOTH_BLOCKS, run_script
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict

from turkbert.data import load_prepared, split_sentences
from turkbert.data.documents import CorpusLedger, read_documents
from turkbert.tokenization import load_tokenizer

ROOT = Path(__file__).resolve().parent.parent
ASKED_F1 = {"boun": 91.9, "imst": 97.0, "kenet": 96.9, "penn": 93.7, "all": 95.4}
TIMED_BYTES = 10_000_000

Row = tuple[str, str, str]  # what, measured, asked


class Boundaries(NamedTuple):
    """Sentence ends that were found rightly, found wrongly and not found."""

    hits: int = 0
    extra: int = 0
    missed: int = 0

    def add(self, other: "Boundaries") -> "Boundaries":
        """The sum of both."""
        return Boundaries(*(a + b for a, b in zip(self, other, strict=True)))

    def describe(self) -> str:
        """Precision, recall and F1 in percent."""
        precision, recall = self.hits / (self.hits + self.extra), self.hits / (self.hits + self.missed)
        f1 = 2 * precision * recall / (precision + recall)
        return f"P {100 * precision:.1f}, R {100 * recall:.1f}, F1 {100 * f1:.1f}"


def find_ends(sentences: list[str]) -> tuple[set[int], int]:
    """Where sentences end, the last one left out, and the size of all: both in characters that are no white space."""
    sizes = [sum(not character.isspace() for character in sentence) for sentence in sentences]
    ends = np.cumsum([size for size in sizes if size]).tolist()
    return set(ends[:-1]), sum(sizes)


def compare_sentences(gold: list[str]) -> Boundaries:
    """10 to 20 consecutive sentences at a time, joined by a space and split again."""
    rng, first, found = random.Random(7), 0, Boundaries()
    while first < len(gold):
        group = gold[first : first + rng.randint(10, 20)]
        first += len(group)
        if len(group) < 2:
            continue
        ends, size = find_ends(group)
        ours, our_size = find_ends(split_sentences(" ".join(group)))
        if size != our_size:
            raise SystemExit(f"characters were lost or added in: {group[0]}")
        found = found.add(Boundaries(len(ends & ours), len(ours - ends), len(ends - ours)))
    return found


def sentence_rows(folder: Path) -> list[Row]:
    """F1 of each gold file and of all."""
    files = sorted(folder.glob("*.txt"))
    found = {path.name.split(".")[0]: compare_sentences(path.read_text("utf-8").splitlines()) for path in files}
    if not found:
        raise SystemExit(f"{folder}: no .txt file")
    total = Boundaries()
    for boundaries in found.values():
        total = total.add(boundaries)
    found["all"] = total
    return [
        (f"sentences of {name}", boundaries.describe(), f"F1 >= {ASKED_F1[name]}" if name in ASKED_F1 else "")
        for name, boundaries in found.items()
    ]


def cost_row(files: list[str], tokenizer_dir: Path) -> Row:
    """The time of splitting beside that of tokenizing, on an even sample of the corpus."""
    texts = [text for path in files for text in read_documents(path, CorpusLedger())]
    mean = sum(map(len, texts)) / len(texts)
    texts = texts[:: max(1, round(len(texts) * mean / TIMED_BYTES))]
    tokenizer = load_tokenizer(tokenizer_dir).backend_tokenizer
    start = time.perf_counter()
    for text in texts:
        split_sentences(text)
    middle = time.perf_counter()
    for first in range(0, len(texts), 256):
        tokenizer.encode_batch_fast(texts[first : first + 256], add_special_tokens=False)
    share = (middle - start) / (time.perf_counter() - middle)
    return "time of splitting sentences / tokenizing", f"{share:.1%}", "<= 20 %"


def pair_rows(data_dir: Path, stats: dict[str, Any]) -> list[Row]:
    """Labels, padding and what a classifier tells of the label by lengths, of each block size's training rows."""
    rows = []
    for block_size, splits in load_prepared(data_dir).items():
        train = stats["rows"][str(block_size)]["train"]
        even, padding = (0.5, 1) if block_size <= 128 else (2, 10)
        leak = guess_label(splits["train"].with_format("numpy"), block_size)
        error = 0.5 / np.sqrt(train["rows"])  # standard error of a guess
        rows += [
            (f"block {block_size}: rows", f"{train['rows']:,}", ""),
            (f"block {block_size}: B follows A", f"{train['is_next_share']:.2%}", f"50 +- {even} %"),
            (f"block {block_size}: padding", f"{train['padding_share']:.2%}", f"<= {padding} %"),
            (f"block {block_size}: balanced accuracy of a guess by lengths", f"{leak:.2%} +- {error:.2%}", "< 53 %"),
        ]
    return rows


def guess_label(rows: Any, block_size: int) -> float:
    """Gradient boosting on the lengths of A, of B and of the padding: each half is judged by what the other taught."""
    columns = rows.select_columns(["length_a", "length", "next_sentence_label"])[:]
    length_a, length, labels = (columns[name].astype(np.int64) for name in columns)
    features = np.stack([length_a, length - length_a, block_size - length], axis=1)
    model = HistGradientBoostingClassifier(class_weight="balanced")
    halves = StratifiedKFold(2, shuffle=True, random_state=0)
    return float(balanced_accuracy_score(labels, cross_val_predict(model, features, labels, cv=halves)))


def mask_rows(masks: dict[str, Any]) -> list[Row]:
    """Words chosen and what became of them."""
    kinds = {"masked": 80, "replaced": 10, "kept": 10}
    chosen = sum(masks[name] for name in kinds)
    rows = [(f"words chosen of {masks['words']:,}", f"{chosen / masks['words']:.2%}", "15.0 +- 0.1 %")]
    return rows + [(f"of these {name}", f"{masks[name] / chosen:.2%}", f"{n} +- 0.3 %") for name, n in kinds.items()]


def measure(files: list[str], sentences: Path, work: Path) -> list[Row]:
    """The whole table; the rows are made with static masks in both block sizes."""
    rows = sentence_rows(sentences)
    run_script("prepare_data.py", work, files, tokenizer_dir=str(work / "tokenizer"), **BOTH_BLOCKS)
    stats = json.loads((work / "data" / "report" / "stats.json").read_text("utf-8"))
    documents, tokens = stats["documents"], stats["tokens"]
    corpus = f"{documents['number']:,} documents, {documents['bytes'] / 1e6:.1f} MB, {tokens['number']:,} tokens"
    return [
        *rows,
        cost_row(files, work / "tokenizer"),
        ("corpus", corpus, ""),
        *pair_rows(work / "data", stats),
        *mask_rows(stats["rows"]["128"]["train"]["masks"]),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", nargs="+", required=True)
    parser.add_argument("--sentences", type=Path, required=True)
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results")
    arguments = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="bench_exactness_"))
    try:
        files = sorted(path for pattern in arguments.corpus for path in glob.glob(pattern))
        rows = measure(files, arguments.sentences, work)
    finally:
        shutil.rmtree(work)
    lines = ["| what | measured | asked |", "|---|---:|---:|", *(f"| {a} | {b} | {c} |" for a, b, c in rows)]
    table = "\n".join(lines) + "\n"
    sys.stdout.write(table)
    date = time.strftime("%Y%m%d")
    (arguments.output / f"data_exactness_{date}.md").write_text(f"# Exactness of the data stages, {date}\n\n{table}")


if __name__ == "__main__":
    main()
