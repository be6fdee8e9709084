"""TRACKING.json in an output folder: which run it is, its settings, how they changed, and where MLflow has it."""

import json
from pathlib import Path
from typing import Any

from turkbert.artifacts import write_json
from turkbert.redaction import holds_secret

RUN_FILE = "TRACKING.json"


def open_record(output_dir: Path, run_id: str, settings: dict[str, Any], step: int) -> dict[str, Any]:
    """A new record for a run that begins (step 0); else the one there, with what is set otherwise from `step` on."""
    settings = json.loads(json.dumps({name: value for name, value in settings.items() if _may_be_told(name, value)}))
    record = read_record(output_dir) if step else None
    if record is None:
        record = {"run_id": run_id, "settings": settings, "changes": [], "mlflow": {"run_id": None}}
    before = {**record["settings"], **{change["name"]: change["new"] for change in record["changes"]}}
    for name in sorted(settings.keys() | before.keys()):
        old, new = before.get(name), settings.get(name)
        if old != new:
            record["changes"].append({"step": step, "name": name, "old": old, "new": new})
    record["mlflow"]["complete"] = False
    write_json(output_dir / RUN_FILE, record)
    return record


def read_record(output_dir: Path) -> dict[str, Any] | None:
    """TRACKING.json; None where there is none that can be read."""
    try:
        record = json.loads((output_dir / RUN_FILE).read_text("utf-8"))
        return record if {"run_id", "settings", "changes", "mlflow"} <= record.keys() else None
    except (OSError, ValueError, AttributeError):
        return None


def _may_be_told(name: str, value: Any) -> bool:
    return not name.endswith("_token") and not holds_secret(value)
