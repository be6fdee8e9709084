"""A model and a form -> a committed folder with card and manifest; such a folder -> a repository of the Hub.

    export_model("out", "onnx", Path("out-onnx"))       # model.onnx, tokenizer, card, MANIFEST.json
    push_export(Path("out-onnx"), Destination("ada/my-bert-onnx"))
"""

import hashlib
import json
import logging
import os
from pathlib import Path

import torch
from huggingface_hub import ModelCard
from transformers import PreTrainedModel

from turkbert import model as models
from turkbert.artifacts import key_hash, read_manifest, reuse_or_build
from turkbert.errors import CORRUPT_ARTIFACT, ENVIRONMENT, UserError, config_error
from turkbert.export.formats import FORMATS, Format, Source
from turkbert.export.space import space_hash, write_space
from turkbert.hub import Destination, brief, is_public, push_files
from turkbert.model import load_stock, load_stock_config, to_stock
from turkbert.prediction import model_errors
from turkbert.tokenization import load_tokenizer, tokenizer_hash
from turkbert.training.checkpoint import write_errors
from turkbert.training.model_card import escape_markdown, public_name

logger = logging.getLogger(__name__)

SPACE = "space"


def load_source(model_name_or_path: str | os.PathLike) -> Source:
    """A checkpoint, a finished model or any BERT of the Hub, with the heads that its config names.

    Raises:
        UserError: no such model, no BERT, a broken one, or one that lacks weights of its own heads.
    """
    name = os.fspath(model_name_or_path)
    tokenizer = load_tokenizer(name)
    with model_errors(name):
        model, report = load_stock(name, _class_of(load_stock_config(name).architectures))
    if missing := [parameter for parameter in report.newly_initialized if "pooler" not in parameter]:
        raise UserError(name, f"the weights lack {missing[0]}", "get the model anew", CORRUPT_ARTIFACT)
    if report.newly_initialized:
        model.pooler = None  # an encoder that never had one: what nobody trained does not go out
    folder = Path(name).expanduser()
    card = folder / "README.md"
    text = card.read_text("utf-8") if card.is_file() else None
    return Source(to_stock(model), tokenizer, text, folder if folder.is_dir() else None)


def _class_of(architectures: list[str] | None) -> type[models.TurkBertPreTrainedModel]:
    """The class for a config's `architectures`; the encoder alone for what is unknown."""
    kind = (architectures or ["BertModel"])[0].removeprefix("Turk").removeprefix("Bert")
    return getattr(models, f"TurkBert{kind}", models.TurkBertModel)


def default_dir(model_name_or_path: str | os.PathLike, format_name: str) -> Path:
    """out -> out-onnx, owner/name -> name-onnx; in the working folder."""
    return Path(f"{Path(model_name_or_path).expanduser().resolve().name}-{format_name}")


def export_model(
    model_name_or_path: str | os.PathLike,
    format_name: str,
    output_dir: Path,
    overwrite: bool = False,
    hub_model_id: str | None = None,
) -> Path:
    """Commit the model in one of FORMATS, or with its demo as a SPACE, to `output_dir`.

    The same export once more finds it there.

    Args:
        overwrite: replace another export; nothing else is ever replaced.
        hub_model_id: the name that the card says, instead of the folder's.

    Raises:
        UserError: the model cannot be loaded or exported, or the folder holds something else.
    """
    if not output_dir.name:  # "." or "/": it is written beside its place and then renamed
        raise config_error(output_dir, "is no folder of its own", "choose another --output_dir")
    manifest = read_manifest(output_dir)
    is_source = output_dir.resolve() == Path(model_name_or_path).expanduser().resolve()
    if is_source or (manifest is not None and "export" not in manifest["key"]):
        raise config_error(output_dir, "holds something else than an export", "choose another --output_dir")
    source = load_source(model_name_or_path)
    key = {
        "export": format_name,
        "name": public_name(hub_model_id or str(output_dir.resolve())),
        "model": _model_hash(source.model),
        "tokenizer": tokenizer_hash(source.tokenizer),
    }
    if format_name == SPACE:
        key["code"] = space_hash()

    def build(folder: Path) -> None:
        with write_errors(folder):
            if format_name == SPACE:
                return write_space(source, key["name"], folder)  # which writes a card of its own
            FORMATS[format_name].write(source, folder)
            (folder / "README.md").write_text(_render_card(source, key["name"], FORMATS[format_name]), "utf-8")

    return reuse_or_build(output_dir, key, build, overwrite)


def push_export(folder: Path, to: Destination) -> str:
    """Upload exactly the files of a committed export, tagged with its form and content. The full id comes back.

    Raises:
        UserError: the repository is public though nobody asked for that, or the Hub did not take the files.
    """
    manifest = read_manifest(folder)
    if manifest is None:
        raise UserError(folder, "is no finished export", "export it anew", CORRUPT_ARTIFACT)
    tag = f"{manifest['key']['export']}-{key_hash(manifest['key'])[:8]}"
    try:
        if to.private and is_public(to):
            mend = "choose another hub_model_id, or say --hub_private_repo false"
            raise UserError(to.name, "this repository is public already", mend)
        repo_id = push_files({name: folder / name for name in manifest["files"]}, to, f"Export {tag}", tag)
    except UserError:
        raise
    except Exception as error:  # of the Hub, the network or the upload
        mend = f"the export is in {folder}: run the same command again"
        raise UserError(to.name, f"not pushed ({brief(error)})", mend, ENVIRONMENT) from error
    logger.info("pushed to %s, tag %s", repo_id, tag)
    return repo_id


def _model_hash(model: PreTrainedModel) -> str:
    """sha256 of the config and of every weight."""
    config = {name: value for name, value in model.config.to_dict().items() if name != "transformers_version"}
    digest = hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def _render_card(source: Source, name: str, form: Format) -> str:
    """The model's own card, or a bare one, with how to use this form of it."""
    bare = f"---\ntags:\n- bert\n---\n\n# {escape_markdown(name)}\n"
    card = ModelCard(source.card or bare, ignore_metadata_errors=True)
    card.data.library_name = form.library
    usage = form.usage.replace("NAME", json.dumps(name, ensure_ascii=False))
    card.text = f"{card.text.rstrip()}\n\n## This form of it\n\n{form.help}\n\n```python\n{usage}\n```\n"
    return str(card)
