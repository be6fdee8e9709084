"""Rows as people read them."""

import numpy as np
import pytest
from datasets import Dataset, List, Value

from turkbert.data.examples import read_examples
from turkbert.data.masking import Masked

PAD, UNK, CLS, SEP, MASK, EV, LER, VE, DOT, APOSTROPHE, IN, ONE, NINE, KITAP, TAG = range(15)
ROW = {
    "input_ids": [CLS, MASK, MASK, APOSTROPHE, IN, KITAP, VE, SEP, ONE, MASK, UNK, DOT, SEP, PAD, PAD],
    "length_a": 6,
    "length": 13,
    "next_sentence_label": 1,
    "masked_lm_positions": [1, 2, 5, 6, 9],
    "masked_lm_ids": [EV, LER, EV, VE, NINE],
}


def dataset(rows: list[dict]) -> Dataset:
    """Rows of one length, as they are on disk."""
    return Dataset.from_list(rows).cast_column("input_ids", List(Value("int32"), length=len(ROW["input_ids"])))


def test_static_row(hand_tokenizer):
    (example,) = read_examples(dataset([ROW]), 5, hand_tokenizer)
    assert example.text() == {
        "row": 0,
        "label": "B is random",
        "a": "⟦evler→[MASK]×2⟧'in ⟦ev→kitap⟧ ⟦ve⟧",
        "b": "1⟦9→[MASK]⟧ [UNK].",
        "length": 13,
        "padding": 2,
    }
    assert [word.kind for word in example.a] == ["masked", "plain", "plain", "replaced", "kept"]


def test_dynamic_row_is_masked_by_its_number(hand_tokenizer):
    row = {name: ROW[name] for name in ("input_ids", "length_a", "length", "next_sentence_label")}
    row = {**row, "input_ids": [CLS, EV, LER, APOSTROPHE, IN, EV, VE, SEP, ONE, NINE, UNK, DOT, SEP, PAD, PAD]}
    seen = []

    def mask(input_ids: np.ndarray, rows: np.ndarray) -> Masked:
        seen.extend(rows.tolist())
        hidden, chosen = input_ids.copy(), np.zeros(input_ids.shape, dtype=bool)
        hidden[:, 1:3], chosen[:, 1:3] = MASK, True
        return Masked(hidden, chosen, 0)

    rows = dataset([row] * 9)
    examples = read_examples(rows, 3, hand_tokenizer, mask)
    assert [example.number for example in examples] == seen == [0, 4, 8]
    assert examples[0].text()["a"] == "⟦evler→[MASK]×2⟧'in ev ve"
    assert read_examples(rows, 1, hand_tokenizer)[0].text()["a"] == "evler'in ev ve"


@pytest.mark.parametrize("number", [1, 7])
def test_marks_are_the_labels(sample_prepared, number):
    rows = sample_prepared.rows[64]["validation"]
    tokenizer = sample_prepared.tokenizer
    examples = read_examples(rows, number, tokenizer)
    assert len(examples) == number
    for example in examples:
        row = rows[example.number]
        marked = "".join(word.text for word in [*example.a, *example.b] if word.kind != "plain")
        tokens = tokenizer.convert_ids_to_tokens(row["masked_lm_ids"])
        assert marked == "".join(token.removeprefix("##") for token in tokens)
        assert example.is_next == (row["next_sentence_label"] == 0)


def test_more_rows_asked_for_than_there_are(sample_prepared):
    rows = sample_prepared.rows[64]["validation"].select(range(3))
    assert [example.number for example in read_examples(rows, 10, sample_prepared.tokenizer)] == [0, 1, 2]
