"""A Space in its exported folder: complete without this checkout, serving on loopback, saying how it is run."""

import re
import sys
from importlib import metadata
from pathlib import Path
from urllib.request import urlopen

import pytest
from huggingface_hub import RepoCard

from tests.demo.browser import started_demo
from tests.test_imports import imported, module_name
from tests.tiny_models import model_dirs  # noqa: F401
from turkbert.export import export_model
from turkbert.export.space import PACKAGES

PACKAGE = Path(__file__).parents[2] / "turkbert"
HERE = "import os, runpy, turkbert; assert os.path.dirname(turkbert.__path__[0]) == os.getcwd()"


@pytest.fixture(scope="module")
def space(model_dirs, tmp_path_factory) -> Path:  # noqa: F811
    pytest.importorskip("gradio", reason="the extra `demo` is not installed")
    return export_model(str(model_dirs["stock"]), "space", tmp_path_factory.mktemp("export") / "ada-demo")


def test_the_folder_says_how_it_is_run(space):
    card = RepoCard.load(space / "README.md").data
    assert (card["title"], card["sdk"], card["app_file"]) == ("ada-demo", "gradio", "app.py")
    gradio = metadata.version("gradio")
    assert card["sdk_version"] == gradio
    pins = (space / "requirements.txt").read_text().splitlines()[1:]
    assert all(re.fullmatch(r"[\w-]+==[\w.]+", pin) for pin in pins)
    assert f"gradio=={gradio}" in pins


def packages_of(*modules: str) -> set[str]:
    """What these modules of turkbert, and all they import of it, import of others; at their top or later."""
    files = {module_name(path, PACKAGE): path for path in PACKAGE.rglob("*.py")}
    open_, seen, packages = list(modules), set(), set()
    while open_:
        module = open_.pop().removeprefix("turkbert.")
        while module and module not in files:  # a name within a module
            module = module.rpartition(".")[0]
        if not module or module in seen:
            continue
        seen.add(module)
        names = imported(files[module].read_text("utf-8"), module, files[module].name == "__init__.py")
        open_ += [name for name in names if name.startswith("turkbert.")]
        packages |= {name.split(".")[0] for name in names}
    return packages - set(sys.stdlib_module_names) - {"turkbert"}


def test_the_requirements_are_what_the_demo_imports():
    assert packages_of("demo.models", "demo.server", "demo.tabs", "pipelines", "model") == set(PACKAGES)


def test_only_code_and_the_model_go_in(space):
    files = {path.relative_to(space) for path in space.rglob("*") if path.is_file()}
    assert {path.suffix for path in files if path.parts[0] == "turkbert"} == {".py", ".jinja", ".css"}
    assert {path.parts[0] for path in files} == {
        "app.py", "requirements.txt", "README.md", "MANIFEST.json", "model", "turkbert"
    }  # fmt: skip
    assert {path.name for path in files if path.parts[0] == "model"} == {
        "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"
    }  # fmt: skip


@pytest.mark.slow
def test_the_app_serves_on_loopback(space, tmp_path):
    program = f"{HERE}; runpy.run_path('app.py', run_name='__main__')"
    command = [sys.executable, "-c", program]
    with started_demo(command, tmp_path, cwd=space) as (url, _):
        assert url.startswith("http://127.0.0.1:")
        with urlopen(url) as answer:
            assert b"ada-demo" in answer.read()
    assert not (tmp_path / "outgoing").exists()
