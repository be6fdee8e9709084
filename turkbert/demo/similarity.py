"""Sentences -> how near their vectors are to each other, and which pair is nearest."""

from dataclasses import dataclass

import numpy as np

from turkbert.demo.models import DemoModel, too_long
from turkbert.demo.notes import Note
from turkbert.prediction import embed_texts

MAX_SENTENCES = 12  # what a table can show


@dataclass(frozen=True)
class Similarities:
    """N sentences and the cosines of their mean vectors, (N, N), with ones on the diagonal."""

    sentences: list[str]
    cosines: np.ndarray

    def nearest_pair(self) -> tuple[int, int]:
        """The two different places with the greatest cosine, the smaller first."""
        others = np.where(np.eye(len(self.sentences), dtype=bool), -np.inf, self.cosines)
        first, second = sorted(divmod(int(others.argmax()), len(self.sentences)))
        return first, second

    def shades(self) -> np.ndarray:
        """(N, N) the cosines from 0, the least of them, to 1, the greatest between two sentences.

        A BERT's vectors all point much the same way: on the scale of 0 to 1 every pair would look alike.
        """
        pairs = self.cosines[~np.eye(len(self.sentences), dtype=bool)]
        spread = max(float(pairs.max() - pairs.min()), 1e-6)
        return np.clip((self.cosines - pairs.min()) / spread, 0, 1)


def compare_sentences(model: DemoModel, lines: str) -> Similarities | Note:
    """Each line that is not empty is a sentence."""
    sentences = [line.strip() for line in lines.splitlines() if line.strip()]
    if not 2 <= len(sentences) <= MAX_SENTENCES:
        return Note("number_of_sentences", {"limit": MAX_SENTENCES})
    if note := next(filter(None, (too_long(model.embed, sentence) for sentence in sentences)), None):
        return note
    vectors = embed_texts(model.embed, sentences)  # (N, H)
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return Similarities(sentences, vectors @ vectors.T)
