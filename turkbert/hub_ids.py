"""A name that the user gave: a folder or file here, or an id on the Hugging Face Hub?

    is_hub_id("dbmdz/bert-base-turkish-cased")  ->  True, unless there is a folder dbmdz
"""

import os
import re

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?", re.ASCII)


def is_hub_id(name: str, bare: bool = False) -> bool:
    """True for `owner/name`, and where `bare` for one word; a path with a typo must not go to the network.

    What exists is a path, and what would lie in a folder that exists. A path of two parts of which neither exists
    looks like an id: as `./folder/name` it does not.

    Args:
        bare: whether an id may be a single word, as that of an old model (`bert-base-uncased`) may.
    """
    owner, slash, _ = name.partition("/")
    return bool(_HUB_ID.fullmatch(name)) and not os.path.exists(owner) and (bool(slash) or bare)
