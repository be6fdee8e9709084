"""Which checkpoint to resume from, what it must agree on with the run, and which old ones may go."""

import json
import logging
from pathlib import Path
from typing import Any

from turkbert.artifacts import find_damage, read_manifest, remove
from turkbert.errors import config_error

logger = logging.getLogger(__name__)

PREFIX = "checkpoint-"


def checkpoints(output_dir: Path) -> list[Path]:
    """The committed checkpoint folders, oldest step first."""
    found = [path for path in output_dir.glob(f"{PREFIX}*") if path.name.removeprefix(PREFIX).isdigit()]
    return sorted(found, key=lambda path: int(path.name.removeprefix(PREFIX)))


def step_of(checkpoint: Path | None) -> int:
    """The step that a checkpoint was saved after; 0 without one."""
    return json.loads((checkpoint / "trainer_state.json").read_text("utf-8"))["global_step"] if checkpoint else 0


def find_checkpoint(output_dir: Path) -> Path | None:
    """The newest whole checkpoint; each damaged one passed over is named in one line."""
    for path in reversed(checkpoints(output_dir)):
        damage = find_damage(path)
        if damage is None:
            return path
        logger.warning("%s: %s; trying the one before", path, damage)
    return None


def check_contract(folder: Path, contract: dict[str, Any]) -> None:
    """Refuse to go on from `folder` with other data, seeds or schedule than it was made with.

    Raises:
        UserError: naming the first field that differs, its old and its new value.
    """
    old = read_manifest(folder)["key"]
    for name, value in contract.items():
        if old.get(name) != value:
            raise config_error(
                folder,
                f"made with {name} {old.get(name)}, now {value}",
                "set it back, choose another output_dir, or start afresh with --overwrite true",
            )


def rotate(output_dir: Path, limit: int | None, best: str | None) -> None:
    """Remove the oldest checkpoints over the limit, never the best one."""
    if limit is None:
        return
    kept = [path for path in checkpoints(output_dir) if best is None or path.name != Path(best).name]
    limit -= best is not None and Path(best).exists()
    for path in kept[: max(0, len(kept) - max(limit, 1))]:
        remove(path)
