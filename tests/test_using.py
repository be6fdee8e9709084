"""Every snippet of docs/using.md does what it says, on a tiny model in ./out."""

import importlib.util
import re
import runpy
import shlex
import shutil
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.hub_stand_in import hub  # noqa: F401
from tests.tiny_models import model_dirs  # noqa: F401

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "using.md").read_text("utf-8")
BLOCKS = [
    (title, language, code)
    for title, text in re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    for language, code in re.findall(r"^```(\w+)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
]
EXTRA = ("onnx", "onnxruntime", "onnxscript", "sentence_transformers")


@pytest.fixture
def workplace(tmp_path, monkeypatch, model_dirs):  # noqa: F811
    """Where a reader stands: ./out, texts.txt and ./scripts."""
    shutil.copytree(model_dirs["stock"], tmp_path / "out")
    (tmp_path / "texts.txt").write_text("Yağmur başladı.\nYağmur başladı.\tŞemsiyemi açtım.\n", "utf-8")
    (tmp_path / "scripts").symlink_to(ROOT / "scripts")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("turkbert.console.set_up_script", lambda: None)
    return tmp_path


def run_command(line: str, monkeypatch) -> None:
    words = shlex.split(line, comments=True)
    if words[0] == "python":
        monkeypatch.setattr(sys, "argv", words[1:])
        runpy.run_path(words[1], run_name="__main__")
    else:
        assert words[:2] == ["pip", "install"] and words[-1] == ".[export]"


@pytest.mark.parametrize("title", dict.fromkeys(title for title, _, _ in BLOCKS))
def test_section(title, workplace, hub, monkeypatch, capsys):  # noqa: F811
    blocks = [(language, code) for section, language, code in BLOCKS if section == title]
    if title == "Exports" and not all(importlib.util.find_spec(name) for name in EXTRA):
        pytest.skip("the extra export is not installed")
    for language, code in blocks:
        if language == "python":
            exec(compile(code, "using.md", "exec"), {})
        for line in code.splitlines() if language == "bash" else ():
            run_command(line, monkeypatch)
    out, err = capsys.readouterr()
    assert out and "error" not in err
    CHECKS.get(title, lambda *_: None)(workplace, out, hub)


def check_vectors(folder: Path, out: str, _) -> None:
    assert "(2, 32) float32" in out
    rows = pq.read_table(folder / "vectors.parquet").column("embedding").to_pylist()
    np.testing.assert_allclose(np.load(folder / "vectors.npy"), rows, atol=1e-5)


def check_word(folder: Path, out: str, _) -> None:
    cosines = np.array([row.split() for row in re.findall(r"[\[ ]\[(.*?)\]", out.split("\n", 1)[1])], float)
    assert cosines.shape == (4, 4) and (cosines.diagonal() == 1).all() and cosines[0, 1] < 1


def check_exports(folder: Path, out: str, _) -> None:
    assert {path.parent.name for path in folder.glob("*/MANIFEST.json")} == {"out-onnx", "embedder", "out-bf16"}
    assert re.search(r"\(2, \d+, 32\)", out) and "tensor([[" in out


def check_push(folder: Path, out: str, hub) -> None:  # noqa: F811
    assert "pushed to ada/my-bert" in out and re.fullmatch(r"stock-[0-9a-f]{8}", *hub.model("my-bert").tags)


CHECKS = {
    "Texts as vectors": check_vectors,
    "One word, two vectors": check_word,
    "Exports": check_exports,
    "To the Hub": check_push,
}


def test_the_page_names_every_form_and_option():
    from turkbert.export import FORMATS

    table = PAGE.split("## Exports")[1]
    assert all(f"`--{name}`" in table for name in FORMATS)
    assert {title for title, _, _ in BLOCKS} >= CHECKS.keys() and len(BLOCKS) >= 12


def test_options_are_those_of_the_scripts():
    options = set(re.findall(r"(?<=[\s`])--(\w+)", PAGE))
    known = "".join((ROOT / "scripts" / f"{name}.py").read_text("utf-8") for name in ("predict", "export"))
    from turkbert.export import FORMATS

    assert options <= set(re.findall(r'"--(\w+)"', known)) | FORMATS.keys()
