"""What a run will cost, on paper: its settings -> tokens, FLOPs, disk, hours and money.

    python scripts/pretrain.py configs/base.json --estimate

    seconds = FLOPs / (devices x peak x MFU x scaling efficiency)
"""

import math
import os
from dataclasses import dataclass

from turkbert.arguments import CorpusArguments, RunArguments
from turkbert.data.corpus import find_corpus_files, is_hub_corpus
from turkbert.data.prepare import load_stats
from turkbert.data.raw_text import text_bytes
from turkbert.errors import config_error
from turkbert.model import load_stock_config
from turkbert.training.sampler import plan_stages
from turkbert.training.speed import PEAK_FLOPS, flop_per_token

FORMULA = "seconds = FLOPs / (devices x peak x MFU x scaling efficiency)"
PEAK = PEAK_FLOPS["H100"]  # an H200 has the same
MFU = 0.40  # not measured yet: stock-class training reaches about 20 %, and 50 % is the aim
SCALING_EFFICIENCY = {1: 1.0, 8: 0.95, 64: 0.85}  # not measured: gradients cross one node, then a network
DOLLARS_PER_GPU_HOUR = 2.50  # offers of an H100 lie between about 2 and 4 US dollars
# Two cores with bf16 instructions, 4 layers x 256, rows of 128 (train_2cores_20261121.md).
CPU_TOKENS_PER_SECOND = 10_600
_SMALL = {"hidden_size": 256, "num_hidden_layers": 4, "intermediate_size": 1024, "vocab_size": 32000}
CPU_FLOPS = CPU_TOKENS_PER_SECOND * flop_per_token(**_SMALL, block_size=128, mlm_probability=0.15)
# A step launches hundreds of kernels, each some microseconds of the host's time, and runs the Trainer's own Python: a
# shorter one does not keep a GPU busy, whatever its arithmetic.
BUSY_STEP_SECONDS = 0.02
CHECKPOINT_BYTES = 12  # a parameter: the weight and AdamW's two moments, fp32
# On disk a byte of text: documents, tokens, rows of 128 and of 512, dynamic masks (docs/scaling.md).
DATA_BYTES = (95.5 + 73.9 + 134.6 + 144.4) / 95.3

ASSUMPTIONS = (
    f"MFU {100 * MFU:.0f} % (stock-class training reaches about 20 %, 50 % is the aim, small models reach less)",
    "scaling efficiency " + ", ".join(f"{share:.2f} on {n}" for n, share in SCALING_EFFICIENCY.items()) + " GPUs",
    f"{DOLLARS_PER_GPU_HOUR:.2f} US dollars a GPU-hour (offers of an H100 lie between about 2 and 4)",
    f"two CPU cores {CPU_FLOPS / 1e12:.2f} TFLOP/s ({CPU_TOKENS_PER_SECOND:,} tokens/s of 4 layers x 256 in bf16)",
    f"a step takes {1000 * BUSY_STEP_SECONDS:.0f} ms at least, however small the model and the batch",
)


@dataclass(frozen=True)
class StageCost:
    """One stage of a run, over all processes."""

    block_size: int
    num_steps: int
    rows_per_step: int
    flop_per_token: float
    num_rows: int | None = None  # prepared for training; None where there are none yet

    @property
    def tokens(self) -> int:
        """Of all steps, padding included."""
        return self.num_steps * self.rows_per_step * self.block_size

    @property
    def passes(self) -> float | None:
        """How often the prepared rows are passed over."""
        return self.num_steps * self.rows_per_step / self.num_rows if self.num_rows else None


@dataclass(frozen=True)
class RunCost:
    """What the settings of a run come to."""

    sizes: dict[str, int]
    stages: list[StageCost]
    num_processes: int
    num_checkpoints: int  # kept
    peak: float  # FLOP/s of one GPU
    text_bytes: int | None = None  # of the corpus, uncompressed; None where it is on the Hub

    @property
    def num_steps(self) -> int:
        """Of all stages."""
        return sum(stage.num_steps for stage in self.stages)

    @property
    def tokens(self) -> int:
        """Of all stages, padding included."""
        return sum(stage.tokens for stage in self.stages)

    @property
    def flop(self) -> float:
        """Of all stages, forward and backward."""
        return sum(stage.tokens * stage.flop_per_token for stage in self.stages)


def estimate_run(args: RunArguments, num_processes: int | None = None) -> RunCost:
    """Reckon a run from its settings; needs neither data (but tells passes over it), nor a tokenizer, nor a device.

    Args:
        num_processes: those that share the run; None: as many as the launcher started.

    Raises:
        UserError: model_name_or_path has no config of a BERT; the corpus is not there.
    """
    processes = num_processes or int(os.environ.get("WORLD_SIZE", "1"))
    sizes = model_sizes(args)
    no_rows = dict.fromkeys(args.data.block_sizes, 0)  # how often the rows are passed over does not matter here
    max_steps, accumulation = args.setting("max_steps"), args.setting("gradient_accumulation_steps")
    plan = plan_stages(no_rows, args.setting("stage_fractions"), args.setting("stage_batch_sizes"), max_steps)
    stages = [
        StageCost(
            stage.block_size,
            stage.last_step - stage.first_step,
            stage.batch_size * accumulation * processes,
            flop_per_token(**_matrices(sizes), block_size=stage.block_size, mlm_probability=args.data.mlm_probability),
            _prepared_rows(args.data.data_dir, stage.block_size),
        )
        for stage in plan
    ]
    peak_tflops = args.setting("peak_tflops")
    peak = peak_tflops * 1e12 if peak_tflops else PEAK
    return RunCost(sizes, stages, processes, checkpoints_kept(args), peak, _corpus_bytes(args.corpus))


def _corpus_bytes(corpus: CorpusArguments) -> int | None:
    if is_hub_corpus(corpus.corpus, corpus.corpus_config):
        return None
    return sum(text_bytes(path, path.stat().st_size) for path in find_corpus_files(corpus.corpus))


def _prepared_rows(data_dir: str, block_size: int) -> int | None:
    try:
        return load_stats(data_dir, block_size)["train"]["rows"]
    except (OSError, ValueError, LookupError):
        return None


def model_sizes(args: RunArguments) -> dict[str, int]:
    """The sizes in the settings, or those of model_name_or_path."""
    names = ("hidden_size", "num_hidden_layers", "intermediate_size", "max_position_embeddings", "type_vocab_size")
    name, source = args.model.model_name_or_path, args.model
    if name is None:
        return {"vocab_size": args.tokenizer.vocab_size, **{key: getattr(source, key) for key in names}}
    try:
        config = load_stock_config(name, args.model.model_revision)
    except (ValueError, OSError) as error:
        mend = "name a folder or Hub id of a BERT"
        raise config_error("model_name_or_path", str(error).rstrip("."), mend) from error
    return {key: getattr(config, key) for key in ("vocab_size", *names)}


def count_parameters(sizes: dict[str, int]) -> int:
    """Parameters of TurkBertForPreTraining; the word embeddings serve as the output matrix too."""
    hidden, inner = sizes["hidden_size"], sizes["intermediate_size"]
    norm, square = 2 * hidden, hidden**2 + hidden
    layer = 4 * square + (hidden * inner + inner) + (inner * hidden + hidden) + 2 * norm
    rows = sizes["vocab_size"] + sizes["max_position_embeddings"] + sizes["type_vocab_size"]
    heads = square + norm + sizes["vocab_size"] + 2 * hidden + 2  # words with their bias, and next sentence
    return rows * hidden + norm + sizes["num_hidden_layers"] * layer + square + heads


def gpu_seconds(flop: float, devices: int, peak: float = PEAK) -> float:
    """Wall-clock seconds on 1, 8 or 64 GPUs: FORMULA."""
    return flop / (devices * peak * MFU * SCALING_EFFICIENCY[devices])


def describe(cost: RunCost) -> str:
    """The estimate as a plain-text page."""
    sizes, parameters = cost.sizes, count_parameters(cost.sizes)
    shape = f"{sizes['num_hidden_layers']} layers x {sizes['hidden_size']}, vocabulary of {sizes['vocab_size']:,}"
    one, kept = parameters * CHECKPOINT_BYTES, cost.num_checkpoints
    processes = "1 process" if cost.num_processes == 1 else f"{cost.num_processes:,} processes"
    lines = [
        f"{shape}: {short(parameters)} parameters",
        "",
        *_stage_table(cost),
        *_passes_note(cost),
        f"Rows a step are those of {processes}; the same settings on N times as many cost N times as much.",
        "",
        *_device_table(cost),
        "",
        f"Checkpoints: {kept:,} x {short(one, 'B')} = {short(kept * one, 'B')} kept",
        *_data_note(cost),
        "",
        FORMULA,
        f"Peak: {cost.peak / 1e12:,.0f} TFLOP/s a GPU (peak_tflops; an H100 has {PEAK / 1e12:,.0f}).",
        "Assumed, not measured:",
        *(f"  {assumption}" for assumption in ASSUMPTIONS),
        "Not counted: preparing the data, evaluation, saving, compiling, GPUs that idle.",
    ]
    return "\n".join(lines) + "\n"


def _stage_table(cost: RunCost) -> list[str]:
    lines = [f"{'block size':>10}{'steps':>12}{'rows a step':>14}{'tokens':>12}{'passes':>10}{'MFLOP a token':>16}"]
    for stage in cost.stages:
        counts = f"{stage.block_size:>10,}{stage.num_steps:>12,}{stage.rows_per_step:>14,}{short(stage.tokens):>12}"
        passes = "?" if stage.passes is None else amount(stage.passes, 1)
        lines.append(f"{counts}{passes:>10}{amount(stage.flop_per_token / 1e6, 1):>16}")
    return [*lines, f"{'all':>10}{cost.num_steps:>12,}{'':>14}{short(cost.tokens):>12}{'':>10}{cost.flop:>11.2e} FLOP"]


def _passes_note(cost: RunCost) -> list[str]:
    if all(stage.passes is not None for stage in cost.stages):
        return []
    return ["Passes are over the rows of data_dir; those with a ? are not prepared yet."]


def _data_note(cost: RunCost) -> list[str]:
    if cost.text_bytes is None:
        return []
    needed = short(cost.text_bytes * DATA_BYTES, "B")
    return [f"Data: about {short(cost.text_bytes, 'B')} of text, {needed} once prepared"]


def _device_table(cost: RunCost) -> list[str]:
    lines = [f"{'devices':<14}{'time':>10}{'GPU-hours':>12}{'US dollars':>12}"]
    fewest_rows = min(stage.rows_per_step for stage in cost.stages)
    marked = False
    for devices in SCALING_EFFICIENCY:
        busy, least = gpu_seconds(cost.flop, devices, cost.peak), cost.num_steps * BUSY_STEP_SECONDS
        seconds = max(busy, least)
        hours = devices * seconds / 3600
        idle = fewest_rows < devices or busy < least
        marked |= idle
        name = f"{devices} GPU{'s' * (devices > 1)}{' *' * idle}"
        lines.append(f"{name:<14}{duration(seconds):>10}{amount(hours):>12}{amount(hours * DOLLARS_PER_GPU_HOUR):>12}")
    lines.append(f"{'2 CPU cores':<14}{duration(cost.flop / CPU_FLOPS):>10}{'-':>12}{'-':>12}")
    if marked:
        shortest = f"{1000 * BUSY_STEP_SECONDS:.0f} ms"
        lines.append(f"* GPUs idle: a step has less than a row a GPU, or is so short that it takes {shortest}.")
        lines.append("  Larger stage_batch_sizes with fewer max_steps use them better.")
    return lines


def duration(seconds: float) -> str:
    """90 -> '1.5 min'."""
    for unit, length, most in (("s", 1, 60), ("min", 60, 3600), ("h", 3600, 48 * 3600)):
        if seconds < most:
            return f"{amount(seconds / length, 1)} {unit}"
    return f"{amount(seconds / 86400, 1)} days"


def amount(value: float, digits: int = 2) -> str:
    """A number with decimals where it is small: 1234.5 -> '1,234', 0.789 -> '0.79', 0.001 -> '< 0.01'."""
    least = 10**-digits
    return f"< {least:g}" if 0 < value < least / 2 else f"{value:,.{digits if value < 100 else 0}f}"


def short(number: float, unit: str = "") -> str:
    """1_340_000_000, "B" -> '1.3 GB'."""
    for prefix, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.1f} {prefix}{unit}"
    return f"{number:.0f} {unit}".rstrip()


def _matrices(sizes: dict[str, int]) -> dict[str, int]:
    return {key: sizes[key] for key in ("hidden_size", "num_hidden_layers", "intermediate_size", "vocab_size")}


def checkpoints_kept(args: RunArguments) -> int:
    """How many checkpoints are there at the end, those of a new best step aside."""
    steps, every, limit = args.setting("max_steps"), args.setting("save_steps"), args.setting("save_total_limit")
    if args.setting("save_strategy") == "no":
        return 0
    saves = math.ceil(steps / (every if every >= 1 else max(1, math.ceil(steps * every))))
    return saves if limit is None else min(limit, saves)
