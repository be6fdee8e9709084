"""How wide batches are."""

import pytest

from turkbert.finetuning.arguments import parse_finetuning_args
from turkbert.finetuning.run import prepare_task

TASKS = {"pairs": "classification", "tags": "token_classification", "questions": "question_answering"}


@pytest.mark.parametrize("data, task", TASKS.items())
@pytest.mark.parametrize("max_length, step", [(32, 8), (33, 1)])
def test_batches_have_few_widths_and_none_is_over_the_limit(settings, data, task, max_length, step):
    argv = settings(data, max_seq_length=max_length, doc_stride=4)
    prepared = prepare_task(parse_finetuning_args(task, argv).task)
    rows = prepared.encoded["train"].select(range(2))
    features = [{name: row[name] for name in ("input_ids", "attention_mask")} for row in rows]
    if task == "token_classification":
        features = [{**feature, "labels": [0] * len(feature["input_ids"])} for feature in features]
    width = prepared.task.collator(features)["input_ids"].shape[1]
    longest = max(len(feature["input_ids"]) for feature in features)
    assert longest <= width <= max_length and width == -(-longest // step) * step
