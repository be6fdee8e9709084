"""The TurkBERT models: token ids -> hidden states, word and next-sentence logits, losses.

BERT (Devlin et al. 2018, https://arxiv.org/abs/1810.04805) under stock parameter names, with the fast path that
pretraining wants: the masked-word head runs on the labelled positions only, and full windows carry no mask.

    model = TurkBertForPreTraining(TurkBertConfig())
    output = model(input_ids, token_type_ids=token_type_ids, labels=labels, next_sentence_label=next_sentence_label)
    output.loss.backward()      # mlm_loss + nsp_loss

Letters in shapes: B rows, T tokens a row, H hidden size, A heads, V words, N labelled positions.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.activations import ACT2FN
from transformers.masking_utils import create_bidirectional_mask
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import (
    BaseModelOutputWithPooling,
    MaskedLMOutput,
    NextSentencePredictorOutput,
    QuestionAnsweringModelOutput,
    SequenceClassifierOutput,
    TokenClassifierOutput,
)
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.utils import ModelOutput
from transformers.utils.generic import can_return_tuple
from transformers.utils.output_capturing import capture_outputs

from .configuration_turkbert import TurkBertConfig
from .dropout import Dropout, fast_dropout
from .loss import IGNORE_INDEX, labelled_cross_entropy


class TurkBertEmbeddings(nn.Module):
    """Sum of word, token type and position embeddings, normalised."""

    def __init__(self, config: TurkBertConfig):
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size, padding_idx=config.pad_token_id)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = Dropout(config.hidden_dropout_prob)

    def forward(
        self,
        input_ids: torch.Tensor | None,  # (B, T)
        token_type_ids: torch.Tensor | None,
        position_ids: torch.Tensor | None,
        inputs_embeds: torch.Tensor | None,  # (B, T, H)
    ) -> torch.Tensor:
        if inputs_embeds is None:
            inputs_embeds = self.word_embeddings(input_ids)
        if position_ids is None:
            length, longest = inputs_embeds.shape[1], self.position_embeddings.num_embeddings
            if length > longest:  # on a GPU the look-up itself would only say "device-side assert triggered"
                raise ValueError(f"a row has {length} tokens, and max_position_embeddings is {longest}")
            position_ids = torch.arange(length, device=inputs_embeds.device)[None]  # (1, T)
        if token_type_ids is None:
            token_type_ids = torch.zeros_like(position_ids)
        embeddings = inputs_embeds + self.token_type_embeddings(token_type_ids)
        embeddings = embeddings + self.position_embeddings(position_ids)
        return self.dropout(self.LayerNorm(embeddings))  # (B, T, H)


def eager_attention_forward(
    module: nn.Module,
    query: torch.Tensor,  # (B, A, T, H / A), as key and value
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,  # added to the scores, or True where they count
    scaling: float,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention spelled out (Vaswani et al. 2017, eq. 1): the one implementation that gives its weights."""
    scores = query @ key.transpose(-2, -1) * scaling  # (B, A, T, T)
    if attention_mask is not None and attention_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attention_mask, torch.finfo(scores.dtype).min)
    elif attention_mask is not None:
        scores = scores + attention_mask
    weights = fast_dropout(scores.softmax(dim=-1), dropout, module.training)
    return (weights @ value).transpose(1, 2).contiguous(), weights  # (B, T, A, H / A)


class TurkBertSelfAttention(nn.Module):
    """Multi-head self-attention through whichever implementation `config._attn_implementation` names."""

    is_causal = False

    def __init__(self, config: TurkBertConfig):
        super().__init__()
        self.config = config
        self.head_size = config.hidden_size // config.num_attention_heads
        self.scaling = self.head_size**-0.5
        self.query = nn.Linear(config.hidden_size, config.hidden_size)
        self.key = nn.Linear(config.hidden_size, config.hidden_size)
        self.value = nn.Linear(config.hidden_size, config.hidden_size)
        self.dropout = Dropout(config.attention_probs_dropout_prob)

    def forward(
        self, hidden_states: torch.Tensor, attention_mask: torch.Tensor | None, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        query, key, value = (
            projection(hidden_states).unflatten(-1, (-1, self.head_size)).transpose(1, 2)  # (B, A, T, H / A)
            for projection in (self.query, self.key, self.value)
        )
        name = self.config._attn_implementation
        if name == "sdpa" and self.training and self.dropout.p and query.device.type == "cpu":
            name = "eager"  # which SDPA is as well where it drops weights on a CPU, with slow random numbers
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(name, eager_attention_forward)
        context, weights = attend(
            self,
            query,
            key,
            value,
            attention_mask,
            dropout=self.dropout.p if self.training else 0.0,
            scaling=self.scaling,
            **kwargs,
        )
        return context.flatten(2), weights  # (B, T, H), (B, A, T, T) or None


class TurkBertResidual(nn.Module):
    """Projection back to the hidden size, added to what entered the block, normalised (post-norm)."""

    def __init__(self, config: TurkBertConfig, in_features: int):
        super().__init__()
        self.dense = nn.Linear(in_features, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = Dropout(config.hidden_dropout_prob)

    def forward(self, hidden_states: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        return self.LayerNorm(self.dropout(self.dense(hidden_states)) + residual)


class TurkBertAttention(nn.Module):
    """Self-attention and its residual."""

    def __init__(self, config: TurkBertConfig):
        super().__init__()
        self.self = TurkBertSelfAttention(config)
        self.output = TurkBertResidual(config, config.hidden_size)

    def forward(self, hidden_states: torch.Tensor, attention_mask: torch.Tensor | None, **kwargs: Any) -> torch.Tensor:
        context, _ = self.self(hidden_states, attention_mask, **kwargs)
        return self.output(context, hidden_states)


class TurkBertIntermediate(nn.Module):
    """First half of the feed-forward block."""

    def __init__(self, config: TurkBertConfig):
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.intermediate_size)
        self.activation = ACT2FN[config.hidden_act]

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return self.activation(self.dense(hidden_states))


class TurkBertLayer(GradientCheckpointingLayer):
    """One Transformer encoder layer."""

    def __init__(self, config: TurkBertConfig):
        super().__init__()
        self.attention = TurkBertAttention(config)
        self.intermediate = TurkBertIntermediate(config)
        self.output = TurkBertResidual(config, config.intermediate_size)

    def forward(self, hidden_states: torch.Tensor, attention_mask: torch.Tensor | None, **kwargs: Any) -> torch.Tensor:
        hidden_states = self.attention(hidden_states, attention_mask, **kwargs)
        return self.output(self.intermediate(hidden_states), hidden_states)  # (B, T, H)


class TurkBertEncoder(nn.Module):
    """The stack of layers."""

    def __init__(self, config: TurkBertConfig):
        super().__init__()
        self.layer = nn.ModuleList(TurkBertLayer(config) for _ in range(config.num_hidden_layers))

    def forward(self, hidden_states: torch.Tensor, attention_mask: torch.Tensor | None, **kwargs: Any) -> torch.Tensor:
        for layer in self.layer:
            # Positional, because reentrant checkpointing passes gradients through positional tensors only.
            hidden_states = layer(hidden_states, attention_mask, **kwargs)
        return hidden_states


class TurkBertPooler(nn.Module):
    """What the first token, [CLS], says about the row."""

    def __init__(self, config: TurkBertConfig):
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.dense(hidden_states[:, 0]))  # (B, H)


class TurkBertPredictionHeadTransform(nn.Module):
    """The layer between the encoder and the word logits."""

    def __init__(self, config: TurkBertConfig):
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.activation = ACT2FN[config.hidden_act]
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return self.LayerNorm(self.activation(self.dense(hidden_states)))


class TurkBertLMPredictionHead(nn.Module):
    """Hidden states (..., H) -> word logits (..., V); the weight is tied to the word embeddings."""

    def __init__(self, config: TurkBertConfig):
        super().__init__()
        self.transform = TurkBertPredictionHeadTransform(config)
        self.decoder = nn.Linear(config.hidden_size, config.vocab_size)
        # Tied to decoder.bias: stock checkpoints hold the bias under this name.
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return self.decoder(self.transform(hidden_states))


class TurkBertPreTrainedModel(PreTrainedModel):
    """What all TurkBERT models share with transformers: loading, saving, initialisation, capabilities."""

    config: TurkBertConfig
    base_model_prefix = "bert"
    # forward takes **kwargs, from which Trainer would conclude that the loss is divided by its num_items_in_batch.
    accepts_loss_kwargs = False
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _no_split_modules = ["TurkBertEmbeddings", "TurkBertLayer"]
    _can_record_outputs = {"hidden_states": TurkBertLayer, "attentions": TurkBertSelfAttention}
    # Old stock checkpoints hold this constant.
    _keys_to_ignore_on_load_unexpected = [r"embeddings\.position_ids$"]

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, TurkBertLMPredictionHead):
            init.zeros_(module.bias)


class TurkBertModel(TurkBertPreTrainedModel):
    """The encoder: (B, T) token ids -> `last_hidden_state` (B, T, H) and `pooler_output` (B, H)."""

    def __init__(self, config: TurkBertConfig, add_pooling_layer: bool = True):
        super().__init__(config)
        self.embeddings = TurkBertEmbeddings(config)
        self.encoder = TurkBertEncoder(config)
        self.pooler = TurkBertPooler(config) if add_pooling_layer else None
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.embeddings.word_embeddings

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.embeddings.register_module("word_embeddings", value)

    @capture_outputs
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> tuple | BaseModelOutputWithPooling:
        """Encode rows given as `input_ids` (B, T) or as `inputs_embeds` (B, T, H).

        `attention_mask` (B, T) is 1 on tokens and 0 on padding. Leave it out where no row is padded: without a mask
        SDPA takes its flash kernel.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give either input_ids or inputs_embeds")
        hidden_states = self.embeddings(input_ids, token_type_ids, position_ids, inputs_embeds)
        mask: Any = None  # for the eager kernel floats to add, for others booleans, lengths or a BlockMask
        is_sdpa = self.config._attn_implementation == "sdpa"
        if attention_mask is not None and attention_mask.is_cuda and self.training and is_sdpa:
            mask = attention_mask[:, None, None, :].bool()  # below, the device is asked whether any token is padding
        elif attention_mask is not None:
            mask = create_bidirectional_mask(
                config=self.config, inputs_embeds=hidden_states, attention_mask=attention_mask
            )
        hidden_states = self.encoder(hidden_states, mask, **kwargs)
        return BaseModelOutputWithPooling(
            last_hidden_state=hidden_states,
            pooler_output=self.pooler(hidden_states) if self.pooler is not None else None,
        )


@dataclass
class TurkBertForPreTrainingOutput(ModelOutput):
    """What TurkBertForPreTraining returns.

    loss: sum of the losses whose labels were given.
    mlm_loss: mean cross-entropy over the labelled positions; 0 if there are none.
    nsp_loss: mean cross-entropy over the rows.
    prediction_logits: (B, T, V), or (N, V) where labels or labelled_positions were given; None without return_logits.
    seq_relationship_logits: (B, 2).
    hidden_states, attentions: one (B, T, H) and (B, A, T, T) a layer, if asked for.
    """

    loss: torch.Tensor | None = None
    mlm_loss: torch.Tensor | None = None
    nsp_loss: torch.Tensor | None = None
    prediction_logits: torch.Tensor | None = None
    seq_relationship_logits: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None


class TurkBertWithLMHead(TurkBertPreTrainedModel):
    """What the models with `cls.predictions` share: tied weights and the head on the labelled positions."""

    cls: Any  # the heads; nn.Module would hide their types anyway

    _tied_weights_keys = {
        "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    }

    def get_output_embeddings(self) -> nn.Module:
        return self.cls.predictions.decoder

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        self.cls.predictions.decoder = new_embeddings
        self.cls.predictions.bias = new_embeddings.bias

    def predict_words(
        self,
        hidden_states: torch.Tensor,  # (B, T, H)
        labels: torch.Tensor | None,  # (B, T)
        labelled_positions: torch.Tensor | None,  # (N,)
        return_logits: bool = True,
    ) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """Word logits and, with labels, their loss.

        Over a large vocabulary the head is the dearest layer, and 85 % of its rows have no label: with labels, or
        with `labelled_positions` alone, it runs on those positions only, and the logits are (N, V). Training needs
        no logits: without them the loss never holds more than a part of them.
        """
        if labels is not None and labelled_positions is None:
            # nonzero waits for the GPU, which is why a collator sends the positions.
            labelled_positions = (labels.flatten() != IGNORE_INDEX).nonzero().squeeze(-1)
        if labelled_positions is None:
            return self.cls.predictions(hidden_states), None  # (B, T, V)
        head, logits = self.cls.predictions, None
        hidden_states = hidden_states.flatten(0, 1).index_select(0, labelled_positions)  # (N, H)
        if labels is None:
            return head(hidden_states), None
        labels = labels.flatten().index_select(0, labelled_positions)
        if return_logits:
            logits = head(hidden_states)  # (N, V)
            total = F.cross_entropy(logits.float(), labels, ignore_index=IGNORE_INDEX, reduction="sum")
        else:
            total = labelled_cross_entropy(
                head.transform(hidden_states), head.decoder.weight, head.decoder.bias, labels
            )
        # Not reduction="mean", which is NaN in a batch without a labelled token.
        return logits, total / (labels != IGNORE_INDEX).sum().clamp(min=1)


class TurkBertForPreTraining(TurkBertWithLMHead):
    """Both pretraining tasks of BERT: masked words and next sentence."""

    def __init__(self, config: TurkBertConfig):
        super().__init__(config)
        self.bert = TurkBertModel(config)
        self.cls = nn.ModuleDict(
            {"predictions": TurkBertLMPredictionHead(config), "seq_relationship": nn.Linear(config.hidden_size, 2)}
        )
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        next_sentence_label: torch.Tensor | None = None,
        labelled_positions: torch.Tensor | None = None,
        return_logits: bool = True,
        **kwargs: Any,
    ) -> tuple | TurkBertForPreTrainingOutput:
        """Predict the masked words and whether B follows A.

        labels: (B, T) true ids of the chosen words, -100 elsewhere.
        next_sentence_label: (B,) 0 where B follows A, 1 where B is random.
        labelled_positions: (N,) indices into the B * T labels, padded to any length with positions labelled -100;
            found from `labels` if left out. Given, they keep all shapes fixed, for torch.compile and CUDA graphs.
        return_logits: False gives no `prediction_logits` with labels, for a faster step in less memory.
        """
        outputs = self.bert(
            input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds, return_dict=True, **kwargs
        )
        prediction_logits, mlm_loss = self.predict_words(
            outputs.last_hidden_state, labels, labelled_positions, return_logits
        )
        seq_relationship_logits = self.cls.seq_relationship(outputs.pooler_output)
        nsp_loss = None
        if next_sentence_label is not None:
            nsp_loss = F.cross_entropy(seq_relationship_logits.float(), next_sentence_label.flatten())
        losses = [loss for loss in (mlm_loss, nsp_loss) if loss is not None]
        return TurkBertForPreTrainingOutput(
            loss=torch.stack(losses).sum() if losses else None,
            mlm_loss=mlm_loss,
            nsp_loss=nsp_loss,
            prediction_logits=prediction_logits,
            seq_relationship_logits=seq_relationship_logits,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )


class TurkBertForMaskedLM(TurkBertWithLMHead):
    """Masked words alone."""

    def __init__(self, config: TurkBertConfig):
        super().__init__(config)
        self.bert = TurkBertModel(config, add_pooling_layer=False)
        self.cls = nn.ModuleDict({"predictions": TurkBertLMPredictionHead(config)})
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        labelled_positions: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> tuple | MaskedLMOutput:
        """Predict the masked words; `labels` and `labelled_positions` as in TurkBertForPreTraining."""
        outputs = self.bert(
            input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds, return_dict=True, **kwargs
        )
        logits, loss = self.predict_words(outputs.last_hidden_state, labels, labelled_positions)
        return MaskedLMOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )


class TurkBertForNextSentencePrediction(TurkBertPreTrainedModel):
    """Next sentence alone."""

    cls: Any

    def __init__(self, config: TurkBertConfig):
        super().__init__(config)
        self.bert = TurkBertModel(config)
        self.cls = nn.ModuleDict({"seq_relationship": nn.Linear(config.hidden_size, 2)})
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> tuple | NextSentencePredictorOutput:
        """Predict (B, 2) logits; `labels` (B,) are 0 where B follows A and 1 where B is random."""
        outputs = self.bert(
            input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds, return_dict=True, **kwargs
        )
        logits = self.cls.seq_relationship(outputs.pooler_output)
        loss = F.cross_entropy(logits.float(), labels.flatten()) if labels is not None else None
        return NextSentencePredictorOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )


def _classifier_dropout(config: TurkBertConfig) -> nn.Dropout:
    p = config.classifier_dropout if config.classifier_dropout is not None else config.hidden_dropout_prob
    return nn.Dropout(p)


class TurkBertForSequenceClassification(TurkBertPreTrainedModel):
    """A label, several labels or a number for each row."""

    def __init__(self, config: TurkBertConfig):
        super().__init__(config)
        self.bert = TurkBertModel(config)
        self.dropout = _classifier_dropout(config)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)  # type: ignore[arg-type]
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> tuple | SequenceClassifierOutput:
        """Predict (B, num_labels) logits; `config.problem_type`, guessed from `labels` if None, names the loss."""
        outputs = self.bert(
            input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds, return_dict=True, **kwargs
        )
        logits = self.classifier(self.dropout(outputs.pooler_output))
        loss = self.loss_function(labels, logits, self.config) if labels is not None else None
        return SequenceClassifierOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )


class TurkBertForTokenClassification(TurkBertPreTrainedModel):
    """A label for each token."""

    def __init__(self, config: TurkBertConfig):
        super().__init__(config)
        self.bert = TurkBertModel(config, add_pooling_layer=False)
        self.dropout = _classifier_dropout(config)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)  # type: ignore[arg-type]
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> tuple | TokenClassifierOutput:
        """Predict (B, T, num_labels) logits; `labels` are (B, T), -100 where there is none."""
        outputs = self.bert(
            input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds, return_dict=True, **kwargs
        )
        logits = self.classifier(self.dropout(outputs.last_hidden_state))
        loss = self.loss_function(logits, labels, self.config) if labels is not None else None
        return TokenClassifierOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )


class TurkBertForQuestionAnswering(TurkBertPreTrainedModel):
    """The span of the context that answers a question."""

    def __init__(self, config: TurkBertConfig):
        super().__init__(config)
        self.bert = TurkBertModel(config, add_pooling_layer=False)
        self.qa_outputs = nn.Linear(config.hidden_size, config.num_labels)  # type: ignore[arg-type]
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        start_positions: torch.Tensor | None = None,
        end_positions: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> tuple | QuestionAnsweringModelOutput:
        """Predict start and end logits, (B, T) each; positions (B,) beyond the row are left out of the loss."""
        outputs = self.bert(
            input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds, return_dict=True, **kwargs
        )
        start_logits, end_logits = self.qa_outputs(outputs.last_hidden_state).unbind(-1)
        loss = None
        if start_positions is not None and end_positions is not None:
            loss = self.loss_function(start_logits, end_logits, start_positions, end_positions)
        return QuestionAnsweringModelOutput(
            loss=loss,
            start_logits=start_logits,
            end_logits=end_logits,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )
