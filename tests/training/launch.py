"""torchrun with two processes on this machine."""

import os
import subprocess
import sys
from pathlib import Path


def launch_two(script: str, config: Path, report: Path) -> subprocess.CompletedProcess:
    """Run a script of this folder on a config; it writes its report where it is told."""
    path = Path(__file__).with_name(script)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", str(path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run([*command, str(config), str(report)], capture_output=True, text=True, env=environment)
