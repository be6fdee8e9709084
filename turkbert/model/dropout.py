"""Dropout whose random numbers are cheap on a CPU.

    dropout = Dropout(0.1)
    dropout(torch.ones(2, 3))       # about one in ten is 0, the others 1 / 0.9

PyTorch draws one number after the other there, one for each unit: with BERT-base an eighth of a training step. Here
one draw of 64 bits does for four units.
"""

import torch
import torch.nn.functional as F
from torch import nn

_BITS = 16  # a unit's share of a draw, so that p is met to within 1 / 2**17


class Dropout(nn.Dropout):
    """nn.Dropout with `fast_dropout`."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return fast_dropout(input, self.p, self.training)


def fast_dropout(input: torch.Tensor, p: float, training: bool) -> torch.Tensor:
    """F.dropout; on a CPU with other numbers of the same default generator."""
    if not training or p == 0.0 or input.device.type != "cpu" or torch.compiler.is_compiling():
        return F.dropout(input, p, training)
    size = input.numel()
    draws = torch.empty(-(-size * _BITS // 64), dtype=torch.int64).random_(-(2**63), None)
    numbers = draws.view(torch.int16)[:size].view(input.shape)  # uniform from -2**15 to 2**15 - 1
    kept = numbers >= round(p * 2**_BITS) - 2 ** (_BITS - 1)
    return torch.where(kept, input * (1 / (1 - p)), 0.0)
