"""R19: the tests have teeth. Each edit of a copy of the source takes a safeguard out and turns a named test red."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
ORDER = "tests/faults/test_save_order.py::"


class Mutation(NamedTuple):
    """What stands in a file, what to put in its place, and the test that must notice."""

    file: str
    old: str
    new: str
    test: str


MUTATIONS = {
    "no rename": Mutation(
        "turkbert/artifacts.py",
        "    os.rename(staging, final)\n",
        "    shutil.copytree(staging, final)\n",
        ORDER + "test_checkpoint_is_on_the_disk_before_it_gets_its_name",
    ),
    "no manifest check": Mutation(
        "turkbert/training/checkpoint.py",
        "        objection = find_objection(path, lineage)\n",
        "        objection = None\n",
        "tests/faults/test_fuzz.py::test_manifests[short-MANIFEST.json]",
    ),
    "no hash check": Mutation(
        "turkbert/artifacts.py",
        "            if sha256 != facts[\"sha256\"]:\n",
        "            if False:\n",
        "tests/faults/test_damage.py::test_damage_is_found_and_named[model.safetensors-middle bit]",
    ),
    "no barrier": Mutation(
        "turkbert/training/trainer.py",
        "            with agreed(self.accelerator, folder):\n                write()\n",
        "            write()\n",
        ORDER + "test_a_slow_rank_is_waited_for",
    ),
    "no epoch in the mask key": Mutation(
        "turkbert/data/masking.py",
        "random_key(seed, epoch, rows)",
        "random_key(seed, 0, rows)",
        "tests/training/test_sampler.py::test_masks_change_from_pass_to_pass",
    ),
    "no epoch in the order's key": Mutation(
        "turkbert/training/sampler.py",
        "random_key(self.seed, stage.block_size, epochs)",
        "random_key(self.seed, stage.block_size, 0)",
        "tests/training/test_sampler.py::test_passes_seeds_and_stages_have_orders_of_their_own",
    ),
    "no fsync of the files": Mutation(
        "turkbert/artifacts.py",
        "self._pool.submit(_sync, path))",
        "self._pool.submit(str, path))",
        ORDER + "test_checkpoint_is_on_the_disk_before_it_gets_its_name",
    ),
    "fsync of the folder after the rename": Mutation(
        "turkbert/artifacts.py",
        "    for path in [folder, *(p for p in folder.rglob(\"*\") if p.is_dir())]:\n        _sync(path)\n",
        "",
        ORDER + "test_checkpoint_is_on_the_disk_before_it_gets_its_name",
    ),
    "no fsync after the rename": Mutation(
        "turkbert/artifacts.py",
        "    os.rename(staging, final)\n    _sync(final.parent)\n",
        "    os.rename(staging, final)\n",
        ORDER + "test_the_name_is_on_the_disk_before_an_older_checkpoint_goes",
    ),
    "the model's manifest first": Mutation(
        "turkbert/artifacts.py",
        "    (final / MANIFEST).unlink(missing_ok=True)",
        "    shutil.copy(staging / MANIFEST, final / MANIFEST); os.replace(staging / MANIFEST, final / MANIFEST)",
        ORDER + "test_the_model_is_on_the_disk_before_its_manifest",
    ),
    "random states not saved": Mutation(
        "turkbert/training/trainer.py",
        "            lambda: self._save_rng_state(str(folder)),\n",
        "",
        "tests/faults/test_resume.py::test_resumed_run_equals_uninterrupted[dynamic-1-0-4]",
    ),
}  # fmt: skip


@pytest.fixture
def copy(tmp_path) -> Path:
    """The source and its tests, to be edited."""
    leave_out = shutil.ignore_patterns("__pycache__", ".*", "results", "*.egg-info")
    for name in ("turkbert", "tests", "scripts", "configs", "benchmarks"):
        shutil.copytree(ROOT / name, tmp_path / "copy" / name, ignore=leave_out)
    shutil.copy(ROOT / "setup.cfg", tmp_path / "copy")
    return tmp_path / "copy"


def run_tests(copy: Path, *tests: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": str(copy)}
    environment.pop("PYTEST_ADDOPTS", None)
    command = [sys.executable, "-m", "pytest", "-n", "0", "-p", "no:cacheprovider", "-m", "not gpu", *tests]
    return subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True)


@pytest.mark.slow
def test_unedited_copy_is_green(copy):
    ran = run_tests(copy, *{mutation.test for mutation in MUTATIONS.values()})
    assert ran.returncode == 0, ran.stdout[-3000:]


@pytest.mark.slow
@pytest.mark.parametrize("name", MUTATIONS)
def test_mutation_turns_its_test_red(copy, name):
    mutation = MUTATIONS[name]
    path = copy / mutation.file
    source = path.read_text("utf-8")
    assert source.count(mutation.old) == 1, f"{mutation.file} no longer says {mutation.old!r} once"
    path.write_text(source.replace(mutation.old, mutation.new), "utf-8")
    ran = run_tests(copy, mutation.test)
    assert ran.returncode == 1, ran.stdout[-3000:]
    assert "1 failed" in ran.stdout or "1 error" in ran.stdout, ran.stdout[-3000:]


@pytest.mark.parametrize("name", MUTATIONS)
def test_mutations_still_fit_the_source(name):
    mutation = MUTATIONS[name]
    assert (ROOT / mutation.file).read_text("utf-8").count(mutation.old) == 1
