"""Where a new model begins, beyond random weights: positions as waves, word logits at the words' frequencies.

Both are what a model learns first and slowly on little data; docs/decisions.md has the figures.
"""

import torch

from .modeling_turkbert import TurkBertForPreTraining


@torch.no_grad()
def init_decoder_bias(model: TurkBertForPreTraining, counts: torch.Tensor) -> None:
    """Bias of the word logits <- log frequency of each token, so that the loss begins at the unigram cross-entropy.

    counts: (V,) how often each token comes, none of them 0.
    """
    model.cls.predictions.decoder.bias.copy_((counts.double() / counts.sum()).log())


@torch.no_grad()
def init_positions(model: TurkBertForPreTraining) -> None:
    """Position embeddings <- sines and cosines (Vaswani et al. 2017, section 3.5), as large as random ones.

    One matrix turns every position into the one k places away, so attention finds neighbours sooner.
    """
    weight = model.bert.embeddings.position_embeddings.weight  # (positions, H)
    num_positions, hidden_size = weight.shape
    rates = 10000.0 ** (-torch.arange(0, hidden_size, 2) / hidden_size)
    angles = torch.arange(num_positions)[:, None] * rates
    waves = torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)[:, :hidden_size]
    weight.copy_(waves * (2**0.5 * model.config.initializer_range))
