"""Fine-tuning without a Trainer: the same classification task as an own loop on accelerate, to read and to change.

    accelerate launch scripts/finetune_loop.py configs/finetune/paraphrase_turkqp.json --model_name_or_path out
    accelerate launch --num_processes 2 scripts/finetune_loop.py ...    on two GPUs
    torchrun --nproc_per_node 2 scripts/finetune_loop.py ... --use_cpu    as two processes of a CPU

What Trainer does for scripts/finetune_classification.py happens here in the open, in five steps.
"""

import sys

try:
    import torch
    from accelerate import Accelerator
    from accelerate.utils import set_seed
    from datasets import Dataset, DatasetDict
    from torch.utils.data import DataLoader
    from tqdm.auto import tqdm
    from transformers import DataCollatorWithPadding, get_scheduler

    from turkbert.console import set_up_script, show
    from turkbert.errors import user_errors
    from turkbert.finetuning.arguments import FinetuningArguments, FinetuningRun, parse_loop_args
    from turkbert.finetuning.classification import Classification
    from turkbert.finetuning.examples import load_splits
    from turkbert.finetuning.models import find_max_length, load_model, load_tokenizer
    from turkbert.finetuning.padding import width_step
except KeyboardInterrupt:  # the libraries take seconds to load
    sys.stderr.write("turkbert: error: interrupted; run the same command again\n")
    sys.exit(130)


def tokenize(task: Classification) -> DatasetDict:
    """1. Text becomes token numbers. `batched` hands the fast tokenizer a thousand texts at a time; nothing is padded
    yet, since only the batch that a row lands in says how long it must be."""

    def to_numbers(rows):
        texts = [rows[column] for column in task.text_columns]  # one text, or the two of a pair
        return task.tokenizer(*texts, truncation=True, max_length=task.max_length)

    tokenized = DatasetDict()
    for name, split in task.splits.items():
        columns = {column: [row[column] for row in split.rows] for column in task.text_columns}
        rows = Dataset.from_dict({**columns, "labels": task.targets(name)})
        tokenized[name] = rows.map(to_numbers, batched=True, remove_columns=task.text_columns)
    return tokenized


def build_loaders(rows: DatasetDict, task: Classification, training: FinetuningArguments) -> dict[str, DataLoader]:
    """2. Rows become batches: the collator pads each one to its own longest row (dynamic padding), rounded up to a
    multiple of 8, so that the device meets few different shapes."""
    collate = DataCollatorWithPadding(task.tokenizer, pad_to_multiple_of=width_step(task.max_length))
    train_size, eval_size = training.per_device_train_batch_size, training.per_device_eval_batch_size
    loaders = {name: DataLoader(split, eval_size, collate_fn=collate) for name, split in rows.items()}
    loaders["train"] = DataLoader(rows["train"], train_size, shuffle=True, collate_fn=collate)
    return loaders


def build_optimizer(model: torch.nn.Module, training: FinetuningArguments) -> torch.optim.Optimizer:
    """3. AdamW. Biases and normalisations, which have one dimension, are not pulled towards zero."""
    groups = [
        {"params": [p for p in model.parameters() if p.ndim >= 2], "weight_decay": training.weight_decay},
        {"params": [p for p in model.parameters() if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=training.learning_rate, fused=True)


def evaluate(model: torch.nn.Module, loader: DataLoader, task: Classification, accelerator: Accelerator) -> dict:
    """4. Scores. Every process predicts its share; gather_for_metrics joins them and drops the rows that were repeated
    to give each process as many."""
    model.eval()
    all_logits, all_labels = [], []
    for batch in loader:
        with torch.no_grad():
            logits = model(**batch).logits
        logits, labels = accelerator.gather_for_metrics((logits, batch["labels"]))
        all_logits.append(logits.float().cpu())
        all_labels.append(labels.cpu())
    return task.score_logits(torch.cat(all_logits).numpy(), torch.cat(all_labels).numpy())


def train(run: FinetuningRun) -> dict[str, dict[str, float]]:
    """5. The loop: forward, backward, step; evaluate after each pass; save at the end."""
    training = run.training()
    precision = "bf16" if training.bf16 else "fp16" if training.fp16 else "no"
    together = training.gradient_accumulation_steps
    accelerator = Accelerator(cpu=training.use_cpu, mixed_precision=precision, gradient_accumulation_steps=together)
    set_seed(training.seed)  # of the new head, of dropout, of the order of the rows

    tokenizer = load_tokenizer(run.task)
    task = Classification(load_splits(run.task), tokenizer, run.task, find_max_length(run.task, tokenizer))
    for name, split in task.splits.items():
        task.splits[name] = split.sample(getattr(run.task, f"max_{name}_samples"))
    model = load_model(run.task, task, training.use_cpu)
    with accelerator.main_process_first():  # the others find the result in the cache
        rows = tokenize(task)
    loaders = build_loaders(rows, task, training)
    optimizer = build_optimizer(model, training)

    # prepare() moves the model to its device, wraps it for several processes, and gives each its share of the batches.
    model, optimizer, *prepared = accelerator.prepare(model, optimizer, *loaders.values())
    loaders = dict(zip(loaders, prepared, strict=True))
    num_steps = int(training.num_train_epochs * -(-len(loaders["train"]) // together))
    schedule = get_scheduler(training.lr_scheduler_type, optimizer, training.get_warmup_steps(num_steps), num_steps)

    progress = tqdm(total=num_steps, disable=training.disable_tqdm or not accelerator.is_local_main_process)
    scores: dict[str, dict[str, float]] = {}
    for epoch in range(int(training.num_train_epochs)):
        model.train()
        for batch in loaders["train"]:
            with accelerator.accumulate(model):
                loss = model(**batch).loss
                accelerator.backward(loss)
                if accelerator.sync_gradients:  # the last of the micro-batches that make one step
                    accelerator.clip_grad_norm_(model.parameters(), training.max_grad_norm)
                optimizer.step()
                optimizer.zero_grad()
            if accelerator.sync_gradients:
                schedule.step()
                progress.update()
        scores["validation"] = evaluate(model, loaders["validation"], task, accelerator)
        progress.set_postfix(epoch=epoch + 1, loss=f"{loss.item():.3f}")
    if "test" in loaders:
        scores["test"] = evaluate(model, loaders["test"], task, accelerator)

    accelerator.wait_for_everyone()
    if accelerator.is_main_process:  # from_pretrained and pipeline() read what this writes
        accelerator.unwrap_model(model).save_pretrained(run.output_dir)
        tokenizer.save_pretrained(run.output_dir)
        for split, values in scores.items():
            show(f"{split:<12}{name:<12}{value:>8.2f}\n" for name, value in values.items())
        show([f"saved in {run.output_dir}\n"])
    accelerator.end_training()
    return scores


def main() -> None:
    with user_errors():
        run = parse_loop_args(description=__doc__)
        set_up_script()
    with user_errors(run.debug, run.output_dir):
        train(run)


if __name__ == "__main__":
    main()
