"""A script as its users call it, without the seconds of imports that a process of its own would take."""

import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import pytest
from transformers.utils.logging import disable_progress_bar, enable_progress_bar

SCRIPTS = Path(__file__).parent.parent / "scripts"


def load_script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@contextmanager
def callable_script(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> Iterator[Callable[..., tuple[int, str, str]]]:
    """(arguments) -> (exit code, stdout, stderr) of the script; its logging is left as it was."""
    disable_progress_bar()
    monkeypatch.setattr(script, "set_up_script", lambda: None)

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", [script.__name__, *map(str, arguments)])
        code = 0
        try:
            script.main()
        except SystemExit as exit_:
            code = exit_.code
        return code, *capsys.readouterr()

    yield call
    enable_progress_bar()
