"""Where a new model begins, beyond random weights: frequencies as bias, waves as positions, neighbours as words.

These are what a model learns first, and slowly on little data; docs/decisions.md has the figures.
"""

import torch

from .modeling_turkbert import TurkBertForPreTraining

_WORD_NORM = 1.6  # root mean square: logits of layer-normed states, sqrt(H) long, begin with that deviation


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


@torch.no_grad()
def init_word_embeddings(model: TurkBertForPreTraining, vectors: torch.Tensor) -> None:
    """Word embeddings <- given vectors, turned at random so that no unit carries more than others.

    vectors: (V, H); tokens whose vector is 0 keep their random weights.
    """
    weight = model.bert.embeddings.word_embeddings.weight  # (V, H), also the decoder's
    known = vectors.any(dim=1)
    turn = torch.nn.init.orthogonal_(torch.empty(weight.shape[1], weight.shape[1]))
    scale = _WORD_NORM / vectors[known].square().sum(dim=1).mean().sqrt()
    weight[known] = (vectors[known] * scale) @ turn
