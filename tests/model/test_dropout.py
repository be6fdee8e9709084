"""Dropout with cheap random numbers: the same distribution and gradients as nn.Dropout's."""

import pytest
import torch

from turkbert.model import TurkBertConfig, TurkBertModel
from turkbert.model.dropout import fast_dropout

TINY = {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("p", [0.1, 0.5, 0.003])
def test_share_and_scale(p, dtype):
    torch.manual_seed(0)
    input = torch.ones(1999, 501, dtype=dtype, requires_grad=True)  # not a multiple of four
    output = fast_dropout(input, p, training=True)
    gone = output == 0
    number = input.numel()
    assert gone.sum() == pytest.approx(p * number, abs=5 * (p * (1 - p) * number) ** 0.5)
    assert output.dtype == dtype and torch.equal(output[~gone].unique(), torch.tensor([1 / (1 - p)], dtype=dtype))
    output.sum().backward()
    assert torch.equal(input.grad, output.detach())  # what was dropped has no gradient, the rest has the scale


def test_neighbours_that_share_a_draw_are_independent():
    torch.manual_seed(0)
    gone = (fast_dropout(torch.ones(400_000, 4), 0.5, True) == 0).double()
    assert torch.corrcoef(gone.T).sub(torch.eye(4)).abs().max() < 0.01
    assert gone.mean(dim=0).sub(0.5).abs().max() < 0.005


def test_the_default_generator_decides():
    draws = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        draws.append(fast_dropout(torch.ones(1000), 0.3, True))
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])


def test_nothing_is_dropped_in_evaluation_or_without_p():
    input = torch.randn(10)
    assert fast_dropout(input, 0.5, training=False) is input and fast_dropout(input, 0.0, training=True) is input


@pytest.mark.parametrize("p", [0.0, 0.2])
def test_padding_is_left_out_in_training_whatever_the_attention(p):
    """Other words in the padding change nothing: the mask reaches the weights in the kernel of training, too."""
    ids = torch.randint(5, 50, (2, 12))
    mask = torch.ones_like(ids)
    mask[1, 8:] = 0
    other = torch.where(mask == 1, ids, 7)
    for name in ("sdpa", "eager"):
        sizes = {**TINY, "hidden_dropout_prob": p, "attention_probs_dropout_prob": p}
        config = TurkBertConfig(**sizes, attn_implementation=name)
        model = TurkBertModel(config).train()
        found = []
        for tokens in (ids, other):
            torch.manual_seed(3)
            found.append(model(input_ids=tokens, attention_mask=mask).last_hidden_state[mask == 1])
        torch.testing.assert_close(*found)
        if p == 0:  # in training another kernel, but the same attention
            evaluated = model.eval()(input_ids=ids, attention_mask=mask).last_hidden_state[mask == 1]
            torch.testing.assert_close(found[0], evaluated, rtol=1e-5, atol=1e-6)
