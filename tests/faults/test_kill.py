"""R1: kill -9 at random moments, in both stages: every restart works and the end is the uninterrupted run's."""

import random
import shutil

import pytest

from tests.faults.harness import Run, differences, killed, live


@pytest.fixture(scope="module")
def whole(arm, tmp_path_factory) -> Run:
    return live(arm, tmp_path_factory.mktemp("whole") / "out")


def kill_runs(arm, whole: Run, folder, rng: random.Random, num_runs: int, kills: int) -> list[Run]:
    """At least so many runs of so many kills, and more where some ended before all theirs."""
    runs: list[Run] = []
    while len(runs) < num_runs or sum(run.kills for run in runs) < num_runs * kills:
        run = killed(arm, folder / str(len(runs)) / "out", rng, kills)
        assert differences(run, whole) == [], f"run {len(runs)} after {run.kills} kills"
        shutil.rmtree(folder / str(len(runs)))
        runs.append(run)
    return runs


def test_two_uninterrupted_runs_are_equal(arm, whole, tmp_path):
    again = live(arm, tmp_path / "out")
    assert differences(again, whole) == []
    assert sorted(again.rows()) == list(range(whole.max_steps))
    sizes = {block_size for batches in again.rows().values() for block_size, _ in batches}
    assert sizes == {32, 64} and len(again.weights()) == 2


def test_the_harness_sees_a_difference(arm, whole, tmp_path):
    other = live(arm.with_settings(learning_rate=0.02, data_seed=7), tmp_path / "out")
    found = " ".join(differences(other, whole))
    assert "weights differ" in found and "rows lost or repeated" in found and "other rows at step 0" in found


def test_killed_runs(arm, whole, tmp_path):
    runs = kill_runs(arm, whole, tmp_path, random.Random(1), num_runs=3, kills=1)
    assert sum(run.kills_in_save for run in runs) >= 1


@pytest.mark.slow
def test_two_hundred_kills(arm, whole, tmp_path):
    runs = kill_runs(arm, whole, tmp_path, random.Random(2), num_runs=50, kills=4)
    assert sum(run.kills for run in runs) >= 200
    assert sum(run.kills_in_save for run in runs) >= 60
