"""The data stages from text to committed rows: the same for any number of processes, reused, refused, never half."""

import json
import multiprocessing
import os
import shutil
import signal
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from datasets import Dataset

from turkbert.artifacts import read_manifest
from turkbert.data.arrow import flat_lists
from turkbert.data.corpus import split_documents
from turkbert.data.prepare import (
    build_collator,
    check_tokenizer,
    load_prepared,
    load_stats,
    prepare_dataset,
    prepare_documents,
)
from turkbert.data.stages import Stage
from turkbert.errors import BAD_CONFIG, BAD_INPUT, CORRUPT_ARTIFACT, UserError


def file_hashes(data_dir: Path) -> dict[str, str]:
    """sha256 of the files of the rows and tokens; the recipe names the number of workers, so it may differ."""
    return {
        f"{folder.name}/{name}": facts["sha256"]
        for folder in sorted(data_dir.glob("block_*")) + [data_dir / "tokens"]
        for name, facts in read_manifest(folder)["files"].items()
        if name != "recipe.json"
    }


def copy_of(sample_dir: Path, folder: Path) -> Path:
    shutil.copytree(sample_dir, folder)
    return folder


# R14 row 38 and R16
def test_files_do_not_depend_on_the_number_of_workers(sample_arguments, tmp_path, monkeypatch):
    monkeypatch.setattr("turkbert.data.rows.UNIT_TOKENS", 3000)  # units enough for four workers
    hashes, rows = [], []
    for workers in (1, 2, 4):
        args = sample_arguments(
            tmp_path / str(workers), masking="static", dupe_factor=2, preprocessing_num_workers=workers,
            block_sizes=[64], stage_fractions=[1.0], stage_batch_sizes=[8],
        )  # fmt: skip
        prepared = prepare_dataset(args)
        rows.append({split: prepared.rows[64][split].to_dict() for split in ("train", "validation")})
        hashes.append(file_hashes(tmp_path / str(workers) / "data"))
    assert rows[0] == rows[1] == rows[2]
    assert len(hashes[0]) >= 9
    assert hashes[0] == hashes[1] == hashes[2]
    assert prepared.rows[64]["train"].features["input_ids"].length == 64
    assert prepared.rows[64]["train"].features["next_sentence_label"].dtype == "int8"


def test_rows_and_stats_agree(sample_prepared, sample_dir):
    for block_size, splits in sample_prepared.rows.items():
        stats = load_stats(sample_dir / "data", block_size)
        for split, rows in splits.items():
            labels = np.array(rows["next_sentence_label"])
            assert set(labels) == {0, 1}
            found = {"rows": len(rows), "is_next": int((labels == 0).sum()), "not_next": int(labels.sum())}
            assert found.items() <= stats[split].items()
            lengths = np.array(rows["length"])
            assert stats[split]["padding_tokens"] == (block_size - lengths).sum()
            ids = np.array(rows["input_ids"])
            assert ids.shape == (len(rows), block_size)
            assert ((ids == 0).sum(axis=1) == block_size - lengths).all()
            assert stats[split]["padding_tokens"] <= 0.15 * ids.size


def test_dynamic_train_rows_carry_no_masks_validation_rows_do(sample_prepared, sample_dir, sample_arguments):
    rows = sample_prepared.rows[64]
    mask_id = sample_prepared.tokenizer.mask_token_id
    assert "masked_lm_ids" not in rows["train"].column_names
    assert not (np.array(rows["train"]["input_ids"]) == mask_id).any()
    assert min(map(len, rows["validation"]["masked_lm_ids"])) >= 1
    assert (np.array(rows["validation"]["input_ids"]) == mask_id).any()
    collator = build_collator(sample_arguments(sample_dir), sample_prepared.tokenizer, seed=1)
    batch = collator([{**rows["train"][number], "row": number} for number in range(4)])
    assert (batch["input_ids"] == mask_id).any()


def test_dupe_factor_copies_training_rows_under_other_masks(sample_dir, sample_arguments, sample_prepared, tmp_path):
    folder = copy_of(sample_dir, tmp_path / "copy")
    args = sample_arguments(folder, masking="static", dupe_factor=3, block_sizes=[64], stage_fractions=[1.0],
                            stage_batch_sizes=[8], overwrite=True)  # fmt: skip
    rows = prepare_dataset(args).rows[64]
    plain = sample_prepared.rows[64]
    num_rows = len(plain["train"])
    assert len(rows["train"]) == 3 * num_rows and len(rows["validation"]) == len(plain["validation"])
    ids = np.array(rows["train"]["input_ids"]).reshape(3, num_rows, 64)
    masks = [
        [tuple(positions) for positions in rows["train"]["masked_lm_positions"][copy * num_rows :][:num_rows]]
        for copy in range(3)
    ]
    originals = np.array(plain["train"]["input_ids"])
    for copy in range(3):
        assert (ids[copy] == originals).mean() > 0.8  # the same pairs
        same = np.mean([one == other for one, other in zip(masks[copy], masks[copy - 1], strict=True)])
        assert same < 0.05


def test_validation_and_training_share_no_document(sample_prepared, sample_dir):
    tokens = Dataset.load_from_disk(str(sample_dir / "data" / "tokens" / "documents")).with_format("arrow")
    flat, starts = flat_lists(tokens[:]["input_ids"])
    in_validation = split_documents(len(tokens), 0.2, 13013)
    pieces = {True: set(), False: set()}  # runs of 12 tokens, long enough to belong to one document
    for document, (start, end) in enumerate(zip(starts[:-1], starts[1:], strict=True)):
        runs = np.lib.stride_tricks.sliding_window_view(flat[start:end], 12) if end - start >= 12 else []
        pieces[bool(in_validation[document])] |= {tuple(run) for run in np.asarray(runs).tolist()}
    for split, own in (("train", False), ("validation", True)):
        foreign = pieces[not own] - pieces[own]
        for block_size in (32, 64):
            rows = sample_prepared.rows[block_size][split]
            for ids, length_a in zip(rows["input_ids"], rows["length_a"], strict=True):
                if length_a >= 12:
                    assert tuple(ids[1:13]) not in foreign
                if block_size - length_a - 3 >= 12:
                    assert tuple(ids[length_a + 2 : length_a + 14]) not in foreign


# R17
def test_reuse_builds_nothing(sample_prepared, sample_dir, sample_arguments):
    before = {path: path.stat().st_mtime_ns for path in sample_dir.glob("data/*/MANIFEST.json")}
    assert len(before) >= 5
    again = prepare_dataset(sample_arguments(sample_dir, preprocessing_num_workers=2, max_shard_size="1MB"))
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert again.rows[64]["train"][0] == sample_prepared.rows[64]["train"][0]


@pytest.mark.parametrize(
    ("name", "value", "folder"),
    [
        ("vocab_size", 1900, "tokenizer"),
        ("max_document_chars", 5000, "documents"),
        ("min_word_frequency", 4, "random_words"),
        ("overlap", 5, "block_32"),
        ("masking", "static", "block_32"),
        ("validation_fraction", 0.3, "block_32"),
        ("preprocessing_seed", 1, "random_words"),
    ],
)
def test_another_setting_is_refused_by_name(
    sample_prepared, sample_dir, sample_arguments, tmp_path, name, value, folder
):
    args = sample_arguments(tmp_path, **{name: value})
    args.data.data_dir, args.tokenizer.tokenizer_dir = str(sample_dir / "data"), str(sample_dir / "tokenizer")
    with pytest.raises(UserError) as refusal:
        prepare_dataset(args)
    message = str(refusal.value)
    assert refusal.value.exit_code == BAD_CONFIG and "\n" not in message
    assert Path(refusal.value.where).name == folder
    assert name in message and json.dumps(value) in message and "--overwrite" in message


def test_overwrite_rebuilds_what_differs_and_nothing_else(sample_prepared, sample_dir, sample_arguments, tmp_path):
    folder = copy_of(sample_dir, tmp_path / "copy")
    before = {path.parent.name: path.stat().st_mtime_ns for path in folder.glob("data/*/MANIFEST.json")}
    prepared = prepare_dataset(sample_arguments(folder, overlap=5, overwrite=True))
    after = {path.parent.name: path.stat().st_mtime_ns for path in folder.glob("data/*/MANIFEST.json")}
    assert {name for name in before if before[name] != after[name]} - {"report"} == {"block_32", "block_64"}
    assert len(prepared.rows[64]["train"]) != len(sample_prepared.rows[64]["train"])
    assert not list(folder.glob("data/_*"))


# R14 row 45
def test_a_flipped_bit_is_found(sample_prepared, sample_dir, sample_arguments, tmp_path):
    folder = copy_of(sample_dir, tmp_path / "copy")
    shard = next((folder / "data" / "block_64" / "train").glob("*.arrow"))
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    for use in (lambda: prepare_dataset(sample_arguments(folder)), lambda: load_prepared(folder / "data")):
        with pytest.raises(UserError, match=f"{shard.name} is not what was written") as error:
            use()
        assert error.value.exit_code == CORRUPT_ARTIFACT
    prepare_dataset(sample_arguments(folder, overwrite=True))
    assert load_prepared(folder / "data")[64]["train"][:] == sample_prepared.rows[64]["train"][:]


def test_a_foreign_folder_is_left_alone(sample_prepared, sample_dir, sample_arguments, tmp_path):
    folder = copy_of(sample_dir, tmp_path / "copy")
    shutil.rmtree(folder / "data" / "block_64")
    thesis = folder / "data" / "block_64" / "thesis.txt"
    thesis.parent.mkdir()
    thesis.write_text("years of work")
    for overwrite in (False, True):
        with pytest.raises(UserError, match="did not write") as error:
            prepare_dataset(sample_arguments(folder, overwrite=overwrite))
        assert error.value.exit_code == BAD_CONFIG
    assert thesis.read_text() == "years of work"


def prepare_and_die(args, save=Stage.save) -> None:
    """In a process of its own: killed when all rows of a block size are written, but not yet committed."""

    def save_then_die(stage, rows, name):
        save(stage, rows, name)
        if stage.folder.name == "_staging-block_32" and name == "validation":
            os.kill(os.getpid(), signal.SIGKILL)

    Stage.save = save_then_die
    prepare_dataset(args)


# R14 rows 41 and 44
def test_a_killed_build_leaves_nothing_that_loads(sample_prepared, sample_dir, sample_arguments, tmp_path):
    folder = copy_of(sample_dir, tmp_path / "copy")
    shutil.rmtree(folder / "data" / "block_32")
    shutil.rmtree(folder / "data" / "block_64")
    args = sample_arguments(folder)
    process = multiprocessing.get_context("fork").Process(target=prepare_and_die, args=(args,))
    process.start()
    process.join(timeout=60)
    assert process.exitcode == -signal.SIGKILL
    assert (folder / "data" / "_staging-block_32" / "validation").is_dir()
    assert not (folder / "data" / "block_32").exists()
    with pytest.raises(UserError, match="no prepared rows"):
        load_prepared(folder / "data")
    prepared = prepare_dataset(args)
    assert prepared.rows[32]["train"][:] == sample_prepared.rows[32]["train"][:]
    assert not list(folder.glob("data/_*"))


def test_load_prepared(sample_prepared, sample_dir):
    loaded = load_prepared(sample_dir / "data")
    assert list(loaded) == [32, 64]
    assert list(loaded[32]) == ["train", "validation"]
    assert loaded[32]["train"][:] == sample_prepared.rows[32]["train"][:]
    assert list(load_prepared(sample_dir / "data", [64])) == [64]
    with pytest.raises(UserError) as error:
        load_prepared(sample_dir)
    assert error.value.exit_code == BAD_INPUT


# R14 rows 15 and 16
@pytest.mark.parametrize("texts", [["Kısa."], ["Bir belge. İki cümlesi var."] * 3, ["a.", "b.", "c.", "d.", "e."]])
def test_too_little_text_is_one_line(sample_dir, sample_prepared, sample_arguments, tmp_path, texts):
    corpus = tmp_path / "little.txt"
    corpus.write_text("\n\n".join(texts), "utf-8")
    tokenizer_dir = tmp_path / "tokenizer"  # a foreign one, so that none is trained on this text
    shutil.copytree(sample_dir / "tokenizer", tokenizer_dir)
    (tokenizer_dir / "MANIFEST.json").unlink()
    with pytest.raises(UserError, match="(too few|no document gives a row).*--nsp_probability 0") as error:
        prepare_dataset(sample_arguments(tmp_path, corpus=[str(corpus)]))
    assert error.value.exit_code == BAD_INPUT
    assert not [path for path in (tmp_path / "data").glob("*block*") if path.is_dir()]


# R14 row 15
def test_without_pairs_two_documents_are_enough(sample_dir, sample_prepared, sample_arguments, tmp_path):
    corpus = tmp_path / "little.txt"
    corpus.write_text("Bir belge. İki cümlesi var.\n\nBaşka bir belge daha. Onun da iki cümlesi var.", "utf-8")
    shutil.copytree(sample_dir / "tokenizer", tmp_path / "tokenizer")
    (tmp_path / "tokenizer" / "MANIFEST.json").unlink()
    args = sample_arguments(tmp_path, corpus=[str(corpus)], nsp_probability=0)
    prepared = prepare_dataset(args)
    for splits in prepared.rows.values():
        assert [len(rows) for rows in splits.values()] == [1, 1]
        assert splits["train"]["next_sentence_label"][:] == [0]
    with pytest.raises(UserError, match="2 documents are too few.*>= 2 documents.*--nsp_probability 0"):
        prepare_dataset(sample_arguments(tmp_path, corpus=[str(corpus)], data_dir=str(tmp_path / "pairs")))


def test_without_pairs_no_b_is_random(sample_dir, sample_prepared, sample_arguments, tmp_path):
    folder = copy_of(sample_dir, tmp_path / "copy")
    args = sample_arguments(folder, nsp_probability=0, masking="static", overwrite=True)
    rows = prepare_dataset(args).rows
    for block_size, splits in rows.items():
        stats = load_stats(folder / "data", block_size)
        for split, of_split in splits.items():
            assert set(of_split["next_sentence_label"]) == {0}
            assert (stats[split]["not_next"], stats[split]["is_next_share"]) == (0, 1)
            assert stats[split]["padding_share"] < 0.01  # the sample's documents are longer than a row
            assert min(map(len, of_split["masked_lm_ids"])) >= 1
    assert not any("B follows A" in w for w in json.loads((folder / "data/report/stats.json").read_text())["warnings"])


def tree(folder: Path) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files if path.name != "config.json"}


def test_overwrite_that_fails_late_puts_everything_back(sample_prepared, sample_dir, sample_arguments, tmp_path):
    """The documents were replaced when the tokenizer was refused: the old ones, and the old command, must work."""
    folder = copy_of(sample_dir, tmp_path / "copy")
    before = tree(folder)
    corpus = tmp_path / "other.txt"
    corpus.write_text("\n\n".join(f"Belge {n} burada başlar. Şehir kıyıdadır." for n in range(20)), "utf-8")
    with pytest.raises(UserError, match="the texts yield only"):
        prepare_dataset(sample_arguments(folder, corpus=[str(corpus)], overwrite=True))
    assert tree(folder) == before
    prepare_dataset(sample_arguments(folder))


@pytest.mark.parametrize("command", ["the same", "the old"])
def test_interrupted_overwrite_goes_on_or_back(
    sample_prepared, sample_dir, sample_arguments, tmp_path, monkeypatch, command
):
    folder = copy_of(sample_dir, tmp_path / "copy")
    before = tree(folder)
    new = sample_arguments(folder, max_document_chars=1500, overwrite=True)
    with monkeypatch.context() as patch:
        patch.setattr("turkbert.data.prepare.prepare_tokens", Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            prepare_dataset(new)
    assert read_manifest(folder / "data" / "documents")["key"]["max_document_chars"] == 1500
    stamp = (folder / "data" / "documents").stat().st_mtime_ns
    if command == "the old":
        prepare_dataset(sample_arguments(folder))
        assert tree(folder) == before
    else:
        prepare_dataset(sample_arguments(folder, max_document_chars=1500, overwrite=True))
        assert (folder / "data" / "documents").stat().st_mtime_ns == stamp
        prepare_dataset(sample_arguments(folder, max_document_chars=1500))
    assert not [*folder.glob("**/_*")]


def test_rows_of_other_tokens_are_not_loaded(sample_prepared, sample_dir, sample_arguments, tmp_path):
    """One block size was made again with another tokenizer; the other one still is in the folder."""
    folder = copy_of(sample_dir, tmp_path / "copy")
    half = {"block_sizes": [32], "stage_fractions": [1.0], "stage_batch_sizes": [8], "overwrite": True}
    prepare_dataset(sample_arguments(folder, vocab_size=1900, **half))
    assert list(load_prepared(folder / "data", [32])) == [32]
    for block_sizes in ([64], None):
        with pytest.raises(UserError, match="block_64: made from other tokens than those of") as error:
            load_prepared(folder / "data", block_sizes)
        assert error.value.exit_code == BAD_CONFIG
    with pytest.raises(UserError, match="made with another tokenizer"):
        check_tokenizer(folder / "data", sample_prepared.tokenizer)


@pytest.mark.parametrize(
    "lost", ["tokens/MANIFEST.json", "random_words", "random_words/random_words.npz", "block_32/MANIFEST.json"]
)
def test_what_rows_were_made_from_must_be_there(sample_prepared, sample_dir, tmp_path, lost):
    data_dir = copy_of(sample_dir, tmp_path / "copy") / "data"
    shutil.rmtree(data_dir / lost) if (data_dir / lost).is_dir() else (data_dir / lost).unlink()
    with pytest.raises(UserError, match="no valid MANIFEST.json|is missing") as error:
        load_prepared(data_dir)
    assert error.value.exit_code == CORRUPT_ARTIFACT and "prepare_data.py" in error.value.mend


def test_what_is_in_the_way_is_said_before_any_work(sample_arguments, tmp_path):
    for name in ("tokenizer", "data/tokens", "data/block_64", "data/report"):
        folder = tmp_path / name.replace("/", "_")
        (folder / name).mkdir(parents=True)
        (folder / name / "thesis.txt").write_text("years of work")
        with pytest.raises(UserError, match=f"{name}: a folder that turkbert did not write"):
            prepare_dataset(sample_arguments(folder))
        assert not (folder / "data" / "documents").exists()


def test_a_corpus_folder_may_hold_the_data(sample_arguments, sample_texts, tmp_path):
    (tmp_path / "a.jsonl").write_text(
        "".join(json.dumps({"text": text}) + "\n" for text in [*sample_texts[:40], "", "A."]), "utf-8"
    )
    args = sample_arguments(tmp_path, corpus=[str(tmp_path)], vocab_size=800)
    prepare_documents(args)
    assert (tmp_path / "data" / "documents" / "rejects.jsonl").read_text()
    prepare_documents(args)  # reused: it does not read its own rejects


# R14 row 14
@pytest.mark.parametrize("shard", ["500MB", "20KB"])
def test_dropped_copies_are_not_in_the_store(sample_arguments, sample_texts, tmp_path, shard):
    texts = [text.strip() for text in sample_texts[:40]]
    corpus = tmp_path / "a.txt"
    corpus.write_text("\n\n".join([*texts[:20], texts[3], *texts[20:]]), "utf-8")
    args = sample_arguments(tmp_path, corpus=[str(corpus)], dedup="exact", max_shard_size=shard)
    folder = prepare_documents(args)
    ledger = json.loads((folder / "ledger.json").read_text())
    stored = Dataset.load_from_disk(str(folder / "text"))["text"][:]
    assert stored == texts
    assert len(stored) == ledger["documents_kept"] == ledger["documents_in"] - 1
    assert ledger["bytes"] == sum(len(text.encode()) for text in stored)


def test_finished_data_may_be_read_only(sample_prepared, sample_dir, sample_arguments, tmp_path, monkeypatch):
    folder = copy_of(sample_dir, tmp_path / "copy")
    args = sample_arguments(folder)
    monkeypatch.setattr("turkbert.artifacts.FileLock", Mock(side_effect=PermissionError))  # root may write anywhere
    assert prepare_dataset(args).rows[32]["train"][:] == sample_prepared.rows[32]["train"][:]
