"""SQuAD's exact match and F1 for Turkish: as the official script counts them, but with Turkish casing.

    squad_metrics(["Istanbul'da"], [["ISTANBUL'DA"]])    # {"exact_match": 0.0, ...}: I is ı, never i

The official script lower-cases with str.lower() and removes the words a, an and the. Here I becomes ı and İ becomes i,
also where it comes as two characters, and no word is removed: `an` is Turkish for moment. Everything else is the same:
ASCII punctuation is removed, white space is one space, tokens are what stands between spaces, the best of several
reference answers counts.
"""

import string
import unicodedata
from collections import Counter
from collections.abc import Sequence

_FOLD = str.maketrans({"I": "ı", "İ": "i"})
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalize_answer(text: str) -> str:
    """Turkish lower case, without ASCII punctuation, single spaces."""
    # I + U+0307 is İ; i + U+0307 is what lower() of other programs leaves of it.
    text = unicodedata.normalize("NFC", text).translate(_FOLD).lower().replace("i\u0307", "i")
    return " ".join(text.translate(_NO_PUNCTUATION).split())


def answer_f1(prediction: str, reference: str) -> float:
    """F1 of the tokens that two answers share, 0 to 1; of two empty ones 1, of one empty one 0."""
    said, true = normalize_answer(prediction).split(), normalize_answer(reference).split()
    if not said or not true:
        return float(said == true)
    shared = sum((Counter(said) & Counter(true)).values())
    return 2 * shared / (len(said) + len(true))


def squad_metrics(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """Exact match and F1 in percent; where some questions have no answer, also over either kind alone.

    Args:
        predictions: one answer a question; "" says that there is none.
        references: the right answers of each question; none, where there is no answer.
    """
    exact, f1 = [], []
    for prediction, answers in zip(predictions, references, strict=True):
        # As in the official script, answers that are nothing but punctuation do not count.
        answers = [answer for answer in answers if normalize_answer(answer)] or [""]
        exact.append(max(float(normalize_answer(prediction) == normalize_answer(answer)) for answer in answers))
        f1.append(max(answer_f1(prediction, answer) for answer in answers))
    scores = {"exact_match": _percent(exact), "f1": _percent(f1)}
    answered = [bool(answers) for answers in references]
    if not all(answered):
        for name, wanted in (("has_answer", True), ("no_answer", False)):
            chosen = [index for index, has in enumerate(answered) if has == wanted]
            scores[f"{name}_exact_match"] = _percent([exact[index] for index in chosen])
            scores[f"{name}_f1"] = _percent([f1[index] for index in chosen])
    return scores


def _percent(values: list[float]) -> float:
    return 100 * sum(values) / len(values) if values else 0.0
