"""The judges of bench_exactness see what they are to see."""

import numpy as np
from bench_exactness import Boundaries, compare_sentences, guess_label, mask_rows
from datasets import Dataset


def test_sentences_by_hand():
    gold = [f"Cümle {number} burada biter." for number in range(12)]
    assert compare_sentences(gold) == Boundaries(hits=11)
    gold[3] = "İlk yarı. İkinci yarı."  # one end too many is found
    gold[7] = "Sonunda nokta yok"  # and one too few
    found = compare_sentences(gold)
    assert (found.extra, found.missed) == (1, 1)
    assert found.describe() == "P 90.9, R 90.9, F1 90.9"


def test_a_leak_is_seen():
    rng = np.random.default_rng(0)
    labels, lengths = rng.integers(0, 2, 8000), rng.integers(20, 100, 8000)
    leaks = []
    for told in (0, 3):
        length = 120 + told * labels * (rng.random(8000) < 0.5)
        columns = {"length_a": lengths, "length": length, "next_sentence_label": labels}
        leaks.append(guess_label(Dataset.from_dict(columns).with_format("numpy"), 128))
    assert leaks[0] < 0.53 < 0.7 < leaks[1]


def test_mask_shares():
    rows = mask_rows({"words": 1000, "masked": 120, "replaced": 20, "kept": 10})
    assert [measured for _, measured, _ in rows] == ["15.00%", "80.00%", "13.33%", "6.67%"]
