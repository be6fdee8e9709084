"""The model room: sizes, modules and the way to stock BERT and back.

Read configuration_turkbert.py, then modeling_turkbert.py, then conversion.py. Nothing here imports another room.
"""

from .configuration_turkbert import TurkBertConfig
from .conversion import LoadReport, load_stock, load_stock_config, save_stock, to_stock
from .modeling_turkbert import (
    TurkBertForMaskedLM,
    TurkBertForNextSentencePrediction,
    TurkBertForPreTraining,
    TurkBertForPreTrainingOutput,
    TurkBertForQuestionAnswering,
    TurkBertForSequenceClassification,
    TurkBertForTokenClassification,
    TurkBertModel,
    TurkBertPreTrainedModel,
)

__all__ = [
    "LoadReport",
    "TurkBertConfig",
    "TurkBertForMaskedLM",
    "TurkBertForNextSentencePrediction",
    "TurkBertForPreTraining",
    "TurkBertForPreTrainingOutput",
    "TurkBertForQuestionAnswering",
    "TurkBertForSequenceClassification",
    "TurkBertForTokenClassification",
    "TurkBertModel",
    "TurkBertPreTrainedModel",
    "load_stock",
    "load_stock_config",
    "save_stock",
    "to_stock",
]
