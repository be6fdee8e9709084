"""turkbert: Turkish text in, a BERT for the whole Hugging Face ecosystem out.

Importing the package registers the model with transformers' Auto classes, and the tasks "next-sentence-prediction" and
"text-embedding" with its pipelines: its only side effects.

    import turkbert
    AutoModel.from_pretrained("out/checkpoint-500")  # a TurkBertModel
    pipeline("next-sentence-prediction", model="out")
"""

from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForNextSentencePrediction,
    AutoModelForPreTraining,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)

from turkbert.model import (
    TurkBertConfig,
    TurkBertForMaskedLM,
    TurkBertForNextSentencePrediction,
    TurkBertForPreTraining,
    TurkBertForQuestionAnswering,
    TurkBertForSequenceClassification,
    TurkBertForTokenClassification,
    TurkBertModel,
)
from turkbert.pipelines import register_pipelines

__version__ = "0.2.0"

__all__ = [
    "TurkBertConfig",
    "TurkBertForMaskedLM",
    "TurkBertForNextSentencePrediction",
    "TurkBertForPreTraining",
    "TurkBertForQuestionAnswering",
    "TurkBertForSequenceClassification",
    "TurkBertForTokenClassification",
    "TurkBertModel",
    "__version__",
]

AutoConfig.register("turkbert", TurkBertConfig)
for _auto_class, _model_class in (
    (AutoModel, TurkBertModel),
    (AutoModelForPreTraining, TurkBertForPreTraining),
    (AutoModelForMaskedLM, TurkBertForMaskedLM),
    (AutoModelForNextSentencePrediction, TurkBertForNextSentencePrediction),
    (AutoModelForSequenceClassification, TurkBertForSequenceClassification),
    (AutoModelForTokenClassification, TurkBertForTokenClassification),
    (AutoModelForQuestionAnswering, TurkBertForQuestionAnswering),
):
    _auto_class.register(TurkBertConfig, _model_class)

register_pipelines()
