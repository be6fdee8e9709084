"""The import graph, read from the sources, against the rooms of the design: imports run one way."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
GROUND = {
    "redaction", "errors", "hub_ids", "ranks", "interrupts", "artifacts", "parsing", "arguments", "tokenization",
    "console", "hub",
}  # fmt: skip
# room -> what its files may import of turkbert, besides their own room; a file with a line of its own: that line alone
ROOMS = {
    "model": set(),
    "redaction": set(),
    "errors": {"redaction"},
    "interrupts": set(),
    "hub_ids": set(),
    "ranks": {"errors"},
    "artifacts": {"errors", "interrupts"},
    "parsing": {"errors", "redaction"},
    "argument_checks": {"errors"},
    "arguments": {"errors", "parsing", "argument_checks"},
    "tokenization": {"errors", "hub_ids"},
    "console": {"errors", "redaction"},
    "hub": {"errors", "redaction"},
    "data": GROUND,
    "token_vectors": set(),
    "pipelines": {"model", "token_vectors"} | GROUND,
    "prediction": {"pipelines"} | GROUND,
    "export": set(),
    "export.onnx": {"errors"},
    "export.formats": {"export.onnx", "pipelines"} | GROUND,
    "export.space": {"export.formats", "demo.curves"} | GROUND,
    "export.folder": {"export.formats", "export.space", "prediction", "model"}
    | {"training.checkpoint", "training.model_card"}
    | GROUND,
    "training": {"data", "model", "pipelines"} | GROUND,
    "demo": {"pipelines", "prediction", "training.metrics_file", "training.plots"} | GROUND,
    "finetuning": {"training.model_card", "data.raw_text"} | GROUND,
    "turkbert": {"model", "pipelines"},  # __init__.py: the public names and the registration
}
# which import each other or nothing in data/, and which anything there may import
TOOLS_OF_DATA = {"arrow", "counter_rng", "counts", "progress", "stages"}
LEAVES_OF_DATA = TOOLS_OF_DATA | {"sentences", "raw_text", "random_words", "stats"}
BEFORE_IN_DATA = {  # what else of its room a file of data/ may import
    "documents": {"raw_text"},
    "places": {"documents"},
    "corpus": {"documents", "raw_text", "places"},
    "masking": {"random_words"},
    "pairs": {"sentences"},
    "collator": {"masking"},
    "duplicates": {"documents", "raw_text", "places"},
    "examples": {"masking"},
    "report": {"stats", "examples"},
    "rows": {"masking", "pairs"},
}


def module_name(path: Path, package_dir: Path) -> str:
    """turkbert/data/pairs.py -> data.pairs; turkbert/__init__.py -> turkbert."""
    parts = path.relative_to(package_dir).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__") or "turkbert"


def imported(source: str, module: str, is_package: bool = False) -> list[str]:
    """Full names of what a module imports: for `from x import y` it is x.y, since y may be a module."""
    names = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = ("turkbert." + module if module != "turkbert" else "turkbert").split(".")
                package = package[: len(package) - node.level + is_package]
                base = ".".join([*package, base] if base else package)
            names += [f"{base}.{alias.name}" for alias in node.names]
    return names


def forbidden(module: str, name: str) -> str | None:
    """Why `module` (named within turkbert) may not import `name`, or None."""
    top = name.split(".")[0]
    room = module if module in ROOMS else module.split(".")[0]
    if top in ("scripts", "tests", "benchmarks"):
        return f"{module} imports {name}: nothing imports {top}"
    if top != "turkbert":
        if room == "model" and top not in sys.stdlib_module_names and top not in ("torch", "transformers"):
            return f"{module} imports {name}: model knows torch and transformers only"
        return None
    target = name.split(".")[1:]
    if not target or target[0] == "__version__":
        return f"{module} imports the package itself" if room == "model" else None
    if target[0] == room:
        return forbidden_in_data(module, target) if room == "data" else None
    if any(".".join(target[: allowed.count(".") + 1]) == allowed for allowed in ROOMS.get(room, set())):
        return None
    return f"{module} imports {name}: {room} may not know {target[0]}"


def forbidden_in_data(module: str, target: list[str]) -> str | None:
    own, other = module.split(".")[1] if "." in module else "", target[1] if len(target) > 1 else ""
    if other in TOOLS_OF_DATA:
        return None
    if own in LEAVES_OF_DATA or (own in BEFORE_IN_DATA and other not in BEFORE_IN_DATA[own]):
        return f"{module} imports data.{other}"
    if other == "prepare" and own != "":
        return f"{module} imports data.prepare"
    return None


def all_edges() -> list[tuple[str, str]]:
    package_dir = ROOT / "turkbert"
    return [
        (module_name(path, package_dir), name)
        for path in sorted(package_dir.rglob("*.py"))
        for name in imported(path.read_text("utf-8"), module_name(path, package_dir), path.name == "__init__.py")
    ]


def test_every_import_follows_the_design():
    edges = all_edges()
    assert len(edges) > 200 and ("data.prepare", "turkbert.data.rows.RowBuilder") in edges
    assert [reason for module, name in edges if (reason := forbidden(module, name))] == []


def test_every_file_has_a_room():
    names = {path.name.removesuffix(".py") for path in (ROOT / "turkbert").iterdir() if not path.name.startswith("_")}
    assert names - ROOMS.keys() - {"sample"} == set()


def test_there_is_no_cycle():
    modules = {module_name(path, ROOT / "turkbert") for path in (ROOT / "turkbert").rglob("*.py")}
    targets: dict[str, set[str]] = {module: set() for module in modules}
    for module, name in all_edges():
        target = name.removeprefix("turkbert.")
        while target and target not in modules:
            target = target.rpartition(".")[0]
        if name.startswith("turkbert.") and target and target != module:
            targets[module].add(target)
    while done := {module for module, needs in targets.items() if not needs}:
        targets = {module: needs - done for module, needs in targets.items() if module not in done}
    assert targets == {}


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("data.pairs", "from turkbert.model import TurkBertConfig"),
        ("data.pairs", "import turkbert.training.sampler"),
        ("data.masking", "from . import collator"),
        ("data.arrow", "from turkbert.data.pairs import RowShape"),
        ("data.sentences", "from turkbert.data.pairs import RowShape"),
        ("data.collator", "def late():\n    from turkbert.data.prepare import load_prepared"),
        ("model.modeling_turkbert", "import numpy as np"),
        ("model.modeling_turkbert", "from turkbert.errors import UserError"),
        ("model.conversion", "from ..data import arrow"),
        ("artifacts", "from turkbert.arguments import DataArguments"),
        ("errors", "import turkbert.console"),
        ("parsing", "from turkbert.arguments import REFUSED"),
        ("argument_checks", "from turkbert.arguments import RunArguments"),
        ("training.run", "from turkbert.argument_checks import check_arguments"),
        ("finetuning.tasks", "from turkbert.training.trainer import PretrainingTrainer"),
        ("finetuning.tasks", "from turkbert.model import TurkBertModel"),
        ("training.trainer", "from turkbert.finetuning import tasks"),
        ("export.onnx", "from turkbert.pipelines import max_length"),
        ("export.formats", "from turkbert.export import export_model"),
        ("export.formats", "from turkbert.export.space import write_space"),
        ("export.folder", "from turkbert.demo.curves import find_curves"),
        ("demo.curves", "from turkbert.training.trainer import PretrainingTrainer"),
        ("training.trainer", "from turkbert.demo import page"),
        ("training.trainer", "from scripts.pretrain import main"),
    ],
)
def test_a_wrong_edge_is_seen(module, source):
    assert [name for name in imported(source, module) if forbidden(module, name)]


def test_a_right_edge_is_not():
    for module, source in (
        ("finetuning.tasks", "from turkbert.training.model_card import render"),
        ("training.trainer", "from turkbert.data.collator import IGNORED"),
        ("model.modeling_turkbert", "from .configuration_turkbert import TurkBertConfig"),
        ("data.rows", "from turkbert.data.pairs import RowShape"),
        ("data.prepare", "import turkbert"),
        ("export.formats", "from turkbert.export.onnx import write_onnx"),
    ):
        assert [name for name in imported(source, module) if forbidden(module, name)] == []


def test_scripts_import_the_library_and_no_other_script():
    names = {path.stem for path in (ROOT / "scripts").glob("*.py")}
    for path in (ROOT / "scripts").glob("*.py"):
        tops = {name.split(".")[0] for name in imported(path.read_text("utf-8"), path.stem)}
        assert not tops & (names | {"scripts", "tests"}), path
