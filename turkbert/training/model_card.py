"""The model's README.md, from the facts of its run alone; the words are in model_card.md.jinja."""

import json
import re
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import EvalResult, ModelCard, ModelCardData
from jinja2 import Environment, StrictUndefined
from transformers import PreTrainedTokenizerFast

from turkbert.arguments import RunArguments
from turkbert.artifacts import read_manifest
from turkbert.data.prepare import load_stats
from turkbert.hub_ids import is_hub_id
from turkbert.training.estimate import duration, short
from turkbert.training.result import RunResult

MAX_SOURCES = 8
LEARNED_LITTLE = 0.3  # nats below guessing by frequencies
LEARNED_NO_ORDER = 0.55  # accuracy for pairs
FEW_TOKENS = 1e9
PLOT_TITLES = {
    "losses": "losses of training and validation over steps and over tokens",
    "accuracy": "perplexity and accuracies over steps",
    "training": "learning rate, gradient norm and speed over steps",
}


def render_model_card(trainer: Any, args: RunArguments, result: RunResult, plots: list[str]) -> str:
    """The card as text.

    Args:
        plots: paths of pictures beside it.
    """
    environment = Environment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.filters.update(escape=escape_markdown, short=short, duration=duration, percent=_percent)
    template = resources.files("turkbert.training").joinpath("model_card.md.jinja").read_text("utf-8")
    name = public_name(trainer.args.hub_model_id or trainer.args.run_name or "turkbert-model")
    body = environment.from_string(template).render(
        name=name,
        plots=[{"path": path, "title": PLOT_TITLES[Path(path).stem]} for path in plots],
        **_model_facts(trainer, args),
        **_data_facts(args, trainer.processing_class),
        **_training_facts(trainer, args),
        **_result_facts(trainer, result),
    )
    body = re.sub(r"\n{3,}", "\n\n", body)
    metadata = _metadata(args, trainer, name, result).to_yaml(line_break="\n")
    return str(ModelCard(f"---\n{metadata}\n---\n\n{body}"))


def _metadata(args: RunArguments, trainer: Any, name: str, result: RunResult) -> ModelCardData:
    tasks = {"mlm_": ("fill-mask", "Masked words"), "nsp_": ("text-classification", "Next sentence")}
    results = [
        EvalResult(
            task_type=tasks[metric[:4]][0],
            task_name=tasks[metric[:4]][1],
            dataset_type="pretraining corpus",
            dataset_name="validation rows",
            metric_type=metric[4:],
            metric_value=value,
        )
        for metric, value in result.validation().items()
    ]
    base, corpus = args.model.model_name_or_path, args.corpus.corpus
    samples = [line for line in result.predictions.splitlines() if "[MASK]" in line and not line.startswith(" ")]
    optional = {
        "license": trainer.args.license,
        "base_model": base if base and is_hub_id(base) else None,
        "datasets": corpus if len(corpus) == 1 and is_hub_id(corpus[0]) else None,
        "widget": [{"text": text} for text in samples[:3]] or None,
        "eval_results": results or None,
    }
    return ModelCardData(
        language="tr",
        library_name="transformers",
        pipeline_tag="fill-mask",
        tags=["bert", "turkish", "turkbert", "whole-word-masking"],
        model_name=name,
        **{key: value for key, value in optional.items() if value is not None},
    )


def _model_facts(trainer: Any, args: RunArguments) -> dict[str, Any]:
    tokenizer, training, base = trainer.processing_class, trainer.args, args.model.model_name_or_path
    as_it_lies = f"./{Path(training.output_dir).resolve().name}"
    own_name = public_name(training.hub_model_id) if training.hub_model_id else as_it_lies
    own_tokenizer = read_manifest(Path(args.tokenizer.tokenizer_dir)) is not None
    return {
        "code_name": json.dumps(own_name, ensure_ascii=False),
        "base_model": public_name(base) if base else None,
        "config": trainer.model.config,
        "num_parameters": trainer.model.num_parameters(),
        "cased": "uncased" if tokenizer.tokenize("ANKARA") == tokenizer.tokenize("ankara") else "cased",
        "tokenizer_name": None if own_tokenizer else public_name(args.tokenizer.tokenizer_dir),
        "num_tokens": len(tokenizer),
        "mask_token": tokenizer.mask_token,
        "unknown_token": tokenizer.unk_token,
        "masked_text": json.dumps(f"Türkiye'nin başkenti {tokenizer.mask_token}.", ensure_ascii=False),
        "license": training.license,
        "versions": trainer.describe_run()["versions"],
    }


def _data_facts(args: RunArguments, tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    data_dir, corpus = Path(args.data.data_dir), [public_name(source) for source in args.corpus.corpus]
    if args.corpus.corpus_config:
        corpus = [f"{source} ({args.corpus.corpus_config})" for source in corpus]
    try:
        report = json.loads((data_dir / "report" / "stats.json").read_text("utf-8"))
    except (OSError, ValueError):  # rows that came without it
        report = None
    return {
        "sources": corpus[:MAX_SOURCES],
        "more_sources": len(corpus[MAX_SOURCES:]),
        "report": report,
        "stats": {size: load_stats(data_dir, size) for size in args.data.block_sizes},
        "data": args.data,
        "validation_fraction": args.corpus.validation_fraction,
        "with_nsp": args.data.nsp_probability > 0,
    }


def _training_facts(trainer: Any, args: RunArguments) -> dict[str, Any]:
    training, sampler = trainer.args, trainer.sampler
    stages = [
        {
            "block_size": stage.block_size,
            "rows": sampler.rows_of_step(stage.first_step),
            "steps": stage.last_step - stage.first_step,
            "passes": sampler.passes_before(stage.last_step) if stage.last_step > stage.first_step else 0.0,
        }
        for stage in sampler.stages
    ]
    return {
        "training": training,
        "stages": stages,
        "warmup_steps": training.get_warmup_steps(training.max_steps),
        "scheduler": args.setting("lr_scheduler_type"),
        "precision": "bf16" if training.bf16 else "fp16" if training.fp16 else "fp32",
        "hardware": _hardware(training),
    }


def _result_facts(trainer: Any, result: RunResult) -> dict[str, Any]:
    return {
        "metrics": result.validation(),
        "guessing": result.guessing(),
        "verdicts": find_verdicts(result),
        "weights": result.weights,
        "totals": result.totals,
        "predictions": result.predictions,
        "num_evaluated": len(trainer.eval_dataset.numbers),
        "evaluated_block": trainer.args.eval_block_size or max(stage.block_size for stage in trainer.sampler.stages),
    }


def find_verdicts(result: RunResult) -> list[str]:
    """What a reader should know at once, if the model has learned little."""
    found, guessing = result.validation(), result.guessing()
    verdicts = []
    if "mlm_loss" in found and "mlm_loss" in guessing and found["mlm_loss"] > guessing["mlm_loss"] - LEARNED_LITTLE:
        verdicts.append(
            "**A trial.** On texts it has not seen, its words are hardly better than guessing by frequency alone "
            f"(loss {found['mlm_loss']:.2f}, guessing {guessing['mlm_loss']:.2f}): it shows how training works, and "
            "is no model to build on."
        )
    elif result.totals.get("tokens", FEW_TOKENS) < FEW_TOKENS:  # Devlin et al. 2019, appendix A.2
        verdicts.append(
            f"**Lightly trained.** It has read {short(result.totals['tokens'])} tokens, many of them parts of words. "
            "The first BERT read 3.3 billion words, and those some 40 times."
        )
    if found.get("nsp_accuracy", 1.0) < LEARNED_NO_ORDER:
        verdicts.append(
            f"Whether one sentence follows another it cannot tell (accuracy {_percent(found['nsp_accuracy'])})."
        )
    return verdicts


def _hardware(training: Any) -> str:
    number = training.world_size
    if training.device.type == "cuda":
        return f"{number} x {torch.cuda.get_device_name(training.device)}"
    threads = torch.get_num_threads() * number
    return f"{threads} CPU thread{'s' * (threads > 1)}"


def _percent(share: float, digits: int = 1) -> str:
    return f"{100 * share:.{digits}f} %" if not 0 < 100 * share < 10**-digits / 2 else f"under {10**-digits:g} %"


def public_name(name: str) -> str:
    """A name in one line; of a path its last part alone, since folders tell of users and machines."""
    name = " ".join(name.split())
    is_hub_id = re.fullmatch(r"[\w.-]+/[\w.-]+", name) and not name.startswith(".")
    return name if is_hub_id else name.replace("\\", "/").rstrip("/").rpartition("/")[2] or "turkbert-model"


def escape_markdown(text: str) -> str:
    """Text as itself: neither Markdown nor HTML, a link or a heading."""
    return re.sub(r"([\\`*_{}\[\]<>()#+|~$&!])", r"\\\1", " ".join(text.split()))
