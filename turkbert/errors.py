"""A user's mistake becomes one line on stderr, an exit code and a STATUS.json.

    turkbert: error: configs/my.json: unknown key 'hiden_size'; did you mean 'hidden_size'?
"""

import errno
import json
import logging
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from turkbert.redaction import redact

BAD_INPUT = 2
BAD_CONFIG = 3
ENVIRONMENT = 4
CORRUPT_ARTIFACT = 5
PREEMPTED = 75
INTERRUPTED = 130

logger = logging.getLogger(__name__)

_ROOM_OR_ACCESS = (errno.ENOSPC, errno.EACCES, errno.EPERM, errno.EROFS, errno.EDQUOT)
_IMPOSSIBLE_PATH = (errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP)  # a file for a folder


class UserError(Exception):
    """Something the user can mend, said in one line.

    Args:
        where: the file, key or stage it is about.
        what: what is wrong.
        mend: how to mend it.
        exit_code: one of this module's codes.
    """

    def __init__(self, where: str | os.PathLike, what: str, mend: str, exit_code: int = BAD_INPUT):
        self.where, self.what, self.mend, self.exit_code = os.fspath(where), what, mend, exit_code
        super().__init__(redact(" ".join(f"{self.where}: {what}; {mend}".split())))

    def __reduce__(self):  # worker processes send errors by pickle, which would call us with the message alone
        return UserError, (self.where, self.what, self.mend, self.exit_code)


def config_error(where: str | os.PathLike, what: str, mend: str) -> UserError:
    """A UserError about the settings of a run (exit code 3)."""
    return UserError(where, what, mend, BAD_CONFIG)


def is_main_process() -> bool:
    """True in the process that talks to the user: rank 0 of a launcher, or the only one."""
    return int(os.environ.get("RANK", "0")) == 0


def write_status(output_dir: str | os.PathLike | None, state: str, message: str = "", exit_code: int = 0) -> None:
    """Write STATUS.json into an existing or new `output_dir`: launchers swallow exit codes, files stay.

    Best effort: a status that cannot be written must not hide the error it tells of.
    """
    if not output_dir or not is_main_process():
        return
    try:
        folder = Path(output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        staged = folder / "_STATUS.json"
        staged.write_text(json.dumps({"state": state, "exit_code": exit_code, "message": message}) + "\n")
        os.replace(staged, folder / "STATUS.json")
    except OSError as error:
        logger.warning("STATUS.json could not be written: %s", error)


@contextmanager
def user_errors(debug: bool = False, output_dir: str | os.PathLike | None = None) -> Iterator[None]:
    """Turn what a user can mend into the one line and SystemExit with its code; let defects show their traceback.

    Args:
        debug: print the traceback as well.
        output_dir: where STATUS.json goes (none while it is not known yet).
    """
    try:
        yield
    except UserError as error:
        _finish(str(error), error.exit_code, debug, output_dir)
    except KeyboardInterrupt:
        _finish("interrupted; run the same command again to go on", INTERRUPTED, debug, output_dir)
    except ImportError as error:  # of an optional package
        reason = f"environment: {error}; install it, or leave out the setting that asks for it"
        _finish(reason, ENVIRONMENT, debug, output_dir)
    except OSError as error:
        if error.errno in _ROOM_OR_ACCESS:
            mend, exit_code = "make room or grant access, then run again", ENVIRONMENT
        elif error.errno in _IMPOSSIBLE_PATH and error.filename:
            mend, exit_code = "choose another path", BAD_CONFIG
        else:
            raise
        _finish(f"{error.filename or 'disk'}: {os.strerror(error.errno)}; {mend}", exit_code, debug, output_dir)


def _finish(message: str, exit_code: int, debug: bool, output_dir: str | os.PathLike | None) -> None:
    message = redact(" ".join(message.split()))
    if debug:
        traceback.print_exc()
    if is_main_process():
        sys.stderr.write(f"turkbert: error: {message}\n")
    write_status(output_dir, "preempted" if exit_code == PREEMPTED else "failed", message, exit_code)
    raise SystemExit(exit_code) from None
