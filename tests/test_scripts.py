"""What all scripts have in common: Ctrl-C while the libraries load, and a reader of the output that goes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.script_calls import callable_script, load_script
from turkbert.console import show
from turkbert.errors import BAD_CONFIG

SCRIPTS = sorted((Path(__file__).parents[1] / "scripts").glob("*.py"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_interrupt_while_the_libraries_load_is_one_line(script, tmp_path):
    for package in ("accelerate", "datasets", "torch", "turkbert"):  # whichever comes first
        (tmp_path / f"{package}.py").write_text("raise KeyboardInterrupt")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, env=environment)
    assert done.returncode == 130
    assert done.stderr == "turkbert: error: interrupted; run the same command again\n"


def test_a_reader_that_goes_ends_the_output_without_a_word(monkeypatch):
    read_end, write_end = os.pipe()
    os.close(read_end)
    with os.fdopen(write_end, "w") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        show(["a line\n"] * 50_000)
        show(["and another\n"])
        stdout.write("at the exit\n")


# What the terminal of a script is: redirections of a shell and the environment, and what comes out.
TERMINALS = {"latin5": ({"PYTHONIOENCODING": "iso8859-9"}, "", "ığ \\u2192\n"), "no stdout": ({}, ">&-", "")}


@pytest.mark.parametrize("name", ["latin5", pytest.param("no stdout", marks=pytest.mark.slow)])
def test_a_poor_terminal_costs_letters_and_no_traceback(name):
    environment, redirection, output = TERMINALS[name]
    code = "from turkbert.console import *; set_up_script(); show([chr(305) + chr(287) + ' ' + chr(8594) + chr(10)])"
    command = f'"{sys.executable}" -c "{code}" {redirection}'
    done = subprocess.run(command, shell=True, capture_output=True, env={**os.environ, **environment})
    assert (done.returncode, done.stdout.decode("iso8859-9"), done.stderr) == (0, output, b"")


def test_show(capsys):
    show(f"{number}\n" for number in range(3))
    assert capsys.readouterr().out == "0\n1\n2\n"


@pytest.mark.parametrize("port", ["0", "-1", "99999"])
def test_a_port_that_cannot_be_is_one_line_before_the_model_loads(monkeypatch, capsys, port):
    with callable_script(load_script("demo"), monkeypatch, capsys) as demo:
        code, out, err = demo("nowhere", "--port", port)
    assert (code, out) == (BAD_CONFIG, "")
    assert err == "turkbert: error: command line: --port is a number from 1 to 65535; see --help\n"
