"""The web demo with a model as a folder that Hugging Face Spaces can run: `git push` it, or `hf upload` it.

    app.py  requirements.txt  README.md  model/  turkbert/
"""

import hashlib
import json
from importlib import metadata, resources
from pathlib import Path

from turkbert.demo.curves import CurvePictures, find_curves
from turkbert.errors import config_error
from turkbert.export.formats import Source, write_stock

CODE = (".py", ".jinja", ".css")  # of the package; the bundled sample stays
PACKAGES = [  # a test compares them with the imports
    "gradio", "huggingface_hub", "jinja2", "matplotlib", "numpy", "pyarrow", "safetensors", "tokenizers", "torch",
    "tqdm", "transformers",
]  # fmt: skip
_APP = '''"""The web demo of a BERT. It needs the packages of requirements.txt and asks nothing of other machines."""

from pathlib import Path

from turkbert.demo.models import load_model
from turkbert.demo.server import serve, wait
from turkbert.demo.tabs import build_page

page = build_page(load_model(str(Path(__file__).parent / "model"), NAME))

if __name__ == "__main__":
    print(f"The demo is at {serve(page, host=None)}", flush=True)  # Spaces say by GRADIO_SERVER_NAME where
    wait(page)
'''
_CARD = """---
title: {title}
emoji: 🧩
colorFrom: green
colorTo: blue
sdk: gradio
sdk_version: {gradio}
python_version: "3.11"
app_file: app.py
pinned: false
---

The web demo of turkbert with the model in `model/`, in Turkish and English.

    pip install -r requirements.txt && python app.py
"""


def write_space(source: Source, name: str, folder: Path) -> None:
    """Everything the demo needs: the model in the stock layout, its curves if it has any, and this package's code.

    Args:
        name: what the page calls the model.

    Raises:
        UserError: Gradio is not installed, so its version is not known.
    """
    (folder / "app.py").write_text(_APP.replace("NAME", json.dumps(name, ensure_ascii=False)), "utf-8")
    (folder / "requirements.txt").write_text("".join(f"{line}\n" for line in list_requirements()), "utf-8")
    write_stock(source, folder / "model")
    curves = find_curves(source.folder)
    if isinstance(curves, CurvePictures):
        (folder / "model" / "plots").mkdir()
        for picture, png in curves.pictures.items():
            (folder / "model" / "plots" / f"{picture}.png").write_bytes(png)
    for path, code in _read_code().items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(code)
    card = _CARD.format(title=json.dumps(name, ensure_ascii=False), gradio=_installed("gradio"))
    (folder / "README.md").write_text(card, "utf-8")


def space_hash() -> str:
    """sha256 of what is in the folder beside the model."""
    parts = [_APP, _CARD, *list_requirements(), *map(repr, sorted(_read_code().items()))]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def list_requirements() -> list[str]:
    """What the demo imports, in the versions that are installed here.

    A version such as 2.13.0+cpu is on PyTorch's own index alone: its first part finds it there too, and without a GPU
    saves gigabytes.
    """
    pins = [f"{name}=={_installed(name).partition('+')[0]}" for name in PACKAGES]
    return ["--extra-index-url https://download.pytorch.org/whl/cpu", *pins]


def _installed(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        raise config_error("space", f"needs the package {package}", 'pip install "turkbert[demo]"') from None


def _read_code() -> dict[str, bytes]:
    """{path: content} of this package, without the bundled sample."""
    package = Path(str(resources.files("turkbert")))
    paths = sorted(path for path in package.rglob("*") if path.suffix in CODE and path.is_file())
    return {f"turkbert/{path.relative_to(package).as_posix()}": path.read_bytes() for path in paths}
