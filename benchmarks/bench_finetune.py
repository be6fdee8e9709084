"""Fine-tuning beside the stock example loop of transformers, padded to the maximum: texts a second and memory.

    python benchmarks/bench_finetune.py --model out --dataset_name tasks/sentiment_mixed
    python benchmarks/bench_finetune.py --model out --dataset_name tasks/sentiment_mixed --rows 4000 --rounds 2

The stock arm does what run_glue_no_trainer.py does with --pad_to_max_length: tokenize with padding="max_length", a
shuffled loader, AdamW, a linear schedule, default attention, and the precision that `accelerate` is given. Each arm is
one pass over the same rows, tokenization included, in a process of its own; rounds go A B A B. Memory is what the
process holds after a quarter of the steps and at the end.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MAX_LENGTH, BATCH_SIZE = 128, 32
ARMS = {
    "stock, fp32": ("stock", "no"),
    "stock, bf16": ("stock", "bf16"),
    "turkbert, fp32": ("turkbert", "no"),
    "turkbert, bf16": ("turkbert", "bf16"),
}


class Memory:
    """Resident memory in MiB, looked at after each step."""

    def __init__(self, num_steps: int):
        import psutil

        self._process, self._quarter, self._step = psutil.Process(), num_steps // 4, 0
        self.after_quarter = self.at_end = 0.0

    def step(self) -> None:
        self._step += 1
        self.at_end = self._process.memory_info().rss / 2**20
        if self._step <= max(self._quarter, 1):
            self.after_quarter = max(self.after_quarter, self.at_end)


def run_stock(model_name: str, splits: dict, precision: str) -> dict:
    """The example loop; its rows come as datasets, as it reads them itself."""
    from accelerate import Accelerator
    from datasets import Dataset
    from torch.optim import AdamW
    from torch.utils.data import DataLoader
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, default_data_collator, get_scheduler

    accelerator = Accelerator(mixed_precision=precision)
    rows = splits["train"].rows
    labels = sorted({row["label"] for row in rows})
    tokenizer = AutoTokenizer.from_pretrained(model_name)
    model = AutoModelForSequenceClassification.from_pretrained(model_name, num_labels=len(labels))
    begin = time.perf_counter()
    dataset = Dataset.from_list(rows)
    dataset = dataset.map(
        lambda batch: {
            **tokenizer(batch["text"], padding="max_length", max_length=MAX_LENGTH, truncation=True),
            "labels": [labels.index(label) for label in batch["label"]],
        },
        batched=True,
        remove_columns=dataset.column_names,
    )
    loader = DataLoader(dataset, shuffle=True, collate_fn=default_data_collator, batch_size=BATCH_SIZE)
    decayed = [p for n, p in model.named_parameters() if "bias" not in n and "LayerNorm.weight" not in n]
    others = [p for n, p in model.named_parameters() if "bias" in n or "LayerNorm.weight" in n]
    optimizer = AdamW([{"params": decayed, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}], lr=3e-4)
    schedule = get_scheduler("linear", optimizer, 0, len(loader))
    model, optimizer, loader, schedule = accelerator.prepare(model, optimizer, loader, schedule)
    memory = Memory(len(loader))
    model.train()
    for batch in loader:
        accelerator.backward(model(**batch).loss)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        memory.step()
    return {"seconds": time.perf_counter() - begin, "quarter": memory.after_quarter, "end": memory.at_end}


def run_turkbert(model_name: str, dataset_name: str, rows: int, precision: str) -> dict:
    """What scripts/finetune_classification.py does, evaluation and saving left out as in the stock arm."""
    from transformers import TrainerCallback

    from turkbert.finetuning.arguments import make_run
    from turkbert.finetuning.run import build_trainer, prepare_task

    class Watch(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            memory.step()

    keys = {"task": "classification", "model_name_or_path": model_name, "dataset_name": dataset_name}
    keys |= {"max_seq_length": MAX_LENGTH, "max_train_samples": rows, "max_validation_samples": 1}
    with tempfile.TemporaryDirectory() as folder:
        keys |= {"output_dir": folder, "num_train_epochs": 1, "per_device_train_batch_size": BATCH_SIZE}
        keys |= {"learning_rate": 3e-4, "bf16": precision == "bf16", "disable_tqdm": True, "warmup_steps": 0}
        run = make_run({**keys, "eval_strategy": "no", "save_strategy": "no", "load_best_model_at_end": False})
        begin = time.perf_counter()
        data = prepare_task(run.task)
        prepared = time.perf_counter() - begin
        trainer = build_trainer(run.task, run.training(), data)
        memory = Memory(rows // BATCH_SIZE)
        trainer.add_callback(Watch())
        begin = time.perf_counter()
        trainer.train()
    return {"seconds": prepared + time.perf_counter() - begin, "quarter": memory.after_quarter, "end": memory.at_end}


def run_arm(arm: str, options: argparse.Namespace) -> dict:
    import datasets

    from turkbert.finetuning.arguments import TaskArguments
    from turkbert.finetuning.examples import load_splits

    datasets.disable_progress_bars()
    kind, precision = ARMS[arm]
    if kind == "turkbert":
        return run_turkbert(options.model, options.dataset_name, options.rows, precision)
    splits = load_splits(TaskArguments(dataset_name=options.dataset_name))
    splits["train"] = splits["train"].sample(options.rows)
    return run_stock(options.model, splits, precision)


def measure(arm: str, argv: list[str]) -> dict:
    """An arm in a process of its own."""
    done = subprocess.run([sys.executable, __file__, *argv, "--arm", arm], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def table(results: dict[str, list[dict]], rows: int) -> str:
    seconds = {arm: statistics.median(result["seconds"] for result in some) for arm, some in results.items()}
    lines = ["| arm | s | texts/s | x stock, fp32 | MiB after a quarter | at the end |", "|---|---:|---:|---:|---:|---:|"]
    for arm, some in results.items():
        quarter, end = (statistics.median(result[name] for result in some) for name in ("quarter", "end"))
        speed, times = rows / seconds[arm], seconds["stock, fp32"] / seconds[arm]
        lines.append(f"| {arm} | {seconds[arm]:.1f} | {speed:.0f} | {times:.2f} | {quarter:.0f} | {end:.0f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="folder or id of an encoder")
    parser.add_argument("--dataset_name", required=True, help="folder of a classification task with text and label")
    parser.add_argument("--rows", type=int, default=16000)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--arm", choices=[*ARMS], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.arm:
        sys.stdout.write(json.dumps(run_arm(options.arm, options)) + "\n")
        return
    results: dict[str, list[dict]] = {arm: [] for arm in ARMS}
    for _ in range(options.rounds):
        for arm in ARMS:
            results[arm].append(measure(arm, sys.argv[1:]))
    sys.stdout.write(table(results, options.rows) + "\n")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    main()
