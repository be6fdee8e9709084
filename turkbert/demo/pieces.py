"""What the tokenizer does to a text: its pieces, and what becomes of the four letters i.

    İ -> i and I -> ı is the Turkish way; I -> i, as English has it, makes another word of many a word.
"""

import unicodedata
from dataclasses import dataclass

from transformers import PreTrainedTokenizerFast

from turkbert.demo.notes import Note
from turkbert.tokenization import word_start_table

LETTERS = {"İ": "i", "I": "ı", "ı": "ı", "i": "i"}  # and their Turkish lower case
CASE_PAIRS = (("ISLIK", "ıslık"), ("İZMİR", "izmir"), ("KIRMIZI", "kırmızı"))


@dataclass(frozen=True)
class Piece:
    """A token of a text. `source` is what it stands for there: of [UNK] that cannot be seen otherwise."""

    token: str
    id: int
    source: str
    starts_word: bool
    is_unknown: bool


@dataclass(frozen=True)
class SplitText:
    """A text as the model is given it, without [CLS] and [SEP]. normalized: what the pieces are cut from."""

    text: str
    normalized: str
    pieces: list[Piece]

    @property
    def num_words(self) -> int:
        return sum(piece.starts_word for piece in self.pieces)

    @property
    def unknown_share(self) -> float:
        return sum(piece.is_unknown for piece in self.pieces) / len(self.pieces)


@dataclass(frozen=True)
class Casing:
    """How a tokenizer reads the four letters, and words in both cases.

    kind: "cased" (it leaves them alone), "turkish" (lower-cased as Turkish has it) or "foreign".
    letters: each with what becomes of it.
    pairs: (upper, its pieces, lower, its pieces, whether these are the same).
    """

    kind: str
    letters: dict[str, str]
    pairs: list[tuple[str, list[str], str, list[str], bool]]


def split_text(tokenizer: PreTrainedTokenizerFast, text: str) -> SplitText | Note:
    """The pieces of a text of any length."""
    encoding = tokenizer(text, add_special_tokens=False, verbose=False).encodings[0]
    if not encoding.ids:
        return Note("no_text")
    word_starts = word_start_table(tokenizer)
    pieces = [
        Piece(token, index, text[start:end], bool(word_starts[index]), index == tokenizer.unk_token_id)
        for token, index, (start, end) in zip(encoding.tokens, encoding.ids, encoding.offsets, strict=True)
    ]
    return SplitText(text, normalize(tokenizer, text), pieces)


def read_casing(tokenizer: PreTrainedTokenizerFast) -> Casing:
    """Ask the tokenizer's normaliser and its vocabulary."""
    letters = {letter: normalize(tokenizer, letter) for letter in LETTERS}
    if all(letter == read for letter, read in letters.items()):
        kind = "cased"
    else:
        kind = "turkish" if letters == LETTERS else "foreign"
    split = tokenizer.tokenize
    pairs = [(upper, split(upper), lower, split(lower), split(upper) == split(lower)) for upper, lower in CASE_PAIRS]
    return Casing(kind, letters, pairs)


def normalize(tokenizer: PreTrainedTokenizerFast, text: str) -> str:
    """A text as the tokenizer's rules leave it before it is cut."""
    normalizer = tokenizer.backend_tokenizer.normalizer
    return text if normalizer is None else normalizer.normalize_str(text)


def code_points(text: str) -> str:
    """U+0069 U+0307: tells i with a second dot from i, which look much the same."""
    return " ".join(f"U+{ord(character):04X}" for character in unicodedata.normalize("NFC", text))
