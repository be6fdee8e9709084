"""What rank 0 makes reaches the others, with the store of a launcher and without one."""

import faulthandler
import os
import socket
import sys
import time
from pathlib import Path

import pytest
import torch

from turkbert.errors import UserError
from turkbert.ranks import from_main, leave_group

WORLD_SIZE = 3


def test_one_process_needs_no_store(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert from_main(lambda: {"a": [1]}) == {"a": [1]}


@pytest.fixture(params=[False, True], ids=["without a launcher", "with a launcher"])
def place(request):
    """(port, whether a launcher serves the store there)."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    if not request.param:
        yield port, False
    else:
        store = torch.distributed.TCPStore("127.0.0.1", port, is_master=True, wait_for_workers=False)
        yield store.port, True


def test_all_get_what_the_main_one_makes(tmp_path, place):
    torch.multiprocessing.start_processes(meet, (*place, tmp_path), nprocs=WORLD_SIZE, start_method="fork")
    assert [(tmp_path / str(rank)).read_text() for rank in range(WORLD_SIZE)] == ["[0, 1]"] * WORLD_SIZE


def meet(rank: int, port: int, launcher: bool, folder: Path) -> None:
    set_environment(rank, port, launcher)

    def make(value: int) -> int:
        assert rank == 0
        time.sleep(0.2)
        return value

    made = [from_main(lambda value=value: make(value)) for value in range(2)]
    torch.distributed.init_process_group("gloo")  # meets at the same place afterwards
    torch.distributed.barrier()
    leave_group()
    (folder / str(rank)).write_text(str(made))


def test_the_end_of_a_group_waits_for_its_threads(tmp_path):
    """Without the wait, two processes that hold the GIL hang at the 24th group or before."""
    torch.multiprocessing.start_processes(meet_often, (str(tmp_path),), nprocs=2, start_method="fork")


def meet_often(rank: int, folder: str) -> None:
    faulthandler.dump_traceback_later(60, exit=True)
    torch.set_num_threads(1)  # the threads of the parent are not there
    sys.setswitchinterval(100)  # a thread gets the GIL when another waits for something
    for number in range(30):
        torch.distributed.init_process_group("gloo", f"file://{folder}/{number}", rank=rank, world_size=2)
        model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(100, 100))
        model(torch.ones(4, 100)).sum().backward()
        leave_group()
        del model  # it holds the group


def test_a_refusal_reaches_all(tmp_path, place):
    torch.multiprocessing.start_processes(refuse, (*place, tmp_path), nprocs=WORLD_SIZE, start_method="fork")
    texts = [(tmp_path / str(rank)).read_text() for rank in range(WORLD_SIZE)]
    assert texts[0] == "corpus: too small; add text 2"
    assert set(texts[1:]) <= {texts[0], "the main process: it has ended; see its own error 4"}


def refuse(rank: int, port: int, launcher: bool, folder: Path) -> None:
    set_environment(rank, port, launcher)

    def make() -> None:
        raise UserError("corpus", "too small", "add text")

    with pytest.raises(UserError) as error:
        from_main(make)
    (folder / str(rank)).write_text(f"{error.value} {error.value.exit_code}")


def set_environment(rank: int, port: int, launcher: bool) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(WORLD_SIZE), "TORCHELASTIC_USE_AGENT_STORE": str(launcher)}
