"""Bad input by the number of its row in the reliability table, through the real script where it is fatal.

A refusal is one line and changes no byte of the output that is there; everything else is counted, and adds up. Rows
that are tested beside the code they belong to carry their number there: `grep -rn "row 40" tests`.
"""

import dataclasses
import gzip
import hashlib
import json
import os
import runpy
import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from turkbert.arguments import CorpusArguments, DataArguments, RandomWordsArguments, TokenizerArguments
from turkbert.data.prepare import prepare_dataset, prepare_documents
from turkbert.errors import BAD_CONFIG, BAD_INPUT, CORRUPT_ARTIFACT, UserError

SCRIPTS = Path(__file__).parents[2] / "scripts"
DOCUMENTS = [f"Belge {number} burada başlar. Şehir ırmağın kıyısındadır." for number in range(5)]
TEXT = "\n\n".join(DOCUMENTS)
GZIPPED = gzip.compress(TEXT.encode())

Files = dict[str, bytes | str]


def jsonl(*rows: object) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def texts(*more: object) -> list[dict]:
    return [{"text": text} for text in [*DOCUMENTS, *more]]


def parquet(rows: list[dict]) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows), sink)
    return sink.getvalue().to_pybytes()


def flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 0xFF]) + content[middle + 1 :]


def write_files(folder: Path, files: Files) -> Path:
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def hashes(folder: Path) -> dict[str, str]:
    """sha256 of every file that a run leaves in data/ and tokenizer/."""
    files = [path for name in ("data", "tokenizer") for path in (folder / name).rglob("*") if path.is_file()]
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
        if path.suffix != ".lock"
    }


@pytest.fixture(autouse=True)
def quiet_progress():
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()


@pytest.fixture
def prepared_folder(sample_prepared, sample_dir, tmp_path) -> Path:
    """A copy of the prepared sample: the earlier output."""
    return shutil.copytree(sample_dir, tmp_path / "earlier")


@pytest.fixture
def refusal(sample_arguments, monkeypatch, capfd) -> Callable[..., tuple[int, str]]:
    """(folder, settings) -> exit code and the error line of prepare_data.py; a refusal must leave all as it was."""

    def call(folder: Path, script: str = "prepare_data", **changes) -> tuple[int, str]:
        config = folder / "config.json"
        sample_arguments(folder)
        config.write_text(json.dumps({**json.loads(config.read_text()), **changes}))
        before = hashes(folder)
        monkeypatch.setattr(sys, "argv", [script, str(config)])
        with pytest.raises(SystemExit) as end:
            runpy.run_path(str(SCRIPTS / f"{script}.py"), run_name="__main__")
        errors = capfd.readouterr().err
        lines = [line for line in errors.splitlines() if line.startswith("turkbert: error: ")]
        assert len(lines) == 1 and "Traceback" not in errors
        assert lines[0].count("; ") >= 1, "no word on how to mend it"
        assert hashes(folder) == before
        assert not [*folder.glob("**/_staging*"), *folder.glob("**/_dead*"), *folder.glob("**/_old*")]
        return end.value.code, lines[0]

    return call


def zipped(text: str, path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", text)


# ---- documents that end the run


FATAL: dict[str, tuple[Files, list[str]]] = {
    "row_01_latin5": ({"a.txt": TEXT, "b.txt": TEXT.encode("cp1254")}, ["b.txt", "offset 17", "--encoding cp1254"]),
    "row_02_bad_byte": ({"a.txt": TEXT.encode() + b"\xff"}, ["a.txt", "0xff at offset", "--bad_bytes reject"]),
    "row_04_utf16": ({"a.txt": TEXT.encode("utf-16")}, ["a.txt", "UTF-16", "--encoding utf-16"]),
    "row_09_empty_alone": ({"a.txt": ""}, ["no documents"]),
    "row_10_only_white_space": ({"a.jsonl": jsonl({"text": " \n\t"})}, ["no documents", "empty 1"]),
    "row_22_no_such_kind": ({"a.csv": TEXT}, ["no corpus file there", os.getcwd()]),
    "row_23_truncated_gz": ({"a.txt.gz": GZIPPED[:-9]}, ["a.txt.gz", f"after {len(GZIPPED) - 9} bytes", "truncated"]),
    "row_24_corrupt_gz": ({"a.txt.gz": flipped(GZIPPED)}, ["a.txt.gz", "corrupt gz data"]),
    "row_02_bad_byte_of_cp1254": (
        {"a.txt": TEXT.encode() + b"\xfd"}, ["0xfd at offset", "; reject such", "--bad_bytes reject"]
    ),
    "row_25_broken_jsonl_line": ({"a.jsonl": jsonl(*texts()) + '{"text": "ya'}, ["a.jsonl:6", "--bad_lines reject"]),
    "row_27_field_absent": ({"a.jsonl": jsonl({"body": "x"})}, ["no field 'text'; fields are: body", "--text_column"]),
    "row_29_truncated_parquet": ({"a.parquet": parquet(texts())[:-9]}, ["a.parquet", "not a whole parquet file"]),
}


@pytest.mark.parametrize(("files", "parts"), FATAL.values(), ids=FATAL)
def test_fatal_documents(refusal, prepared_folder, tmp_path, files, parts):
    corpus = write_files(tmp_path / "corpus", files)
    code, line = refusal(prepared_folder, corpus=[str(corpus)], overwrite=True)
    assert code == BAD_INPUT
    assert [part for part in parts if part not in line] == []


def test_row_22_missing_names_pattern_and_working_folder(refusal, prepared_folder):
    for pattern in ("no/such.txt", "no/*.txt"):
        code, line = refusal(prepared_folder, corpus=[pattern], overwrite=True)
        assert code == BAD_INPUT and pattern in line and os.getcwd() in line


def test_row_22_all_files_are_opened_before_any_is_read(refusal, prepared_folder, tmp_path, monkeypatch):
    """Root reads everything, so that permissions cannot show it."""
    corpus = write_files(tmp_path / "corpus", {"a.txt": TEXT, "b.txt": TEXT})

    def open_all_but_b(path, *args):
        if Path(path).name == "b.txt":
            raise PermissionError(13, "Permission denied", str(path))
        return open(path, *args)

    monkeypatch.setattr("turkbert.data.corpus.open", open_all_but_b, raising=False)
    code, line = refusal(prepared_folder, corpus=[str(corpus)], overwrite=True)
    assert code == BAD_INPUT and "b.txt' cannot be read (Permission denied)" in line


def test_s4_archive_is_refused(refusal, prepared_folder, tmp_path):
    zipped(TEXT, tmp_path / "a.zip")
    code, line = refusal(prepared_folder, corpus=[str(tmp_path / "a.zip")], overwrite=True)
    assert code == BAD_INPUT and "archives are not read" in line


# ---- documents that are counted


COUNTED: dict[str, tuple[Files, dict, dict, dict]] = {  # files, settings, rejected, cleaned
    "row_02_bad_byte": (
        {"a.txt": TEXT.encode() + b"\n\nk\xff"}, {"bad_bytes": "reject"}, {"undecodable": 1}, {}
    ),
    "row_03_byte_order_mark": ({"a.txt": "\ufeff" + TEXT}, {}, {}, {"byte_order_marks": 1}),
    "row_05_crlf": ({"a.txt": TEXT.replace("\n", "\r\n")}, {}, {}, {"carriage_returns": 8}),
    "row_06_lone_cr": ({"a.txt": TEXT.replace("\n", "\r")}, {}, {}, {"carriage_returns": 8}),
    "row_07_separators": (
        {"a.txt": TEXT.replace("Belge ", "Belge\u2028").replace("burada ", "burada\x85", 1)},
        {}, {}, {"line_separators": 6},
    ),
    "row_08_control_characters": ({"a.txt": TEXT.replace("ş", "ş\x00\x07", 1)}, {}, {}, {"control_characters": 2}),
    "row_09_empty_beside_others": ({"a.txt": TEXT, "b.txt": ""}, {}, {}, {}),
    "row_10_white_space": ({"a.jsonl": jsonl(*texts(" \n\t", ""))}, {}, {"empty": 2}, {}),
    "row_12_long_line": (
        {"a.jsonl": jsonl(*texts("")[:-2], {"text": DOCUMENTS[4].ljust(1000, "x") + "y" * 1500})},
        {"max_document_chars": 1000}, {}, {"cuts": 2},
    ),
    "row_01_latin5": ({"a.txt": TEXT.encode("cp1254")}, {"encoding": "cp1254"}, {}, {}),
    "row_04_utf16": (
        {"a.txt": TEXT.replace("\n", "\r\n").encode("utf-16")}, {"encoding": "utf-16"}, {}, {"carriage_returns": 8}
    ),
    "row_14_duplicates": (
        {"a.txt": "\n\n".join([*DOCUMENTS[:2], DOCUMENTS[0]]), "b.txt": "\n\n".join([DOCUMENTS[1], *DOCUMENTS[2:]])},
        {"dedup": "exact"}, {"duplicate": 2}, {},
    ),
    "row_20_surrogate_and_none": (
        {"a.jsonl": jsonl(*texts("k\ud800", None))}, {}, {"undecodable": 1, "not_a_string": 1}, {}
    ),
    "row_25_half_last_line": (
        {"a.jsonl": jsonl(*texts()) + '{"te'}, {"bad_lines": "reject"}, {"broken_line": 1}, {}
    ),
    "row_26_missing_field": ({"a.jsonl": jsonl(*texts(), {"body": "x"})}, {}, {"missing": 1}, {}),
    "row_28_mixed_types": ({"a.jsonl": jsonl(*texts(5, ["a"]))}, {}, {"not_a_string": 2}, {}),
    "row_29_null": ({"a.parquet": parquet(texts(None))}, {}, {"not_a_string": 1}, {}),
}  # fmt: skip


@pytest.mark.parametrize(("files", "settings", "rejected", "cleaned"), COUNTED.values(), ids=COUNTED)
def test_counted_documents(sample_arguments, tmp_path, caplog, files, settings, rejected, cleaned):
    corpus = write_files(tmp_path / "corpus", files)
    folder = prepare_documents(sample_arguments(tmp_path, corpus=[str(corpus)], **settings))
    kept = datasets.Dataset.load_from_disk(str(folder / "text"))["text"][:]
    if "cuts" not in cleaned:
        assert [" ".join(text.split()) for text in kept] == DOCUMENTS
    ledger = json.loads((folder / "ledger.json").read_text())
    assert (ledger["rejected"], ledger["cleaned"]) == (rejected, cleaned)
    assert ledger["documents_kept"] == len(kept)
    assert ledger["documents_in"] == len(kept) + sum(rejected.values())
    rejects = [json.loads(line) for line in (folder / "rejects.jsonl").read_text().splitlines()]
    assert sorted(reject["reason"] for reject in rejects) == sorted(r for r, n in rejected.items() for _ in range(n))
    assert all(reject["place"].split()[1].isdigit() and reject["file"].startswith(str(corpus)) for reject in rejects)
    for name in files:
        assert (f"{name}: an empty file" in caplog.text) == (files[name] == "")


def test_row_14_places_of_copies(sample_arguments, tmp_path):
    """Of files whose documents were not all kept, read by two processes."""
    rows = [{"text": ""}, *texts(), {"text": "Yeni."}]
    files = {"a.txt": f"{TEXT}\n\n\u0007\n\n{DOCUMENTS[1]}", "b.jsonl": jsonl(*rows)}
    corpus = write_files(tmp_path / "corpus", files)
    args = sample_arguments(tmp_path, corpus=[str(corpus)], dedup="exact", preprocessing_num_workers=2)
    folder = prepare_documents(args)
    rejects = [json.loads(line) for line in (folder / "rejects.jsonl").read_text().splitlines()]
    assert [(Path(r["file"]).name, r["place"]) for r in rejects] == [
        ("a.txt", "document 6"), ("b.jsonl", "line 1"), ("a.txt", "document 7"),
        *(("b.jsonl", f"line {line}") for line in range(2, 7)),
    ]  # fmt: skip
    assert [r["copy_of"]["place"] for r in rejects[2:]] == ["document 2", *(f"document {n}" for n in range(1, 6))]
    assert {Path(r["copy_of"]["file"]).name for r in rejects[2:]} == {"a.txt"}


def test_row_21_symlink_loop_gives_each_file_once(sample_arguments, tmp_path):
    corpus = write_files(tmp_path / "corpus", {"a.txt": TEXT})
    (corpus / "deep").mkdir()
    (corpus / "deep" / "loop").symlink_to(corpus)
    (corpus / "b.txt").symlink_to(corpus / "a.txt")
    folder = prepare_documents(sample_arguments(tmp_path, corpus=[str(corpus)]))
    assert json.loads((folder / "ledger.json").read_text())["documents_in"] == len(DOCUMENTS)


SAME = {
    "row_03_byte_order_mark": "\ufeff" + TEXT,
    "row_05_crlf": TEXT.replace("\n", "\r\n"),
    "row_06_lone_cr": TEXT.replace("\n", "\r"),
}


@pytest.mark.parametrize("other", SAME.values(), ids=SAME)
def test_same_documents_file_as_with_lf(sample_arguments, tmp_path, other):
    found = []
    for name, text in (("lf", TEXT), ("other", other)):
        corpus = write_files(tmp_path / f"{name}_corpus", {"a.txt": text})
        folder = prepare_documents(sample_arguments(tmp_path / name, corpus=[str(corpus)]))
        found.append({path.name: path.read_bytes() for path in (folder / "text").iterdir()})
    assert found[0] == found[1]


# ---- settings


SETTINGS = {
    "row_31_unknown_key": ({"hiden_size": 8}, "unknown key 'hiden_size'; did you mean 'hidden_size'?"),
    "row_32_number_as_string": ({"learning_rate": "1e-3"}, 'learning_rate is "1e-3"; write it as float'),
    "row_32_size_as_string": ({"vocab_size": "500"}, 'vocab_size is "500"; write it as int'),
    "row_33_learning_rate": ({"learning_rate": -1}, "learning_rate: -1.0 is out of range"),
    "row_33_batch": ({"stage_batch_sizes": [-8, 4]}, "stage_batch_sizes: -8 is out of range"),
    "row_33_save_steps": ({"save_steps": 0}, "save_steps: 0.0 is out of range"),
    "row_33_warmup": ({"warmup_steps": -5}, "warmup_steps: -5.0 is out of range"),
    "row_33_infinite": ({"weight_decay": float("inf")}, "weight_decay: inf is out of range"),
    "row_33_adam_beta": ({"adam_beta1": 1.5}, "adam_beta1: 1.5 is out of range"),
    "row_33_adam_epsilon": ({"adam_epsilon": -1}, "adam_epsilon: -1.0 is out of range"),
    "row_33_loader": ({"dataloader_num_workers": -1}, "dataloader_num_workers: -1 is out of range"),
    "row_33_prefetch": ({"dataloader_prefetch_factor": 0}, "dataloader_prefetch_factor: 0 is out of range"),
    "row_33_initializer": ({"initializer_range": -0.1}, "initializer_range: -0.1 is out of range"),
    "row_33_layer_norm": ({"layer_norm_eps": -1}, "layer_norm_eps: -1.0 is out of range"),
    "row_33_floor_over_peak": ({"min_learning_rate": 1}, "min_learning_rate: it is over learning_rate"),
    "row_01_no_such_encoding": ({"encoding": "latin-5x"}, "encoding: unknown encoding: latin-5x"),
    "row_01_no_text_encoding": ({"encoding": "base64"}, "encoding: 'base64' is not a text encoding"),
    "row_33_shard": ({"max_shard_size": "0"}, "max_shard_size: '0' is no size"),
    "row_34_block_over_positions": ({"block_sizes": [32, 1024]}, "1024 is over the model's positions"),
    "row_35_overlap": ({"overlap": 29}, "overlap: 29 is not below the window"),
    "row_36_share": ({"mlm_probability": 1.5}, "mlm_probability: 1.5 is out of range"),
    "row_36_sum": ({"mask_replace_prob": 0.9, "random_replace_prob": 0.3}, "it is over 1"),
    "row_38_no_process": ({"preprocessing_num_workers": 0}, "preprocessing_num_workers: 0 is out of range"),
    "row_38_negative": ({"preprocessing_num_workers": -1}, "preprocessing_num_workers: -1 is out of range"),
}


@pytest.mark.parametrize("script", ["prepare_data", "pretrain"])
@pytest.mark.parametrize(("changes", "part"), SETTINGS.values(), ids=SETTINGS)
def test_settings_are_refused_before_any_work(refusal, tmp_path, script, changes, part):
    code, line = refusal(tmp_path / "new", script, **changes)
    assert code == BAD_CONFIG and part in line
    assert os.listdir(tmp_path / "new") == ["config.json"]


def test_row_47_vocabulary_that_the_text_cannot_fill(refusal, prepared_folder, sample_prepared, tmp_path):
    settings = {"tokenizer_dir": str(tmp_path / "other"), "vocab_size": 90_000}
    code, line = refusal(prepared_folder, **settings)
    assert code == BAD_CONFIG and "of the 90000 tokens asked for; set vocab_size to" in line
    assert not (tmp_path / "other").exists()


# ---- damaged output


@pytest.mark.parametrize("stage", ["documents/text", "tokens/documents", "block_32/validation", "block_64/train"])
@pytest.mark.parametrize(
    ("change", "part"),
    [(Path.unlink, "is missing"), (lambda path: os.truncate(path, path.stat().st_size - 1), "bytes instead of"),
     (lambda path: path.write_bytes(flipped(path.read_bytes())), "sha256 differs")],
    ids=["row_46_missing", "row_46_truncated", "row_45_bit_flip"],
)  # fmt: skip
def test_damaged_shard_is_named(refusal, prepared_folder, stage, change, part):
    shard = next((prepared_folder / "data" / stage).glob("*.arrow"))
    change(shard)
    code, line = refusal(prepared_folder)
    assert code == CORRUPT_ARTIFACT and shard.name in line and part in line


# ---- nothing stale


OTHER_VALUES = {
    "text_column": "body", "encoding": "cp1254", "drop_short_lines": 1, "max_document_chars": 5000, "dedup": "exact",
    "bad_bytes": "reject", "bad_lines": "reject", "validation_fraction": 0.3, "vocab_size": 1900,
    "limit_alphabet": 150, "min_frequency": 3, "cased": False, "max_tokens_per_word": 4,
    "max_words_per_group": 50, "min_word_frequency": 4,
    "sample_words": True, "max_lines": 20, "overlap": 5, "edge_buffer": 5, "nsp_balance": "none",
    "nsp_probability": 0.4, "max_padding": 0.2, "masking": "static", "mlm_probability": 0.2, "mask_replace_prob": 0.7,
    "random_replace_prob": 0.05, "dupe_factor": 2, "preprocessing_seed": 1,
}  # fmt: skip
STATIC_ONLY = ("dupe_factor", "mlm_probability", "mask_replace_prob", "random_replace_prob")
# Where things are, how many processes work on them and how large a file is: the rows are the same.
NO_MATTER = {
    "corpus", "corpus_config", "corpus_revision", "tokenizer_dir", "data_dir", "block_sizes",
    "preprocessing_num_workers", "max_shard_size",
}  # fmt: skip


def test_every_data_setting_has_another_value_here():
    groups = (CorpusArguments, TokenizerArguments, RandomWordsArguments, DataArguments)
    names = {field.name for group in groups for field in dataclasses.fields(group)}
    assert names == OTHER_VALUES.keys() | NO_MATTER


@pytest.mark.parametrize("name", OTHER_VALUES)
def test_row_42_changed_setting_is_refused_by_name(refusal, sample_prepared, prepared_folder, name):
    static = {"masking": "static"} if name in STATIC_ONLY else {}
    code, line = refusal(prepared_folder, **{name: OTHER_VALUES[name]}, **static)
    assert code == BAD_CONFIG
    assert f"made with {name} " in line or (static and "made with masking" in line)


@pytest.mark.parametrize("masking", ["static", "dynamic"])
def test_how_words_are_hidden_matters_for_static_rows_alone(
    sample_arguments, sample_prepared, prepared_folder, masking
):
    """A trial of another recipe must not build the same dynamic rows again; validation rows keep theirs."""
    shutil.rmtree(prepared_folder / "data" / "block_32")
    kind = {"block_sizes": [32], "stage_fractions": [1.0], "stage_batch_sizes": [8], "masking": masking}
    rows = prepare_dataset(sample_arguments(prepared_folder, **kind)).rows[32]
    others = {name: OTHER_VALUES[name] for name in ("mlm_probability", "mask_replace_prob", "random_replace_prob")}
    stamp = (prepared_folder / "data" / "block_32").stat().st_mtime_ns
    for name, value in others.items():
        args = sample_arguments(prepared_folder, **kind, **{name: value})
        if masking == "dynamic":
            prepare_dataset(args)
            assert (prepared_folder / "data" / "block_32").stat().st_mtime_ns == stamp
        else:
            with pytest.raises(UserError, match=f"made with {name} "):
                prepare_dataset(args)
    again = prepare_dataset(sample_arguments(prepared_folder, **kind, **others, overwrite=True)).rows[32]
    assert again["validation"][:] == rows["validation"][:]
    assert (again["train"][:] == rows["train"][:]) == (masking == "dynamic")


@pytest.mark.parametrize("name", ["a.txt", "b.txt"])
def test_row_43_edited_file_of_the_same_size_and_time(sample_arguments, tmp_path, name):
    corpus = write_files(tmp_path / "corpus", {"a.txt": TEXT, "b.txt": TEXT})
    args = sample_arguments(tmp_path, corpus=[str(corpus)])
    folder = prepare_documents(args)
    committed = folder.stat().st_mtime_ns
    assert prepare_documents(args) == folder and folder.stat().st_mtime_ns == committed
    stamp = (corpus / name).stat()
    (corpus / name).write_text(TEXT.replace("Belge 3", "Belge 8"), "utf-8")
    os.utime(corpus / name, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert (corpus / name).stat().st_size == stamp.st_size
    with pytest.raises(UserError, match="the corpus changed since this was made"):
        prepare_documents(args)


def test_unchanged_stages_are_reused(sample_arguments, prepared_folder):
    stages = [*prepared_folder.glob("data/*/"), prepared_folder / "tokenizer"]
    before = {stage: stage.stat().st_mtime_ns for stage in stages}
    assert len(before) >= 7
    prepare_dataset(sample_arguments(prepared_folder))
    assert {stage: stage.stat().st_mtime_ns for stage in stages} == before
