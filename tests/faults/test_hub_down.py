"""R12: the Hub down mid-run and at the end: the run ends, the mark stays, the next push completes."""

import json
import logging
import socket

import pytest

from tests.hub_stand_in import hub  # noqa: F401
from tests.training.conftest import prepared, tiny_dir  # noqa: F401
from tests.training.test_hub import save, train
from turkbert.artifacts import read_manifest
from turkbert.training.hub import PENDING, SavePusher


def warnings_of(caplog) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING and "pushed" in r.getMessage()]


@pytest.mark.parametrize("outage", ["down", "503"])
def test_down_from_the_start_to_the_end(tiny_dir, prepared, tmp_path, hub, caplog, outage):  # noqa: F811
    """And the same command once more, when the Hub is back, pushes what is still to be pushed, and only that once."""
    out = tmp_path / "out"
    hub.outage = outage
    train(tiny_dir, prepared, out)
    mark = json.loads((out / PENDING).read_text())
    assert mark["what"] == "the finished model" and mark["reason"] != "not finished"
    assert len([line for line in warnings_of(caplog) if "was not pushed" in line]) == 1
    assert hub.repositories == {}

    train_again = {"tiny_dir": tiny_dir, "prepared": prepared, "output_dir": out}
    train(**train_again)
    assert (out / PENDING).exists()  # still down
    hub.outage = None
    train(**train_again)
    assert not (out / PENDING).exists()
    assert set(hub.model("my-bert").files) == set(read_manifest(out)["files"])
    pushes = hub.calls.count("POST /api/repos/create")
    train(**train_again)
    assert hub.calls.count("POST /api/repos/create") == pushes


def test_a_short_outage_is_only_another_try(tiny_dir, prepared, tmp_path, hub, caplog):  # noqa: F811
    failures = iter([True, True, False])
    hub.fail_when = lambda call: "/commit/" in call and next(failures)
    train(tiny_dir, prepared, tmp_path / "out")
    assert warnings_of(caplog) == [] and not (tmp_path / "out" / PENDING).exists()
    assert len(hub.model("my-bert").messages) == 2  # that of the repository's beginning, and ours


def test_a_hub_that_never_answers(tiny_dir, prepared, tmp_path, hub, monkeypatch):  # noqa: F811
    monkeypatch.setattr("turkbert.hub.TIMEOUT", 0.3)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(32)
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{listener.getsockname()[1]}")
        train(tiny_dir, prepared, tmp_path / "out")
    assert (tmp_path / "out" / PENDING).exists() and read_manifest(tmp_path / "out")


def test_a_push_that_is_cut_off_stays_marked(tiny_dir, prepared, tmp_path, hub, monkeypatch):  # noqa: F811
    def cut_off(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("turkbert.training.hub.push_files", cut_off)
        train(tiny_dir, prepared, tmp_path / "out")
    assert json.loads((tmp_path / "out" / PENDING).read_text())["reason"] == "not finished"
    train(tiny_dir, prepared, tmp_path / "out")
    assert not (tmp_path / "out" / PENDING).exists() and hub.model("my-bert").files


@pytest.mark.slow
def test_down_in_mid_run(tiny_dir, prepared, tmp_path, hub, caplog):  # noqa: F811
    """The save that could not be pushed is one warning and a mark; the next save's push takes the mark away."""
    out = tmp_path / "out"
    training = train(tiny_dir, prepared, out, push_to_hub=False, save_steps=1)
    training.hub_strategy = "every_save"
    pusher = SavePusher()
    hub.outage = "down"
    save(pusher, training, 1)
    mark = json.loads((out / PENDING).read_text())
    assert pusher._process.exitcode == 1 and mark["what"] == "checkpoint-1" and mark["reason"] != "not finished"
    hub.outage = None
    save(pusher, training, 2)
    assert pusher._process.exitcode == 0 and not (out / PENDING).exists()
    assert len(warnings_of(caplog)) == 1 and PENDING in warnings_of(caplog)[0]
    assert hub.model("my-bert").messages[-1] == "In training: checkpoint-2"
    pusher.stop(out)
