"""Two sentences -> how likely the second follows the first in one text."""

from dataclasses import dataclass

from turkbert.demo.models import DemoModel, too_long
from turkbert.demo.notes import Note
from turkbert.prediction import predict_next


@dataclass(frozen=True)
class Continuation:
    """`is_next`: the probability that B follows A; the rest is that of B from elsewhere."""

    is_next: float


def judge_continuation(model: DemoModel, text: str, text_pair: str) -> Continuation | Note:
    """What the next-sentence head says of A and B."""
    if model.next_sentence is None:
        return Note("no_next_sentence")
    if not text.strip() or not text_pair.strip():
        return Note("two_sentences")
    if note := too_long(model.next_sentence, text, text_pair):
        return note
    return Continuation(predict_next(model.next_sentence, [{"text": text, "text_pair": text_pair}])[0])
