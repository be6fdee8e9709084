"""Between two logs no process reads a tensor, as far as a CPU can show it; test_gpu.py asks a GPU itself."""

import json
import socket

import pytest
import torch

from tests.training.tiny import tiny_arguments
from tests.training.watched import train_watched


@pytest.mark.parametrize("accumulation", [1, 2])
def test_two_processes_read_nothing_between_logs(tiny_dir, prepared, tmp_path, accumulation):
    args = tiny_arguments(
        tiny_dir,
        tmp_path / "out",
        stage_batch_sizes=[4, 2],
        gradient_accumulation_steps=accumulation,
        ddp_backend="gloo",
        max_steps=20,
        logging_steps=10,
        eval_strategy="no",
        save_strategy="no",
    )
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    arguments = (port, args, prepared, tmp_path / "report")
    torch.multiprocessing.start_processes(train_watched, arguments, nprocs=2, start_method="fork")
    for rank in range(2):
        report = json.loads((tmp_path / f"report.{rank}").read_text())
        # Logged at 10, at 12 where the stage switches, and at 20; the ranks ask each other at 12 and 16.
        assert report == {"steps": [11, *range(13, 20)], "reads": [], "seen": 1}
