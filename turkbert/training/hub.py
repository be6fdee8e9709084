"""A run's model to the Hub, during it and at its end; a Hub that is down is a warning and a mark for later.

PENDING_PUSH.json in the output folder says that something has not been pushed. It is written before each push and goes
when the push is done, so a run that is killed in between leaves it; the next save, the end of the run, or the same
command once more try again.
"""

import logging
import multiprocessing
import os
import shutil
import time
from pathlib import Path
from typing import Any

from huggingface_hub.utils import disable_progress_bars
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

import turkbert
from turkbert.arguments import PretrainingArguments
from turkbert.artifacts import MANIFEST, find_damage, read_manifest, remove, write_json
from turkbert.hub import Destination, brief, push_files
from turkbert.model import TurkBertForPreTraining, save_stock
from turkbert.training.checkpoint import PREFIX

logger = logging.getLogger(__name__)

PENDING = "PENDING_PUSH.json"
STAGING = "_staging-push"  # of a killed run, the next one takes it away
STOP_SECONDS = 2.0


def repository_name(output_dir: Path, hub_model_id: str | None) -> str:
    """hub_model_id, or the output folder's name in the user's own namespace."""
    return hub_model_id or output_dir.resolve().name


def destination(training: PretrainingArguments) -> Destination:
    """Where a run is pushed to: private unless hub_private_repo says otherwise."""
    name = repository_name(Path(training.output_dir), training.hub_model_id)
    return Destination(name, private=training.hub_private_repo is not False, revision=training.hub_revision)


def is_pending(output_dir: Path) -> bool:
    """True if a push has failed or was cut off, and none has succeeded since."""
    return (output_dir / PENDING).exists()


def push_output(output_dir: Path, training: PretrainingArguments) -> None:
    """Upload the committed model, with a tag of its run. A Hub that cannot be reached is a warning and a mark."""
    manifest = read_manifest(output_dir)
    damage = find_damage(output_dir)
    if manifest is None or damage:
        logger.warning("%s was not pushed: %s", output_dir, damage)
        return
    run_id = manifest.get("run", {}).get("run_id")
    files = {name: output_dir / name for name in manifest["files"]}
    message = f"Pretrained with turkbert {turkbert.__version__}"
    _mark(output_dir, "the finished model")
    try:
        repo_id = push_files(files, destination(training), message, tag=f"run-{run_id}" if run_id else None)
    except Exception as error:  # of the Hub, of the network, of the upload: the model is on disk, the run is done
        _mark(output_dir, "the finished model", brief(error))
        logger.warning("%s was not pushed (%s); run the same command again to push it", output_dir, brief(error))
        return
    (output_dir / PENDING).unlink(missing_ok=True)
    logger.info("pushed to %s", repo_id)


class SavePusher(TrainerCallback):
    """hub_strategy every_save or checkpoint: each save goes to the Hub from a process of its own.

    Training never waits for it: a save that comes while the one before is still on its way is left out. The process
    works on links to the checkpoint's files, which rotation cannot take away.
    """

    def __init__(self) -> None:
        self._process: Any = None
        self._has_warned = False

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs):
        if not state.is_world_process_zero or (self._process is not None and self._process.is_alive()):
            return
        output_dir = Path(args.output_dir)
        self._tell_failure(output_dir)
        checkpoint = output_dir / f"{PREFIX}{state.global_step}"
        manifest = read_manifest(checkpoint)
        if manifest is None:
            return
        linked = _linked(checkpoint, [*manifest["files"], MANIFEST], output_dir / STAGING)
        _mark(output_dir, checkpoint.name)
        work = (linked, checkpoint.name, list(manifest["files"]), destination(args), args.hub_strategy == "checkpoint")
        self._process = multiprocessing.get_context("spawn").Process(target=push_save, args=work, daemon=True)
        self._process.start()

    def stop(self, output_dir: Path) -> None:
        """Nothing is pushed in the background any more; what was on its way stays marked."""
        if self._process is not None:
            self._process.terminate()
            self._process.join(STOP_SECONDS)
            self._tell_failure(output_dir)
            remove(output_dir / STAGING)

    def _tell_failure(self, output_dir: Path) -> None:
        failed = self._process is not None and self._process.exitcode not in (0, None) and self._process.exitcode > 0
        if failed and not self._has_warned:
            self._has_warned = True
            logger.warning("a checkpoint was not pushed to the Hub (%s says why); it is tried at each save", PENDING)


def push_save(folder: Path, name: str, names: list[str], to: Destination, with_checkpoint: bool) -> None:
    """In a process of its own: the model of a checkpoint in stock layout, and the checkpoint itself if asked for."""
    disable_progress_bars()
    output_dir = folder.parent
    try:
        stock = folder / "_stock"
        save_stock(TurkBertForPreTraining.from_pretrained(folder), stock)
        files = {path.name: path for path in sorted(stock.iterdir())}
        files |= {part: folder / part for part in names if part.startswith("tokenizer")}
        if with_checkpoint:
            files |= {f"last-checkpoint/{part}": folder / part for part in [*names, MANIFEST]}
        push_files(files, to, f"In training: {name}")
    except Exception as error:  # whatever it is, the run that started this process goes on
        _mark(output_dir, name, brief(error))
        raise SystemExit(1) from None
    (output_dir / PENDING).unlink(missing_ok=True)


def _linked(folder: Path, names: list[str], target: Path) -> Path:
    """The same files once more in `target`: links, or copies on a file system without them."""
    remove(target)
    for name in names:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(folder / name, target / name)
        except OSError:
            shutil.copyfile(folder / name, target / name)
    return target


def _mark(output_dir: Path, what: str, reason: str = "not finished") -> None:
    write_json(output_dir / PENDING, {"what": what, "reason": reason, "time": round(time.time())})
