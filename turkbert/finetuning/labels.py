"""Label values -> class numbers and names, the same whatever the order of the rows.

    build_labels(["spor", "ekonomi", "spor"])    # ["ekonomi", "spor"]
"""

from collections.abc import Iterable
from typing import Any


def label_name(value: Any, names: list[str] | None = None) -> str:
    """The name of a label: of a number by the data set's own names, if it has them; else the value as text."""
    if names and isinstance(value, int) and 0 <= value < len(names):
        return names[value]
    return str(value)


def build_labels(values: Iterable[Any], names: list[str] | None = None) -> list[str]:
    """The names of all classes: the data set's own, or those that occur, numbers by size and others by alphabet."""
    if names:
        return names
    distinct = set(values)
    if all(isinstance(value, int) for value in distinct):
        return [str(value) for value in sorted(distinct)]
    return sorted(str(value) for value in distinct)
