"""Anything at all as a config, a corpus or a manifest ends in a result or in the one line, never in a traceback."""

import gzip
import io
import json
import lzma
import os
import shutil
from pathlib import Path
from typing import Any
from unittest import mock

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st

from tests.training.tiny import TINY
from turkbert.arguments import GROUPS, PretrainingArguments, parse_args
from turkbert.artifacts import MANIFEST, find_damage, write_manifest
from turkbert.data.documents import CorpusLedger, read_documents
from turkbert.errors import UserError
from turkbert.parsing import known_keys
from turkbert.training.checkpoint import begin_lineage, find_checkpoint, load_lineage, rotate, save_lineage, tidy
from turkbert.training.contract import check_contract

SHORT = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
LONG = settings(
    max_examples=3000,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate],  # minutes to make a failing case smaller are not worth it here
)
CASES = [pytest.param(SHORT, id="short"), pytest.param(LONG, id="long", marks=pytest.mark.slow)]

scalars = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text()
    | st.sampled_from([0, -1, 2**31, 2**63, 10**400, 1e308, "", " ", "true", "1e-3", "none", "auto", "--seed", "\0"])
)  # fmt: skip
values = st.recursive(scalars, lambda v: st.lists(v, max_size=4) | st.dictionaries(st.text(), v, max_size=4))
keys = st.sampled_from(sorted(known_keys((*GROUPS, PretrainingArguments))))


def one_line(error: UserError) -> None:
    assert str(error).strip() and "\n" not in str(error)


def try_config(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    environment = dict(os.environ)  # some settings of Trainer are handed on by way of it
    try:
        parse_args([str(path)]).training()
        event("accepted")
    except UserError as error:
        one_line(error)
        event(f"refused: {error.what[:20]}")
    finally:
        os.environ.clear()
        os.environ.update(environment)


# ---- configs


@pytest.mark.parametrize("effort", CASES)
def test_configs(tmp_path, monkeypatch, effort):
    monkeypatch.chdir(tmp_path)

    @effort
    @given(st.one_of(
        st.binary(),
        values.map(json.dumps).map(str.encode),
        st.dictionaries(keys | st.text(), values, max_size=6).map(json.dumps).map(str.encode),
        st.dictionaries(keys, values, min_size=1, max_size=2).map(lambda some: json.dumps({**TINY, **some}).encode()),
        st.tuples(keys, values).map(lambda one: json.dumps({**TINY, one[0]: one[1]}).encode()),
    ))  # fmt: skip
    def fuzz(content: bytes) -> None:
        try_config(tmp_path / "config.json", content)

    fuzz()


@pytest.mark.parametrize("effort", CASES)
def test_command_lines(tmp_path, monkeypatch, effort):
    monkeypatch.chdir(tmp_path)
    words = st.lists(
        st.text() | keys.map("--{}".format) | scalars.map(str) | st.sampled_from(["--", "-h="]), max_size=6
    )

    @effort
    @given(words)
    def fuzz(argv: list[str]) -> None:
        try:
            parse_args(argv)
        except UserError as error:
            one_line(error)

    fuzz()


# ---- corpora


def pack(content: bytes, ending: str) -> bytes:
    """As a file with that ending would be packed."""
    packers = {".gz": gzip.compress, ".xz": lzma.compress, ".zst": zstandard.ZstdCompressor().compress}
    return packers.get(ending, bytes)(content)


def parquet(values: list) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table({"text": values}), file)
    return file.getvalue()


def damage(content: bytes, where: float, how: str) -> bytes:
    """The file cut short, with a bit flipped, or with more data after its end."""
    place = int(where * len(content))
    flipped = bytes(byte ^ (0x10 if number == place else 0) for number, byte in enumerate(content))
    return {"whole": content, "cut": content[:place], "flipped": flipped, "more": content + content[:place]}[how]


texts = st.text(max_size=200) | st.sampled_from(["== Başlık ==\nİlk satır.\n\nİkinci.", "\ufeffa\r\rb\u2028c\0d\x85"])
bodies = st.one_of(
    st.binary(max_size=300),
    texts.map(lambda text: text.encode("utf-8", "surrogatepass")),
    texts.map(lambda text: text.encode("cp1254", "replace")),
    st.lists(values.map(json.dumps) | texts.map(lambda text: json.dumps({"text": text})))
    .map("\n".join)
    .map(str.encode),
)
files = st.one_of(
    st.tuples(bodies, st.sampled_from([".txt", ".jsonl"]), st.sampled_from(["", ".gz", ".xz", ".zst"])).map(
        lambda it: (pack(it[0], it[2]), it[1] + it[2])
    ),
    st.tuples(bodies, st.sampled_from([".parquet", ".txt.gz", ".jsonl.xz", ".txt.zst"])),
    st.one_of(
        st.lists(st.none() | st.text(max_size=50)), st.lists(st.integers(0, 9)), st.lists(st.binary(max_size=9))
    ).map(lambda column: (parquet(column), ".parquet")),
)


@pytest.mark.parametrize("effort", CASES)
def test_corpora(tmp_path, effort):
    @effort
    @given(
        files,
        st.floats(0, 1, exclude_max=True),
        st.sampled_from(["whole", "whole", "cut", "flipped", "more"]),
        st.sampled_from(["error", "reject"]),
        st.sampled_from(["error", "reject"]),
        st.integers(0, 5),
    )
    def fuzz(file: tuple[bytes, str], where: float, how: str, bad_bytes: Any, bad_lines: Any, short: int) -> None:
        path = tmp_path / f"corpus{file[1]}"
        path.write_bytes(damage(file[0], where, how))
        ledger, rejects = CorpusLedger(), io.StringIO()
        found = []
        options = {"bad_bytes": bad_bytes, "bad_lines": bad_lines, "drop_short_lines": short, "rejects": rejects}
        try:
            for document in read_documents(path, ledger, max_document_chars=1000, **options):
                found.append(document)
            event("read")
        except UserError as error:
            one_line(error)
            event(f"refused: {error.what[:20]}")
        assert all(document.strip() and document.encode() for document in found)
        assert ledger.documents_kept == len(found)
        assert ledger.documents_in == ledger.documents_kept + sum(ledger.rejected.values())
        assert len(rejects.getvalue().splitlines()) == sum(ledger.rejected.values())

    fuzz()


# ---- manifests

CONTRACT = {"seed": 1, "learning_rate": 0.1, "global_batch_sizes": [8, 4], "data": {"32": "0a"}}


@pytest.fixture
def output_dir(tmp_path) -> Path:
    """Two checkpoints of one run."""
    lineage = begin_lineage(None)
    for step in (1, 2):
        folder = tmp_path / "out" / f"checkpoint-{step}"
        folder.mkdir(parents=True)
        for name in ("config.json", "trainer_state.json", "optimizer.pt"):
            (folder / name).write_text(f"{name} of step {step}")
        run = {"run_id": lineage.run_id, "parents": []}
        write_manifest(folder, {"step": step, **CONTRACT}, run)
    save_lineage(tmp_path / "out", lineage)
    return tmp_path / "out"


@st.composite
def changed(draw, content: Any) -> Any:
    """A JSON value with one of its parts, at any depth, replaced, taken out, or added to."""
    if isinstance(content, dict) and content and draw(st.booleans()):
        name = draw(st.sampled_from(sorted(content)))
        if draw(st.integers(0, 3)) == 0:
            return {key: value for key, value in content.items() if key != name}
        return {**content, name: draw(changed(content[name]))}
    if isinstance(content, dict) and draw(st.booleans()):
        return {**content, draw(st.text() | st.sampled_from(["../x", "/etc/passwd", "a\0b", "."])): draw(values)}
    return draw(values)


def try_output_dir(output_dir: Path) -> Path | None:
    """All that reads manifests on the way to a resumed run."""
    tidy(output_dir)
    found = find_checkpoint(output_dir)
    if found is not None:
        try:
            check_contract(found, CONTRACT, allowed=["seed"])
        except UserError as error:
            one_line(error)
        rotate(output_dir, 1, None, begin_lineage(found)).join()
    load_lineage(output_dir)
    find_damage(output_dir / "checkpoint-2")
    return found


@pytest.mark.parametrize("name", [MANIFEST, "RUN.json"])
@pytest.mark.parametrize("effort", CASES)
def test_manifests(output_dir, tmp_path, effort, name):
    path = output_dir / ("checkpoint-2/MANIFEST.json" if name == MANIFEST else name)
    good = json.loads(path.read_text())

    @effort
    @given(st.binary() | changed(good).map(json.dumps).map(str.encode))
    def fuzz(content: bytes) -> None:
        copy = tmp_path / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(output_dir, copy)
        (copy / path.relative_to(output_dir)).write_bytes(content)
        try:
            manifest = json.loads(content)
        except ValueError:
            manifest = {}
        found = try_output_dir(copy)
        # One without a hash of its own is an old one, and believed as long as the files are as it says.
        is_hashed = isinstance(manifest, dict) and "sha256" in manifest
        if name == MANIFEST and manifest != good and is_hashed:
            assert found != copy / "checkpoint-2", "a manifest that nobody wrote was believed"

    with mock.patch("turkbert.training.checkpoint.logger"):
        fuzz()
