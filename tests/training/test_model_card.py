"""The model's README.md is valid for the Hub, and what users bring stands in it as text."""

import contextlib
import io
import json
import re

import pytest
import yaml
from huggingface_hub import EvalResult, ModelCard, ModelCardData, metadata_load
from huggingface_hub.repocard_data import model_index_to_eval_results

from tests.training.tiny import tiny_arguments
from turkbert.errors import UserError
from turkbert.training.model_card import escape_markdown, find_verdicts, public_name, render_model_card
from turkbert.training.result import RunResult
from turkbert.training.run import build_trainer, pretrain

SHORT = {"max_steps": 2, "eval_steps": 2, "save_steps": 2, "stage_fractions": [0.5, 0.5]}
NASTY = "# x](http://evil) <script>alert(1)</script> `a` **b** {{ 7 * 7 }} | --- \" '"


def card_of(tiny_dir, prepared, output_dir, **changes):
    args = tiny_arguments(tiny_dir, output_dir, **{**SHORT, **changes})
    pretrain(args, args.training(), prepared.tokenizer, prepared.rows)
    return output_dir / "README.md"


def test_metadata_is_valid(tiny_dir, prepared, tmp_path):
    path = card_of(tiny_dir, prepared, tmp_path / "out", hub_model_id="ada/my-bert")
    metadata = metadata_load(path)
    name, results = model_index_to_eval_results(metadata["model-index"])
    assert name == "ada/my-bert" and all(isinstance(result, EvalResult) for result in results)
    assert {(result.task_type, result.metric_type) for result in results} == {
        *(("fill-mask", metric) for metric in ("loss", "accuracy", "perplexity")),
        *(("text-classification", metric) for metric in ("loss", "accuracy", "f1")),
    }
    found = json.loads((path.parent / "eval_results.json").read_text())
    of_words = {result.metric_type: result.metric_value for result in results if result.task_type == "fill-mask"}
    assert of_words == {name: found[f"eval_mlm_{name}"] for name in ("loss", "accuracy", "perplexity")}
    data = ModelCard.load(path).data
    assert isinstance(data, ModelCardData) and data.language == "tr" and data.pipeline_tag == "fill-mask"
    assert data.eval_results == results
    assert metadata["library_name"] == "transformers" and "license" not in metadata
    assert metadata["widget"][0] == {"text": "Türkiye'nin başkenti [MASK]."}
    assert "None was stated" in path.read_text("utf-8")


def test_what_was_stated_is_in_the_metadata(tiny_dir, prepared, tmp_path):
    settings = {"license": "cc-by-4.0", "save_strategy": "no", "eval_strategy": "no", "metric_for_best_model": None}
    args = tiny_arguments(tiny_dir, tmp_path / "out", **{**SHORT, **settings})
    trainer = build_trainer(args, args.training(), prepared.tokenizer, prepared.rows, checkpoint=None)
    args.corpus.corpus = ["wikimedia/wikipedia"]
    args.corpus.corpus_config = "20231101.tr"
    args.model.model_name_or_path = "dbmdz/bert-base-turkish-cased"
    card = render_model_card(trainer, args, RunResult(tmp_path / "out", {}, "", "the last weights"), [])
    data = ModelCard(card).data
    assert (data.license, data.base_model) == ("cc-by-4.0", "dbmdz/bert-base-turkish-cased")
    assert data.datasets == ["wikimedia/wikipedia"] and data.eval_results is None
    assert "Texts: wikimedia/wikipedia \\(20231101.tr\\)" in card
    assert "pretrained further from dbmdz/bert-base-turkish-cased with turkbert" in card
    assert "It was trained without evaluation." in card and "![" not in card


@pytest.mark.parametrize("name", ["Apache 2.0", "MIT", "-", "a\nb"])
def test_a_licence_that_is_no_name_is_refused(tiny_dir, tmp_path, name):
    with pytest.raises(UserError, match="license"):
        tiny_arguments(tiny_dir, tmp_path / "out", license=name)


def test_the_snippets_run(tiny_dir, prepared, tmp_path, monkeypatch):
    """All of them, one after the other, in a folder that holds the model under the card's name."""
    path = card_of(tiny_dir, prepared, tmp_path / "out", hub_model_id="ada/my-bert")
    (tmp_path / "ada").mkdir()
    (tmp_path / "ada" / "my-bert").symlink_to(tmp_path / "out")
    monkeypatch.chdir(tmp_path)
    snippets = re.findall(r"^```python\n(.*?)^```", path.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert len(snippets) == 4 and all("ada/my-bert" in snippet for snippet in snippets)
    shown = io.StringIO()
    names: dict = {}
    with contextlib.redirect_stdout(shown):
        for snippet in snippets:
            exec(compile(snippet, "card", "exec"), names)
    *guesses, probability = shown.getvalue().split("\n")[:-1]
    assert len(guesses) == 5 and 0 < float(probability) < 1
    assert names["vectors"].shape == (2, 16) and names["classifier"].num_labels == 2


def test_what_is_not_shared_is_named_as_it_lies(tiny_dir, prepared, tmp_path):
    text = card_of(tiny_dir, prepared, tmp_path / "out").read_text("utf-8")
    assert 'pipeline("fill-mask", model="./out")' in text


def test_facts_of_the_run_are_in_the_card(tiny_dir, prepared, tmp_path):
    text = card_of(tiny_dir, prepared, tmp_path / "out").read_text("utf-8")
    data = text.split("\n## Data\n")[1].split("\n## ")[0]
    assert "120 documents, " in data and "the sample that comes with turkbert" in data
    for block_size in (32, 64):
        rows = {split: part.num_rows for split, part in prepared.rows[block_size].items()}
        assert f"| {block_size} | {rows['train']:,} | {rows['validation']:,} |" in data
    assert "| 1 | 32 | 8 | 1 |" in text and "| 2 | 64 | 4 | 1 |" in text
    assert "learning rate up to 0.01\nin 2 steps and down to 1e-07 by a cosine" in text
    assert "The model has the best weights by validation loss, of step 2." in text
    assert re.search(r"\n2 steps with 512 tokens took .* on \d+ CPU threads?\n", text)
    results = json.loads((tmp_path / "out" / "eval_results.json").read_text())
    assert f"| mlm_loss | {results['eval_mlm_loss']:.4f} | {results['unigram_loss']:.4f} |" in text
    assert not re.search(r"[{][{%]|[%}][}]", text.split("## Citation")[0])


def test_a_model_that_learned_nothing_says_so(tiny_dir, tmp_path):
    def verdicts(mlm_loss: float, nsp_accuracy: float) -> str:
        found = {"eval_mlm_loss": mlm_loss, "eval_nsp_accuracy": nsp_accuracy}
        baselines = {"unigram_loss": 7.4, "majority_accuracy": 0.05}
        return " ".join(find_verdicts(RunResult(tmp_path, found, "", "", baselines)))

    assert "A trial" in verdicts(7.2, 0.8) and "it cannot tell" not in verdicts(7.2, 0.8)
    assert verdicts(3.0, 0.5).startswith("Whether one sentence follows another it cannot tell (accuracy 50.0 %)")
    assert verdicts(3.0, 0.8) == ""
    few = RunResult(tmp_path, {"eval_mlm_loss": 3.0}, "", "", totals={"tokens": 10_240_000})
    assert "It has read 10.2 M tokens" in " ".join(find_verdicts(few))


def test_what_users_write_is_text(tiny_dir, prepared, tmp_path):
    samples = tmp_path / "samples.txt"
    samples.write_text("Bir <b>[MASK]</b> # {{ 7 * 7 }} ```\n", "utf-8")
    path = card_of(tiny_dir, prepared, tmp_path / "out", run_name=NASTY, sample_texts=str(samples))
    text = path.read_text("utf-8")
    assert re.findall(r"^# .*", text, re.MULTILINE) == [f"# {escape_markdown(public_name(NASTY))}"]
    body = text.split("---\n", 2)[2]
    assert body.count("\n```") == 2 * 5  # four snippets and the citation: nothing of the user's opens or ends one
    outside_code = "\n".join(line for line in body.splitlines() if not line.startswith("    "))
    assert "<script>" not in outside_code and "](http" not in outside_code and "49" not in outside_code
    assert "    Bir <b>[MASK]</b> # {{ 7 * 7 }} ```" in body  # a code block: shown as it is
    yaml.safe_load(text.split("---\n", 2)[1])
    for snippet in re.findall(r"^```python\n(.*?)^```", body, re.MULTILINE | re.DOTALL):
        compile(snippet, "card", "exec")


def test_no_folders_in_what_goes_out(tiny_dir, prepared, tmp_path):
    path = card_of(tiny_dir, prepared, tmp_path / "out", run_name=str(tmp_path / "ada" / "deneme"))
    assert "# deneme" in path.read_text("utf-8")
    for name in ("README.md", "run_config.json", "log_history.json", "eval_results.json"):
        assert str(tmp_path) not in (tmp_path / "out" / name).read_text("utf-8")
        assert str(tiny_dir) not in (tmp_path / "out" / name).read_text("utf-8")


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("ada/my-bert", "ada/my-bert"),
        ("/home/ada/bert", "bert"),
        ("a\nb", "a b"),
        ("C:\\Users\\ada", "ada"),
        ("/", "turkbert-model"),
    ],
)
def test_names_tell_no_folders(name, shown):
    assert public_name(name) == shown
