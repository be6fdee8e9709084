"""Artefact folders: whole or not there; every kind of damage is named; nothing of others is touched."""

import errno
import json
import logging
import multiprocessing
import os
import signal
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import multiprocess
import psutil
import pytest
from datasets import Dataset

from turkbert import artifacts, interrupts
from turkbert.artifacts import (
    MANIFEST,
    RECIPE,
    all_or_none,
    find_damage,
    key_hash,
    publish,
    read_manifest,
    remove,
    reuse_or_build,
    staged,
    wait_for,
    write_json,
)
from turkbert.errors import BAD_CONFIG, CORRUPT_ARTIFACT, ENVIRONMENT, INTERRUPTED, UserError

KEY = {"tokenizer": "3f2a", "overlap": None, "block_size": 64}


def fill(folder: Path) -> None:
    (folder / "train").mkdir()
    (folder / "train" / "rows.arrow").write_bytes(bytes(range(200)))
    (folder / "stats.json").write_text('{"rows": 3}')
    (folder / "rejects.jsonl").write_bytes(b"")


@pytest.fixture
def committed(tmp_path) -> Path:
    with staged(tmp_path / "data" / "rows", KEY) as folder:
        fill(folder)
    return tmp_path / "data" / "rows"


def test_commit(committed):
    assert sorted(os.listdir(committed.parent)) == ["rows"]
    manifest = read_manifest(committed)
    assert manifest["key"] == KEY
    assert {name: facts["size"] for name, facts in manifest["files"].items()} == {
        "rejects.jsonl": 0, "stats.json": 11, "train/rows.arrow": 200,
    }  # fmt: skip
    assert manifest["files"]["stats.json"]["sha256"] == artifacts.file_hash(committed / "stats.json")
    assert find_damage(committed) is None


def test_an_edited_card_is_no_damage_and_a_missing_one_is(tmp_path):
    with staged(tmp_path / "model", KEY) as folder:
        (folder / "README.md").write_text("# A model\n")
    (tmp_path / "model" / "README.md").write_text("# My model, of 2026\n")
    assert find_damage(tmp_path / "model") is None
    (tmp_path / "model" / "README.md").unlink()
    assert find_damage(tmp_path / "model") == "README.md is missing"


def test_who_may_enter_the_folder_may_read_its_files(tmp_path):
    with staged(tmp_path / "model", KEY) as folder:
        (folder / "model.safetensors").touch(0o600)
        folder.chmod(0o750)
    assert (tmp_path / "model" / "model.safetensors").stat().st_mode & 0o777 == 0o640


def test_an_error_while_building_leaves_the_old_folder(committed):
    with pytest.raises(RuntimeError), staged(committed, {"other": 1}) as folder:
        (folder / "half").write_text("written")
        raise RuntimeError
    assert find_damage(committed) is None and read_manifest(committed)["key"] == KEY
    assert os.listdir(committed.parent) == ["rows"]


def test_replace(committed):
    with staged(committed, {"other": 1}) as folder:
        assert os.listdir(folder) == []
        (folder / "new").write_text("x")
        assert read_manifest(committed)["key"] == KEY  # the old one is there till the new one is whole
    assert read_manifest(committed)["key"] == {"other": 1}
    assert sorted(os.listdir(committed)) == [MANIFEST, "new"]
    assert os.listdir(committed.parent) == ["rows"]


def test_leftovers_of_a_killed_build_do_no_harm(committed):
    leftover = committed.with_name("_staging-rows")
    leftover.mkdir()
    (leftover / "stale").write_text("old")
    with staged(committed, KEY) as folder:
        fill(folder)
    assert not leftover.exists() and not (committed / "stale").exists()


def damage_of(folder: Path, change) -> str | None:
    change()
    return find_damage(folder)


def test_damage_is_named(committed):
    rows = committed / "train" / "rows.arrow"
    whole = rows.read_bytes()
    assert damage_of(committed, rows.unlink) == "train/rows.arrow is missing"
    for size in (0, 100):
        damage = damage_of(committed, lambda size=size: rows.write_bytes(whole[:size]))
        assert damage == f"train/rows.arrow has {size} bytes instead of 200"
    flipped = bytes([whole[0] ^ 1]) + whole[1:]
    assert "train/rows.arrow is not what was written" in damage_of(committed, lambda: rows.write_bytes(flipped))
    assert damage_of(committed, lambda: rows.write_bytes(whole)) is None
    # A file of others beside the artefact's (a STATUS.json, a note) is no damage.
    assert damage_of(committed, lambda: (committed / "note.txt").write_text("mine")) is None


@pytest.mark.parametrize("content", ["", "{", "[]", '"x"', '{"key": {}}', "\x00"])
def test_a_damaged_manifest_is_none(committed, content):
    (committed / MANIFEST).write_text(content)
    assert read_manifest(committed) is None
    assert find_damage(committed) == f"no valid {MANIFEST}"


def test_reuse_build_refuse(committed, caplog):
    def never(folder: Path) -> None:
        raise AssertionError("built")

    def build(folder: Path) -> None:
        (folder / "built").write_text("x")

    caplog.set_level(logging.INFO, "turkbert")
    assert reuse_or_build(committed, dict(KEY), never) == committed
    assert "reused" in caplog.text
    with pytest.raises(UserError) as refusal:
        reuse_or_build(committed, {**KEY, "overlap": 7}, never)
    assert refusal.value.exit_code == BAD_CONFIG
    assert "made with overlap null, now 7; choose another folder, or --overwrite true" in str(refusal.value)
    with pytest.raises(UserError, match="made with masking null, now"):
        reuse_or_build(committed, {**KEY, "masking": "static"}, never)  # a key that the old one did not have
    reuse_or_build(committed, {**KEY, "overlap": 7}, build, overwrite=True)
    assert sorted(os.listdir(committed)) == [MANIFEST, "built"]


def test_damage_is_refused_and_overwritten_on_request(committed):
    (committed / "stats.json").write_text('{"rows": 4}')
    with pytest.raises(UserError, match="stats.json is not what was written") as error:
        reuse_or_build(committed, KEY, fill)
    assert error.value.exit_code == CORRUPT_ARTIFACT
    reuse_or_build(committed, KEY, fill, overwrite=True)
    assert find_damage(committed) is None


def test_a_folder_without_its_manifest_is_damaged_not_foreign(committed):
    (committed / RECIPE).write_text("{}")
    (committed / MANIFEST).unlink()
    with pytest.raises(UserError, match="no valid MANIFEST.json; remove the folder and run again") as error:
        reuse_or_build(committed, KEY, fill)
    assert error.value.exit_code == CORRUPT_ARTIFACT
    reuse_or_build(committed, KEY, fill, overwrite=True)
    assert find_damage(committed) is None


def test_hashes_are_not_shown(committed):
    reuse_or_build(committed, {**KEY, "random_words": "0123456789abcdef"}, fill, overwrite=True)
    with pytest.raises(UserError, match="rows: the random words changed since this was made; choose another"):
        reuse_or_build(committed, {**KEY, "random_words": "0123456789abcdee"}, fill)


def test_all_or_none(committed):
    """Replaced folders come back at an error, and go at the end."""
    second = committed.with_name("second")
    new = {**KEY, "overlap": 7}
    with pytest.raises(UserError, match="later"), all_or_none():
        reuse_or_build(committed, new, fill, overwrite=True)
        reuse_or_build(second, new, fill)
        assert read_manifest(committed)["key"] == new
        raise UserError("later", "something", "mend it")
    assert read_manifest(committed)["key"] == KEY and find_damage(committed) is None
    with all_or_none():
        reuse_or_build(committed, new, fill, overwrite=True)
        reuse_or_build(committed, {**KEY, "overlap": 8}, fill, overwrite=True)
        reuse_or_build(second, new, fill)
    assert read_manifest(committed)["key"] == {**KEY, "overlap": 8}
    assert sorted(path.name for path in committed.parent.iterdir() if path.suffix != ".lock") == ["rows", "second"]


def test_a_foreign_folder_is_never_overwritten(tmp_path):
    (tmp_path / "rows").mkdir()
    reuse_or_build(tmp_path / "rows", KEY, fill)  # an empty folder is nobody's
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.tex").write_text("x")
    with pytest.raises(UserError, match="did not write"):
        reuse_or_build(tmp_path / "home", KEY, fill, overwrite=True)
    assert os.listdir(tmp_path / "home") == ["thesis.tex"]


# ---- a full disk, Ctrl-C and dead processes


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_row_30_full_disk_while_building(committed, monkeypatch, number):
    def fail(folder: Path) -> None:
        (folder / "half").write_bytes(b"written")
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(artifacts.shutil, "disk_usage", lambda path: SimpleNamespace(free=3_200_000_000))
    with pytest.raises(UserError, match="need more than 3.2 GB, have 3.2 GB; make room") as error:
        reuse_or_build(committed, {**KEY, "overlap": 7}, fail, overwrite=True)
    assert (error.value.exit_code, error.value.where) == (ENVIRONMENT, str(committed))
    assert find_damage(committed) is None and read_manifest(committed)["key"] == KEY
    assert not list(committed.parent.glob("_*"))


def test_row_30_too_small_a_disk_is_refused_before_the_build(tmp_path, monkeypatch):
    monkeypatch.setattr(artifacts.shutil, "disk_usage", lambda path: SimpleNamespace(free=900_000_000))
    with pytest.raises(UserError, match="rows: the disk is too full: need 2 GB, have 0.9 GB; make room") as error:
        reuse_or_build(tmp_path / "rows", KEY, lambda folder: pytest.fail("built"), need_bytes=2_000_000_000)
    assert error.value.exit_code == ENVIRONMENT and not list(tmp_path.glob("*rows"))
    reuse_or_build(tmp_path / "rows", KEY, fill, need_bytes=900_000_000)
    assert find_damage(tmp_path / "rows") is None


def test_another_error_of_the_system_stays_itself(tmp_path):
    def fail(folder: Path) -> None:
        raise OSError(errno.EIO, "broken")

    with pytest.raises(OSError, match="broken"):
        reuse_or_build(tmp_path / "rows", KEY, fail)


FORKS_UNTIL_INTERRUPT = {"before": 0, "after": 0}


def count_down(moment: str) -> None:
    FORKS_UNTIL_INTERRUPT[moment] -= 1
    if FORKS_UNTIL_INTERRUPT[moment] == 0:
        os.killpg(0, signal.SIGINT)


def sleep(row: dict) -> dict:
    time.sleep(60)
    return row


def sleep_in_workers(folder: Path) -> None:
    (folder / "half").write_bytes(b"written")
    Dataset.from_dict({"a": [1, 2, 3]}).map(sleep, num_proc=3)


def build_alone(final: Path, forks_until_interrupt: dict[str, int]) -> None:
    """What a script is: a process of its own, in a group of its own as in a terminal, with Python's exit."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    interrupts._INTERRUPT_AGAIN_SECONDS = 0.2
    FORKS_UNTIL_INTERRUPT.update(forks_until_interrupt)
    os.register_at_fork(before=lambda: count_down("before"), after_in_parent=lambda: count_down("after"))
    code = 0
    try:
        reuse_or_build(final, {**KEY, "overlap": 7}, sleep_in_workers, overwrite=True)
    except KeyboardInterrupt:
        code = INTERRUPTED
    multiprocess.util._exit_function()
    os._exit(code)


def start_builder(final: Path, **forks_until_interrupt: int) -> multiprocessing.Process:
    arguments = (final, {"before": 0, "after": 0, **forks_until_interrupt})
    builder = multiprocessing.get_context("fork").Process(target=build_alone, args=arguments)
    builder.start()
    return builder


def group_of(builder: multiprocessing.Process) -> list[psutil.Process]:
    """The builder and its workers, whoever their parent is now."""
    found = []
    for process in psutil.process_iter():
        try:
            if os.getpgid(process.pid) == builder.pid and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (ProcessLookupError, psutil.NoSuchProcess):
            pass
    return found


def check_interrupted(builder: multiprocessing.Process, committed: Path) -> None:
    builder.join(timeout=15)
    hangs, left = builder.is_alive(), psutil.wait_procs(group_of(builder), timeout=10)[1]
    for process in left:
        process.kill()
    assert not hangs and builder.exitcode == INTERRUPTED
    assert left == []
    assert find_damage(committed) is None and read_manifest(committed)["key"] == KEY


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("fork", [1, 2, 4])  # the first is that of the manager of datasets' queue
def test_row_39_interrupt_within_a_fork(committed, capfd, moment, fork):
    check_interrupted(start_builder(committed, **{moment: fork}), committed)
    if moment == "before":
        assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize("seconds", [0.1, 0.25, 0.5, 1.0])
def test_row_39_interrupt_of_builder_and_workers(committed, capfd, seconds):
    builder = start_builder(committed)
    time.sleep(seconds)
    os.killpg(builder.pid, signal.SIGINT)
    check_interrupted(builder, committed)
    assert "Traceback" not in capfd.readouterr().err
    assert not list(committed.parent.glob("_*"))


def test_row_39_handlers_are_those_of_before(tmp_path):
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGALRM)
    reuse_or_build(tmp_path / "rows", KEY, fill)
    assert handlers == (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGALRM))
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


def test_row_39_what_datasets_makes_of_an_interrupt_is_one(tmp_path):
    def fail(folder: Path) -> None:
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise TimeoutError from None

    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    with pytest.raises(KeyboardInterrupt):
        reuse_or_build(tmp_path / "rows", KEY, fail)
    signal.signal(signal.SIGINT, handler)


def test_row_41_workers_end_with_a_killed_builder(committed):
    builder = start_builder(committed)
    while len(workers := psutil.Process(builder.pid).children()) < 4:  # three and the manager of their queue
        assert builder.is_alive()
    builder.kill()
    builder.join()
    assert psutil.wait_procs(workers, timeout=5)[1] == []
    assert read_manifest(committed)["key"] == KEY
    reuse_or_build(committed, {**KEY, "overlap": 7}, fill, overwrite=True)
    assert find_damage(committed) is None


def test_waiting_for_a_folder_of_another_process(tmp_path, monkeypatch):
    monkeypatch.setattr(artifacts, "_POLL_SECONDS", 0.01)
    final = tmp_path / "rows"
    waiting = threading.Thread(target=lambda: wait_for(final, KEY))
    waiting.start()
    with staged(final, {**KEY, "overlap": 3}) as folder:
        fill(folder)
    time.sleep(0.05)
    assert waiting.is_alive()  # a folder of other settings is not the one
    reuse_or_build(final, KEY, fill, overwrite=True)
    waiting.join(timeout=5)
    assert not waiting.is_alive()


def test_publish_keeps_what_else_is_there(tmp_path):
    out, staging = tmp_path / "out", tmp_path / "_staging"
    (out / "checkpoint-5").mkdir(parents=True)
    (out / "STATUS.json").write_text("{}")
    (out / "model.bin").write_text("old")
    staging.mkdir()
    (staging / "model.bin").write_text("new")
    (staging / "deep").mkdir()
    (staging / "deep" / "x").write_text("x")
    publish(staging, out, KEY)
    assert (out / "model.bin").read_text() == "new" and (out / "deep" / "x").exists()
    assert (out / "checkpoint-5").is_dir() and (out / "STATUS.json").exists()
    assert find_damage(out) is None


def test_a_manifest_never_vouches_for_files_of_two_runs(tmp_path, monkeypatch):
    out, staging = tmp_path / "out", tmp_path / "_staging"
    for name in ("first", "second"):
        staging.mkdir(exist_ok=True)
        for file in ("a", "b"):
            (staging / file).write_text(name)
        if name == "second":
            replace, calls = os.replace, []

            def die_at_the_second(source, target, replace=replace, calls=calls):
                calls.append(source)
                if len(calls) == 2:
                    raise KeyboardInterrupt
                replace(source, target)

            monkeypatch.setattr(os, "replace", die_at_the_second)
        out.mkdir(exist_ok=True)
        try:
            publish(staging, out, {"run": name})
        except KeyboardInterrupt:
            break
    assert {(out / "a").read_text(), (out / "b").read_text()} == {"first", "second"}
    assert read_manifest(out) is None


def test_remove(committed):
    remove(committed)
    remove(committed)  # gone already
    assert os.listdir(committed.parent) == []


def test_key_hash_and_write_json(tmp_path):
    assert key_hash({"a": 1, "b": 2}) == key_hash({"b": 2, "a": 1}) != key_hash({"a": 1, "b": 3})
    write_json(tmp_path / "new" / "x.json", {"ş": 1})
    content = (tmp_path / "new" / "x.json").read_text("utf-8")
    assert json.loads(content) == {"ş": 1} and "ş" in content
    assert os.listdir(tmp_path / "new") == ["x.json"]
