"""A user's mistake: one line on stderr, an exit code, a STATUS.json, from rank 0 alone."""

import errno
import json
import os
import runpy
import sys
from pathlib import Path

import pytest

from turkbert import errors
from turkbert.errors import UserError, config_error, user_errors, write_status

CASES = [
    (UserError("corpus 'a.txt'", "no file there", "name one"), 2, "corpus 'a.txt': no file there; name one"),
    (config_error(Path("c.json"), "unknown key 'x'", "mend it"), 3, "c.json: unknown key 'x'; mend it"),
    (UserError("d", "is\n  damaged", "remove it", errors.CORRUPT_ARTIFACT), 5, "d: is damaged; remove it"),
    (UserError("run", "stopped", "run me again", errors.PREEMPTED), 75, "run: stopped; run me again"),
    (KeyboardInterrupt(), 130, "interrupted; run the same command again to go on"),
    (
        OSError(errno.ENOSPC, "No space left on device", "/data/x"),
        4,
        "/data/x: No space left on device; make room or grant access, then run again",
    ),
    (
        PermissionError(errno.EACCES, "no", "out"),
        4,
        "out: Permission denied; make room or grant access, then run again",
    ),
    (NotADirectoryError(errno.ENOTDIR, "no", "a.txt/out"), 3, "a.txt/out: Not a directory; choose another path"),
    (FileExistsError(errno.EEXIST, "no", "a.txt"), 3, "a.txt: File exists; choose another path"),
    (OSError(errno.ENAMETOOLONG, "no", "aaa"), 3, "aaa: File name too long; choose another path"),
]


def test_codes():
    codes = (errors.BAD_INPUT, errors.BAD_CONFIG, errors.ENVIRONMENT, errors.CORRUPT_ARTIFACT)
    assert (*codes, errors.PREEMPTED, errors.INTERRUPTED) == (2, 3, 4, 5, 75, 130)


@pytest.mark.parametrize(("error", "code", "line"), CASES)
def test_one_line_a_code_and_a_status(tmp_path, capsys, monkeypatch, error, code, line):
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(SystemExit) as exit, user_errors(output_dir=tmp_path / "new" / "out"):
        raise error
    assert exit.value.code == code
    assert capsys.readouterr().err == f"turkbert: error: {line}\n"
    status = json.loads((tmp_path / "new" / "out" / "STATUS.json").read_text())
    assert status == {"state": "preempted" if code == 75 else "failed", "exit_code": code, "message": line}
    assert os.listdir(tmp_path / "new" / "out") == ["STATUS.json"]


def test_only_rank_0_speaks(tmp_path, capsys, monkeypatch):
    for rank, lines in (("0", 1), ("1", 0), ("7", 0)):
        monkeypatch.setenv("RANK", rank)
        with pytest.raises(SystemExit) as exit, user_errors(output_dir=tmp_path / rank):
            raise UserError("here", "it is wrong", "mend it")
        assert exit.value.code == 2
        assert len(capsys.readouterr().err.splitlines()) == lines
        assert (tmp_path / rank).exists() == bool(lines)


def test_debug_shows_the_traceback_as_well(capsys, monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(SystemExit), user_errors(debug=True):
        raise UserError("here", "it is wrong", "mend it")
    assert "Traceback" in (err := capsys.readouterr().err)
    assert err.endswith("turkbert: error: here: it is wrong; mend it\n")


@pytest.mark.parametrize("defect", [ValueError("a bug"), OSError(errno.EIO, "broken"), RuntimeError()])
def test_defects_keep_their_traceback(defect, tmp_path):
    with pytest.raises(type(defect)), user_errors(output_dir=tmp_path):
        raise defect


def test_a_status_that_cannot_be_written_hides_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    with pytest.raises(SystemExit) as exit, user_errors(output_dir=blocked):
        raise UserError("here", "it is wrong", "mend it")
    assert exit.value.code == 2
    assert "turkbert: error: here: it is wrong; mend it" in capsys.readouterr().err
    write_status(None, "finished")  # no folder known: nothing to do


@pytest.mark.parametrize("name", ["prepare_data", "pretrain", "train_tokenizer", "build_random_words"])
def test_a_script_prints_the_line_and_nothing_else(monkeypatch, capfd, name):
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.setattr(sys, "argv", [name, "--vocab_sise", "9"])
    with pytest.raises(SystemExit) as exit:
        runpy.run_path(str(Path(__file__).parents[1] / "scripts" / f"{name}.py"), run_name="__main__")
    assert exit.value.code == 3
    line = "turkbert: error: command line: unknown key 'vocab_sise'; did you mean 'vocab_size'?\n"
    assert capfd.readouterr() == ("", line)
