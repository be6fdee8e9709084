"""Small data sets that can be learned."""

import json
import random
from pathlib import Path


def write_rows(path: Path, rows: list[dict]) -> Path:
    """A jsonl file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return path


def pair_rows(number: int, seed: int) -> list[dict]:
    """Pairs that are the same sentence or two different ones, by their label; the different ones say "değil"."""
    words = "ev kitap deniz yol güneş şehir okul dağ kuş ağaç çocuk su".split()
    rng = random.Random(seed)
    rows = []
    for place in range(number):
        first = " ".join(rng.sample(words, 3))
        same = place % 2 == 0
        others = [word for word in words if word not in first.split()]
        other = first if same else f"{' '.join(rng.sample(others, 2))} değil"
        rows.append({"sentence1": first, "sentence2": other, "label": "aynı" if same else "farklı"})
    return rows


def tag_rows(number: int, seed: int) -> list[dict]:
    """Sentences with one name in them."""
    rng = random.Random(seed)
    names = [(["Ankara"], ["B-LOC"]), (["Ali", "Veli"], ["B-PER", "I-PER"]), (["İzmir"], ["B-LOC"])]
    rows = []
    for _ in range(number):
        tokens, tags = rng.choice(names)
        before = rng.sample(["dün", "akşam", "eve", "gitti", "güzel", "çok"], 3)
        rows.append({"tokens": [*before, *tokens, "."], "tags": ["O"] * 3 + tags + ["O"]})
    return rows


def question_rows(number: int, seed: int) -> list[dict]:
    """Questions whose answer is the word after "adı"."""
    rng = random.Random(seed)
    rows = []
    for place in range(number):
        name = rng.choice(["Ankara", "İzmir", "Ali", "Veli", "deniz"])
        before = " ".join(rng.choices(["güneş", "doğdu", "kuş", "uçtu", "su", "aktı"], k=rng.randint(2, 6)))
        context = f"{before} adı {name} dedi ve gitti"
        answers = {"text": [name], "answer_start": [context.index(name)]}
        rows.append({"id": str(place), "question": "adı ne", "context": context, "answers": answers})
    return rows
