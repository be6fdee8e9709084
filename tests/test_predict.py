"""scripts/predict.py as a user types it, and the library's functions under it; mistakes are one line."""

import json
import logging
import re
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from transformers import pipeline

from tests.script_calls import callable_script, load_script
from tests.tiny_models import model_dirs  # noqa: F401
from turkbert import prediction
from turkbert.errors import BAD_CONFIG, BAD_INPUT, CORRUPT_ARTIFACT, UserError
from turkbert.prediction import embed_texts, fill_masks, load_pipeline, predict_next, read_texts, save_embeddings
from turkbert.tokenization import save_tokenizer, train_tokenizer

TEXTS = ["Akşam olunca denizin üstünde ışıklar yanar.", "Kitap okudum.", {"text": "Yağmur.", "text_pair": "Şemsiye."}]
LONG = "Akşam olunca denizin üstünde ışıklar yanar. " * 20


@pytest.fixture(scope="module")
def script():
    return load_script("predict")


@pytest.fixture
def predict(script, monkeypatch, capsys):
    with callable_script(script, monkeypatch, capsys) as call:
        yield call


def test_words_for_masks(predict, model_dirs):  # noqa: F811
    texts = ["Türkiye'nin başkenti [MASK].", "Bir [MASK] iki [MASK] daha."]
    code, out, err = predict(model_dirs["stock"], "--fill_mask", *texts, "--top_k", 3)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert [len(re.findall(r"\S+ \d\.\d{3}", line)) for line in lines] == [0, 3, 0, 3, 3]
    assert [lines[0], lines[2]] == texts
    best = pipeline("fill-mask", model=str(model_dirs["stock"]))(texts[0])[0]
    assert lines[1].startswith(f"    {best['token_str']} {best['score']:.3f}  ")
    assert predict(model_dirs["stock"], "--fill_mask", texts[0], "--top_k", 3)[1].splitlines() == lines[:2]


def test_next_sentence(predict, model_dirs, tmp_path):  # noqa: F811
    code, out, err = predict(model_dirs["stock"], "--next_sentence", "Yağmur başladı.", "Şemsiyemi açtım.")
    assert (code, err) == (0, "")
    assert out.startswith("Yağmur başladı. → Şemsiyemi açtım.\n    B follows A: 0.")
    (tmp_path / "pairs.tsv").write_text("Yağmur başladı.\tŞemsiyemi açtım.\nBir.\tİki.\n", "utf-8")
    assert predict(model_dirs["stock"], "--next_sentence", "--file", tmp_path / "pairs.tsv")[1].startswith(out)
    pipe = pipeline("next-sentence-prediction", model=str(model_dirs["stock"]))
    result = pipe({"text": "Yağmur başladı.", "text_pair": "Şemsiyemi açtım."})
    follows = result["score"] if result["label"] == "IS_NEXT" else 1 - result["score"]
    assert f"follows A: {follows:.3f}" in out


def test_vector_on_the_screen(predict, model_dirs):  # noqa: F811
    embed = pipeline("text-embedding", model=str(model_dirs["stock"]), pooling="cls")
    code, out, err = predict(model_dirs["stock"], "--embed", "Kitap okudum.", "--pooling", "cls")
    assert (code, err) == (0, "")
    np.testing.assert_allclose(np.array(out.split(), np.float32), embed("Kitap okudum.")[0], atol=1e-5)
    of_pair = predict(model_dirs["stock"], "--embed", "Yağmur.", "Şemsiye.")[1]
    np.testing.assert_allclose(np.array(of_pair.split(), np.float32), embed(TEXTS[2], pooling="mean")[0], atol=1e-5)


@pytest.mark.parametrize("ending", ["npy", "parquet"])
def test_vectors_of_a_file(predict, model_dirs, tmp_path, ending):  # noqa: F811
    lines = [TEXTS[0], TEXTS[1], "\t".join(TEXTS[2].values()), ""]
    (tmp_path / "texts.txt").write_text("\n".join(lines) + "\n", "utf-8")
    output = tmp_path / f"vectors.{ending}"
    output.write_text("an older file")
    (tmp_path / f"_{output.name}").write_text("somebody's own")
    code, out, err = predict(
        model_dirs["stock"], "--embed", "--file", tmp_path / "texts.txt", "--output", output, "--batch_size", 2
    )
    assert (code, out, err) == (0, f"4 vectors of 32 numbers are in {output}\n", "")
    embed = pipeline("text-embedding", model=str(model_dirs["stock"]))
    expected = np.concatenate([embed(text) for text in [*TEXTS, ""]])
    if ending == "npy":
        vectors = np.load(output)
    else:
        table = pq.read_table(output)
        assert table.column("text").to_pylist() == [TEXTS[0], TEXTS[1], "Yağmur.", ""]
        assert table.column("text_pair").to_pylist() == [None, None, "Şemsiye.", None]
        vectors = np.array(table.column("embedding").to_pylist(), np.float32)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, expected, atol=1e-5)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["texts.txt", output.name, f"_{output.name}"])


def test_chunks_do_not_show(model_dirs, tmp_path, monkeypatch):  # noqa: F811
    embed = load_pipeline("text-embedding", model_dirs["stock"], batch_size=2)
    texts = [" ".join(["kitap"] * number) for number in (5, 1, 9, 2, 7)]
    whole = embed_texts(embed, texts)
    monkeypatch.setattr(prediction, "CHUNK", 2)
    for name in ("a.npy", "a.parquet"):
        save_embeddings(embed, texts, tmp_path / name)
    np.testing.assert_allclose(np.load(tmp_path / "a.npy"), whole, atol=1e-5)
    table = pq.read_table(tmp_path / "a.parquet")
    assert table.column("text").to_pylist() == texts
    np.testing.assert_allclose(np.array(table.column("embedding").to_pylist()), whole, atol=1e-5)


def test_a_write_that_fails_leaves_the_old_file(model_dirs, tmp_path, monkeypatch):  # noqa: F811
    embed = load_pipeline("text-embedding", model_dirs["stock"])
    save_embeddings(embed, ["Bir."], tmp_path / "a.npy")
    before = (tmp_path / "a.npy").read_bytes()
    monkeypatch.setattr(type(embed), "postprocess", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        save_embeddings(embed, ["İki."], tmp_path / "a.npy")
    assert [path.name for path in tmp_path.iterdir()] == ["a.npy"] and (tmp_path / "a.npy").read_bytes() == before


def test_long_texts_are_cut_and_counted(model_dirs, caplog):  # noqa: F811
    with caplog.at_level(logging.WARNING, "turkbert"):
        embed = load_pipeline("text-embedding", model_dirs["stock"])
        assert embed_texts(embed, ["Kısa.", LONG]).shape == (2, 32)
        nsp = load_pipeline("next-sentence-prediction", model_dirs["stock"])
        predict_next(nsp, [{"text": LONG, "text_pair": LONG}])
        words = load_pipeline("fill-mask", model_dirs["stock"])
        assert len(fill_masks(words, [f"Bir [MASK]. {LONG}"])[0][0]) == 5
        fill_masks(words, ["Bir [MASK]."])
    assert [record.getMessage() for record in caplog.records if record.name.startswith("turkbert")] == [
        f"1 of {total} texts are longer than 64 tokens and were cut off there" for total in (2, 1, 1)
    ]
    with pytest.raises(UserError, match="text 2: there is no \\[MASK\\] within its first 64 tokens"):
        fill_masks(words, ["Bir [MASK].", f"{LONG} [MASK]"])


WRONG = {
    "no mask": (["--fill_mask", "Bir iki."], BAD_INPUT, "text 1: there is no [MASK]; put"),
    "bytes typed": (["--embed", "\udcfe\udcf0"], BAD_INPUT, "text 1: is not UTF-8; set the terminal"),
    "pair to fill": (["--fill_mask", "--file", "{texts}"], BAD_INPUT, "text 3: is a pair"),
    "no pair": (["--next_sentence", "Bir."], BAD_INPUT, "text 1: is no pair; give two texts"),
    "three texts": (["--embed", "Bir.", "İki.", "Üç."], BAD_CONFIG, "3 texts are typed and no file is named"),
    "neither": (["--fill_mask"], BAD_CONFIG, "0 texts are typed and no file is named"),
    "both": (["--embed", "Bir.", "--file", "{texts}"], BAD_CONFIG, "1 texts are typed and a file is named"),
    "no file": (["--embed", "--file", "nowhere.txt"], BAD_INPUT, "nowhere.txt: cannot be read (No such file"),
    "empty file": (["--embed", "--file", "{empty}"], BAD_INPUT, "is empty"),
    "bytes": (["--embed", "--file", "{bytes}"], BAD_INPUT, "is not UTF-8 (byte 4)"),
    "tabs": (["--embed", "--file", "{tabs}"], BAD_INPUT, "tabs.txt:2: 2 tabs in a line"),
    "ending": (["--embed", "Bir.", "--output", "a.csv"], BAD_CONFIG, "a.csv: embeddings are written as .npy or"),
    "folder": (["--embed", "Bir.", "--output", "nowhere/a.npy"], BAD_CONFIG, "there is no folder nowhere"),
    "output is a folder": (["--embed", "Bir.", "--output", "{folder}"], BAD_CONFIG, "is a folder; name a file"),
    "top_k": (["--fill_mask", "[MASK]", "--top_k", "0"], BAD_CONFIG, "top_k: 0 is out of range; 1 to 2000"),
    "batch": (["--embed", "Bir.", "--batch_size", "0"], BAD_CONFIG, "batch_size: 0 is out of range"),
    "output of words": (["--fill_mask", "[MASK]", "--output", "a.npy"], BAD_CONFIG, "goes with --embed"),
    "pooling": (["--embed", "Bir.", "--pooling", "max"], BAD_CONFIG, "invalid choice: 'max'"),
    "no task": ([], BAD_CONFIG, "one of the arguments --fill_mask --next_sentence --embed is required"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_mistake_is_one_line(predict, model_dirs, tmp_path, name):  # noqa: F811
    arguments, expected_code, message = WRONG[name]
    places = {}
    for kind, content in {
        "texts": "Bir [MASK].\nİki [MASK].\nÜç [MASK].\tDört.".encode(),
        "empty": b"",
        "bytes": b"Bir \xfc\xe7",
        "tabs": b"Bir.\na\tb\tc",
    }.items():
        places[kind] = tmp_path / f"{kind}.txt"
        places[kind].write_bytes(content)
    places["folder"] = tmp_path / "folder.npy"
    places["folder"].mkdir()
    code, out, err = predict(model_dirs["stock"], *(argument.format(**places) for argument in arguments))
    assert (code, out) == (expected_code, "")
    assert re.fullmatch(r"turkbert: error: .+\n", err) and message in err


def test_models_that_cannot_are_refused(predict, model_dirs, tmp_path, sample_texts):  # noqa: F811
    def refusal(model: object, *task: str) -> tuple[int, str]:
        code, out, err = predict(model, *task)
        assert out == "" and re.fullmatch(r"turkbert: error: .+\n", err)
        return code, err

    nsp, words = ("--next_sentence", "Bir.", "İki."), ("--fill_mask", "Bir [MASK].")
    for layout in ("masked_lm", "stock_masked_lm"):
        assert "this model has no head for next-sentence-prediction" in refusal(model_dirs[layout], *nsp)[1]
    code, err = refusal(tmp_path / "nowhere", *words)
    assert code == BAD_INPUT and f"{tmp_path}/nowhere: no such folder; give a" in err
    broken = shutil.copytree(model_dirs["stock"], tmp_path / "broken")
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    assert refusal(broken, *words)[0] == CORRUPT_ARTIFACT
    weights.unlink()
    assert refusal(broken, *words)[0] == BAD_INPUT
    larger = shutil.copytree(model_dirs["stock"], tmp_path / "larger")
    save_tokenizer(train_tokenizer(sample_texts, vocab_size=2500), larger)
    assert "the tokenizer has 2500 tokens, the model 2000" in refusal(larger, *words)[1]


def change_config(folder: Path, **changes: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


BROKEN = {  # what a config.json says: (the code, a part of the line)
    "one layer more": ({"num_hidden_layers": 3}, CORRUPT_ARTIFACT, "its weights lack bert.encoder.layer.2."),
    "another width": ({"hidden_size": 16}, CORRUPT_ARTIFACT, "their shapes are not those of its config.json"),
    "no such function": ({"hidden_act": "gelluu"}, CORRUPT_ARTIFACT, "cannot be used (KeyError: 'gelluu')"),
    "a gpt2": ({"model_type": "gpt2"}, BAD_INPUT, "for this kind of AutoModel: AutoModelForMaskedLM; name a folder"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_config_that_is_not_the_model_s_is_one_short_line(predict, model_dirs, tmp_path, name):  # noqa: F811
    changes, expected_code, message = BROKEN[name]
    folder = shutil.copytree(model_dirs["stock"], tmp_path / "model")
    change_config(folder, **changes)
    code, out, err = predict(folder, "--fill_mask", "Bir [MASK].")
    assert (code, out) == (expected_code, "")
    assert re.fullmatch(r"turkbert: error: .{,400}\n", err) and message in err


def test_an_empty_folder_has_no_vocabulary(predict, tmp_path):
    code, _, err = predict(tmp_path, "--fill_mask", "Bir [MASK].")
    assert code == BAD_INPUT
    assert err.endswith(": no vocabulary there; give a folder or Hub id with tokenizer.json or vocab.txt\n")


def test_read_texts_keeps_lines_and_what_looks_like_one(tmp_path):
    path = tmp_path / "texts.txt"
    path.write_bytes("\ufeffBir\u2028satır.\n\nA.\tB.\n".encode())
    assert read_texts(path) == ["Bir\u2028satır.", "", {"text": "A.", "text_pair": "B."}]
