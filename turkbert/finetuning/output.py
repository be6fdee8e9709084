"""The folder of a fine-tuned model: weights, tokenizer, card, scores and settings, committed whole; and its push.

    out-finetuned/    config.json model.safetensors tokenizer.json README.md all_results.json run_config.json
"""

import json
import logging
import re
from pathlib import Path
from typing import Any

from turkbert.artifacts import MANIFEST, find_damage, publish, read_manifest, remove, room_or_nothing
from turkbert.errors import config_error
from turkbert.finetuning.arguments import FinetuningRun
from turkbert.finetuning.card import render_card
from turkbert.hub import Destination, brief, check_hub_access, push_files

logger = logging.getLogger(__name__)

RESULTS_FILE = "all_results.json"
_FOLDERS = {"output_dir", "dataset_name", "train_file", "validation_file", "test_file", "model_name_or_path"}


def open_output(run: FinetuningRun) -> bool:
    """True if the run is to be done; False if output_dir holds it already, and nothing or the push alone is left.

    Checkpoints of an unfinished run go, unless it is resumed: Trainer would count them among its own.

    Raises:
        UserError: output_dir holds another run or something that is no run; or the Hub does not take the push.
    """
    output_dir = Path(run.output_dir)
    if run.setting("push_to_hub"):
        check_hub_access(_destination(run).name)
    manifest = read_manifest(output_dir) if output_dir.is_dir() else None
    if manifest is None and output_dir.is_dir():
        strange = [p.name for p in output_dir.iterdir() if not re.match(r"checkpoint-\d+$|_|STATUS\.json$", p.name)]
        if strange:
            raise config_error(output_dir, f"holds {strange[0]}, which no fine-tuning left", "choose another folder")
    if manifest is not None and not run.setting("overwrite"):
        key = _key_of(run)
        differing = [name for name in {**key, **manifest["key"]} if key.get(name) != manifest["key"].get(name)]
        if differing:
            what = f"holds a model with another {differing[0]}"
            raise config_error(output_dir, what, "choose another folder, or --overwrite true")
        if find_damage(output_dir) is None:
            logger.info("%s holds this model already; nothing to train", output_dir)
            if run.setting("push_to_hub"):
                push_model(run)
            return False
    if not run.setting("resume_from_checkpoint"):
        for checkpoint in output_dir.glob("checkpoint-*"):
            remove(checkpoint)
    return True


def commit_model(run: FinetuningRun, trainer: Any, data: Any, result: Any) -> None:
    """Write everything beside output_dir's checkpoints, the manifest last; then push it, if asked for."""
    output_dir = Path(run.output_dir)
    output_dir.mkdir(parents=True, exist_ok=True)
    staging = output_dir / "_staging-model"
    remove(staging)
    with room_or_nothing(staging):
        staging.mkdir()
        trainer.accelerator.unwrap_model(trainer.model).save_pretrained(staging)
        data.tokenizer.save_pretrained(staging)
        _write_json(staging / RESULTS_FILE, {**result.scores, "train_seconds": result.train_seconds})
        _write_json(staging / "run_config.json", {k: v for k, v in run.resolved().items() if k not in _FOLDERS})
        (staging / "README.md").write_text(render_card(run, data, result, trainer.model.num_parameters()), "utf-8")
        publish(staging, output_dir, _key_of(run))
    logger.info("%s: model, tokenizer, card and scores written (%s)", output_dir, MANIFEST)
    if run.setting("push_to_hub"):
        push_model(run)


def push_model(run: FinetuningRun) -> None:
    """Upload exactly the committed files; a Hub that cannot be reached is a warning, the model is on disk."""
    output_dir = Path(run.output_dir)
    files = {name: output_dir / name for name in (read_manifest(output_dir) or {"files": {}})["files"]}
    try:
        repo_id = push_files(files, _destination(run), "Fine-tuned with turkbert")
    except Exception as error:  # of the Hub, of the network, of the upload
        logger.warning("%s was not pushed (%s); run the same command again to push it", output_dir, brief(error))
        return
    logger.info("pushed to %s", repo_id)


def _destination(run: FinetuningRun) -> Destination:
    name = run.setting("hub_model_id") or Path(run.output_dir).resolve().name
    private = run.setting("hub_private_repo") is not False
    return Destination(name, private=private, revision=run.setting("hub_revision"))


def _key_of(run: FinetuningRun) -> dict[str, Any]:
    return {name: value for name, value in run.resolved().items() if name not in ("overwrite", "debug", "push_to_hub")}


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", "utf-8")
