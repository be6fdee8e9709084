"""A Space in its exported folder: complete without this checkout, serving on loopback, saying how it is run."""

import re
import sys
from importlib import metadata
from pathlib import Path
from urllib.request import urlopen

import pytest
from huggingface_hub import RepoCard

from tests.demo.browser import started_demo
from tests.tiny_models import model_dirs  # noqa: F401
from turkbert.export import export_model, space_hash

HERE = "import os, runpy, turkbert; assert os.path.dirname(turkbert.__path__[0]) == os.getcwd()"


@pytest.fixture(scope="module")
def space(model_dirs, tmp_path_factory) -> Path:  # noqa: F811
    pytest.importorskip("gradio", reason="the extra `demo` is not installed")
    return export_model(str(model_dirs["stock"]), "space", tmp_path_factory.mktemp("export") / "ada-demo")


def test_the_folder_says_how_it_is_run(space):
    card = RepoCard.load(space / "README.md").data
    assert (card["title"], card["sdk"], card["app_file"]) == ("ada-demo", "gradio", "app.py")
    assert card["sdk_version"] == metadata.version("gradio")
    pins = (space / "requirements.txt").read_text().splitlines()[1:]
    assert {"torch", "transformers", "gradio", "matplotlib"} <= {pin.split("==")[0] for pin in pins}
    assert all(re.fullmatch(r"[\w-]+==[\w.]+", pin) for pin in pins)


def test_only_code_and_the_model_go_in(space):
    files = {path.relative_to(space) for path in space.rglob("*") if path.is_file()}
    assert {path.suffix for path in files if path.parts[0] == "turkbert"} == {".py", ".jinja", ".css"}
    assert {path.name for path in files if path.parts[0] == "model"} == {
        "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"
    }  # fmt: skip
    assert len(space_hash()) == 64


def test_the_app_serves_on_loopback(space, tmp_path):
    program = f"{HERE}; runpy.run_path('app.py', run_name='__main__')"
    command = [sys.executable, "-c", program]
    with started_demo(command, tmp_path, cwd=space) as (url, _):
        assert url.startswith("http://127.0.0.1:")
        with urlopen(url) as answer:
            assert b"ada-demo" in answer.read()
    assert not (tmp_path / "outgoing").exists()
