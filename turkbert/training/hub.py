"""The finished model to the Hub: exactly the files its manifest names, private unless asked otherwise."""

import logging
from pathlib import Path

import huggingface_hub
from huggingface_hub.errors import HfHubHTTPError

from turkbert.arguments import PretrainingArguments
from turkbert.artifacts import read_manifest
from turkbert.errors import config_error

logger = logging.getLogger(__name__)


def check_hub_access() -> None:
    """Before training: is there a token at all?

    Raises:
        UserError: none found.
    """
    if huggingface_hub.get_token() is None:
        raise config_error("push_to_hub", "no Hub token found", "run `hf auth login` or set HF_TOKEN")


def push_output(output_dir: Path, training: PretrainingArguments) -> None:
    """Upload the committed model. A Hub that cannot be reached is a warning: the model is on disk."""
    api = huggingface_hub.HfApi()
    name = training.hub_model_id or output_dir.resolve().name
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
    except (HfHubHTTPError, OSError) as error:
        logger.warning("%s was not pushed (%s); run again: hf upload %s %s", output_dir, error, name, output_dir)
