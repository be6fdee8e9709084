"""What rank 0 makes reaches the others, with the store of a launcher and without one."""

import os
import socket
import time
from pathlib import Path

import pytest
import torch

from turkbert.errors import UserError
from turkbert.ranks import from_main

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
    torch.distributed.destroy_process_group()
    (folder / str(rank)).write_text(str(made))


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
