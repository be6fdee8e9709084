"""What one process finds out for all, before there is a process group, and the end of a group.

    folders = from_main(lambda: build_everything())     # built by rank 0; hours may pass
    ...
    leave_group()

The processes meet at the store that their process group is going to meet at (torch.distributed's env:// rendezvous).
"""

import json
import os
import time
from collections.abc import Callable
from datetime import timedelta
from functools import cache
from typing import Any

from turkbert.errors import ENVIRONMENT, UserError, is_main_process

_CONNECT_SECONDS = 7 * 24 * 3600  # without a launcher the store opens when rank 0 has something to tell
_POLL_SECONDS = 0.5
_LAST_TENSORS_SECONDS = 0.1
_calls = 0


def from_main(make: Callable[[], Any]) -> Any:
    """What `make` returns (plain JSON) in the main process, in all of them. All must come here equally often.

    Raises:
        UserError: `make` raised it, or the main process is gone.
    """
    global _calls
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return make()
    _calls += 1
    name = f"turkbert/{_calls}"
    if not is_main_process():
        made, refusal = _wait_for(name)
        if refusal:
            raise UserError(*refusal)
        return made
    try:
        made = make()  # the store is opened after it, for a build forks
    except UserError as error:
        _store().set(name, json.dumps([None, error.__reduce__()[1]]))
        raise
    _store().set(name, json.dumps([made, None]))
    return made


def leave_group(group: Any = None) -> None:
    """Destroy a process group, by default all of them; one that is left to the exit may abort its process there.

    A thread of gloo takes the GIL to free the tensors of its last collective, and the destructor of the group waits
    for this thread while it holds the GIL (torch 2.13): for ever, unless the thread comes first.
    """
    from torch import distributed

    if distributed.is_initialized():
        time.sleep(_LAST_TENSORS_SECONDS)
        distributed.destroy_process_group(group)


def _wait_for(name: str) -> Any:
    from torch.distributed import DistError

    try:
        while not _store().check([name]):  # not one long wait, which Ctrl-C could not end
            time.sleep(_POLL_SECONDS)
        return json.loads(_store().get(name))
    except DistError:
        raise UserError("the main process", "it has ended", "see its own error", ENVIRONMENT) from None


@cache
def _store() -> Any:
    """Kept for good: without a launcher rank 0 serves it, and the process group takes it over."""
    from torch.distributed import rendezvous  # seconds, which data scripts with one process need not pay

    return next(rendezvous("env://", timeout=timedelta(seconds=_CONNECT_SECONDS)))[0]
