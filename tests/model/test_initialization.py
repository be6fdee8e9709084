"""A new model begins at the words' frequencies, and its positions are waves."""

import torch
import torch.nn.functional as F

from turkbert.model import TurkBertConfig, TurkBertForPreTraining
from turkbert.model.initialization import init_decoder_bias, init_positions

SIZES = {
    "vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64,
    "max_position_embeddings": 64,
}  # fmt: skip


def new_model() -> TurkBertForPreTraining:
    torch.manual_seed(0)
    return TurkBertForPreTraining(TurkBertConfig(**SIZES)).eval()


def test_the_loss_begins_at_the_unigram_cross_entropy():
    model, counts = new_model(), torch.arange(1.0, 51.0)
    init_decoder_bias(model, counts)
    labels = torch.multinomial(counts, 4 * 64, replacement=True).reshape(4, 64)
    unigram = F.cross_entropy(counts.log().expand(256, 50), labels.flatten())
    with torch.no_grad():
        loss = model(torch.randint(5, 50, (4, 64)), labels=labels).mlm_loss
    torch.testing.assert_close(loss, unigram, rtol=0.02, atol=0)
    assert model.cls.predictions.bias is model.cls.predictions.decoder.bias


def test_one_matrix_leads_from_each_position_to_the_next():
    model = new_model()
    init_positions(model)
    weight = model.bert.embeddings.position_embeddings.weight.detach().double()
    shift = torch.linalg.lstsq(weight[:-1], weight[1:], driver="gelsd").solution
    torch.testing.assert_close(weight[:-1] @ shift, weight[1:], rtol=0, atol=1e-4)
    torch.testing.assert_close(weight.pow(2).mean().sqrt().item(), 0.02, rtol=1e-3, atol=0)
