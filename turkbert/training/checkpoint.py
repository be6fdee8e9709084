"""Which checkpoint to resume from, whose it is, and which old ones may go.

Every start of training is a run with an id of its own. RUN.json in the output folder names the last one and those it
goes on from, each with the step at which it was left: a checkpoint of another run, or of a branch that was given up,
is never picked.
"""

import dataclasses
import errno
import json
import logging
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from threading import Thread
from typing import Any, TypeVar

import torch
import transformers
from accelerate import Accelerator, PartialState
from accelerate.utils import broadcast_object_list
from safetensors import SafetensorError

import turkbert
from turkbert.artifacts import find_damage, key_hash, put_aside, read_manifest, write_json
from turkbert.errors import CORRUPT_ARTIFACT, ENVIRONMENT, UserError, is_main_process

logger = logging.getLogger(__name__)

T = TypeVar("T")

PREFIX = "checkpoint-"
RUN = "RUN.json"
_UNKNOWN_RUN: dict[str, Any] = {"run_id": "", "parents": []}
_LOAD_ERRORS = (
    UnpicklingError, SafetensorError, RuntimeError, EOFError, LookupError, TypeError, ValueError, OSError,
)  # fmt: skip
_LOADABLE = (".pt", ".pth", ".bin", ".safetensors", ".metadata", ".distcp")


@dataclass(frozen=True)
class Lineage:
    """The run that trains, and those it goes on from.

    Attributes:
        parents: oldest first, {"run_id", "step" at which it was left, "changes" of the contract allowed there}.
    """

    run_id: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    parents: list[dict[str, Any]] = field(default_factory=list)

    @property
    def changes(self) -> dict[str, list]:
        """{field: [old, new]} that this run was allowed to change."""
        return self.parents[-1]["changes"] if self.parents else {}

    def objection(self, manifest: dict[str, Any]) -> str | None:
        """Why a checkpoint is none to go on from, None where it is of this lineage."""
        run_id, step = manifest.get("run", {}).get("run_id"), manifest["key"].get("step")
        left_at = {parent["run_id"]: parent["step"] for parent in self.parents}
        if run_id == self.run_id:
            return None
        if run_id not in left_at:
            return "it belongs to another run"
        if not isinstance(step, int):
            return "its manifest is none of a checkpoint"
        return None if step <= left_at[run_id] else f"the run went on from step {left_at[run_id]} instead"


def begin_lineage(checkpoint: Path | None, changes: dict[str, list] | None = None) -> Lineage:
    """That of a run which goes on from `checkpoint`, with these changes of its contract."""
    if checkpoint is None:
        return Lineage()
    manifest = read_manifest(checkpoint)
    run = manifest.get("run", _UNKNOWN_RUN)
    left = {"run_id": run["run_id"], "step": manifest["key"]["step"], "changes": changes or {}}
    return Lineage(parents=[*run["parents"], left])


def describe_run(lineage: Lineage, model_config: dict[str, Any]) -> dict[str, Any]:
    """Where a checkpoint comes from, for its manifest."""
    versions = {module.__name__: module.__version__ for module in (turkbert, torch, transformers)}
    return {**dataclasses.asdict(lineage), "config": key_hash(model_config), "versions": versions}


def save_lineage(output_dir: Path, lineage: Lineage) -> None:
    """From here on `lineage` is that of the output folder."""
    write_json(output_dir / RUN, dataclasses.asdict(lineage))


def load_lineage(output_dir: Path) -> Lineage | None:
    """That of the last run in an output folder; None where nothing tells."""
    path = output_dir / RUN
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        content = None
    if not _is_run(content):
        logger.warning("%s: damaged; whose the checkpoints are cannot be told", path)
        return None
    return Lineage(content["run_id"], content["parents"])


def _is_run(content: Any) -> bool:
    """Whether a JSON value names a run and those that it goes on from."""
    if not isinstance(content, dict) or not isinstance(content.get("parents"), list):
        return False
    parents = [parent for parent in content["parents"] if isinstance(parent, dict)]
    kinds = {"run_id": str, "step": int, "changes": dict}
    sound = [all(isinstance(parent.get(name), kind) for name, kind in kinds.items()) for parent in parents]
    return isinstance(content.get("run_id"), str) and len(parents) == len(content["parents"]) and all(sound)


def checkpoints(output_dir: Path) -> list[Path]:
    """The checkpoint folders, oldest step first."""
    found = [path for path in output_dir.glob(f"{PREFIX}*") if path.name.removeprefix(PREFIX).isdecimal()]
    return sorted(found, key=_step)


def find_checkpoint(output_dir: Path) -> Path | None:
    """The newest whole checkpoint of this folder's lineage; each one passed over is named in one line."""
    lineage = load_lineage(output_dir)
    for path in reversed(checkpoints(output_dir)):
        objection = find_objection(path, lineage)
        if objection is None:
            return path
        logger.warning("%s: %s; trying the one before", path, objection)
    return None


def find_objection(folder: Path, lineage: Lineage | None = None) -> str | None:
    """Why a checkpoint is not to be resumed from, in a few words: damaged, renamed, added to, or not of `lineage`."""
    manifest = read_manifest(folder)
    if manifest is not None:
        step, named = manifest["key"].get("step"), folder.name.removeprefix(PREFIX)
        if not isinstance(step, int) or not _is_run(manifest.get("run", _UNKNOWN_RUN)):
            return "its manifest is none of a checkpoint"
        if named.isdecimal() and step != int(named):
            return f"it was made at step {step}"
        if lineage is not None and (objection := lineage.objection(manifest)):
            return objection
        # torch and transformers look for files by name, so that one more may be loaded instead of ours.
        strange = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.name.endswith(_LOADABLE))
        added = sorted(set(strange) - manifest["files"].keys())
        if added:
            return f"{added[0]} was added to it"
    return find_damage(folder)


def rotate(output_dir: Path, limit: int | None, best: str | None, lineage: Lineage) -> Thread:
    """Remove the oldest checkpoints over the limit, those of branches given up first, never the best one.

    What belongs to other runs is neither counted nor touched.

    Returns:
        A thread in which gigabytes leave the disk while training goes on; to be joined before the next save. What it
        cannot remove has no name of a checkpoint any more and is taken away by the next start.
    """
    aside = [put_aside(path) for path in _surplus(output_dir, limit, best, lineage)]
    removal = Thread(target=lambda: [shutil.rmtree(path, ignore_errors=True) for path in aside])
    removal.start()
    return removal


def _surplus(output_dir: Path, limit: int | None, best: str | None, lineage: Lineage) -> list[Path]:
    if limit is None:
        return []
    ours = {lineage.run_id, *(parent["run_id"] for parent in lineage.parents)}
    kept = []
    for path in checkpoints(output_dir):
        manifest = read_manifest(path)
        if (
            manifest
            and manifest.get("run", {}).get("run_id") in ours
            and (best is None or path.name != Path(best).name)
        ):
            kept.append((lineage.objection(manifest) is None, _step(path), path))
    limit -= best is not None and Path(best).exists()
    return [path for *_, path in sorted(kept)[: max(0, len(kept) - max(limit, 1))]]


def tidy(output_dir: Path) -> None:
    """Take away what a killed run left half written or half removed, and put back what was half replaced."""
    for path in output_dir.glob(f"_dead-{PREFIX}*"):
        final = path.with_name(path.name.removeprefix("_dead-"))
        if not final.exists() and find_objection(path) is None:
            os.rename(path, final)
    for path in [*output_dir.glob("_dead-*"), *output_dir.glob("_staging-*")]:
        shutil.rmtree(path)


def decided(decide: Callable[[], T]) -> T:
    """What the main process decides, in every process; its refusal ends them all, none waits for a rank that is gone.

    Raises:
        UserError, OSError: of the main process.
    """
    outcome: list[Any] = [None]
    if is_main_process():
        try:
            outcome = [decide()]
        except (UserError, OSError) as refusal:
            outcome = [refusal]
    if PartialState().num_processes > 1:
        broadcast_object_list(outcome)
    if isinstance(outcome[0], UserError | OSError):
        raise outcome[0]
    return outcome[0]


@contextmanager
def agreed(accelerator: Accelerator, folder: Path) -> Iterator[None]:
    """All processes leave together, by an error if any of them met one: none waits for another that is gone.

    Raises:
        OSError: of this process; what torch and safetensors make of a write that fails is one again.
        UserError: of this process, or that another one failed.
    """
    error: OSError | UserError | None = None
    try:
        with write_errors(folder):
            yield
    except (OSError, UserError) as failure:
        error = failure
        if accelerator.is_fsdp2:  # the others are in the middle of gathering the model: only the launcher ends them
            raise
    failed = torch.tensor(float(error is not None), device=accelerator.device)
    if accelerator.reduce(failed, "sum") > 0:
        raise error or UserError(folder, "another process could not save", "its own message says why", ENVIRONMENT)


@contextmanager
def load_errors(folder: str | os.PathLike | None) -> Iterator[None]:
    """What torch, transformers and safetensors raise for files that are none of a checkpoint, as one line."""
    try:
        yield
    except _LOAD_ERRORS as error:
        if isinstance(error, OSError) and error.errno is not None:  # of the system; transformers' own have no number
            raise
        reason = str(error).strip().split("\n")[0].partition(". ")[0] or type(error).__name__
        mend = "resume from another checkpoint"
        raise UserError(folder or "checkpoint", f"cannot be loaded ({reason})", mend, CORRUPT_ARTIFACT) from error


@contextmanager
def write_errors(folder: Path) -> Iterator[None]:
    """What safetensors and torch make of a write that fails, as the OSError that it was."""
    try:
        yield
    except SafetensorError as error:
        number = re.search(r"os error (\d+)", str(error))
        raise OSError(int(number[1]) if number else errno.EIO, str(error)) from error
    except RuntimeError as error:
        if not any(word in str(error) for word in ("PytorchStreamWriter", "inline_container", "iostream")):
            raise
        raise OSError(_why_not_written(folder), str(error)) from error


def _why_not_written(folder: Path) -> int:
    """torch does not say why a write failed; another one will."""
    try:
        with open(folder.parent / "_probe", "wb") as probe:
            probe.write(bytes(1 << 16))
            probe.flush()
            os.fsync(probe.fileno())
    except OSError as error:
        return error.errno or errno.EIO
    finally:
        (folder.parent / "_probe").unlink(missing_ok=True)
    return errno.EIO


def _step(path: Path) -> int:
    return int(path.name.removeprefix(PREFIX))
