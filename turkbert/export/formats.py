"""The table of forms a model can be exported to: what each is, how its files are written, how it is used.

    FORMATS["onnx"].write(source, Path("empty/folder"))
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from turkbert.errors import ENVIRONMENT, UserError, config_error
from turkbert.export.onnx import TOLERANCE, missing_package, write_onnx
from turkbert.pipelines import EmbeddingPipeline, max_length
from turkbert.tokenization import save_tokenizer

_TEXTS = ["İstanbul'un ışıkları yandı.", "Çay içtik.", " ".join(["Uzun bir yolculuktan sonra eve döndük."] * 100)]


@dataclass(frozen=True)
class Source:
    """What is exported: a stock BERT in float32 and evaluation mode, its tokenizer, and its card if it has one.

    folder: where it came from, None for a model of the Hub.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast
    card: str | None
    folder: Path | None = None


@dataclass(frozen=True)
class Format:
    """A form. `write` makes its files in an empty folder; `usage` is Python for the card, NAME the folder's or id."""

    help: str
    write: Callable[[Source, Path], None]
    usage: str
    library: str = "transformers"


def write_stock(source: Source, folder: Path) -> None:
    """config.json and model.safetensors, with the heads that the model has, and the tokenizer."""
    source.model.save_pretrained(folder)
    save_tokenizer(source.tokenizer, folder)


def write_half(dtype: torch.dtype) -> Callable[[Source, Path], None]:
    """The writer of the stock layout in half precision; it raises UserError where a weight is too large for that."""

    def write(source: Source, folder: Path) -> None:
        source.model.to(dtype)
        if not all(parameter.isfinite().all() for parameter in source.model.parameters()):
            raise config_error("fp16", "a weight is beyond 65,504, the largest number there", "choose --bf16")
        write_stock(source, folder)

    return write


def write_onnx_folder(source: Source, folder: Path) -> None:
    """model.onnx, checked in onnxruntime, beside config.json and the tokenizer."""
    write_onnx(source.model, folder)
    source.model.config.save_pretrained(folder)
    save_tokenizer(source.tokenizer, folder)


def write_sentence_transformers(source: Source, folder: Path) -> None:
    """An encoder and the mean over its tokens, in the layout that all versions of sentence-transformers read.

    Its own `save` names classes that only its newest version has, and rewrites the tokenizer.

    Raises:
        UserError: sentence-transformers is missing, or gives other vectors than our pipeline.
    """
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise missing_package("sentence_transformers", error) from None
    encoder = getattr(source.model, "bert", source.model)
    embed = EmbeddingPipeline(model=encoder, tokenizer=source.tokenizer, device="cpu")
    encoder.save_pretrained(folder)
    save_tokenizer(source.tokenizer, folder)
    for name, content in _sentence_transformers_files(max_length(embed), encoder.config.hidden_size).items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(content, indent=2) + "\n", "utf-8")
    vectors = SentenceTransformer(str(folder), device="cpu", local_files_only=True).encode(_TEXTS)
    difference = float(np.abs(vectors - embed(_TEXTS)).max())
    if difference > TOLERANCE:
        what = f"its vectors are {difference:.1e} from those of the pipeline"
        raise UserError("sentence-transformers", what, 'pip install "turkbert[export]"', ENVIRONMENT)


def _sentence_transformers_files(longest: int, width: int) -> dict[str, object]:
    modules = [("", "Transformer"), ("1_Pooling", "Pooling")]
    return {
        "modules.json": [
            {"idx": index, "name": str(index), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for index, (path, kind) in enumerate(modules)
        ],
        "sentence_bert_config.json": {"max_seq_length": longest, "do_lower_case": False},
        "1_Pooling/config.json": {"word_embedding_dimension": width, "pooling_mode_mean_tokens": True},
    }


FORMATS = {
    "stock": Format(
        "plain BERT in float32: config.json, model.safetensors, tokenizer",
        write_stock,
        """from transformers import AutoModel, AutoTokenizer

tokenizer, model = AutoTokenizer.from_pretrained(NAME), AutoModel.from_pretrained(NAME)
print(model(**tokenizer("Kitap okumayı severim.", return_tensors="pt")).last_hidden_state.shape)""",
    ),
    "onnx": Format(
        "model.onnx for onnxruntime, checked against PyTorch",
        write_onnx_folder,
        """import onnxruntime
from transformers import AutoTokenizer

folder = NAME  # of the Hub: huggingface_hub.snapshot_download(NAME)
session = onnxruntime.InferenceSession(f"{folder}/model.onnx")
inputs = AutoTokenizer.from_pretrained(folder)("Kitap okumayı severim.", return_tensors="np")
outputs = dict(zip([output.name for output in session.get_outputs()], session.run(None, dict(inputs))))
print({name: array.shape for name, array in outputs.items()})""",
        "onnx",
    ),
    "sentence_transformers": Format(
        "a folder for sentence-transformers: the mean over the tokens",
        write_sentence_transformers,
        """from sentence_transformers import SentenceTransformer

model = SentenceTransformer(NAME)
print(model.similarity(model.encode("Hava çok güzel."), model.encode("Güneşli bir gün.")))""",
        "sentence-transformers",
    ),
}
for _name, _dtype in (("fp16", torch.float16), ("bf16", torch.bfloat16)):
    FORMATS[_name] = Format(
        f"as --stock, in {str(_dtype).removeprefix('torch.')}", write_half(_dtype), FORMATS["stock"].usage
    )
