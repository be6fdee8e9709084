"""What must never be written down: tokens, and the values of environment variables that hold secrets.

    redact("GET https://ada:geheim@host failed for hf_abcdefghijklmnopqrstuv")
    ->     "GET https://<secret>@host failed for <secret>"
"""

import logging
import os
import re
from typing import Any

HIDDEN = "<secret>"
_SHAPES = re.compile(r"\b(?:hf_|api_org_)[A-Za-z0-9]{16,}|(?<=://)[^/\s@'\"]+(?=@)")
_NAMES = re.compile(r"(?:^|_)(?:TOKEN|SECRET|PASSWORD|PASSWD|KEY|CREDENTIALS?)S?$", re.IGNORECASE)
_SHORTEST = 12  # characters; a shorter value is as likely an ordinary word


def redact(text: str) -> str:
    """`text` with everything that looks like a secret, or is one of the environment's, hidden."""
    for secret in _environment_secrets():
        text = text.replace(secret, HIDDEN)
    return _SHAPES.sub(HIDDEN, text)


def holds_secret(value: Any) -> bool:
    """True if a setting, however nested, has a secret in it."""
    if isinstance(value, dict):
        return any(holds_secret(item) for pair in value.items() for item in pair)
    if isinstance(value, list | tuple):
        return any(map(holds_secret, value))
    return isinstance(value, str) and redact(value) != value


def redact_logs() -> None:
    """From now on every log record of this process, of any library, is made without secrets."""
    make = logging.getLogRecordFactory()
    if getattr(make, "redacts", False):
        return

    def make_redacted(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = make(*args, **kwargs)
        message = record.getMessage()
        clean = redact(message)
        if clean != message:
            record.msg, record.args = clean, ()
        return record

    make_redacted.redacts = True  # type: ignore[attr-defined]
    logging.setLogRecordFactory(make_redacted)


def _environment_secrets() -> list[str]:
    """Longest first, since one may be a part of another."""
    found = {value for name, value in os.environ.items() if _NAMES.search(name) and len(value) >= _SHORTEST}
    return sorted(found, key=len, reverse=True)
