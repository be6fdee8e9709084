"""Statistics of data by hand, and of the sample by slow loops."""

from collections import Counter

import pytest
from datasets import Dataset, DatasetDict, Features, List, Value, concatenate_datasets

from turkbert.data import prepare_dataset, stats
from turkbert.data.prepare import TOKEN_FEATURES
from turkbert.data.stats import (
    character_class,
    describe_data,
    describe_rows,
    describe_texts,
    describe_tokens,
    find_warnings,
)

PAD, UNK, CLS, SEP, MASK, EV, LER, VE, DOT, APOSTROPHE, IN, ONE, NINE, KITAP, TAG = range(15)


# R14 row 13
@pytest.mark.parametrize(
    ("name", "characters"),
    {
        "turkish_letters": "aZğĞıIiİöşÇâÎû",
        "other_latin": "qWxéñß",
        "cyrillic": "жЯ",
        "greek": "αΩ",
        "arabic": "عش",
        "other_letters": "אक日",
        "digits": "09٣",
        "punctuation": ".,'’“-(",
        "symbols": "+₺€😀",
        "combining_marks": "\u0307",
        "white_space": " \n\t\u00a0\u3000",
        "control_and_private": "\u200f\ue000",
    }.items(),
)
def test_character_class(name, characters):
    assert {character_class(character) for character in characters} == {name}


def test_texts_by_hand():
    found = describe_texts(Dataset.from_dict({"text": ["Ağaç, 12\u00a0w", "ж 😀", "Ağaç, 12\u00a0w", "İki\nsatır"]}))
    assert found == {
        "number": 4,
        "bytes": 13 + 7 + 13 + 11,
        "white_space_words": 3 + 2 + 3 + 2,
        "duplicates": 1,
        "characters": {
            "turkish_letters": 4 + 4 + 8,
            "white_space": 2 + 1 + 2 + 1,
            "digits": 4,
            "punctuation": 2,
            "other_latin": 2,
            "cyrillic": 1,
            "symbols": 1,
        },
    }


def test_tokens_by_hand(hand_tokenizer):
    tokens = Dataset.from_dict(
        {
            "input_ids": [[EV, LER, VE, DOT, KITAP], [], [EV, LER, LER, APOSTROPHE, IN, UNK, DOT]],
            "sentence_ends": [[4, 5], [], [7]],
        },
        features=TOKEN_FEATURES,
    )
    found = describe_tokens(tokens, hand_tokenizer, [8, 9])
    assert found["number"] == 12
    assert (found["unknown"], found["unknown_share"]) == (1, 1 / 12)
    assert (found["vocabulary"], found["vocabulary_used"]) == (15, 8)
    assert (found["words"]["number"], found["words"]["mean"], found["words"]["longest"]) == (9, 12 / 9, 3)
    assert (found["letter_words"]["number"], found["letter_words"]["mean"]) == (5, 8 / 5)  # no . ' [UNK]
    assert found["word_lengths"] == {"1": 3, "2": 1, "3": 1}
    assert found["document_lengths"]["histogram"]["edges"][0] == 1
    assert found["documents_below_block"] == {"8": 1, "9": 2}  # windows of 5 and 6 tokens
    sentences = found["sentence_lengths"]
    assert (sentences["number"], sentences["shortest"], sentences["median"], sentences["longest"]) == (3, 1, 4, 7)
    assert sentences["histogram"]["numbers"][:3] == [1, 1, 1]  # 1 to 3, 4 to 6, 7 to 9 tokens
    assert dict(found["most_common_words"]) == {"evler": 1, "ve": 1, "kitap": 1, "evlerler": 1, "in": 1}


STATIC = Features(
    {
        "input_ids": List(Value("int32"), length=8),
        "length_a": Value("int16"),
        "length": Value("int16"),
        "next_sentence_label": Value("int8"),
        "masked_lm_positions": List(Value("int16")),
        "masked_lm_ids": List(Value("int32")),
    }
)


@pytest.fixture
def static_rows() -> Dataset:
    return Dataset.from_list(
        [
            {  # evler -> [MASK] [MASK], the ev beside it -> kitap, . kept
                "input_ids": [CLS, MASK, MASK, KITAP, SEP, DOT, VE, SEP],
                "length_a": 3,
                "length": 8,
                "next_sentence_label": 0,
                "masked_lm_positions": [1, 2, 3, 5],
                "masked_lm_ids": [EV, LER, EV, DOT],
            },
            {  # evler -> ve ##ler; [UNK] is no word to choose from
                "input_ids": [CLS, UNK, SEP, VE, LER, SEP, PAD, PAD],
                "length_a": 1,
                "length": 6,
                "next_sentence_label": 1,
                "masked_lm_positions": [3, 4],
                "masked_lm_ids": [EV, LER],
            },
        ],
        features=STATIC,
    )


def describe_masks(rows: Dataset, tokenizer) -> dict:
    counts = {"rows": len(rows), "is_next": 0, "padding_tokens": 0}
    return describe_rows(rows, rows.features["input_ids"].length, counts, tokenizer)["masks"]


def test_masks_by_hand(static_rows, hand_tokenizer):
    assert describe_masks(static_rows, hand_tokenizer) == {
        "words": 5,  # evler, ev, ., ve; evler
        "masked": 1,
        "replaced": 2,
        "kept": 1,
        "by_tokens": {
            "1": {"masked": 0, "replaced": 1, "kept": 1},
            "2": {"masked": 1, "replaced": 1, "kept": 0},
        },
        "never_replaced": [],
    }


def test_masks_of_many_rows_are_the_sum(static_rows, hand_tokenizer, monkeypatch):
    monkeypatch.setattr(stats, "TOKENS_A_UNIT", 20)
    one = describe_masks(static_rows, hand_tokenizer)
    five = describe_masks(concatenate_datasets([static_rows] * 5), hand_tokenizer)
    assert {name: five[name] for name in ("words", "masked", "replaced", "kept")} == {
        name: 5 * one[name] for name in ("words", "masked", "replaced", "kept")
    }


def test_lengths_that_are_never_replaced(static_rows, hand_tokenizer, monkeypatch):
    monkeypatch.setattr(stats, "ENOUGH_WORDS", 2)
    only_first = concatenate_datasets([static_rows.select([0])] * 2)
    assert describe_masks(only_first, hand_tokenizer)["never_replaced"] == [2]
    assert describe_masks(static_rows, hand_tokenizer)["never_replaced"] == []


def test_rows_by_hand(static_rows, hand_tokenizer):
    counts = {"rows": 2, "is_next": 1, "not_next": 1, "padding_tokens": 2}
    found = describe_rows(static_rows, 8, counts, hand_tokenizer)
    assert counts.items() <= found.items()
    assert found["length_a"]["edges"] == list(range(9))
    assert found["length_a"]["is_next"] == [0, 0, 0, 1, 0, 0, 0, 0]
    assert found["length_a"]["not_next"] == [0, 1, 0, 0, 0, 0, 0, 0]
    dynamic = static_rows.remove_columns(["masked_lm_positions", "masked_lm_ids"])
    assert describe_rows(dynamic, 8, counts, hand_tokenizer)["masks"] is None


def test_batches_change_nothing(sample_prepared, sample_dir, monkeypatch):
    once = describe_data(sample_dir / "data", [32, 64], sample_prepared.tokenizer)
    monkeypatch.setattr(stats, "BYTES_A_UNIT", 2000)
    monkeypatch.setattr(stats, "TOKENS_A_UNIT", 700)
    assert describe_data(sample_dir / "data", [32, 64], sample_prepared.tokenizer) == once


def test_the_sample_by_slow_loops(sample_prepared, sample_dir):
    found = describe_data(sample_dir / "data", [32], sample_prepared.tokenizer)
    texts = Dataset.load_from_disk(str(sample_dir / "data" / "documents" / "text"))["text"][:]
    assert found["documents"]["number"] == len(texts) == found["documents"]["documents_kept"]
    assert found["documents"]["bytes"] == sum(len(text.encode()) for text in texts)
    assert found["documents"]["white_space_words"] == sum(len(text.split()) for text in texts)
    assert found["documents"]["characters"] == Counter(map(character_class, "".join(texts)))
    words = found["documents"]["white_space_words"]
    assert found["tokens"]["fertility"] == found["tokens"]["number"] / words > found["tokens"]["words"]["mean"]

    tokenizer = sample_prepared.tokenizer
    documents = Dataset.load_from_disk(str(sample_dir / "data" / "tokens" / "documents"))
    words = Counter()
    for ids in documents["input_ids"]:
        text = " ".join(tokenizer.convert_ids_to_tokens(ids)).replace(" ##", "##")
        words.update(word for word in text.split(" "))
    assert found["tokens"]["words"]["number"] == words.total()
    assert found["tokens"]["number"] == sum(map(len, documents["input_ids"]))
    letters = Counter({word.replace("##", ""): count for word, count in words.items() if word[0].isalpha()})
    assert [count for _, count in found["tokens"]["most_common_words"]] == [n for _, n in letters.most_common(20)]
    assert all(letters[word] == count for word, count in found["tokens"]["most_common_words"])
    ends = documents["sentence_ends"]
    assert found["tokens"]["sentence_lengths"]["number"] == sum(map(len, ends))

    rows = sample_prepared.rows[32]["validation"]
    masks = found["rows"]["32"]["validation"]["masks"]
    hidden = sum(int(length) * sum(kinds.values()) for length, kinds in masks["by_tokens"].items())
    assert hidden == sum(map(len, rows["masked_lm_positions"]))
    assert found["rows"]["32"]["train"]["masks"] is None


def test_share_of_chosen_words_is_that_of_the_settings(sample_arguments, tmp_path):
    args = sample_arguments(tmp_path, masking="static", mlm_probability=0.3, dupe_factor=3)
    prepared = prepare_dataset(args)
    masks = describe_masks(prepared.rows[64]["train"], prepared.tokenizer)
    chosen = masks["masked"] + masks["replaced"] + masks["kept"]
    assert chosen / masks["words"] == pytest.approx(0.3, abs=0.01)
    assert masks["kept"] / chosen == pytest.approx(0.1, abs=0.015)
    masks = describe_masks(prepared.rows[64]["validation"], prepared.tokenizer)  # comparable between recipes
    chosen = masks["masked"] + masks["replaced"] + masks["kept"]
    assert chosen / masks["words"] == pytest.approx(0.15, abs=0.025)


# R14 rows 14 and 19
def test_warnings():
    def warnings(unknown_share: float, duplicates: int, is_next=0.5, padding=0.0, probability=0.5) -> list[str]:
        documents = {"number": 200, "duplicates": duplicates}
        train = {"is_next_share": is_next, "padding_share": padding, "nsp_probability": probability}
        rows = {"128": {"train": train}}
        return find_warnings({"documents": documents, "tokens": {"unknown_share": unknown_share}, "rows": rows})

    assert warnings(0.001, 0) == []
    (unknown,) = warnings(0.0011, 0)
    assert unknown.startswith("0.11% of the tokens are unknown")
    (copies,) = warnings(0, 3)
    assert copies.startswith("3 documents (1.5%) are copies")
    assert warnings(0, 0, is_next=0.46) == warnings(0, 0, is_next=0.54) == warnings(0, 0, 0.78, 0.2, 0.2) == []
    (uneven,) = warnings(0, 0, is_next=0.44)
    assert uneven.startswith("block 128: B follows A in 44.0% of the training rows instead of 50.0%")
    assert len(warnings(0, 0, is_next=0.56)) == len(warnings(0, 0, is_next=0.5, probability=0.2)) == 1
    assert warnings(0, 0, is_next=1.0, probability=0) == []  # no next-sentence prediction
    (padded,) = warnings(0, 0, padding=0.3)
    assert padded.startswith("block 128: 30.0% of the training rows is padding")


def test_several_files_are_read_as_one(sample_dir, sample_prepared, tmp_path):
    splits = DatasetDict({"train": sample_prepared.rows[32]["validation"]})
    splits.save_to_disk(str(tmp_path), num_shards={"train": 3})
    parts = DatasetDict.load_from_disk(str(tmp_path))["train"]
    whole = describe_masks(sample_prepared.rows[32]["validation"], sample_prepared.tokenizer)
    assert describe_masks(parts, sample_prepared.tokenizer) == whole
