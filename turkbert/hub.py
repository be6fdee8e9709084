"""Files to the Hub: exactly those named, in one commit, private unless asked otherwise, tried again.

    push_files({"config.json": Path("out/config.json")}, Destination("my-bert"), "First version", tag="v1")

There is no token argument: huggingface_hub finds it in the environment, or where `hf auth login` put it.
"""

import time
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

import huggingface_hub
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, HTTPError
from huggingface_hub.utils import logging as hub_logging
from huggingface_hub.utils import validate_repo_id
from huggingface_hub.utils._http import default_client_factory

from turkbert.errors import config_error
from turkbert.redaction import redact

TIMEOUT = 30.0  # seconds without a byte; huggingface_hub itself would wait for ever
PAUSES = (1.0, 4.0)  # seconds before the second and the third try
_PASSING = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.CONFLICT, HTTPStatus.TOO_MANY_REQUESTS}


@dataclass(frozen=True)
class Destination:
    """A repository: `name` or `owner/name`, "model" or "dataset", and a branch other than main."""

    name: str
    kind: str = "model"
    private: bool = True
    revision: str | None = None


def check_hub_access(name: str, key: str = "hub_model_id") -> str | None:
    """Before the work: could it be pushed to `name`? None, or why the Hub cannot be reached now.

    Raises:
        UserError: no token, one that the Hub does not know, or an impossible name (`key` holds it).
    """
    if huggingface_hub.get_token() is None:
        raise config_error("push_to_hub", "no Hub token found", "run `hf auth login` or set HF_TOKEN")
    try:
        validate_repo_id(name)
        _with_timeout().whoami()
    except HFValidationError as error:
        raise config_error(key, str(error).rstrip("."), "choose another name") from error
    except (HTTPError, OSError) as error:
        if _status(error) == HTTPStatus.UNAUTHORIZED:
            mend = "run `hf auth login` or set HF_TOKEN anew"
            raise config_error("push_to_hub", "the Hub does not accept the token", mend) from error
        return brief(error)
    return None


def push_files(files: dict[str, Path], to: Destination, message: str, tag: str | None = None) -> str:
    """Upload {path in the repository: file} and nothing else; make the repository if it is not there.

    Args:
        tag: a name for this very version.

    Returns:
        The full id of the repository.

    Raises:
        Exception: of huggingface_hub, after three tries where trying again may help.
    """
    hub_logging.set_verbosity_error()  # it tells of its own retries; the caller tells how it ended
    for pause in PAUSES:
        try:
            return _push_once(files, to, message, tag)
        except (HTTPError, OSError, RuntimeError) as error:
            status = _status(error)
            if status and status < HTTPStatus.INTERNAL_SERVER_ERROR and status not in _PASSING:
                raise
            time.sleep(pause)
    return _push_once(files, to, message, tag)


def is_public(to: Destination) -> bool:
    """True if the repository is there and open to everybody."""
    api = _with_timeout()
    name = to.name if "/" in to.name else f"{api.whoami()['name']}/{to.name}"
    return api.repo_exists(name, repo_type=to.kind) and not api.repo_info(name, repo_type=to.kind).private


def brief(error: Exception) -> str:
    """An error in one short line without secrets."""
    return redact(" ".join(str(error).split()) or type(error).__name__)[:200]


def _push_once(files: dict[str, Path], to: Destination, message: str, tag: str | None) -> str:
    api = _with_timeout()
    repo_id = api.create_repo(to.name, repo_type=to.kind, private=to.private, exist_ok=True).repo_id
    if to.revision:
        api.create_branch(repo_id, repo_type=to.kind, branch=to.revision, exist_ok=True)
    additions = [huggingface_hub.CommitOperationAdd(path, str(file)) for path, file in files.items()]
    api.create_commit(repo_id, additions, commit_message=message, repo_type=to.kind, revision=to.revision)
    if tag:
        api.create_tag(repo_id, repo_type=to.kind, tag=tag, revision=to.revision, exist_ok=True)
    return repo_id


def _with_timeout() -> huggingface_hub.HfApi:
    def make():
        client = default_client_factory()
        client.timeout = TIMEOUT
        return client

    huggingface_hub.set_client_factory(make)
    return huggingface_hub.HfApi()


def _status(error: BaseException | None) -> int | None:
    """The HTTP status behind an error, which may have been wrapped."""
    while error is not None:
        if isinstance(error, HfHubHTTPError) and error.response is not None:
            return error.response.status_code
        error = error.__cause__
    return None

