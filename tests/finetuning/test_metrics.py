"""Scores by hand, and SQuAD's as the official script counts them."""

import re
import string
from collections import Counter

import pytest

from turkbert.finetuning.metrics import classification_metrics, has_entities, regression_metrics, tagging_metrics
from turkbert.finetuning.squad import answer_f1, normalize_answer, squad_metrics


def test_classification_by_hand():
    # class 0: precision 1/2, recall 1/1, F1 2/3; class 1: 1/1, 1/2, 2/3; MCC (1*1 - 0*1) / sqrt(1*2*1*2) = 1/2
    scores = classification_metrics([0, 1, 0], [0, 1, 1])
    assert scores == pytest.approx({"accuracy": 200 / 3, "f1": 200 / 3, "mcc": 50})


def test_a_class_that_is_never_said_counts_zero():
    assert classification_metrics([0, 0, 0, 0], [0, 0, 0, 1])["f1"] == pytest.approx(100 * (6 / 7) / 2)


def test_regression_by_hand():
    # deviations (-1, 0, 1) and (-4/3, -1/3, 5/3): r = 3 / sqrt(2 * 42/9); the ranks agree
    scores = regression_metrics([1, 2, 3], [1, 2, 4])
    assert scores["pearson"] == pytest.approx(100 * 3 / (2 * 42 / 9) ** 0.5)
    assert scores["spearman"] == pytest.approx(100)
    assert scores["combined"] == pytest.approx((scores["pearson"] + scores["spearman"]) / 2)
    assert scores["mse"] == pytest.approx(1 / 3)


def test_a_constant_prediction_correlates_with_nothing():
    assert regression_metrics([2, 2, 2], [1, 2, 4])["combined"] == 0


def test_entities_count_whole():
    true = [["B-PER", "I-PER", "O", "B-LOC"], ["B-ORG", "O"]]
    said = [["B-PER", "O", "O", "B-LOC"], ["B-ORG", "B-LOC"]]
    # said: PER (one word: wrong), LOC, ORG, LOC (wrong); 2 of 4 right, 2 of 3 found; words 4 of 6
    scores = tagging_metrics(said, true)
    assert scores == pytest.approx({"precision": 50, "recall": 200 / 3, "f1": 400 / 7, "accuracy": 400 / 6})


def test_the_right_words_with_another_type_are_wrong():
    assert tagging_metrics([["B-PER"]], [["B-LOC"]])["f1"] == 0


def test_parts_of_speech_count_words():
    scores = tagging_metrics([["NOUN", "VERB", "NOUN", "X"]], [["NOUN", "VERB", "ADJ", "X"]])
    assert scores == {"f1": 75, "accuracy": 75}


@pytest.mark.parametrize(
    ("tags", "expected"),
    [({"O", "B-PER"}, True), ({"NOUN", "INTJ"}, False), ({"O"}, False), ({"B-PER", "X"}, False), ({"B"}, False)],
)
def test_what_marks_entities(tags, expected):
    assert has_entities(tags) == expected


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("ISPARTA", "ısparta"),
        ("İSTANBUL'da", "istanbulda"),
        ("  iki\t üç \n", "iki üç"),
        ("an", "an"),  # Turkish for moment: no article
        ("Diyarbakır, Kars.", "diyarbakır kars"),
        ("i̇".upper(), "i̇"),  # İ + U+0307 from elsewhere keeps its mark
    ],
)
def test_turkish_normalization(text, normal):
    assert normalize_answer(text) == normal


@pytest.mark.parametrize(
    ("prediction", "answer", "f1"),
    [
        ("Mustafa Kemal Atatürk", "Mustafa Kemal", 0.8),  # 2 shared of 3 and 2: 2 * 2 / 5
        ("iki iki üç", "iki üç üç", 2 / 3),  # each word as often as both have it
        ("", "", 1),
        ("", "Ankara", 0),
        ("Ankara", "", 0),
        ("...", "Ankara", 0),
        ("kırmızı", "KIRMIZI", 1),
        ("kirmizi", "KIRMIZI", 0),
    ],
)
def test_answer_f1_by_hand(prediction, answer, f1):
    assert answer_f1(prediction, answer) == pytest.approx(f1)


def test_the_best_of_several_answers_counts():
    scores = squad_metrics(["Ankara şehri", "1923"], [["Ankara", "Ankara Şehri"], ["1920"]])
    assert scores == {"exact_match": 50, "f1": 50}


def test_questions_without_an_answer():
    scores = squad_metrics(["", "Ankara", "Ankara"], [[], [], ["Ankara"]])
    assert scores == pytest.approx(
        {
            "exact_match": 200 / 3,
            "f1": 200 / 3,
            "has_answer_exact_match": 100,
            "has_answer_f1": 100,
            "no_answer_exact_match": 50,
            "no_answer_f1": 50,
        }
    )


def english_scores(prediction: str, answers: list[str]) -> tuple[float, float]:
    """The rules of the official SQuAD 2.0 script, written down anew: an independent oracle."""

    def normal(text):
        text = "".join(letter for letter in text.lower() if letter not in set(string.punctuation))
        return re.sub(r"\b(a|an|the)\b", " ", text).split()

    def f1(said, true):
        common = sum((Counter(said) & Counter(true)).values())
        if not said or not true:
            return float(said == true)
        if common == 0:
            return 0.0
        precision, recall = common / len(said), common / len(true)
        return 2 * precision * recall / (precision + recall)

    golds = [normal(answer) for answer in answers if normal(answer)] or [[]]
    said = normal(prediction)
    return max(float(said == gold) for gold in golds), max(f1(said, gold) for gold in golds)


@pytest.mark.parametrize(
    ("prediction", "answers"),
    [
        ("Denver Broncos", ["Denver Broncos", "Denver Broncos", "Broncos"]),
        ("Levi's Stadium", ["Levi's Stadium in Santa Clara", "Levis Stadium"]),
        ("gold,  Anniversary", ["gold", "gold anniversary"]),
        ("", []),
        ("1815", []),
        ("", ["1815"]),
        ("...", ["..."]),
        ("San Francisco Bay Area", ["San Francisco", "Santa Clara"]),
        ("24–10", ["24–10", "24-10"]),
    ],
)
def test_as_the_official_script_where_neither_articles_nor_casing_differ(prediction, answers):
    scores = squad_metrics([prediction], [answers])
    assert (scores["exact_match"] / 100, scores["f1"] / 100) == pytest.approx(english_scores(prediction, answers))
