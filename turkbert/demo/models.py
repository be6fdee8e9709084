"""A model's folder or Hub id -> the pipelines of the demo, None where the model has no such head.

    model = load_model("out")
    fill_blanks(model, "Türkiye'nin başkenti [MASK].", 8)
"""

from dataclasses import dataclass
from pathlib import Path

from transformers import Pipeline, PreTrainedTokenizerFast

from turkbert.demo.notes import Note
from turkbert.pipelines import max_length
from turkbert.prediction import EMBEDDING, FILL_MASK, NEXT_SENTENCE, MissingHead, load_pipeline


@dataclass(frozen=True)
class Heading:
    """What the page calls a model.

    name: a Hub id, or the name of a folder.
    millions: parameters of the encoder.
    """

    name: str
    layers: int
    hidden: int
    millions: float
    vocabulary: int


@dataclass(frozen=True)
class DemoModel:
    """A BERT ready to answer; `fill` and `next_sentence` are None where it was saved without that head.

    folder: where its files are, None for a model of the Hub.
    """

    heading: Heading
    folder: Path | None
    embed: Pipeline
    fill: Pipeline | None
    next_sentence: Pipeline | None

    @property
    def tokenizer(self) -> PreTrainedTokenizerFast:
        return self.embed.tokenizer


def load_model(name_or_path: str, name: str | None = None) -> DemoModel:
    """Load the encoder and its two pretraining heads; never runs code of the model's own.

    Args:
        name: what the page calls it, if not by its id or folder.

    Raises:
        UserError: no such model, not a BERT with a WordPiece tokenizer, or damaged files.
    """
    path = Path(name_or_path).expanduser()
    folder = path if path.is_dir() else None
    embed = load_pipeline(EMBEDDING, name_or_path)
    fill, next_sentence = (_load_or_none(task, name_or_path) for task in (FILL_MASK, NEXT_SENTENCE))
    encoder = embed.model
    heading = Heading(
        name=name or (path.resolve().name if folder else name_or_path),
        layers=encoder.config.num_hidden_layers,
        hidden=encoder.config.hidden_size,
        millions=encoder.num_parameters() / 1e6,
        vocabulary=encoder.config.vocab_size,
    )
    return DemoModel(heading, folder, embed, fill, next_sentence)


def too_long(pipe: Pipeline, *texts: str) -> Note | None:
    """Says so where the texts together, as one input, have more tokens than the model can take."""
    count, limit = len(pipe.tokenizer(*texts, truncation=False, verbose=False)["input_ids"]), max_length(pipe)
    return Note("too_long", {"count": count, "limit": limit}) if count > limit else None


def _load_or_none(task: str, name_or_path: str) -> Pipeline | None:
    try:
        return load_pipeline(task, name_or_path)
    except MissingHead:  # its tab says so
        return None
