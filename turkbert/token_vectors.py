"""The vectors of the single tokens of a text or of a pair, and which of them belong to a word.

    encoded = embed.encode_pair("Kasadan yüz lira aldı.", "Güneş yüz gösterdi.")    # embed: an EmbeddingPipeline
    hundred, face = encoded.vectors_of("yüz")                                       # (H,) each, and not the same
"""

import re
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class TokenVectors:
    """A text or a pair as the model sees it. T tokens, H numbers each.

    texts: one text or two, as given.
    tokens: (T) names, [CLS] and [SEP] among them.
    vectors: (T, H) float32, the last layer's.
    offsets: (T) the characters [start, end) of its text that a token stands for.
    segments: (T) 0 in the first text, 1 in the second, None for [CLS] and [SEP].
    """

    texts: tuple[str, ...]
    tokens: list[str]
    vectors: np.ndarray
    offsets: list[tuple[int, int]]
    segments: list[int | None]

    def tokens_of(self, word: str) -> list[list[int]]:
        """The indices of a word's tokens, one list for each place where it stands, in the order of the texts.

        A word is looked up as it is written, upper and lower case apart, and only where no letter or digit touches
        it: "yüz" is in "yüz lira" and "yüz'ün", not in "yüzü". Places cut off at the model's length are left out.

        Raises:
            ValueError: the word does not stand in the texts.
        """
        pattern = re.compile(rf"(?<!\w){re.escape(word)}(?!\w)")
        places = [(segment, *m.span()) for segment, text in enumerate(self.texts) for m in pattern.finditer(text)]
        found = [tokens for place in places if (tokens := self._tokens_within(*place))]
        if not found or not word:
            raise ValueError(f"{word!r} is not a word of the texts, or lies beyond the model's length")
        return found

    def vectors_of(self, word: str) -> np.ndarray:
        """(places, H) float32: the mean of a word's tokens at each place where it stands; see `tokens_of`."""
        return np.stack([self.vectors[tokens].mean(0) for tokens in self.tokens_of(word)])

    def _tokens_within(self, segment: int, start: int, end: int) -> list[int]:
        """Tokens that share a character with [start, end) of a text."""
        return [
            index
            for index, (first, last) in enumerate(self.offsets)
            if self.segments[index] == segment and first < end and last > start
        ]
