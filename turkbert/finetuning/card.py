"""The README.md of a fine-tuned model, from the facts of its run alone."""

import json
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from turkbert.finetuning.arguments import FinetuningRun
from turkbert.training.model_card import escape_markdown, public_name

PIPELINES = {
    "classification": "text-classification",
    "token_classification": "token-classification",
    "question_answering": "question-answering",
}
TEMPLATE = """---
{{ card_data }}
---

# {{ name }}

{{ base }} fine-tuned with turkbert on {{ dataset }} ({{ pipeline }}, Turkish).

    from transformers import pipeline
    pipeline("{{ pipeline }}", model={{ code_name }})

## Scores

In percent where they are shares.

| split | rows | {% for metric in metrics %}{{ metric }} | {% endfor %}

|---|---:|{% for metric in metrics %}---:|{% endfor %}

{% for split, values in scores.items() -%}
| {{ split }} | {{ "{:,}".format(rows[split]) }} | \
{% for metric in metrics %}{{ "%.4g" | format(values[metric]) }} | {% endfor %}

{% endfor %}
{% if labels %}
## Labels

{{ labels }}
{% endif %}
## Training

{{ "{:,}".format(rows["train"]) }} rows, {{ steps }} steps, {{ training.num_train_epochs }} passes; batches of \
{{ training.per_device_train_batch_size }}, peak learning rate {{ training.learning_rate }}, weight decay \
{{ training.weight_decay }}, seed {{ training.seed }}; {{ "{:,}".format(num_parameters) }} parameters\
{{ ", the encoder frozen" if task.freeze_encoder }}{{ ", classes weighted" if task.class_weights != "none" }}.

## Limits

It repeats what its training rows and its base model hold, their errors and prejudices included.
"""


def render_card(run: FinetuningRun, data: Any, result: Any, num_parameters: int) -> str:
    """The card as text."""
    name = public_name(run.setting("hub_model_id") or run.output_dir)
    dataset = public_name(run.task.dataset_name or run.task.train_file or "")
    base = public_name(run.task.model_name_or_path or "")
    pipeline = PIPELINES[run.task.task or ""]
    metrics = [metric for metric in next(iter(result.scores.values())) if metric != "loss"]
    results = [
        EvalResult(pipeline, dataset, dataset, metric, round(values[metric], 4), dataset_split=split)
        for split, values in result.scores.items()
        for metric in metrics
    ]
    card_data = ModelCardData(
        language="tr",
        library_name="transformers",
        pipeline_tag=pipeline,
        base_model=base if "/" in base else None,
        tags=["turkbert"],
        model_name=name,
        eval_results=results,
    )
    card = ModelCard.from_template(
        card_data,
        template_str=TEMPLATE,
        name=escape_markdown(name),
        code_name=json.dumps(name, ensure_ascii=False),
        base=escape_markdown(base),
        dataset=escape_markdown(dataset),
        pipeline=pipeline,
        metrics=metrics,
        scores=result.scores,
        rows={split: len(part.rows) for split, part in data.task.splits.items()},
        labels=escape_markdown(", ".join(data.task.labels)),
        steps=result.steps,
        training={k: run.setting(k) for k in (
            "num_train_epochs", "per_device_train_batch_size", "learning_rate", "weight_decay", "seed",
        )},  # fmt: skip
        task=run.task,
        num_parameters=num_parameters,
    )
    return str(card)
