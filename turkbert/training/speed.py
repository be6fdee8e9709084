"""How fast a run is, and how near that is to what the device could do.

    flop_per_token(hidden_size=768, num_hidden_layers=12, intermediate_size=3072, vocab_size=32000,
                   block_size=128, mlm_probability=0.15)  ->  545e6
"""

import re
import resource
import sys
import time

import torch

from turkbert.training.sampler import StagedBatchSampler

# Dense bf16 (V100, T4: fp16) FLOP/s by words of the device's name, from the makers' data sheets; the first that fits.
PEAK_FLOPS = {
    "B200": 2250e12,
    "H200 NVL": 835e12,
    "H200": 989e12,
    "GH200": 989e12,
    "H100 PCIe": 756e12,
    "H100 NVL": 835e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "L4": 121e12,
    "A10": 125e12,
    "V100": 125e12,
    "T4": 65e12,
    "RTX 4090": 165e12,
    "RTX 3090": 71e12,
}
_OTHER_CARDS = r"(?! (Ti|D|Laptop)\b)"  # what follows the name of a card of another speed


def flop_per_token(
    *,
    hidden_size: int,
    num_hidden_layers: int,
    intermediate_size: int,
    vocab_size: int,
    block_size: int,
    mlm_probability: float,
) -> float:
    """Useful FLOPs of one token of a full row, forward and backward.

    6 for each weight of the encoder's matrices (2 forward, 4 backward: Kaplan et al. 2020, section 2.1), 12 T H a
    layer for the scores and the weighted sum (Chowdhery et al. 2022, appendix B), and 6 H V for the word logits of a
    labelled token. What is left out (norms, look-ups, the head's H x H layer, the pooler) is a thousandth. BERT-base
    with 32,000 words, 15 % of all but three tokens labelled: 545 MFLOP at T = 128 and 588 at T = 512.
    """
    matrices = 4 * hidden_size**2 + 2 * hidden_size * intermediate_size
    labelled_share = mlm_probability * (block_size - 3) / block_size
    head = labelled_share * hidden_size * vocab_size
    return 6 * (num_hidden_layers * matrices + head) + 12 * num_hidden_layers * block_size * hidden_size


def peak_flops(device: torch.device) -> float | None:
    """FLOP/s of a device by its name; None where the table has none."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    fits = (peak for words, peak in PEAK_FLOPS.items() if re.search(rf"\b{words}\b{_OTHER_CARDS}", name))
    return next(fits, None)


def peak_memory(device: torch.device) -> int:
    """Most bytes held so far: by tensors on a GPU, by this process elsewhere."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    kilo = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * kilo


class SpeedMeter:
    """Counts on the host, between two logs; nothing here waits for the device.

    Args:
        flop_per_token: {block size: useful FLOPs of a token}.
        peak: FLOP/s of one device, None where nobody knows.
    """

    def __init__(self, sampler: StagedBatchSampler, flop_per_token: dict[int, float], peak: float | None):
        self.sampler, self.flop_per_token, self.peak = sampler, flop_per_token, peak
        self.step: int | None = None  # of the last log, or the first step
        self._reset()

    def _reset(self) -> None:
        self.started = time.perf_counter()
        self.aside = 0.0  # seconds spent on evaluation and saving
        self.waited = 0.0  # seconds this process waited for data
        self.useful_tokens = 0  # of this process, padding left out

    def start(self, step: int) -> None:
        """Begin to measure, at the first step of a run."""
        if self.step is None:
            self.step = step
            self.started = time.perf_counter()

    def figures(self, step: int, waited: float, useful_tokens: float) -> dict[str, float]:
        """What to log at `step`, and begin anew.

        Args:
            waited: mean over the processes, in seconds.
            useful_tokens: sum over them.
        """
        seconds = max(time.perf_counter() - self.started - self.aside, 1e-9)
        numbers = range(self.step, step)
        steps = [(self.sampler.stage_of(number), self.sampler.rows_of_step(number)) for number in numbers]
        tokens = sum(rows * stage.block_size for stage, rows in steps)
        figures = {
            "pairs_per_second": sum(rows for _, rows in steps) / seconds,
            "tokens_per_second": tokens / seconds,
            "useful_tokens_per_second": useful_tokens / seconds,
            "waiting_for_data": waited / seconds,
            "tokens_seen": self.sampler.tokens_before(step),
        }
        if self.peak:
            flop = sum(rows * stage.block_size * self.flop_per_token[stage.block_size] for stage, rows in steps)
            useful = flop * useful_tokens / max(tokens, 1)  # padding costs as much as text and teaches nothing
            figures["mfu"] = useful / seconds / (self.peak * self.sampler.world_size)
        self.step = step
        self._reset()
        return figures
