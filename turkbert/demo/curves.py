"""The curves of a training run, as pictures: those of the model's folder, or drawn from its metrics.jsonl."""

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from turkbert.demo.notes import Note
from turkbert.training.metrics_file import METRICS_FILE
from turkbert.training.plots import write_plots


@dataclass(frozen=True)
class CurvePictures:
    """PNG files by name ("losses"), in the order to be shown."""

    pictures: dict[str, bytes]


def find_curves(folder: Path | None) -> CurvePictures | Note:
    """The pictures under plots/ of a model's folder; nothing is written into it."""
    if folder is None:
        return Note("no_curves")
    pictures = read_pictures(folder / "plots")
    if not pictures:
        with TemporaryDirectory() as drawn:
            write_plots(folder / METRICS_FILE, Path(drawn), {})
            pictures = read_pictures(Path(drawn))
    return CurvePictures(pictures) if pictures else Note("no_curves")


def read_pictures(folder: Path) -> dict[str, bytes]:
    """The losses first, whatever else there is by name."""
    paths = sorted(folder.glob("*.png"), key=lambda path: (path.stem != "losses", path.stem))
    return {path.stem: path.read_bytes() for path in paths}
