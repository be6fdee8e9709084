"""Every config parses, says what task it is, and every TrainingArguments key is taken or refused with a reason."""

import json
from dataclasses import fields
from pathlib import Path

import pytest
from transformers import TrainingArguments

from turkbert.errors import UserError
from turkbert.finetuning.arguments import GROUPS, REFUSED, TASKS, parse_finetuning_args
from turkbert.finetuning.benchmark import parse_suite

CONFIGS = Path(__file__).parents[2] / "configs" / "finetune"
SUITES = sorted(CONFIGS.glob("suite*.json"))


@pytest.mark.parametrize("path", sorted(set(CONFIGS.glob("*.json")) - set(SUITES)), ids=lambda path: path.stem)
def test_config_parses_as_written(path):
    written = json.loads(path.read_text("utf-8"))
    assert written["task"] in TASKS
    run = parse_finetuning_args(written["task"], [str(path), "--model_name_or_path", "m"])
    for name, value in written.items():
        assert (getattr(run.task, name) if hasattr(run.task, name) else run.setting(name)) == value, name


@pytest.mark.parametrize("path", SUITES, ids=lambda path: path.stem)
def test_suite_names_configs_that_are_there(path):
    suite = parse_suite(["m", str(path)])
    for task in suite.arguments.tasks:
        assert suite.run_of(task, suite.arms[0]).task.model_name_or_path == "m"


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_refused_with_the_reason(name):
    assert name in {f.name for group in GROUPS for f in fields(group)}
    with pytest.raises(UserError) as caught:
        parse_finetuning_args("classification", [f"--{name}", "x"])
    assert caught.value.mend == REFUSED[name] and caught.value.exit_code == 3


def test_the_trainer_does_not_push(tmp_path):
    argv = ["--model_name_or_path=m", "--dataset_name=d", "--push_to_hub=true", f"--output_dir={tmp_path}"]
    training = parse_finetuning_args("classification", argv).training()
    assert isinstance(training, TrainingArguments) and training.push_to_hub is False
