"""What every script sets up first (one plain line an event, from the main process; a quick end), and its output."""

import gc
import logging
import os
import sys
from collections.abc import Iterable

import datasets
import huggingface_hub
import transformers

from turkbert.errors import is_main_process
from turkbert.redaction import redact_logs


def set_up_script() -> None:
    """turkbert's own events to stderr, of the libraries warnings only; what was imported is no garbage."""
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
