"""Where each document of a data set came from, in 8 bytes a document.

places[253]  ->  {"file": "/texts/haber.txt.xz", "place": "document 260"}
"""

import json
from pathlib import Path

import numpy as np

from turkbert.data.documents import place_unit

_SOURCES, _NUMBERS = "places.json", "places.int64"


class DocumentPlaces:
    """The sources of a data set's documents, in their order.

    Args:
        sources: (file or Hub data set, how many documents were kept of it), the same one perhaps several times.
        numbers: `(D,)` each document's number in its source.
    """

    def __init__(self, sources: list[tuple[str, int]], numbers: np.ndarray):
        self.sources, self.numbers = sources, numbers
        self.ends = np.cumsum([number for _, number in sources])

    def __getitem__(self, document: int) -> dict[str, str]:
        source = self.sources[int(np.searchsorted(self.ends, document, side="right"))][0]
        return {"file": source, "place": f"{place_unit(source)} {self.numbers[document]}"}

    @classmethod
    def merge(cls, names: list[str], files: list[Path], folder: Path) -> None:
        """Put each source's file of numbers, a document 8 bytes, together in `folder`, to be loaded from there."""
        sizes = [path.stat().st_size // 8 for path in files]
        (folder / _SOURCES).write_text(json.dumps(list(zip(names, sizes, strict=True))))
        with open(folder / _NUMBERS, "wb") as numbers:
            for path in files:
                numbers.write(path.read_bytes())

    @classmethod
    def load(cls, folder: Path) -> "DocumentPlaces":
        """Read what merge() wrote; the numbers stay on the disk."""
        sources = [(name, number) for name, number in json.loads((folder / _SOURCES).read_text())]
        return cls(sources, np.memmap(folder / _NUMBERS, dtype=np.int64, mode="r"))
