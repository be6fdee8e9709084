import gzip
import io
import json
import logging
import lzma
import os
import random
import shutil
import tarfile
import tracemalloc
import zipfile

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from turkbert.data import corpus as corpus_module
from turkbert.data import documents as documents_module
from turkbert.data import raw_text
from turkbert.data.corpus import find_corpus_files, hash_corpus, is_hub_corpus, load_corpus, split_documents
from turkbert.data.documents import CorpusLedger, read_documents
from turkbert.errors import BAD_CONFIG, BAD_INPUT, ENVIRONMENT, UserError

DOCUMENTS = ["Ankara başkenttir.\nŞehir 1923'te seçildi.", "İzmir'in ığdırlı çiçekçisi.", "Üç satır.\nİki.\nBir."]
TEXT = "\n\n".join(DOCUMENTS) + "\n"
COMPRESS = {"gz": gzip.compress, "xz": lzma.compress, "zst": zstandard.ZstdCompressor().compress}


@pytest.fixture(autouse=True)
def quiet_progress():
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def write_rows(path, rows):
    return write(path, "".join(json.dumps(row) + "\n" for row in rows))


def read(path, **settings):
    """All documents of a file, its ledger and its rejects; the ledger must add up."""
    ledger, rejects = CorpusLedger(), io.StringIO()
    texts = list(read_documents(path, ledger, rejects=rejects, **settings))
    records = [json.loads(line) for line in rejects.getvalue().splitlines()]
    assert ledger.documents_in == ledger.documents_kept + sum(ledger.rejected.values())
    assert ledger.documents_kept == len(texts)
    assert len(records) == sum(ledger.rejected.values())
    assert all(record["file"] == str(path) for record in records)
    return texts, ledger, [(record["reason"], record["place"]) for record in records]


def error_of(function, *args, **kwargs) -> UserError:
    with pytest.raises(UserError) as caught:
        function(*args, **kwargs)
    return caught.value


# --- formats


def test_every_format_gives_the_same_documents(tmp_path):
    rows = [{"text": text} for text in DOCUMENTS]
    paths = [write(tmp_path / "a.txt", TEXT), write_rows(tmp_path / "b.jsonl", rows), tmp_path / "c.parquet"]
    pq.write_table(pa.Table.from_pylist(rows), paths[2])
    for ending, compress in COMPRESS.items():
        paths.append(write(tmp_path / f"d.txt.{ending}", compress(TEXT.encode())))
        paths.append(write(tmp_path / f"e.jsonl.{ending}", compress(paths[1].read_bytes())))
    for path in paths:
        assert read(path)[0] == DOCUMENTS, path


@pytest.mark.parametrize("kind", [pa.large_string(), pa.dictionary(pa.int32(), pa.string())])
def test_parquet_string_types(tmp_path, kind):
    table = pa.table({"other": [1, 2, 3], "body": pa.array(DOCUMENTS).cast(kind)})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=2)
    assert read(tmp_path / "a.parquet", text_column="body")[0] == DOCUMENTS


# R14 row 10
def test_blank_lines_of_any_white_space_separate_documents(tmp_path):
    path = write(tmp_path / "a.txt", "\n \nbir\niki\n\t \n\n\u00a0\n üç \n\n\n")
    assert read(path)[0] == ["bir\niki", "üç"]
    rows = write_rows(tmp_path / "a.jsonl", [{"text": "bir\n\n \niki\n"}])
    assert read(rows)[0] == ["bir\niki"]


def test_trwiki_titles_begin_documents_and_blank_lines_do_not(tmp_path):
    path = write(
        tmp_path / "wiki.txt",
        "\n== Ankara ==\nBaşkenttir.\n\n=== Tarih ===\n\nEski şehir burada kuruldu ve hep büyüdü.\n"
        "== İzmir ==\nKörfezde bir şehir == liman değil.\n\n== Kars == \nDoğuda.\n== Son ==",
    )
    assert read(path)[0] == [
        "== Ankara ==\nBaşkenttir.\n=== Tarih ===\nEski şehir burada kuruldu ve hep büyüdü.",
        "== İzmir ==\nKörfezde bir şehir == liman değil.",
        "== Kars == \nDoğuda.",
        "== Son ==",
    ]
    texts, ledger, rejects = read(path, drop_short_lines=5)
    assert texts == ["Eski şehir burada kuruldu ve hep büyüdü.", "Körfezde bir şehir == liman değil."]
    assert ledger.cleaned == {"short_lines": 7}
    assert rejects == [("empty", "document 3"), ("empty", "document 4")]


def test_a_title_later_in_a_file_does_not_make_it_trwiki(tmp_path):
    assert read(write(tmp_path / "a.txt", "Giriş.\n\nbir\n== Ara ==\niki"))[0] == ["Giriş.", "bir\n== Ara ==\niki"]


@pytest.mark.parametrize("head", ["", "== Baş ==\n"])
def test_chunk_sizes_change_nothing(tmp_path, monkeypatch, head):
    rng = random.Random(1)
    parts = ["ağaç. ", "ş", " ", "\n", "\r\n", "\r", "\n \n", "\n\n", "\n== Ad ==\n", "uzunbirkelime", "\u2028", "! "]
    for trial in range(40):
        body = head + "".join(rng.choices(parts, k=300))
        path = write(tmp_path / f"{trial}.txt", body)
        whole = read(path, max_document_chars=40)
        for size in (1, 2, 7, 64):
            monkeypatch.setattr(raw_text, "CHUNK_BYTES", size)
            texts, ledger, _ = read(path, max_document_chars=40)
            assert texts == whole[0]
        monkeypatch.undo()
        assert all(0 < len(text) <= 40 for text in whole[0])
        assert "".join("".join(whole[0]).split()) == "".join(body.split())


# --- characters


# R14 row 3
def test_byte_order_marks_are_stripped(tmp_path):
    path = write(tmp_path / "a.txt", b"\xef\xbb\xbfbir\n\n\xef\xbb\xbfiki")
    texts, ledger, _ = read(path)
    assert texts == ["bir", "iki"] and ledger.cleaned == {"byte_order_marks": 2}
    assert read(write(tmp_path / "a.jsonl", b'\xef\xbb\xbf{"text": "bir"}'))[0] == ["bir"]


# R14 rows 5 and 6
@pytest.mark.parametrize("newline", ["\r\n", "\r"])
def test_line_ends_become_lf(tmp_path, newline):
    texts, ledger, _ = read(write(tmp_path / "a.txt", TEXT.replace("\n", newline)))
    assert texts == DOCUMENTS
    assert ledger.cleaned == {"carriage_returns": TEXT.count("\n")}
    rows = write_rows(tmp_path / "a.jsonl", [{"text": text.replace("\n", newline)} for text in DOCUMENTS])
    assert read(rows)[0] == DOCUMENTS


# R14 rows 7 and 8
def test_separators_become_spaces_and_control_characters_go(tmp_path):
    text = "a\u2028b\u2029c\x85d\x0be\x0cf\x00g\x07h\x7fi\tj\nk"
    for path in (write(tmp_path / "a.txt", text), write_rows(tmp_path / "a.jsonl", [{"text": text}])):
        texts, ledger, _ = read(path)
        assert texts == ["a b c d e fghi\tj\nk"]
        assert ledger.cleaned == {"line_separators": 5, "control_characters": 3}


# R14 row 1
@pytest.mark.parametrize("chunk_bytes", [1, 5, 1 << 20])
def test_latin5_names_file_offset_and_remedy(tmp_path, monkeypatch, chunk_bytes):
    monkeypatch.setattr(raw_text, "CHUNK_BYTES", chunk_bytes)
    path = write(tmp_path / "a.txt", b"agac " + "şeker".encode("cp1254"))
    error = error_of(read, path)
    assert error.where == str(path) and error.exit_code == BAD_INPUT
    assert "offset 5" in error.what and "iso-8859-9/cp1254" in error.what and "--encoding cp1254" in error.mend
    # A file with good UTF-8 before that byte is a damaged one.
    path = write(tmp_path / "a.txt", "ağaç ".encode() + "şeker".encode("cp1254"))
    error = error_of(read, path)
    assert "offset 7" in error.what and "cp1254" not in str(error) and "--bad_bytes reject" in error.mend


# R14 rows 1 and 4
@pytest.mark.parametrize("encoding", ["cp1254", "iso-8859-9", "utf-16", "utf-16-le", "UTF8", "utf-8-sig"])
@pytest.mark.parametrize("chunk_bytes", [1, 5, 1 << 20])
def test_other_encodings(tmp_path, monkeypatch, encoding, chunk_bytes):
    monkeypatch.setattr(raw_text, "CHUNK_BYTES", chunk_bytes)
    text = "Ağaç,\r\nşeker. Öğle\rĞ"
    path = write(tmp_path / "a.txt", text.encode(encoding))
    texts, ledger, _ = read(path, encoding=encoding)
    assert texts == ["Ağaç,\nşeker. Öğle\nĞ"]
    assert ledger.cleaned == {"carriage_returns": 2}
    rows = write(tmp_path / "a.jsonl", json.dumps({"text": "şeker"}, ensure_ascii=False).encode(encoding))
    assert read(rows, encoding=encoding)[0] == ["şeker"]


# R14 row 2
def test_a_bad_byte_is_fatal_or_rejects_its_document(tmp_path):
    path = write(tmp_path / "a.txt", b"bir\n\niki \xff iki\n\n\xc3\xbc\xc3\xa7\n\n\xc3")
    assert "0xff at offset 9" in error_of(read, path).what
    texts, ledger, rejects = read(path, bad_bytes="reject")
    assert texts == ["bir", "üç"]
    assert rejects == [("undecodable", "document 2"), ("undecodable", "document 4")]
    jsonl = write(tmp_path / "a.jsonl", b'{"text": "bir"}\n{"text": "\xff"}\n')
    assert read(jsonl, bad_bytes="reject")[2] == [("undecodable", "line 2")]


# R14 row 4
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-16-le"])
@pytest.mark.parametrize("mark", [True, False])
def test_utf16_is_named(tmp_path, encoding, mark):
    error = error_of(
        read, write(tmp_path / "a.txt", (("\ufeff" if mark else "") + "Ankara'da yağmur").encode(encoding))
    )
    assert "UTF-16" in error.what


# --- long documents


# R14 row 12
def test_long_documents_are_cut_at_a_line_a_sentence_or_a_word(tmp_path):
    def cut(text, size):
        results = []
        for path in (write_rows(tmp_path / "a.jsonl", [{"text": text}]), write(tmp_path / "a.txt", text + " \n")):
            texts, ledger, _ = read(path, max_document_chars=size)
            assert ledger.cleaned == ({"cuts": len(texts) - 1} if len(texts) > 1 else {})
            results.append(texts)
        assert results[0] == results[1]
        return results[0]

    assert cut("Bir iki. Üç\ndört beş. altı", 20) == ["Bir iki. Üç", "dört beş. altı"]
    assert cut("Bir iki üç. Dört beş altı", 20) == ["Bir iki üç.", "Dört beş altı"]
    assert cut("bir iki üç dört beş", 12) == ["bir iki üç", "dört beş"]
    assert cut("x" * 25, 10) == ["x" * 10, "x" * 10, "x" * 5]
    assert cut("x" * 10, 10) == ["x" * 10]


# R14 row 12
@pytest.mark.parametrize("ending", ["txt", "txt.gz"])
def test_a_long_line_is_read_in_bounded_memory(tmp_path, monkeypatch, ending):
    monkeypatch.setattr(raw_text, "CHUNK_BYTES", 1 << 16)
    content = ("Ankara'nın çok güzel bir günüydü. " * 250_000).encode()  # 9 MB, one line
    path = write(tmp_path / f"a.{ending}", gzip.compress(content, 1) if ending == "txt.gz" else content)
    ledger, total = CorpusLedger(), 0
    tracemalloc.start()
    for text in read_documents(path, ledger, max_document_chars=100_000):
        total += len(text) + 1
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total == len(content.decode())
    assert ledger.cleaned == {"cuts": ledger.documents_kept - 1}
    assert peak < 3_000_000


def test_white_space_without_end_takes_no_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(raw_text, "CHUNK_BYTES", 1 << 16)
    path = write(tmp_path / "a.txt", "bir" + " " * 5_000_000 + "iki")
    tracemalloc.start()
    assert " ".join(read(path, max_document_chars=100_000)[0]).split() == ["bir", "iki"]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000


# --- damaged and hostile files


# R14 rows 23 and 24
@pytest.mark.parametrize("ending", COMPRESS)
def test_damaged_compressed_files_are_named(tmp_path, ending):
    rng = random.Random(0)
    text = "\n\n".join(" ".join(rng.choices(["ağaç", "İzmir", "çığ", "kuş"], k=50)) for _ in range(800)).encode()
    good = COMPRESS[ending](text)
    path = tmp_path / f"a.txt.{ending}"
    for length in (len(good) - 1, len(good) // 2, 3):
        error = error_of(read, write(path, good[:length]))
        assert error.where == str(path) and f"truncated {ending} data" in error.what and str(length) in error.what
    for position in (0, len(good) // 2):
        damaged = bytearray(good)
        damaged[position] ^= 0xFF
        if ending != "zst" or position == 0:  # zstd frames need not carry a checksum
            assert f"corrupt {ending} data" in error_of(read, write(path, bytes(damaged))).what
    assert "after the end of the first" in error_of(read, write(path, good + good)).what
    assert "after the end of the first" in error_of(read, write(path, good + b"x")).what


def test_damage_that_shows_as_bad_bytes_or_broken_lines_first_is_still_damage(tmp_path, monkeypatch):
    monkeypatch.setattr(raw_text, "CHUNK_BYTES", 4096)
    for name, text in (("a.txt.gz", b"bir \xff iki\n" * 2000), ("a.jsonl.gz", b'{"text": "bir"}\n{"te\n' * 2000)):
        good = gzip.compress(text, 0)
        assert "corrupt" not in error_of(read, write(tmp_path / name, good)).what
        assert "corrupt gz" in error_of(read, write(tmp_path / name, good[:-8] + b"00000000")).what


@pytest.mark.parametrize("ending", COMPRESS)
def test_decompression_bombs_are_refused(tmp_path, monkeypatch, ending):
    path = write(tmp_path / f"a.txt.{ending}", COMPRESS[ending](b"a" * (1 << 22)))
    assert len(read(path)[0]) == 5
    monkeypatch.setattr(raw_text, "RATIO_FREE_BYTES", 1 << 20)
    assert "bomb" in error_of(read, path).what


def test_archives_are_refused_by_name_and_by_content(tmp_path):
    write(tmp_path / "in.txt", TEXT)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(tmp_path / "in.txt")
    for name, mode in (("a.tar", "w"), ("a.tar.gz", "w:gz")):
        with tarfile.open(tmp_path / name, mode) as archive:
            archive.add(tmp_path / "in.txt")
    for name, disguise in (("a.zip", "zip.txt"), ("a.tar", "tar.txt"), ("a.tar.gz", "tar.txt.gz")):
        assert "archives" in error_of(find_corpus_files, [str(tmp_path / name)]).what
        shutil.copy(tmp_path / name, tmp_path / disguise)
        assert "archive" in error_of(read, tmp_path / disguise).what
    assert "gzip" in error_of(read, write(tmp_path / "b.txt", gzip.compress(b"a"))).what


# R14 row 25
def test_broken_json_lines_are_fatal_or_rejected(tmp_path):
    path = write(tmp_path / "a.jsonl", '{"text": "bir"}\n \n["iki"]\n5\n{"text": "üç"}\n{"text": "dö')
    error = error_of(read, path)
    assert error.where == f"{path}:3" and "bad_lines" in error.mend
    texts, _, rejects = read(path, bad_lines="reject")
    assert texts == ["bir", "üç"]
    assert rejects == [("broken_line", "line 3"), ("broken_line", "line 4"), ("broken_line", "line 6")]
    nested = write(tmp_path / "b.jsonl", "[" * 100_000)
    assert error_of(read, nested).where == f"{nested}:1"


# R14 rows 20, 26 and 28
def test_rows_without_text_are_rejected_with_reason_and_place(tmp_path):
    rows = [{"text": "bir"}, {"body": "x"}, {"text": None}, {"text": 5}, {"text": ["a"]}, {"text": " \n\t"}]
    path = write_rows(tmp_path / "a.jsonl", rows + [{"text": "kötü \ud800"}, {"text": "satır\u2028iki"}])
    texts, ledger, rejects = read(path)
    assert texts == ["bir", "satır iki"]
    assert ledger.rejected == {"missing": 1, "not_a_string": 3, "empty": 1, "undecodable": 1}
    assert rejects[0] == ("missing", "line 2") and rejects[-1] == ("undecodable", "line 7")


# R14 row 27
@pytest.mark.parametrize("num_rows", [2, 3000])
def test_a_field_absent_everywhere_is_fatal_and_the_fields_are_named(tmp_path, num_rows):
    path = write_rows(tmp_path / "a.jsonl", [{"body": "x", "id": 1}] * num_rows)
    assert "no field 'text'; fields are: body, id" in error_of(read, path).what
    with open(path, "a") as file:  # met only if the whole file was read
        file.write("{" * (num_rows > 1000))
    assert "no field 'text'" in error_of(read, path).what
    pq.write_table(pa.table({"body": ["x"]}), tmp_path / "a.parquet")
    assert "no field 'text'; fields are: body" in error_of(read, tmp_path / "a.parquet").what


def test_a_json_line_has_a_largest_size(tmp_path, monkeypatch):
    path = write_rows(tmp_path / "a.jsonl", [{"text": "bir"}, {"text": "x" * 5000}])
    monkeypatch.setattr(documents_module, "MAX_JSON_LINE_CHARS", 1000)
    monkeypatch.setattr(raw_text, "CHUNK_BYTES", 64)
    assert error_of(read, path).where == f"{path}:2"


# R14 row 29
def test_parquet_nulls_bad_bytes_other_types_and_damage(tmp_path):
    path = tmp_path / "a.parquet"
    raw = pa.array([b"bir", None, b"\xff", "üç".encode()])
    text = pa.StringArray.from_buffers(len(raw), raw.buffers()[1], raw.buffers()[2], raw.buffers()[0])
    pq.write_table(pa.table({"text": text, "number": [1, 2, 3, 4]}), path)
    texts, _, rejects = read(path)
    assert texts == ["bir", "üç"] and rejects == [("not_a_string", "row 2"), ("undecodable", "row 3")]
    assert "int64, not strings" in error_of(read, path, text_column="number").what
    whole = path.read_bytes()
    for content in (whole[:-1], whole[: len(whole) // 2], b"PAR1"):
        error = error_of(read, write(path, content))
        assert error.where == str(path) and "parquet" in error.what


# --- finding files


# R14 row 21
def test_files_are_found_in_order_and_once(tmp_path, monkeypatch):
    for name in ("d/b.txt", "d/a/z.jsonl.xz", "d/c.TXT.GZ", "d/.hidden.txt", "d/_x.txt", "d/_y/a.txt", "d/x.csv"):
        write(tmp_path / name, "x")
    for name in ("z.txt", "y.parquet", "[1].txt"):
        write(tmp_path / name, "x")
    (tmp_path / "d/a/zloop").symlink_to(tmp_path / "d")
    (tmp_path / "d/link.txt").symlink_to(tmp_path / "z.txt")
    (tmp_path / "d/blob.txt").symlink_to(tmp_path / "d/x.csv")  # the Hub's cache looks like this
    monkeypatch.chdir(tmp_path)

    def found(*patterns):
        return [str(path.relative_to(tmp_path)) for path in find_corpus_files(list(patterns))]

    folder = ["d/a/z.jsonl.xz", "d/b.txt", "d/blob.txt", "d/c.TXT.GZ", "d/link.txt"]
    assert found("d") == folder
    assert found("z.txt", "d") == ["z.txt", *folder[:-1]]
    assert found("d/[bl]*.txt", "*.parquet", "d/../y.parquet") == ["d/b.txt", "d/blob.txt", "d/link.txt", "y.parquet"]
    assert found("[1].txt") == ["[1].txt"]
    assert found("d/**/*.xz") == ["d/a/z.jsonl.xz"]
    assert found("d/*") == ["d/_x.txt", "d/b.txt", "d/blob.txt", "d/c.TXT.GZ", "d/link.txt"]


# R14 row 22
@pytest.mark.parametrize("pattern", ["yok.txt", "yok/*.txt", "*.csv", "empty", "dead"])
def test_what_is_not_there_is_named_with_the_working_folder(tmp_path, monkeypatch, pattern):
    write(tmp_path / "a.csv", "x")
    write(tmp_path / "good.txt", TEXT)
    (tmp_path / "empty").mkdir()
    (tmp_path / "dead").mkdir()
    (tmp_path / "dead/link.txt").symlink_to(tmp_path / "gone")
    monkeypatch.chdir(tmp_path)
    error = error_of(load_corpus, ["good.txt", pattern], cache_dir="cache")
    assert pattern in error.where and str(tmp_path) in str(error)
    assert not os.path.exists("cache")


# R14 row 22
@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_unreadable_files_are_named(tmp_path):
    write(tmp_path / "a.txt", TEXT).chmod(0)
    assert "a.txt' cannot be read" in error_of(find_corpus_files, [str(tmp_path)]).what


def test_a_named_file_of_an_unknown_kind_is_refused(tmp_path):
    for name in ("a.csv", "a", "a.parquet.gz", "a.json"):
        assert "not a known kind" in error_of(find_corpus_files, [str(write(tmp_path / name, "x"))]).what


def test_no_corpus_is_the_bundled_sample(tmp_path, monkeypatch):
    for name in ("b.txt", "a.txt", "README.md"):
        write(tmp_path / "sample" / name, name)
    monkeypatch.setattr(corpus_module.resources, "files", lambda package: {"turkbert": tmp_path}[package])
    assert [path.name for path in find_corpus_files([])] == ["a.txt", "b.txt"]


def test_hash_is_of_contents_in_order(tmp_path):
    a, b = write(tmp_path / "a.txt", "bir"), write(tmp_path / "b.txt", "iki")
    first = hash_corpus([a, b])
    assert len(first) == 64 and first != hash_corpus([b, a])
    os.utime(a, (0, 0))
    assert first == hash_corpus([a.rename(tmp_path / "c.txt"), b])
    assert first != hash_corpus([write(tmp_path / "c.txt", "bir "), b])
    assert first != hash_corpus([write(tmp_path / "c.txt", "biri"), write(b, "ki")])
    assert hash_corpus([write(tmp_path / "d.jsonl", "bir")]) != hash_corpus([write(tmp_path / "d.txt", "bir")])


# What turkbert itself wrote beside the texts is no corpus: its rejects.jsonl would be read the second time.
def test_folders_of_turkbert_are_passed_over(tmp_path):
    text = write(tmp_path / "a.txt", "bir")
    write(tmp_path / "data" / "documents" / "rejects.jsonl", "{}\n")
    write(tmp_path / "data" / "documents" / "MANIFEST.json", "{}")
    for corpus in ([str(tmp_path)], [f"{tmp_path}/**"], [f"{tmp_path}/**/*.jsonl", str(text)]):
        if corpus[0].endswith("jsonl"):
            assert "no corpus file" in error_of(find_corpus_files, corpus).what
        else:
            assert find_corpus_files(corpus) == [text]


# --- the data set


def many_files(folder):
    """Five files of different kinds with 33 rows, of which 4 are bad."""
    for number in range(3):
        write(folder / f"{number}.txt", "\n\n".join(f"Dosya {number}, belge {i}. ığüşöç" for i in range(10)))
    write(folder / "3.txt.gz", gzip.compress(b"Son belge.\r\n\r\nEn son."))
    write_rows(folder / "4.jsonl", [{"text": "x"}, {"text": 1}, {"text": ""}, {"body": 1}, {"text": "\ud800"}])
    return [f"Dosya {number}, belge {i}. ığüşöç" for number in range(3) for i in range(10)] + [
        "Son belge.",
        "En son.",
        "x",
    ]


# R14 row 38
def test_load_is_the_same_for_any_number_of_processes(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "global")
    expected = many_files(tmp_path / "in")
    results = []
    for num_proc in (None, 2, 9):
        cache_dir = tmp_path / f"cache{num_proc}"
        dataset, ledger = load_corpus([str(tmp_path / "in")], cache_dir=cache_dir, num_proc=num_proc)
        assert dataset.features == datasets.Features({"text": datasets.Value("string")})
        assert dataset["text"][:] == expected
        assert all(file["filename"].startswith(str(cache_dir)) for file in dataset.cache_files)
        results.append((ledger, (cache_dir / "rejects.jsonl").read_text()))
    assert results[0] == results[1] == results[2]
    ledger, rejects = results[0]
    assert ledger.documents_in == 37 and ledger.documents_kept == 33
    assert ledger.rejected == {"not_a_string": 1, "empty": 1, "missing": 1, "undecodable": 1}
    assert ledger.cleaned == {"carriage_returns": 2}
    assert [json.loads(line)["place"] for line in rejects.splitlines()] == ["line 2", "line 3", "line 4", "line 5"]
    assert not (tmp_path / "global").exists()


# R14 row 43
def test_an_edited_file_is_read_anew(tmp_path):
    path = write(tmp_path / "a.txt", "bir")
    before = path.stat()
    first, _ = load_corpus([str(path)], cache_dir=tmp_path / "c")
    write(path, "iki")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    second, _ = load_corpus([str(path)], cache_dir=tmp_path / "c")
    assert first["text"][:] == ["bir"] and second["text"][:] == ["iki"]
    assert first._fingerprint != second._fingerprint  # or .map would serve the old rows


def test_a_failure_of_datasets_is_not_taken_for_an_empty_corpus(tmp_path, monkeypatch):
    def from_generator(generator, gen_kwargs, **kwargs):
        list(generator(**gen_kwargs))
        raise ValueError("something else")

    monkeypatch.setattr(datasets.Dataset, "from_generator", from_generator)
    with pytest.raises(ValueError, match="something else"):
        load_corpus([str(write(tmp_path / "a.txt", TEXT))], cache_dir=tmp_path / "c")


@pytest.mark.parametrize("num_proc", [1, 2])
def test_errors_keep_their_fields_in_worker_processes(tmp_path, num_proc):
    many_files(tmp_path)
    path = write(tmp_path / "9.txt", b"\xfe")
    error = error_of(load_corpus, [str(tmp_path)], cache_dir=tmp_path / "c", num_proc=num_proc)
    assert (error.where, error.exit_code) == (str(path), BAD_INPUT) and "offset 0" in error.what


# R14 row 30
@pytest.mark.parametrize("num_proc", [1, 2])
def test_a_full_disk_is_an_oserror(tmp_path, monkeypatch, num_proc):
    many_files(tmp_path / "in")

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(datasets.arrow_writer.ArrowWriter, "write_examples_on_file", full)
    with pytest.raises(OSError, match="No space left") as caught:
        load_corpus([str(tmp_path / "in")], cache_dir=tmp_path / "c", num_proc=num_proc)
    assert caught.value.errno == 28 and caught.value.filename == str(tmp_path / "c")


# R14 row 9
def test_empty_files_are_warned_of_and_fatal_alone(tmp_path, caplog):
    empty = write(tmp_path / "a.txt", "")
    with caplog.at_level(logging.WARNING):
        dataset, _ = load_corpus([str(empty), str(write(tmp_path / "b.txt", TEXT))], cache_dir=tmp_path / "c")
    assert len(dataset) == 3 and f"{empty}: an empty file" in caplog.text
    assert "no documents" in error_of(load_corpus, [str(empty)], cache_dir=tmp_path / "c").what


# R14 row 10
def test_a_corpus_of_which_nothing_is_kept_is_fatal(tmp_path):
    path = write_rows(tmp_path / "a.jsonl", [{"text": ""}, {"text": None}])
    error = error_of(load_corpus, [str(path)], cache_dir=tmp_path / "c")
    assert "no documents" in error.what and "empty 1, not a string 1" in error.what


# --- the Hub


def test_only_what_can_be_a_hub_id_goes_to_the_network(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    assert is_hub_corpus(["owner/name"]) and is_hub_corpus(["oscar-corpus/OSCAR-23.01"])
    assert is_hub_corpus(["name"], "config")
    for path in ("name", "data", "data/wki", "./a/b", "~/a", "../a", "/a/b", "a/b/c", "a/*", "a/b?", "a/b.txt"):
        assert not is_hub_corpus([path]), path
    for path in ("a/b.jsonl.gz", "a/b.zip", "a/b.tar.gz", "a/", "/a", ""):
        assert not is_hub_corpus([path], "config"), path
    assert not is_hub_corpus(["owner/name", "a.txt"]) and not is_hub_corpus([])
    monkeypatch.setattr(datasets, "load_dataset", lambda *args, **kwargs: pytest.fail("went to the network"))
    assert "no corpus file" in error_of(load_corpus, ["data/wki"], cache_dir="c").what
    write(tmp_path / "a.txt", TEXT)
    assert error_of(load_corpus, ["a.txt"], corpus_config="tr", cache_dir="c").exit_code == BAD_CONFIG


@pytest.mark.parametrize("num_proc", [1, 2, 7])
def test_a_hub_data_set_is_cleaned_like_any_other(tmp_path, monkeypatch, num_proc):
    asked = []

    def load_dataset(*args, **kwargs):
        asked.append((args, kwargs))
        return datasets.Dataset.from_dict({"id": [1, 2, 3, 4], "body": ["bir\r\n\r\niki", None, "", "üç\x00"]})

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    dataset, ledger = load_corpus(
        ["owner/name"],
        corpus_config="20231101.tr",
        revision="abc",
        text_column="body",
        cache_dir=tmp_path,
        num_proc=num_proc,
    )
    assert asked == [(("owner/name", "20231101.tr"), {"split": "train", "revision": "abc"})]
    assert dataset["text"][:] == ["bir\niki", "üç"] and dataset.column_names == ["text"]
    assert (ledger.documents_in, ledger.rejected) == (4, {"not_a_string": 1, "empty": 1})
    places = [json.loads(line) for line in (tmp_path / "rejects.jsonl").read_text().splitlines()]
    assert [(place["file"], place["place"]) for place in places] == [("owner/name", "row 2"), ("owner/name", "row 3")]
    error = error_of(load_corpus, ["owner/name"], cache_dir=tmp_path)
    assert "no field 'text'; fields are: id, body" in error.what


@pytest.mark.parametrize(
    ("raised", "exit_code"),
    [
        (ConnectionError("Couldn't reach 'owner/name' on the Hub"), ENVIRONMENT),
        (datasets.exceptions.DatasetNotFoundError("Dataset 'owner/name' doesn't exist"), BAD_INPUT),
        (ValueError("Config name is missing.\nPlease pick one"), BAD_INPUT),
    ],
)
def test_hub_errors_say_how_to_mend_them(tmp_path, monkeypatch, raised, exit_code):
    def load_dataset(*args, **kwargs):
        raise raised

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    error = error_of(load_corpus, ["owner/name"], cache_dir=tmp_path)
    assert error.exit_code == exit_code and "owner/name" in error.where and "\n" not in str(error)
    raised = OSError(28, "No space left on device")
    with pytest.raises(OSError, match="No space"):
        load_corpus(["owner/name"], cache_dir=tmp_path)


# --- the split


def test_split_has_the_exact_size_and_depends_on_the_seed_alone():
    for num_documents, fraction, expected in [(1000, 0.01, 10), (10, 0.001, 2), (10, 0.99, 8), (4, 0.5, 2)]:
        assert split_documents(num_documents, fraction, seed=1).sum() == expected
    first = split_documents(1000, 0.1, seed=42)
    assert first.dtype == bool and np.array_equal(first, split_documents(1000, 0.1, seed=42))
    assert not np.array_equal(first, split_documents(1000, 0.1, seed=43))
    assert 30 < first[:500].sum() < 70
    # Known values: the choice must never change with a version of anything.
    assert np.flatnonzero(split_documents(20, 0.2, seed=7)).tolist() == [1, 4, 8, 16]
    with pytest.raises(UserError, match="3 documents are too few"):
        split_documents(3, 0.5, seed=1)
