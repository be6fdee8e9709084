"""The tiny prepared data of tests/training."""

from tests.training.conftest import prepared, tiny_dir  # noqa: F401
