"""Two pipelines in transformers' own form: does B follow A, and texts as vectors.

    pipeline("next-sentence-prediction", model="out")({"text": A, "text_pair": B})  ->  {"label": "IS_NEXT", ...}
    pipeline("text-embedding", model="out", pooling="mean")(["Merhaba!", "Selam!"])  ->  (2, H) float32

Importing turkbert registers both. Masked words are transformers' own `pipeline("fill-mask")`.
"""

from typing import Any

import numpy as np
import torch
from transformers import AutoModel, AutoModelForNextSentencePrediction, Pipeline
from transformers.pipelines import PIPELINE_REGISTRY

from turkbert.token_vectors import TokenVectors

NSP_LABELS = ("IS_NEXT", "NOT_NEXT")  # by logit: BERT's order
POOLINGS = ("mean", "cls")


class NextSentencePipeline(Pipeline):
    """Does the second text follow the first? Shapes are those of transformers' text-classification.

    A pair is {"text": A, "text_pair": B}. One pair gives {"label", "score"}, a list of pairs a list of these. The
    label is the likelier of "IS_NEXT" and "NOT_NEXT", the score its probability. `batch_size` pairs are computed at
    once. What is too long for the model is cut off at the end of the longer text.
    """

    _load_tokenizer = True

    def _sanitize_parameters(self) -> tuple[dict, dict, dict]:
        return {}, {}, {}

    def preprocess(self, input_: dict[str, str]) -> dict[str, torch.Tensor]:
        if not isinstance(input_, dict) or input_.keys() != {"text", "text_pair"}:
            raise ValueError('a pair is {"text": A, "text_pair": B}')
        return tokenize(self, input_)

    def _forward(self, input_tensors: dict[str, torch.Tensor]) -> Any:
        return self.model(**input_tensors)

    def postprocess(self, model_outputs: Any) -> dict[str, Any]:
        score, label = model_outputs.logits[0].float().softmax(-1).max(-1)
        return {"label": NSP_LABELS[label], "score": score.item()}


class EmbeddingPipeline(Pipeline):
    """Texts or pairs as vectors, from the last layer of an encoder.

    A text is a str, a pair {"text": A, "text_pair": B}. One of them or a list gives (B, H) float32. `pooling` is
    "mean" (over the tokens that are not padding, as in sentence-transformers) or "cls" (the first token's, not what
    the pooling layer makes of it). `batch_size` texts are computed at once. What is too long for the model is cut
    off, of a pair at the end of the longer text.
    """

    _load_tokenizer = True

    def _sanitize_parameters(self, pooling: str | None = None) -> tuple[dict, dict, dict]:
        if pooling not in (None, *POOLINGS):
            raise ValueError(f"pooling is one of {', '.join(POOLINGS)}, not {pooling!r}")
        return {}, {"pooling": pooling} if pooling else {}, {}

    def __call__(self, inputs: Any, **kwargs: Any) -> Any:
        if isinstance(inputs, list) and not inputs:
            return np.zeros((0, self.model.config.hidden_size), np.float32)
        outputs = super().__call__([inputs] if isinstance(inputs, str | dict) else inputs, **kwargs)
        return np.stack(outputs) if isinstance(outputs, list) else outputs  # of a data set: one by one

    def preprocess(self, input_: str | dict[str, str]) -> dict[str, torch.Tensor]:
        return tokenize(self, input_)

    def _forward(self, input_tensors: dict[str, torch.Tensor], pooling: str = "mean") -> dict[str, torch.Tensor]:
        hidden = self.model(**input_tensors).last_hidden_state.float()  # (B, T, H)
        if pooling == "cls":
            return {"vectors": hidden[:, 0]}
        mask = input_tensors["attention_mask"].unsqueeze(-1)  # (B, T, 1)
        return {"vectors": (hidden * mask).sum(1) / mask.sum(1)}

    def postprocess(self, model_outputs: dict[str, torch.Tensor]) -> np.ndarray:
        return model_outputs["vectors"][0].numpy()  # (H,)

    def encode_pair(self, text: str, text_pair: str | None = None) -> TokenVectors:
        """The vector of every token of a text, or of a pair, in its context.

        Raises:
            ValueError: the tokenizer is none of the fast ones, so its tokens have no places in the text.
        """
        if not self.tokenizer.is_fast:
            raise ValueError("tokens have no places in the text: load the fast tokenizer")
        texts = (text,) if text_pair is None else (text, text_pair)
        inputs = tokenize(self, dict(zip(("text", "text_pair"), texts, strict=False)))
        encoding = inputs.encodings[0]
        with torch.no_grad(), self.device_placement():
            hidden = self.model(**inputs.to(self.device)).last_hidden_state[0]  # (T, H)
        vectors = hidden.float().cpu().numpy()
        return TokenVectors(texts, encoding.tokens, vectors, encoding.offsets, encoding.sequence_ids)


def tokenize(pipe: Pipeline, input_: str | dict[str, str]) -> Any:
    """One text or pair as tensors (1, T), cut to what the model can take."""
    if not isinstance(input_, str | dict):
        raise ValueError(f'a text is a str, a pair {{"text": A, "text_pair": B}}; this is a {type(input_).__name__}')
    texts = {"text": input_} if isinstance(input_, str) else input_
    # Tokenizers that do not list token types leave them out, and both texts of a pair would look like the first.
    with_types = getattr(pipe.model.config, "type_vocab_size", 0) > 1
    return pipe.tokenizer(
        **texts,
        return_tensors="pt",
        truncation=True,
        max_length=max_length(pipe),
        return_token_type_ids=with_types,
        return_attention_mask=True,
    )


def max_length(pipe: Pipeline) -> int:
    """How many tokens a text may have, [CLS] and [SEP] among them."""
    return min(pipe.tokenizer.model_max_length, pipe.model.config.max_position_embeddings)


def register_pipelines() -> None:
    """Make both tasks known to `transformers.pipeline`."""
    for task, pipeline_class, auto_class in (
        ("next-sentence-prediction", NextSentencePipeline, AutoModelForNextSentencePrediction),
        ("text-embedding", EmbeddingPipeline, AutoModel),
    ):
        PIPELINE_REGISTRY.register_pipeline(task, pipeline_class, auto_class, type="text")
