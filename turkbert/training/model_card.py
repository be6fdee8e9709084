"""The model's README.md, from the facts of its run alone."""

import json
import re
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from turkbert.arguments import RunArguments

TEMPLATE = """---
{{ card_data }}
---

# {{ name }}

A BERT encoder for Turkish ({{ cased }}), pretrained with turkbert by
whole-word masking{{ " and next-sentence prediction" if data.nsp_probability else "" }}.

    from transformers import pipeline
    pipeline("fill-mask", model={{ code_name }})("Türkiye'nin başkenti [MASK].")

## Model

{{ config.num_hidden_layers }} layers of {{ config.hidden_size }}, {{ config.num_attention_heads }} heads, \
{{ "{:,}".format(num_parameters) }} parameters, {{ "{:,}".format(config.vocab_size) }} tokens, at most \
{{ config.max_position_embeddings }} tokens a text.

## Data

| block size | training rows | validation rows | B follows A | padding |
|---:|---:|---:|---:|---:|
{% for size, split in stats.items() -%}
| {{ size }} | {{ "{:,}".format(split.train.rows) }} | {{ "{:,}".format(split.validation.rows) }} | \
{{ "%.1f" | format(100 * split.train.is_next / split.train.rows) }} % | \
{{ "%.1f" | format(100 * split.train.padding_tokens / (split.train.rows * size)) }} % |
{% endfor %}
{{ "%.0f" | format(100 * data.mlm_probability) }} % of the words are predicted ({{ data.masking }} masks).

## Training

{{ training.max_steps }} steps; {% for stage in stages -%}
{{ stage.block_size }} tokens x {{ stage.rows }} rows up to step {{ stage.last_step }}{{ "; " if not loop.last }}
{%- endfor %}. AdamW, peak learning rate {{ training.learning_rate }}, weight decay {{ training.weight_decay }}. \
The weights are {{ weights }}.

## Validation

| metric | value |
|---|---:|
{% for metric, value in metrics.items() -%}
| {{ metric }} | {{ "%.4f" | format(value) }} |
{% endfor %}
## What it says

    {{ predictions | indent(4) }}

## Limits

It predicts what its training texts make likely, their errors and prejudices included.
"""


def render_model_card(
    trainer: Any, args: RunArguments, stats: dict[int, Any], metrics: dict[str, float], predictions: str
) -> str:
    """The card as text. `stats` is stats.json of each block size; `metrics` are the final model's."""
    training, sampler, tokenizer = trainer.args, trainer.sampler, trainer.processing_class
    best = trainer.state.best_model_checkpoint
    with_best = best is not None and Path(best).is_dir()
    name = public_name(training.hub_model_id or training.run_name or "turkbert-model")
    shown = {key.removeprefix("eval_"): value for key, value in metrics.items() if "mlm" in key or "nsp" in key}
    results = [
        EvalResult("fill-mask", "pretraining corpus", "validation rows", metric.removeprefix("mlm_"), value)
        for metric, value in shown.items()
        if metric.startswith("mlm_")
    ]
    card_data = ModelCardData(
        language="tr",
        library_name="transformers",
        pipeline_tag="fill-mask",
        tags=["bert", "turkbert", "whole-word-masking"],
        model_name=name,
        eval_results=results or None,
    )
    rows = training.gradient_accumulation_steps * training.world_size
    card = ModelCard.from_template(
        card_data,
        template_str=TEMPLATE,
        name=escape_markdown(name),
        code_name=json.dumps(name, ensure_ascii=False),
        cased="uncased" if tokenizer.tokenize("ANKARA") == tokenizer.tokenize("ankara") else "cased",
        config=trainer.model.config,
        num_parameters=trainer.model.num_parameters(),
        stats=stats,
        data=args.data,
        training=training,
        stages=[
            {"block_size": s.block_size, "rows": s.batch_size * rows, "last_step": s.last_step} for s in sampler.stages
        ],
        weights=f"those of the best validation {training.metric_for_best_model}" if with_best else "the last ones",
        metrics=shown,
        predictions=predictions,
    )
    return str(card)


def public_name(name: str) -> str:
    """A name in one line; of a path its last part alone, since folders tell of users and machines."""
    name = " ".join(name.split())
    is_hub_id = re.fullmatch(r"[\w.-]+/[\w.-]+", name) and not name.startswith(".")
    return name if is_hub_id else name.replace("\\", "/").rstrip("/").rpartition("/")[2] or "turkbert-model"


def escape_markdown(text: str) -> str:
    """Text as itself: neither Markdown nor HTML, a link or a heading."""
    return re.sub(r"([\\`*_{}\[\]<>()#+|~$&!])", r"\\\1", " ".join(text.split()))
