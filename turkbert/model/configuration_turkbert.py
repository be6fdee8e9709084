"""TurkBertConfig: the sizes of a model, under BertConfig's field names.

    TurkBertConfig(vocab_size=32000, hidden_size=256, num_hidden_layers=4, num_attention_heads=4)
    TurkBertConfig.from_pretrained("dbmdz/bert-base-turkish-cased").model_type  # "turkbert"
"""

from typing import Any

from transformers import PreTrainedConfig

# What other BERTs may ask for, with the only value that this architecture can give.
_FIXED = {"position_embedding_type": "absolute", "is_decoder": False, "add_cross_attention": False}


class TurkBertConfig(PreTrainedConfig):
    """Configuration of the TurkBERT models: an encoder with learned absolute positions, as in Devlin et al. 2018.

    A stock `model_type: "bert"` file or dictionary is read too and becomes a true TurkBertConfig.

    Raises ValueError if `hidden_size` is no multiple of `num_attention_heads`, or if the fields read describe a
    decoder or relative positions: such weights would load without an error and compute something else.
    """

    model_type = "turkbert"

    vocab_size: int = 32000
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    pad_token_id: int | None = 0
    classifier_dropout: float | None = 0.1
    tie_word_embeddings: bool = True

    def __post_init__(self, **kwargs: Any) -> None:
        for name, only in _FIXED.items():
            value = kwargs.pop(name, only)
            if value != only:
                raise ValueError(f"{name} is {value!r}, and TurkBERT has only {only!r}")
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} is not divisible by num_attention_heads {self.num_attention_heads}"
            )
        # Set as an attribute, the "bert" of a stock file would hide this class's model_type.
        kwargs.pop("model_type", None)
        super().__post_init__(**kwargs)

    @classmethod
    def get_config_dict(cls, *args: Any, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """Read config.json as PreTrainedConfig does; a stock BERT's counts as our own, so that nothing warns."""
        config_dict, kwargs = super().get_config_dict(*args, **kwargs)
        if config_dict.get("model_type") == "bert":
            config_dict["model_type"] = cls.model_type
        return config_dict, kwargs
