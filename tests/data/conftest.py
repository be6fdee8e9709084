"""A tokenizer small enough to compute by hand."""

import pytest
from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

from turkbert.tokenization import SPECIAL_TOKENS

WORDS = ["ev", "##ler", "ve", ".", "'", "in", "1", "9", "kitap", "<b>"]


@pytest.fixture(scope="session")
def hand_tokenizer() -> PreTrainedTokenizerFast:
    """Ids 0 to 4: [PAD] [UNK] [CLS] [SEP] [MASK]; 5 to 14: WORDS."""
    tokens = [*SPECIAL_TOKENS.values(), *WORDS]
    tokenizer = Tokenizer(models.WordPiece({token: number for number, token in enumerate(tokens)}, unk_token="[UNK]"))
    tokenizer.decoder = decoders.WordPiece()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **SPECIAL_TOKENS)
