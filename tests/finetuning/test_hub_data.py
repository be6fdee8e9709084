"""Hub data sets: names of classes, configurations joined, hidden labels, and names that are paths."""

import datasets
import pytest

from turkbert.errors import UserError
from turkbert.finetuning.arguments import TaskArguments
from turkbert.finetuning.classification import Classification
from turkbert.finetuning.examples import load_splits
from turkbert.finetuning.token_classification import TokenClassification

CLASSES = datasets.ClassLabel(names=["not_equivalent", "equivalent"])
TAGS = datasets.Features({"tokens": [datasets.Value("string")], "upos": [datasets.ClassLabel(names=["NOUN", "VERB"])]})


@pytest.fixture
def hub(monkeypatch):
    """{(name, config): splits}; what was asked for."""
    there, asked = {}, []

    def load(name, config=None, revision=None):
        asked.append((name, config, revision))
        if (name, config) not in there:
            raise datasets.exceptions.DatasetNotFoundError(f"{name} is not on the Hub")
        return datasets.DatasetDict(there[name, config])

    monkeypatch.setattr(datasets, "load_dataset", load)
    return there, asked


def pairs(labels):
    text = datasets.Value("string")
    features = datasets.Features({"sentence1": text, "sentence2": text, "label": CLASSES})
    texts = [f"cümle {number}" for number in range(len(labels))]
    return datasets.Dataset.from_dict({"sentence1": texts, "sentence2": texts, "label": labels}, features=features)


def test_mrpc_by_its_short_name(hub, sample_tokenizer):
    there, asked = hub
    there["nyu-mll/glue", "mrpc"] = {"train": pairs([0, 1, 1]), "validation": pairs([1]), "test": pairs([-1, -1])}
    settings = TaskArguments(dataset_name="glue/mrpc")
    task = Classification(load_splits(settings), sample_tokenizer, settings, 16)
    assert asked == [("nyu-mll/glue", "mrpc", None)] and set(task.splits) == {"train", "validation"}
    assert task.config_settings["id2label"] == {0: "not_equivalent", 1: "equivalent"}
    assert task.text_columns == ["sentence1", "sentence2"] and task.targets("train") == [0, 1, 1]


def test_a_bad_row_is_named_by_split_and_row(hub, sample_tokenizer):
    there, _ = hub
    there["a/b", None] = {"train": pairs([0, 1]), "validation": pairs([0, -1])}
    settings = TaskArguments(dataset_name="a/b", dataset_revision="v2")
    with pytest.raises(UserError, match="a/b validation:2: label -1 is no class"):
        Classification(load_splits(settings), sample_tokenizer, settings, 16)


def test_several_configurations_are_joined(hub, sample_tokenizer):
    there, asked = hub
    rows = datasets.Dataset.from_dict({"tokens": [["ev", "git"]], "upos": [[0, 1]]}, features=TAGS)
    there["x/ud", "tr_a"] = {"train": rows, "validation": rows}
    there["x/ud", "tr_b"] = {"train": rows}
    settings = TaskArguments(dataset_name="x/ud", dataset_config_name=["tr_a", "tr_b"])
    task = TokenClassification(load_splits(settings), sample_tokenizer, settings, 16)
    assert len(task.splits["train"].rows) == 2 and len(task.splits["validation"].rows) == 1
    assert task.labels == ["NOUN", "VERB"] and [config for _, config, _ in asked] == ["tr_a", "tr_b"]


def test_what_is_not_there(hub):
    with pytest.raises(UserError, match="data set 'a/nothing': no such folder, and as a Hub data set: a/n"):
        load_splits(TaskArguments(dataset_name="a/nothing"))


def test_a_path_with_a_typo_does_not_go_to_the_network(hub, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tasks").mkdir()
    with pytest.raises(UserError, match="tasks/ners: no such folder"):
        load_splits(TaskArguments(dataset_name="tasks/ners"))
    assert hub[1] == []


def test_an_empty_folder(tmp_path):
    with pytest.raises(UserError, match="holds no train, validation or test file"):
        load_splits(TaskArguments(dataset_name=str(tmp_path)))
