"""Rows as people read them: words instead of tokens, hidden words marked beside what stood there.

    A: Dün ⟦bakanlığı→[MASK]⟧ açıkladı.   B: Yeni ⟦ev→kitap⟧ ⟦ve⟧ ...
"""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from datasets import Dataset
from transformers import PreTrainedTokenizerFast

from turkbert.data.arrow import read_columns
from turkbert.data.masking import Masked
from turkbert.tokenization import word_start_table

_NO_SPACE_BEFORE = re.compile(r"[.,;:!?…%)\]}’'”»]")
_NO_SPACE_AFTER = re.compile(r"[(\[{'’“«]")


class Word(NamedTuple):
    """A word of a row; `kind` is plain, masked, replaced or kept."""

    text: str  # what stood in the document
    shown: str  # what the row has in its place
    kind: str
    space: bool  # whether one goes before it

    def mark(self) -> str:
        """The word as plain text: ⟦what stood there→what is shown⟧ if it is to be predicted."""
        marked = {"plain": self.text, "kept": f"⟦{self.text}⟧"}.get(self.kind, f"⟦{self.text}→{self.shown}⟧")
        return " " * self.space + marked


class Example(NamedTuple):
    """A readable row."""

    number: int
    a: list[Word]
    b: list[Word]
    is_next: bool
    length: int
    num_padding: int

    @property
    def label(self) -> str:
        """How A and B belong together, in words."""
        if not self.b:
            return "A alone"
        return "B follows A" if self.is_next else "B is random"

    def text(self) -> dict[str, Any]:
        """The row as plain text: number, label, a, b, length and padding in tokens."""
        a, b = ("".join(word.mark() for word in words) for words in (self.a, self.b))
        return {
            "row": self.number, "label": self.label, "a": a, "b": b,
            "length": self.length, "padding": self.num_padding,
        }  # fmt: skip


def read_examples(
    rows: Dataset,
    number: int,
    tokenizer: PreTrainedTokenizerFast,
    mask: Callable[..., Masked] | None = None,
) -> list[Example]:
    """`number` rows, evenly spread over a split.

    Args:
        mask: a WholeWordMasker with its seed and epoch, for rows without static masks; called with the ids and the
            rows' numbers. Without it nothing is hidden in such rows.
    """
    numbers = np.unique(np.linspace(0, len(rows) - 1, min(number, len(rows))).astype(np.int64))
    columns = read_columns(rows.with_format("arrow"), numbers)
    shown = columns["input_ids"]
    if "masked_lm_positions" in columns:
        original, chosen = shown.copy(), np.zeros(shown.shape, dtype=bool)
        for row, (places, ids) in enumerate(
            zip(columns["masked_lm_positions"], columns["masked_lm_ids"], strict=True)
        ):
            original[row, places], chosen[row, places] = ids, True
    else:
        original = shown
        shown, chosen, _ = mask(original, rows=numbers) if mask else Masked(original, np.zeros(shown.shape, bool), 0)
    decoder = _RowDecoder(tokenizer)
    examples = []
    for row in range(len(numbers)):
        length_a, length = int(columns["length_a"][row]), int(columns["length"][row])
        a, b = (
            decoder(original[row, span], shown[row, span], chosen[row, span])
            for span in (slice(1, 1 + length_a), slice(2 + length_a, length - 1))
        )
        is_next = bool(columns["next_sentence_label"][row] == 0)
        examples.append(Example(int(numbers[row]), a, b, is_next, length, shown.shape[1] - length))
    return examples


class _RowDecoder:
    """(original ids, shown ids, chosen) of A or B -> words."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast):
        self.tokenizer = tokenizer
        self.word_starts = word_start_table(tokenizer)

    def __call__(self, original: np.ndarray, shown: np.ndarray, chosen: np.ndarray) -> list[Word]:
        if not original.size:
            return []
        starts = np.flatnonzero(self.word_starts[original])
        starts = np.unique(np.append(starts, 0)[: original.size])  # the cut may fall within an endless word
        words: list[Word] = []
        for start, end in zip(starts, np.append(starts[1:], original.size), strict=True):
            text, seen = self._decode(original[start:end]), shown[start:end]
            kind = "plain"
            if chosen[start]:
                kind = "kept" if (seen == original[start:end]).all() else "replaced"
                kind = "masked" if (seen == self.tokenizer.mask_token_id).all() else kind
            words.append(Word(text, self._decode(seen), kind, bool(words) and _needs_space(words[-1].text, text)))
        return words

    def _decode(self, ids: np.ndarray) -> str:
        if (ids == self.tokenizer.mask_token_id).all():
            return self.tokenizer.mask_token + (f"×{ids.size}" if ids.size > 1 else "")
        return str(self.tokenizer.decode(ids, clean_up_tokenization_spaces=False))


def _needs_space(before: str, word: str) -> bool:
    """Whether people would write a space between two words of the tokenizer, as well as one can tell from them."""
    if _NO_SPACE_BEFORE.fullmatch(word) or _NO_SPACE_AFTER.fullmatch(before):
        return False
    return not (before.isdigit() and word.isdigit())
