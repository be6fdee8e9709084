"""Masked words: a text with [MASK] -> what the model would write there, and how sure it is."""

from dataclasses import dataclass

from turkbert.demo.models import DemoModel, too_long
from turkbert.demo.notes import Note
from turkbert.prediction import fill_masks

MASK = "[MASK]"  # as people type it, whatever the model's own token is


@dataclass(frozen=True)
class Candidate:
    """One token for one blank, `##` left as it is, with its probability."""

    token: str
    probability: float


@dataclass(frozen=True)
class FilledText:
    """A text cut at its M blanks.

    between: (M + 1) what stands before, between and after the blanks.
    blanks: (M) the candidates of each, the likeliest first. Each blank is filled by itself, the others still hidden.
    """

    between: list[str]
    blanks: list[list[Candidate]]


def fill_blanks(model: DemoModel, text: str, num_candidates: int) -> FilledText | Note:
    """The `num_candidates` likeliest tokens for each [MASK] of a text."""
    if model.fill is None:
        return Note("no_fill")
    if MASK not in text:
        return Note("no_mask")
    masked = text.replace(MASK, model.tokenizer.mask_token)
    if note := too_long(model.fill, masked):
        return note
    tokens = model.tokenizer.convert_ids_to_tokens
    blanks = [
        [Candidate(tokens(found["token"]), found["score"]) for found in candidates]
        for candidates in fill_masks(model.fill, [masked], num_candidates)[0]
    ]
    return FilledText(text.split(MASK), blanks)
