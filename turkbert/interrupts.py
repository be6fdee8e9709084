"""Ctrl-C and kill -9 for work that has worker processes: nothing hangs, and nothing of it outlives the parent.

    with interruptible():
        dataset.map(..., num_proc=8)
"""

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import multiprocess

_INTERRUPT_AGAIN_SECONDS = 2.0
_PR_SET_PDEATHSIG = 1

_builder = 0  # process id, while it builds
_forking = False


@contextmanager
def interruptible() -> Iterator[None]:
    """Let Ctrl-C end a build and its worker processes at any moment, as a KeyboardInterrupt and without a hang.

    The builder alone acts on it: a worker that ended by itself would take locks of its pool with it. An interrupt
    that comes within a fork waits for the end of it, for the hooks there swallow exceptions and then keep their locks.
    """
    global _builder
    _watch_forks()
    builder = _builder = os.getpid()
    children_before = {process.pid for process in multiprocess.active_children()}
    interrupted = False

    def interrupt(number: int, frame: object) -> None:
        nonlocal interrupted
        if os.getpid() != builder:
            return
        interrupted = True
        # Once more if this one is lost, or breaks off one wait only to begin another.
        signal.setitimer(signal.ITIMER_REAL, 0.01 if _forking else _INTERRUPT_AGAIN_SECONDS)
        if not _forking:
            raise KeyboardInterrupt

    takes_signals = (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )
    if takes_signals:
        signal.signal(signal.SIGINT, interrupt)
        old_alarm = signal.signal(signal.SIGALRM, interrupt)
    try:
        yield
        if interrupted:
            raise KeyboardInterrupt
    except BaseException as error:
        if interrupted and not isinstance(error, KeyboardInterrupt):  # what datasets made of it
            raise KeyboardInterrupt from error
        raise
    finally:
        if takes_signals:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, old_alarm)
            signal.signal(signal.SIGINT, signal.default_int_handler)
        if not interrupted:  # else a thread of a pool that was broken off in its end may fork workers yet
            _builder = 0
        # Python's exit ends the workers of a pool, but would wait for a manager that was broken off in its start.
        for process in multiprocess.active_children() if interrupted else ():
            if not process.daemon and process.pid not in children_before:
                process.kill()


@cache
def _watch_forks() -> None:
    os.register_at_fork(before=_begin_fork, after_in_parent=_end_fork, after_in_child=_end_with_builder)


def _begin_fork() -> None:
    global _forking
    _forking = True


def _end_fork() -> None:
    global _forking
    _forking = False


def _end_with_builder() -> None:
    """In a new process: if it is a worker of a build, the kernel ends it when the builder ends, even by kill -9."""
    global _builder
    _end_fork()
    builder, _builder = _builder, 0
    if builder and sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != builder:  # it ended before that
            os._exit(1)
