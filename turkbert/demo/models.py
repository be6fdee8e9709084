"""A model's folder or Hub id -> the pipelines of the demo, None where the model has no such head.

    model = load_model("out")
    model.fill("Türkiye'nin başkenti [MASK].")
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import (
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForNextSentencePrediction,
    FillMaskPipeline,
    PreTrainedTokenizerFast,
)
from transformers.utils import logging

from turkbert.demo.notes import Note
from turkbert.errors import UserError
from turkbert.pipelines import EmbeddingPipeline, NextSentencePipeline, max_length
from turkbert.tokenization import load_tokenizer


@dataclass(frozen=True)
class DemoModel:
    """A BERT ready to answer; `fill` and `next_sentence` are None where it was saved without that head.

    name: as people know it: a Hub id, or the name of its folder.
    folder: where its files are, None for a model of the Hub.
    sizes: layers, hidden, millions (parameters of the encoder), vocabulary.
    """

    name: str
    folder: Path | None
    tokenizer: PreTrainedTokenizerFast
    embed: EmbeddingPipeline
    fill: FillMaskPipeline | None
    next_sentence: NextSentencePipeline | None
    sizes: dict[str, float]


def load_model(name_or_path: str) -> DemoModel:
    """Load the encoder and its two pretraining heads; never runs code of the model's own.

    Raises:
        UserError: no such model, not a BERT with a WordPiece tokenizer, or damaged files.
    """
    tokenizer = load_tokenizer(name_or_path)
    path = Path(name_or_path).expanduser()
    folder = path if path.is_dir() else None
    source = str(folder or name_or_path)
    try:
        with _quiet():
            encoder, _ = _load(AutoModel, source)
            fill, has_fill = _load(AutoModelForMaskedLM, source)
            next_sentence, has_next_sentence = _load(AutoModelForNextSentencePrediction, source)
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).strip().partition("\n")[0].rstrip(" .:")
        raise UserError(name_or_path, f"no BERT could be loaded ({reason})", "give a BERT's folder or Hub id") from error
    config = encoder.config
    sizes = {
        "layers": config.num_hidden_layers,
        "hidden": config.hidden_size,
        "millions": encoder.num_parameters() / 1e6,
        "vocabulary": config.vocab_size,
    }
    return DemoModel(
        name=path.resolve().name if folder else name_or_path,
        folder=folder,
        tokenizer=tokenizer,
        embed=EmbeddingPipeline(encoder, tokenizer=tokenizer),
        fill=FillMaskPipeline(fill, tokenizer=tokenizer) if has_fill else None,
        next_sentence=NextSentencePipeline(next_sentence, tokenizer=tokenizer) if has_next_sentence else None,
        sizes=sizes,
    )


def too_long(pipe: Any, *texts: str) -> Note | None:
    """Says so where the texts together, as one input, have more tokens than the model can take."""
    count, limit = len(pipe.tokenizer(*texts, verbose=False)["input_ids"]), max_length(pipe)
    return Note("too_long", {"count": count, "limit": limit}) if count > limit else None


def _load(auto_class: Any, source: str) -> tuple[Any, bool]:
    """The model, and whether its head came from the files: what is missing there would be random numbers."""
    model, report = auto_class.from_pretrained(source, output_loading_info=True, trust_remote_code=False)
    return model.eval(), all(key.startswith(f"{model.base_model_prefix}.") for key in report["missing_keys"])


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' table of keys, once a head: the tabs say which heads there are."""
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)
