"""What bench_train.py compares: programs, models, rows, windows and the figures asked for. Imports nothing heavy."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

LEAD_STEPS = 2  # first steps of a window: caches are cold after the other arm's turn


class Arm(NamedTuple):
    """One of the programs compared."""

    program: str  # turkbert or stock
    compiled: bool = False

    def __str__(self) -> str:
        return self.program + (" compiled" if self.compiled else "")


EAGER = (Arm("turkbert"), Arm("stock"))
COMPILED = (Arm("turkbert", compiled=True), Arm("stock", compiled=True))


@dataclass(frozen=True)
class Setting:
    """One model on rows of one length, trained by several arms."""

    group: str
    name: str
    sizes: dict[str, int]
    batch_size: int
    block_size: int
    bf16: bool
    steps: int  # a window
    asked: dict[str, str] = field(default_factory=dict)
    arms: tuple[Arm, ...] = EAGER
    matrix: int = 4096  # side of the matrices, of the setting's precision, whose product is a CPU's limit

    @property
    def use_cpu(self) -> bool:
        """True for all groups but gpu."""
        return self.group != "gpu"

    @property
    def title(self) -> str:
        """The setting as a row of the table names it."""
        return f"{self.name}, {self.batch_size} x {self.block_size}, {'bf16' if self.bf16 else 'fp32'}"


def _sizes(vocab_size: int, hidden_size: int, num_hidden_layers: int, num_attention_heads: int) -> dict[str, int]:
    return {
        "vocab_size": vocab_size,
        "hidden_size": hidden_size,
        "num_hidden_layers": num_hidden_layers,
        "num_attention_heads": num_attention_heads,
        "intermediate_size": 4 * hidden_size,
    }


SMALL, BASE = _sizes(32000, 256, 4, 4), _sizes(32000, 768, 12, 12)
SMALL_ASKED = {"ratio": ">= 3.5", "waiting": "< 2 %"}
BASE_ASKED = {"ratio": ">= 1.3", "limit": ">= 70 %", "waiting": "< 2 %"}
GPU_ASKED = {"limit": ">= 50 %", "memory": "<= 0.6", "waiting": "< 2 %"}
SETTINGS = (
    Setting("cpu_small", "4 layers x 256", SMALL, 32, 128, False, 6, SMALL_ASKED),
    Setting("cpu_small", "4 layers x 256", SMALL, 32, 128, True, 6, SMALL_ASKED),
    Setting("cpu_base", "BERT-base", BASE, 8, 128, True, 6, BASE_ASKED),
    Setting("gpu", "BERT-base", BASE, 256, 128, True, 12, {**GPU_ASKED, "ratio": ">= 2.5"}, EAGER + COMPILED),
    Setting("gpu", "BERT-base", BASE, 64, 512, True, 12, GPU_ASKED, EAGER + COMPILED),
)
TINY = (Setting("tiny", "2 layers x 32", _sizes(500, 32, 2, 2), 4, 32, False, 2, matrix=256),)


class Prepared(NamedTuple):
    """The rows of a setting, and what they will be trained on."""

    folder: Path
    useful: float  # share of the tokens that are no padding
    labelled: float  # share of those that are labelled
    hardware: str
    torch_version: str
