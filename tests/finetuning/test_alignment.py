"""Where tags and answers land among the sub-words, by hand and against slow but plain searches."""

import numpy as np
import pytest

from turkbert.finetuning.classification import tokenize_texts
from turkbert.finetuning.question_answering import best_spans, build_windows, find_span
from turkbert.finetuning.token_classification import IGNORED, align_tags


def align(tokenizer, tokens, tags, max_length=64):
    return align_tags({"tokens": [tokens], "tags": [tags], "example": [7]}, tokenizer, max_length)


def test_the_first_sub_word_carries_the_tag(sample_tokenizer):
    tokens, tags = ["Çekoslovakyalılaştıramadıklarımız", "Ankara'ya", "gitti", "."], [3, 5, 0, 0]
    windows = align(sample_tokenizer, tokens, tags)
    labels = windows["labels"][0]
    starts = [i for i, label in enumerate(labels) if label != IGNORED]
    pieces = [len(sample_tokenizer.tokenize(token)) for token in tokens]
    assert pieces[0] > 2 and pieces[1] > 1  # else the test says nothing
    assert starts == [1 + sum(pieces[:n]) for n in range(4)]
    assert [labels[i] for i in starts] == tags and windows["words"] == [[0, 1, 2, 3]] and windows["example"] == [7]
    assert windows["length"] == [sum(pieces) + 2] == [len(windows["input_ids"][0])]


@pytest.mark.parametrize("max_length", [5, 8, 13])
def test_a_long_sentence_is_read_in_windows_with_each_word_once(sample_tokenizer, max_length):
    text = "Afyonkarahisarlılaştıramadıklarımızdan mısınız Ankara'ya giden kırmızı otobüs sabah erkenden kalktı ."
    tokens = text.split()
    tags = list(range(len(tokens)))
    windows = align(sample_tokenizer, tokens, tags, max_length)
    assert len(windows["labels"]) > 1 and max(windows["length"]) <= max_length
    assert [word for words in windows["words"] for word in words] == tags
    assert [label for labels in windows["labels"] for label in labels if label != IGNORED] == tags
    assert set(windows["example"]) == {7}


def test_a_cut_text_is_told(sample_tokenizer):
    batch = {"text": ["kısa", "uzun " * 50]}
    encoded = tokenize_texts(batch, sample_tokenizer, ["text"], 16)
    assert encoded["is_cut"] == [False, True] and encoded["length"][1] == 16


def test_a_pair_has_two_token_types(sample_tokenizer):
    encoded = tokenize_texts({"a": ["Ankara"], "b": ["İzmir"]}, sample_tokenizer, ["a", "b"], 16)
    assert set(encoded["token_type_ids"][0]) == {0, 1}


@pytest.mark.parametrize(
    ("start", "end", "tokens"),
    [
        (4, 10, (3, 3)),  # a whole token
        (4, 13, (3, 4)),  # two
        (5, 9, (3, 3)),  # inside of one: the token that holds it
        (0, 3, (2, 2)),  # the first of the window
        (-1, 0, (0, 0)),  # no answer
        (14, 20, (0, 0)),  # behind the window
        (10, 16, (0, 0)),  # half behind it
    ],
)
def test_find_span_by_hand(start, end, tokens):
    #          [CLS] q  "bir" "Ankara" "'da" [SEP]
    begins, ends = [-1, -1, 0, 4, 10, -1], [-1, -1, 3, 10, 13, -1]
    assert find_span(begins, ends, start, end) == tokens


def test_an_answer_before_the_window_is_not_in_it():
    assert find_span([-1, 20, 25], [-1, 24, 30], 18, 24) == (0, 0)


def test_windows_hold_the_answer_where_they_say(sample_tokenizer):
    context = "Güneş doğdu. " * 12 + "Kırmızı İSTANBUL'un kapısı açıldı. " + "Kuşlar uçtu. " * 12
    answer = "İSTANBUL'un kapısı"
    batch = {
        "question": ["Ne açıldı?"],
        "context": [context],
        "answer_start": [context.index(answer)],
        "answer_text": [answer],
        "example": [0],
    }
    windows = build_windows(batch, sample_tokenizer, max_length=48, doc_stride=12)
    spans = [
        (window, start, end)
        for window, (start, end) in enumerate(zip(windows["start_positions"], windows["end_positions"], strict=True))
        if start
    ]
    assert len(windows["input_ids"]) > 2 and spans
    for window, start, end in spans:
        assert context[windows["offset_starts"][window][start] : windows["offset_ends"][window][end]] == answer
    covered = {
        place
        for begins, ends in zip(windows["offset_starts"], windows["offset_ends"], strict=True)
        for begin, end in zip(begins, ends, strict=True)
        for place in range(max(begin, 0), end)
    }
    assert covered >= {place for place, letter in enumerate(context) if not letter.isspace()}


def test_a_long_question_leaves_half_of_the_row_to_the_context(sample_tokenizer):
    batch = {
        "question": ["neden " * 200],
        "context": ["Ankara başkenttir."],
        "answer_start": [0],
        "answer_text": ["Ankara"],
        "example": [0],
    }
    windows = build_windows(batch, sample_tokenizer, max_length=40, doc_stride=4)
    assert windows["question_is_cut"] == [True] and windows["start_positions"][0] > 0
    assert max(windows["length"]) <= 40


def test_best_spans_is_the_plain_search():
    rng = np.random.default_rng(3)
    starts, ends = rng.normal(size=(2, 20, 15))
    allowed = rng.random((20, 15)) < 0.7
    allowed[0] = False
    scores, first, last = best_spans(starts, ends, allowed, 4)
    for row in range(20):
        spans = {
            (i, j): starts[row, i] + ends[row, j]
            for i in range(15)
            for j in range(i, min(i + 4, 15))
            if allowed[row, i] and allowed[row, j]
        }
        if not spans:
            assert scores[row] == -np.inf
            continue
        best = max(spans, key=spans.get)
        assert (first[row], last[row]) == best and scores[row] == spans[best]
