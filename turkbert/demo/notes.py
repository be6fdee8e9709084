"""What a tab answers instead of a result: why there is none."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Note:
    """A sentence of `strings.py` by its key, said in the language of the page.

    values: what stands in its placeholders.
    """

    key: str
    values: dict[str, int] = field(default_factory=dict)
