"""Tiny models and batches for the model room's tests."""

import copy
from collections.abc import Callable, Iterator

import pytest
import torch
from transformers import BertConfig, PreTrainedModel

from turkbert.model import TurkBertConfig

TINY = {
    "vocab_size": 61,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 40,
    "max_position_embeddings": 20,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "classifier_dropout": 0.0,
}


@pytest.fixture(autouse=True)
def one_thread_and_one_seed() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def config() -> TurkBertConfig:
    return TurkBertConfig(**TINY)


@pytest.fixture
def batch() -> dict[str, torch.Tensor]:
    """Four full rows of 14 tokens with every kind of pretraining label."""
    input_ids = torch.randint(5, TINY["vocab_size"], (4, 14))
    labels = torch.where(torch.rand(4, 14) < 0.25, torch.randint(5, TINY["vocab_size"], (4, 14)), -100)
    token_type_ids = (torch.arange(14) >= torch.tensor([[5], [7], [9], [6]])).long()
    next_sentence_label = torch.tensor([0, 1, 1, 0])
    return {
        "input_ids": input_ids,
        "token_type_ids": token_type_ids,
        "labels": labels,
        "next_sentence_label": next_sentence_label,
    }


@pytest.fixture
def pad() -> Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]:
    """Turn the ends of some rows into padding."""

    def pad_rows(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        attention_mask = (torch.arange(14) < torch.tensor([[14], [9], [11], [4]])).long()
        return {
            **batch,
            "input_ids": batch["input_ids"] * attention_mask,
            "labels": torch.where(attention_mask.bool(), batch["labels"], -100),
            "attention_mask": attention_mask,
        }

    return pad_rows


@pytest.fixture
def randomized() -> Callable[[PreTrainedModel], PreTrainedModel]:
    """Draw every parameter anew: with zero biases and unit norms a misplaced one would not show."""

    def randomize(model: PreTrainedModel) -> PreTrainedModel:
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.normal_(parameter.mean().item(), 0.2)
        return model

    return randomize


@pytest.fixture
def oracle_pair(
    randomized: Callable[[PreTrainedModel], PreTrainedModel],
) -> Callable[..., tuple[PreTrainedModel, PreTrainedModel]]:
    """A TurkBERT model and the stock one with the same random weights, carried over by parameter name."""

    def build(
        our_class: type[PreTrainedModel], stock_class: type[PreTrainedModel], attention: str = "sdpa", **overrides
    ) -> tuple[PreTrainedModel, PreTrainedModel]:
        sizes = {**TINY, **overrides}
        stock = randomized(stock_class(BertConfig(**copy.deepcopy(sizes), attn_implementation=attention)))
        ours = our_class(TurkBertConfig(**sizes, attn_implementation=attention))
        ours.load_state_dict(stock.state_dict())
        return ours, stock

    return build
