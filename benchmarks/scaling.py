"""Writes the tables of docs/scaling.md: hours, GPU-hours and US dollars by model, corpus and number of GPUs.

    python benchmarks/scaling.py

Nothing is run: turkbert.training.estimate has the formula and the assumptions, the figures below come from records.
"""

from pathlib import Path

from turkbert.training.estimate import (
    ASSUMPTIONS,
    CHECKPOINT_BYTES,
    DATA_BYTES,
    DOLLARS_PER_GPU_HOUR,
    SCALING_EFFICIENCY,
    amount,
    count_parameters,
    duration,
    gpu_seconds,
    short,
)
from turkbert.training.speed import flop_per_token

PAGE = Path(__file__).resolve().parent.parent / "docs" / "scaling.md"
BEGIN, END = "<!-- tables: python benchmarks/scaling.py -->\n", "<!-- end of the tables -->\n"

MODELS = {"small, 4 x 256": (4, 256), "base, 12 x 768": (12, 768), "large, 24 x 1024": (24, 1024)}
VOCAB_SIZE = 32000
TOKEN_SHARES = {128: 0.9, 512: 0.1}  # by block size: stages of 64 x 128 and 16 x 512 have as many tokens a step
PASSES = {0.1: 40, 1: 40, 10: 10, 100: 1}  # by GB of text: how often the run sees it

# 95.3 MB of Turkish text, 32,000 words: benchmarks/results/data_exactness_20261121.md, data_2cores_20261121.md.
TOKENS_PER_BYTE = 17.46 / 95.3
ROW_TOKENS_PER_TOKEN = 243_366 * 128 / 17.46e6  # training rows of block 128: windows overlap by half
PREPARED_BYTES_PER_SECOND = 2.5e6  # of text, one process, both block sizes, the tokenizer being there


def sizes_of(num_layers: int, hidden_size: int) -> dict[str, int]:
    """The sizes of a model of BERT's proportions, under the config's names."""
    sizes = {"hidden_size": hidden_size, "num_hidden_layers": num_layers, "intermediate_size": 4 * hidden_size}
    return {**sizes, "vocab_size": VOCAB_SIZE}


def mean_flop_per_token(sizes: dict[str, int]) -> float:
    """Useful FLOPs of a token, over the stages' shares of the tokens."""
    return sum(
        share * flop_per_token(**sizes, block_size=block_size, mlm_probability=0.15)
        for block_size, share in TOKEN_SHARES.items()
    )


def table(header: list[str], rows: list[list[str]]) -> str:
    """Markdown, numbers to the right."""
    rule = "|---|" + "---:|" * (len(header) - 1) + "\n"
    first, *others = [f"| {' | '.join(line)} |\n" for line in (header, *rows)]
    return first + rule + "".join(others)


def cost_table() -> str:
    """Model and text down, GPUs across; a cell is time / GPU-hours / dollars."""
    rows = []
    for name, (num_layers, hidden_size) in MODELS.items():
        for gigabytes, passes in PASSES.items():
            tokens = gigabytes * 1e9 * TOKENS_PER_BYTE * passes
            flop = tokens * mean_flop_per_token(sizes_of(num_layers, hidden_size))
            cells = [_cell(flop, devices) for devices in SCALING_EFFICIENCY]
            rows.append([name, f"{gigabytes:g} GB", str(passes), short(tokens), f"{flop:.1e}", *cells])
    devices = [f"{devices} GPU{'s' * (devices > 1)}" for devices in SCALING_EFFICIENCY]
    return table(["model", "text", "passes", "tokens", "FLOPs", *devices], rows)


def _cell(flop: float, devices: int) -> str:
    seconds = gpu_seconds(flop, devices)
    hours = devices * seconds / 3600
    return f"{duration(seconds)} / {amount(hours)} / {amount(hours * DOLLARS_PER_GPU_HOUR)}"


def model_table() -> str:
    """Parameters, FLOPs a token and bytes of a checkpoint by model."""
    rows = []
    for name, (num_layers, hidden_size) in MODELS.items():
        sizes = sizes_of(num_layers, hidden_size)
        parameters = count_parameters({**sizes, "max_position_embeddings": 512, "type_vocab_size": 2})
        mega = [amount(flop_per_token(**sizes, block_size=t, mlm_probability=0.15) / 1e6, 1) for t in TOKEN_SHARES]
        rows.append([name, short(parameters), *mega, short(parameters * CHECKPOINT_BYTES, "B")])
    blocks = [f"MFLOP a token, block {block_size}" for block_size in TOKEN_SHARES]
    return table(["model", "parameters", *blocks, "a checkpoint"], rows)


def data_table() -> str:
    """Tokens, time to prepare and disk by size of the text."""
    rows = []
    for gigabytes in PASSES:
        size = gigabytes * 1e9
        tokens = size * TOKENS_PER_BYTE
        seconds = duration(size / PREPARED_BYTES_PER_SECOND)
        row_tokens, disk = short(tokens * ROW_TOKENS_PER_TOKEN), short(size * DATA_BYTES, "B")
        rows.append([f"{gigabytes:g} GB", short(tokens), row_tokens, seconds, disk])
    return table(["text", "tokens", "tokens of the training rows, block 128", "one process", "disk"], rows)


def tables() -> str:
    """Everything between the page's two marks."""
    assumptions = "".join(f"- {assumption}\n" for assumption in ASSUMPTIONS[:3])  # not of CPUs and single steps
    return (
        f"\nA cell is time / GPU-hours / US dollars.\n\n{cost_table()}\nAssumed, not measured:\n\n{assumptions}\n"
        f"{model_table()}\n{data_table()}\n"
    )


def fill_page(page: str) -> str:
    """The page with its tables made anew."""
    before, rest = page.split(BEGIN)
    return before + BEGIN + tables() + END + rest.split(END)[1]


if __name__ == "__main__":
    PAGE.write_text(fill_page(PAGE.read_text("utf-8")), "utf-8")
