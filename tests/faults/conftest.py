"""The tiny prepared data of tests/training, with dynamic and with static masks, and the arms that train on it."""

from pathlib import Path

import pytest

from tests.faults.arms import Stock, Turkbert
from tests.training.conftest import draws, prepared, tiny_dir, without_plots  # noqa: F401
from tests.training.tiny import tiny_arguments
from turkbert.data.prepare import PreparedData, prepare_dataset


@pytest.fixture(scope="session")
def arm(tiny_dir: Path, prepared: PreparedData) -> Turkbert:  # noqa: F811
    """turkbert on dynamic masks."""
    return Turkbert(tiny_dir, prepared)


@pytest.fixture(scope="session")
def static_arm(tiny_dir: Path) -> Turkbert:  # noqa: F811
    """turkbert on static masks."""
    static = {"masking": "static", "data_dir": str(tiny_dir / "static")}
    return Turkbert(tiny_dir, prepare_dataset(tiny_arguments(tiny_dir, tiny_dir / "out", **static)), **static)


@pytest.fixture(scope="session")
def stock_arm(static_arm: Turkbert) -> Stock:
    """The stock Trainer on the same rows as static_arm's first stage."""
    return Stock(static_arm.prepared)
