"""What the model says of a few texts, to be read by people: words for [MASK], and whether B follows A.

One text a line. A line with [MASK] asks for words; a line with a tab asks for the pair before and after it.
"""

import logging
from importlib.resources import files
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerFast

from turkbert.errors import UserError
from turkbert.model import TurkBertForPreTraining

logger = logging.getLogger(__name__)

TOP_K = 5


def read_sample_texts(path: str | None) -> list[str]:
    """The lines of a sample file, comments (#) and blank ones left out; without a path the bundled ones.

    Raises:
        UserError: the file is not there, or a line has neither [MASK] nor a tab.
    """
    source = Path(path) if path else files("turkbert") / "sample" / "sample_texts.tsv"
    try:
        lines = source.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise UserError(path, f"cannot be read ({error.strerror})", "name a text file in sample_texts") from None
    except UnicodeDecodeError:
        raise UserError(path, "is not UTF-8", "save it as UTF-8 text") from None
    texts = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    for number, text in enumerate(texts, 1):
        if "[MASK]" not in text and "\t" not in text:
            raise UserError(f"{source}", f"text {number} has neither [MASK] nor a tab", "add one, or put # before it")
    return texts


@torch.no_grad()
def predict_samples(
    model: TurkBertForPreTraining, tokenizer: PreTrainedTokenizerFast, texts: list[str], with_nsp: bool = True
) -> str:
    """Predictions as lines of text; the model is left in the mode it was in."""
    was_training = model.training
    model.eval()
    lines = []
    for text in texts:
        if "[MASK]" in text:
            lines += _predict_words(model, tokenizer, text)
        elif with_nsp:
            lines += _predict_next(model, tokenizer, *text.split("\t", 1))
    model.train(was_training)
    return "\n".join(lines)


def _predict_words(model: TurkBertForPreTraining, tokenizer: PreTrainedTokenizerFast, text: str) -> list[str]:
    inputs = _encode(model, tokenizer, text.replace("[MASK]", tokenizer.mask_token))
    probabilities = model(**inputs).prediction_logits[0].float().softmax(-1)  # (T, V)
    lines = [text]
    for position in (inputs["input_ids"][0] == tokenizer.mask_token_id).nonzero().flatten().tolist():
        best = probabilities[position].topk(TOP_K)
        words = tokenizer.convert_ids_to_tokens(best.indices.tolist())
        lines.append("    " + "  ".join(f"{w} {p:.3f}" for w, p in zip(words, best.values.tolist(), strict=True)))
    return lines


def _predict_next(model: TurkBertForPreTraining, tokenizer: PreTrainedTokenizerFast, a: str, b: str) -> list[str]:
    logits = model(**_encode(model, tokenizer, a, b)).seq_relationship_logits[0].float()
    return [f"{a} → {b}", f"    B follows A: {logits.softmax(-1)[0].item():.3f}"]


def _encode(model: TurkBertForPreTraining, tokenizer: PreTrainedTokenizerFast, *texts: str) -> dict[str, torch.Tensor]:
    limit = model.config.max_position_embeddings
    inputs = tokenizer(*texts, return_tensors="pt", truncation=True, max_length=limit)
    return {name: tensor.to(model.device) for name, tensor in inputs.items() if name != "attention_mask"}
