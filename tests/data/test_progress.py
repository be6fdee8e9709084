"""Bytes done are added up over processes and shown: as a bar on a terminal, as lines in a log."""

import logging
import multiprocessing
import sys
import time

import pytest

from turkbert.data import progress as module
from turkbert.data.progress import Progress


def advance_often(progress: Progress) -> None:
    for _ in range(200):
        progress.advance(5)


def test_bytes_of_all_processes_are_added_up(tmp_path):
    with Progress(tmp_path / "progress", 4000, "data/tokens") as progress:
        workers = [multiprocessing.get_context("fork").Process(target=advance_often, args=(progress,)) for _ in "abc"]
        for worker in workers:
            worker.start()
        advance_often(progress)
        for worker in workers:
            worker.join()
        assert progress.done() == 4000
        process = progress._drawing
    assert not process.is_alive() and list(tmp_path.iterdir()) == []


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(module, "_BAR_SECONDS", 0.02)
    monkeypatch.setattr(module, "_LOG_SECONDS", 0.02)


def shown(tmp_path, capfd, total: int | None, text: str, **options) -> str:
    """What goes to stderr until `text` is there, with a third of the bytes done."""
    found = ""
    with Progress(tmp_path / "progress", total, "data/tokens", **options) as progress:
        progress.advance(10_000_000)
        for _ in range(500):
            found += capfd.readouterr().err
            if text in found:
                return found
            time.sleep(0.02)
    raise AssertionError(found)


def test_a_bar_on_a_terminal(tmp_path, capfd, monkeypatch, quick):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    bar = shown(tmp_path, capfd, 30_000_000, "10.0M/30.0M")
    assert "data/tokens:  33%" in bar and "B/s]" in bar


@pytest.mark.parametrize(
    ("total", "of", "is_terminal"),
    [(30_000_000, "10 of 30 MB, ", False), (None, "10 MB, ", False), (None, "10 MB, ", True)],
)
def test_lines_in_a_log(tmp_path, capfd, caplog, monkeypatch, quick, total, of, is_terminal):
    """And on a terminal, where no bar is wanted."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: is_terminal, raising=False)
    handler = logging.StreamHandler()
    module.logger.addHandler(handler)
    caplog.set_level(logging.INFO, "turkbert")
    try:
        lines = shown(tmp_path, capfd, total, of, with_bar=not is_terminal)
    finally:
        module.logger.removeHandler(handler)
    assert f"data/tokens: {of}" in lines and " MB/s" in lines
    assert (" s left" in lines) == (total is not None)
