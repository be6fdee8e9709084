"""A sharded run (FSDP2, accelerate_fsdp.yaml) learns what one process learns, resumes, and ends in a plain model."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import transformers
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils.launch import prepare_multi_gpu_env
from safetensors.torch import load_file

from tests.training.test_exactness import evaluated, logged
from tests.training.tiny import run, tiny_arguments

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "accelerate_fsdp.yaml"
SCRIPT = Path(__file__).with_name("sharded.py")
STILL = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "max_eval_steps": 3}


def launch(num_processes: int, config: Path, report: Path) -> None:
    script = [str(SCRIPT), str(config), str(report)]
    options = ["--config_file", str(CONFIG), "--num_processes", str(num_processes), *script]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    if torch.cuda.is_available():
        command = [sys.executable, "-m", "accelerate.commands.launch", *options]
    else:  # what accelerate would launch if there were GPUs
        arguments = _validate_launch_command(launch_command_parser().parse_args(options))[0]
        settings = prepare_multi_gpu_env(arguments)
        environment |= {name: settings[name] for name in settings if name.startswith(("FSDP", "ACCELERATE"))}
        torchrun = ["torch.distributed.run", "--standalone", f"--nproc_per_node={num_processes}"]
        command = [sys.executable, "-m", *torchrun, *script]
    launched = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT)
    assert launched.returncode == 0, launched.stderr[-3000:]


def check(tiny_dir, prepared, folder: Path, num_processes: int, **settings) -> None:
    one = run(tiny_arguments(tiny_dir, folder / "one", **STILL, **settings), prepared).state.log_history
    batches = [8 // num_processes, 4 // num_processes]
    backend = {} if torch.cuda.is_available() else {"ddp_backend": "gloo"}
    many = {"stage_batch_sizes": batches, "save_total_limit": None, **STILL, **settings, **backend}
    tiny_arguments(tiny_dir, folder / "many", **many)
    launch(num_processes, folder / "many.json", folder / "report.json")

    report = json.loads((folder / "report.json").read_text())
    assert report["world_size"] == num_processes
    assert report["kinds"] == ["FSDPTurkBertLayer"] and report["whole"] == [] and report["state"] == ["DTensor"]
    assert report["share"] == pytest.approx(1 / num_processes, rel=0.05)
    state = json.loads((folder / "many" / "checkpoint-10" / "trainer_state.json").read_text())
    for history in (report["history"], state["log_history"]):
        torch.testing.assert_close(logged(history), logged(one), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(evaluated(history), evaluated(one), rtol=1e-5, atol=1e-6)

    best = load_file(Path(state["best_model_checkpoint"], "model.safetensors"))
    assert "cls.predictions.decoder.weight" not in best
    final = transformers.BertForPreTraining.from_pretrained(folder / "many").state_dict()
    assert all(torch.equal(final[name], best[name]) for name in best)


@pytest.mark.slow
def test_two_sharded_processes_on_a_cpu(tiny_dir, prepared, tmp_path):
    check(tiny_dir, prepared, tmp_path, 2)


@pytest.mark.gpu
def test_sharded_processes_on_gpus(tiny_dir, prepared, tmp_path):
    if not torch.cuda.is_available():
        pytest.skip("no GPU")
    check(tiny_dir, prepared, tmp_path, min(2, torch.cuda.device_count()), use_cpu=False, tf32=False)


def test_the_config_asks_for_a_full_shard_that_saves_whole_weights():
    options = ["--config_file", str(CONFIG), "script.py"]
    arguments = _validate_launch_command(launch_command_parser().parse_args(options))[0]
    environment = prepare_multi_gpu_env(arguments)
    wanted = {
        "ACCELERATE_USE_FSDP": "true",
        "FSDP_VERSION": "2",
        "FSDP_RESHARD_AFTER_FORWARD": "true",
        "FSDP_STATE_DICT_TYPE": "FULL_STATE_DICT",
        "FSDP_CPU_RAM_EFFICIENT_LOADING": "false",
    }
    assert {name: environment[name] for name in wanted} == wanted
    assert arguments.num_processes == "auto"
