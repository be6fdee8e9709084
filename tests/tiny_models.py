"""Tiny models with a tokenizer of the bundled sample, on disk in every layout that people meet."""

from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertForMaskedLM, BertForPreTraining, PreTrainedTokenizerFast

from turkbert.model import TurkBertConfig, TurkBertForMaskedLM, TurkBertForPreTraining
from turkbert.tokenization import save_tokenizer

SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
    "initializer_range": 0.2,  # tokens, texts and scores differ visibly, and rounding is not yet amplified
}
LAYOUTS = {  # name: (model class, config class)
    "stock": (BertForPreTraining, BertConfig),  # as the final ./out
    "checkpoint": (TurkBertForPreTraining, TurkBertConfig),  # as ./out/checkpoint-500
    "masked_lm": (TurkBertForMaskedLM, TurkBertConfig),
    "stock_masked_lm": (BertForMaskedLM, BertConfig),  # no next-sentence head, as many on the Hub
}


@pytest.fixture(scope="session")
def model_dirs(tmp_path_factory: pytest.TempPathFactory, sample_tokenizer: PreTrainedTokenizerFast) -> dict[str, Path]:
    """LAYOUTS on disk; the two with all heads have the same weights. Not to be changed."""
    root = tmp_path_factory.mktemp("models")
    weights = None
    for name, (model_class, config_class) in LAYOUTS.items():
        torch.manual_seed(1)
        model = model_class(config_class(vocab_size=len(sample_tokenizer), **SIZES))
        if "cls.seq_relationship.weight" in model.state_dict():
            weights = weights or model.state_dict()
            model.load_state_dict(weights)
        model.save_pretrained(root / name)
        save_tokenizer(sample_tokenizer, root / name)
    return {name: root / name for name in LAYOUTS}
