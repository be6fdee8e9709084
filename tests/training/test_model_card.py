"""The model's README.md is valid for the Hub, and what users bring stands in it as text."""

import re

import pytest
import yaml
from huggingface_hub import EvalResult, ModelCard, ModelCardData, metadata_load
from huggingface_hub.repocard_data import model_index_to_eval_results

from tests.training.tiny import tiny_arguments
from turkbert.training.model_card import escape_markdown, public_name
from turkbert.training.run import pretrain

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
    assert {result.metric_type for result in results} == {"loss", "accuracy", "perplexity"}
    data = ModelCard.load(path).data
    assert isinstance(data, ModelCardData) and data.language == "tr" and data.pipeline_tag == "fill-mask"
    assert data.eval_results == results
    assert metadata["library_name"] == "transformers" and "license" not in metadata


def test_what_users_write_is_text(tiny_dir, prepared, tmp_path):
    samples = tmp_path / "samples.txt"
    samples.write_text("Bir <b>[MASK]</b> # {{ 7 * 7 }} ```\n", "utf-8")
    path = card_of(tiny_dir, prepared, tmp_path / "out", run_name=NASTY, sample_texts=str(samples))
    text = path.read_text("utf-8")
    assert re.findall(r"^# .*", text, re.MULTILINE) == [f"# {escape_markdown(public_name(NASTY))}"]
    body = text.split("---\n", 2)[2]
    outside_code = "\n".join(line for line in body.splitlines() if not line.startswith("    "))
    assert "<script>" not in outside_code and "](http" not in outside_code and "49" not in outside_code
    assert "    Bir <b>[MASK]</b> # {{ 7 * 7 }} ```" in body  # a code block: shown as it is
    yaml.safe_load(text.split("---\n", 2)[1])
    snippet = next(line for line in body.splitlines() if "pipeline(" in line and "model=" in line)
    compile(snippet.strip(), "card", "exec")


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
