"""What every script sets up first (one plain line an event, from the main process; a quick end), and its output."""

import argparse
import gc
import io
import logging
import os
import sys
from collections.abc import Iterable

import datasets
import huggingface_hub
import transformers

from turkbert.errors import config_error, is_main_process
from turkbert.redaction import redact_logs


class ToolParser(argparse.ArgumentParser):
    """The command line of a tool that takes a model or folder first and no config: with --debug, errors in one line.

    Raises:
        UserError: from `parse_args`, where argparse itself would print its usage and end.
    """

    def __init__(self, description: str | None):
        super().__init__(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
        self.add_argument("--debug", action="store_true", help="show the traceback of an error")

    def error(self, message: str):
        raise config_error("command line", message, "see --help")


def set_up_script() -> None:
    """turkbert's own events to stderr, of the libraries warnings only; what was imported is no garbage.

    A letter that the terminal's encoding lacks is written as its number, and without a stdout nothing is.
    """
    if sys.stdout is None:  # closed with >&-
        sys.stdout = open(os.devnull, "w")
    elif isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    # Else each worker copies the pages of all imported modules to look for garbage, and the exit takes two seconds.
    gc.freeze()
    redact_logs()
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S", level=logging.WARNING)
    logging.getLogger("turkbert").setLevel(logging.INFO if is_main_process() else logging.ERROR)
    huggingface_hub.logging.disable_propagation()  # it has a handler of its own: each line came twice
    transformers.utils.logging.set_verbosity_warning()
    transformers.utils.logging.disable_progress_bar()  # a bar for each file of each checkpoint
    if not is_main_process():
        datasets.disable_progress_bars()
        transformers.utils.logging.set_verbosity_error()


def show(lines: Iterable[str]) -> None:
    """Write lines to stdout. A reader that has gone, as `head` goes, ends the output and is no error."""
    try:
        for line in lines:
            sys.stdout.write(line)
        sys.stdout.flush()
    except BrokenPipeError:  # Python would try once more at its exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
