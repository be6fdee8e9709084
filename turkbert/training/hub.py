"""The finished model to the Hub: exactly the files its manifest names, private unless asked otherwise."""

import logging
from http import HTTPStatus
from pathlib import Path

import huggingface_hub
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, HTTPError
from huggingface_hub.utils import validate_repo_id

from turkbert.arguments import PretrainingArguments
from turkbert.artifacts import read_manifest
from turkbert.errors import config_error

logger = logging.getLogger(__name__)


def repository_name(output_dir: Path, hub_model_id: str | None) -> str:
    """hub_model_id, or the output folder's name in the user's own namespace."""
    return hub_model_id or output_dir.resolve().name


def check_hub_access(name: str) -> None:
    """Before training: could the model be pushed to `name`? A Hub that cannot be reached now is a warning.

    Raises:
        UserError: no token, one that the Hub does not know, or an impossible name.
    """
    if huggingface_hub.get_token() is None:
        raise config_error("push_to_hub", "no Hub token found", "run `hf auth login` or set HF_TOKEN")
    try:
        validate_repo_id(name)
        huggingface_hub.HfApi().whoami()
    except HFValidationError as error:
        raise config_error("hub_model_id", str(error).rstrip("."), "choose another name") from error
    except (HTTPError, OSError) as error:
        if isinstance(error, HfHubHTTPError) and error.response.status_code == HTTPStatus.UNAUTHORIZED:
            mend = "run `hf auth login` or set HF_TOKEN anew"
            raise config_error("push_to_hub", "the Hub does not accept the token", mend) from error
        logger.warning("the Hub cannot be reached now (%s); the model will be pushed at the end", error)


def push_output(output_dir: Path, training: PretrainingArguments) -> None:
    """Upload the committed model. A Hub that cannot be reached is a warning: the model is on disk."""
    api = huggingface_hub.HfApi()
    name = repository_name(output_dir, training.hub_model_id)
    private = True if training.hub_private_repo is None else training.hub_private_repo
    try:
        repo_id = api.create_repo(name, private=private, exist_ok=True).repo_id
        api.upload_folder(
            repo_id=repo_id,
            folder_path=output_dir,
            allow_patterns=list(read_manifest(output_dir)["files"]),
            revision=training.hub_revision,
            commit_message="Pretrained with turkbert",
        )
        logger.info("pushed to %s", repo_id)
    except (HTTPError, OSError) as error:
        again = f"hf upload {name} {output_dir} . --private --exclude 'checkpoint-*'"
        logger.warning("%s was not pushed (%s); to do it by hand: %s", output_dir, error, again)
