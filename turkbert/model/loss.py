"""Hidden states -> sum of their cross-entropies over the vocabulary, without ever holding all the logits.

    total = labelled_cross_entropy(hidden, weight, bias, labels)     # (N, H), (V, H), (V,), (N,) -> ()
    total.backward()

Over a large vocabulary the logits and their gradient are the largest tensors of a training step and cost more to move
than to compute. Here a chunk of rows at a time is turned into logits, losses and gradients in a few passes over it
(cf. Wijmans et al. 2024, "Cut Your Losses in Large-Vocabulary Language Models", https://arxiv.org/abs/2411.09009).
"""

from typing import Any

import torch

IGNORE_INDEX = -100
_CHUNK = {"cpu": 1024}  # rows; fewer would fit a CPU's cache, but adding up the weights' gradient costs more than that
_OTHER_CHUNK = 4096
# fp16 holds nothing below 6e-8, and most words of a large vocabulary are less probable than that.
_FP16_SCALE = 1024.0


def labelled_cross_entropy(
    hidden: torch.Tensor,  # (N, H)
    weight: torch.Tensor,  # (V, H)
    bias: torch.Tensor,  # (V,)
    labels: torch.Tensor,  # (N,)
) -> torch.Tensor:
    """Sum over the rows not labelled IGNORE_INDEX, in the precision of autocast, as a plain linear layer would be."""
    device = hidden.device.type
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
        hidden, weight, bias = hidden.to(dtype), weight.to(dtype), bias.to(dtype)
    with torch.autocast(device, enabled=False):  # what is fp32 within stays fp32
        return _LabelledCrossEntropy.apply(hidden, weight, bias, labels, _CHUNK.get(device, _OTHER_CHUNK))


class _LabelledCrossEntropy(torch.autograd.Function):
    """The gradients are made in forward, where the logits of a chunk are at hand.

    That is before the loss is scaled. Where the scaler is needed (fp16), they are therefore scaled here while they are
    fp16, and kept in fp32 until backward brings the loss scale.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, labels: torch.Tensor, chunk: int
    ) -> torch.Tensor:
        is_fp16 = hidden.dtype == torch.float16
        scale = _FP16_SCALE if is_fp16 else 1.0
        total = hidden.new_zeros((), dtype=torch.float32)
        grad_hidden = torch.empty_like(hidden, dtype=torch.float32 if is_fp16 else None)
        grad_weight = torch.zeros_like(weight, dtype=torch.float32)
        grad_bias = torch.zeros_like(bias, dtype=torch.float32)
        for first in range(0, hidden.shape[0], chunk):
            rows, truth = hidden[first : first + chunk], labels[first : first + chunk, None]
            is_labelled, truth = (truth != IGNORE_INDEX).float(), truth.clamp(min=0)
            log_probs = torch.log_softmax(torch.addmm(bias, rows, weight.t()), -1, dtype=torch.float32)
            total -= (log_probs.gather(1, truth) * is_labelled).sum()
            # The gradient by the logits is softmax minus one-hot, here in their place. Rows without a label are left
            # out where it is multiplied: a pass over all of it would cost more.
            grad = log_probs.exp_().scatter_add_(1, truth, -torch.ones_like(is_labelled))
            grad_bias += (is_labelled.t() @ grad)[0]
            grad = (grad * scale if is_fp16 else grad).to(rows.dtype)
            is_labelled = is_labelled.to(rows.dtype)
            grad_hidden[first : first + chunk] = _matmul(grad, weight) * is_labelled
            grad_weight += _matmul(grad.t(), rows * is_labelled)
        if is_fp16:
            grad_hidden /= scale
            grad_weight /= scale
        else:
            grad_weight, grad_bias = grad_weight.to(weight.dtype), grad_bias.to(bias.dtype)
        ctx.save_for_backward(grad_hidden, grad_weight, grad_bias)
        ctx.dtypes = hidden.dtype, weight.dtype, bias.dtype
        return total

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        grads = ctx.saved_tensors
        grads = [(kept * grad.to(kept.dtype)).to(dtype) for kept, dtype in zip(grads, ctx.dtypes, strict=True)]
        return (*grads, None, None)


def _matmul(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """The product, in fp32 where fp16 might not hold it."""
    if left.dtype != torch.float16:
        return left @ right
    if left.is_cuda:
        return torch.mm(left, right, out_dtype=torch.float32)
    return left.float() @ right.float()
