"""The finished output folder: the model in stock layout with its card, plots, metrics and settings, committed."""

import json
import logging
from pathlib import Path
from typing import Any

from turkbert.arguments import PretrainingArguments, RunArguments
from turkbert.artifacts import MANIFEST, publish, remove, room_or_nothing
from turkbert.model import save_stock
from turkbert.tokenization import save_tokenizer
from turkbert.training.callbacks import draw_plots
from turkbert.training.checkpoint import write_errors
from turkbert.training.model_card import render_model_card
from turkbert.training.result import RunResult
from turkbert.training.trainer import PretrainingTrainer

logger = logging.getLogger(__name__)


def run_settings(args: RunArguments, training: PretrainingArguments) -> dict[str, Any]:
    """Every setting of a run."""
    return {**args.resolved(), **training.to_sanitized_dict()}


def publish_result(
    args: RunArguments, trainer: PretrainingTrainer, result: RunResult, contract: dict[str, Any]
) -> None:
    """Write all files beside, then move them into output_dir, the manifest last.

    Raises:
        UserError: the disk is full.
    """
    output_dir = result.output_dir
    staging = output_dir / "_staging-model"
    remove(staging)
    with room_or_nothing(staging), write_errors(staging):
        staging.mkdir()
        _write_files(args, trainer, result, staging)
        publish(staging, output_dir, contract, trainer.describe_run())
    logger.info("%s: model, tokenizer and card written (%s)", output_dir, MANIFEST)


def _write_files(args: RunArguments, trainer: PretrainingTrainer, result: RunResult, staging: Path) -> None:
    save_stock(trainer.accelerator.unwrap_model(trainer.model, keep_torch_compile=False), staging)
    save_tokenizer(trainer.processing_class, staging)
    metrics = {name: value for name, value in result.metrics.items() if isinstance(value, float | int)}
    (staging / "eval_results.json").write_text(json.dumps(metrics | result.baselines, indent=1) + "\n", "utf-8")
    settings = _without_folders(run_settings(args, trainer.args))  # the file goes to the Hub with the model
    (staging / "run_config.json").write_text(json.dumps(settings, indent=1, ensure_ascii=False) + "\n", "utf-8")
    history = json.dumps(trainer.state.log_history, indent=0)
    (staging / "log_history.json").write_text(history + "\n", "utf-8")
    plots = draw_plots(result.output_dir, staging, lambda: result.baselines)
    (staging / "README.md").write_text(render_model_card(trainer, args, result, plots), "utf-8")


def _without_folders(value: Any) -> Any:
    """Of absolute paths the last part alone: the folders above tell of users and machines."""
    if isinstance(value, dict):
        return {name: _without_folders(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_without_folders(item) for item in value]
    return Path(value).name if isinstance(value, str) and value.startswith(("/", "~")) else value
