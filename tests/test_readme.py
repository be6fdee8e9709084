"""What the READMEs and the docs say is there, in both languages: files, links, keys, defaults, and the lines of CI."""

import dataclasses
import json
import re
import shlex
from pathlib import Path

import pytest

from tests.pages import README, TUTORIAL, bash_lines, output_block, read, sections, table_rows
from turkbert import errors
from turkbert.arguments import GROUPS, REFUSED, PretrainingArguments
from turkbert.export import FORMATS
from turkbert.finetuning import arguments as finetuning

ROOT = Path(__file__).parent.parent
READMES = ["README.md", "README.tr.md"]
TEXTS = [*READMES, TUTORIAL, "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "configs/README.md"]
TEXTS += sorted({f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")} - {TUTORIAL})
FIELDS = {field.name: field for group in (*GROUPS, PretrainingArguments) for field in dataclasses.fields(group)}
SAME = ("the same names", "aynı adlar")
LAUNCHER_OPTIONS = {"config_file", "num_processes", "num_cpu_threads_per_process"}
LEARNED_NOTHING = read("configs/README.md").split("\n\n", 3)[3]  # below the table
FOLDERS = r"(?:scripts|configs|docs|turkbert|tests|benchmarks|\.ci|\.github)"

# The original project's settings classes, its two lists of samples, and their defaults.
ORIGINAL = {
    "vocab_size": "32000", "limit_alphabet": "200", "min_frequency": "2", "cased": "True",
    "block_size": "128", "num_of_docs_per_shard": "8000", "num_tokens_per_shard": "10000000", "overlap": "64",
    "edge_buffer": "10", "seed": "13013", "rate_of_untouched_words": "0.85", "mask_ratio": "0.80",
    "replace_ratio": "0.10", "identity_ratio": "0.10", "tokenizer_type": "custom",
    "limit_for_token_group": "5", "max_word_limit_for_token_group": "5000", "min_freq_for_words": "150",
    "random_sample": "False", "use_number_of_line": "None",
    "hidden_size": "768", "num_hidden_layers": "12", "num_attention_heads": "12", "hidden_act": "gelu",
    "intermediate_size": "3072", "hidden_dropout_prob": "0.1", "attention_probs_dropout_prob": "0.1",
    "max_position_embeddings": "512", "initializer_range": "0.02", "layer_norm_eps": "1e-12",
    "type_vocab_size": "2", "classifier_dropout": "0.1",
    "do_train_custom": "True", "do_eval_from_best_ckpt": "False", "do_eval_from_huggingface": "False",
    "resume": "False", "stage1_ratio": "0.9", "block_size_s1": "128", "block_size_s2": "512",
    "train_batch_size_s1": "64", "train_batch_size_s2": "16", "val_block_size": "512", "val_batch_size": "8",
    "grad_accum_steps": "1", "max_learning_rate": "1e-4", "min_learning_rate": "1e-7", "lr_scheduler": "cosine",
    "num_train_steps": "100000", "num_warmup_steps": "5000", "save_checkpoints_steps": "50", "val_check_steps": "50",
    "device": "cuda", "max_eval_steps": "50", "weight_decay": "0.01", "max_ckpt": "5", "generate_samples": "True",
    "mlflow_tracking": "True", "samples_for_mlm_generation": None, "samples_for_nsp_generation": None,
}  # fmt: skip


def ci_line(name: str, number: int) -> str:
    lines = re.findall(rf"^<!-- ci:{number} -->\n```bash\n(.*)\n```$", read(name), re.MULTILINE)
    assert len(lines) == 1
    return lines[0]


def section(name: str, english: str) -> str:
    """A section of a README, which has the same place in both."""
    return list(sections(name).values())[list(sections(README)).index(english)]


# ---- commands


@pytest.mark.parametrize("name", READMES)
def test_the_two_ci_lines(name):
    first, second = ci_line(name, 1), ci_line(name, 2)
    assert first.endswith("accelerate launch scripts/pretrain.py configs/scratch.json")
    assert second.endswith("pytest") and "[test]" in second
    assert all("venv" in line and "-c constraints.txt" in line for line in (first, second))
    assert read(name).index("ci:1") < read(name).index("ci:2") < read(name).index("\n## ")


def test_ci_finds_the_same_lines():
    script = (ROOT / ".ci" / "run").read_text("utf-8")
    assert "<!-- ci:$1 -->" in script and "run_line 1" in script and "run_line 2" in script


def test_both_readmes_have_the_same_commands():
    assert bash_lines(READMES[0]) == bash_lines(READMES[1])
    assert output_block(READMES[0], "pretrain") == output_block(READMES[1], "pretrain")


@pytest.mark.parametrize("name", [*READMES, TUTORIAL, "CONTRIBUTING.md"])
def test_commands_are_single_lines_that_a_shell_can_read(name):
    assert bash_lines(name)
    for line in bash_lines(name):
        assert shlex.split(line) and not line.endswith("\\")


@pytest.mark.parametrize("name", [*READMES, TUTORIAL])
def test_every_option_is_one_of_its_script(name):
    lines = [line for line in bash_lines(name) if "scripts/" in line]
    assert len(lines) > 5
    for line in lines:
        launcher, _, rest = line.partition("scripts/")
        script, _, arguments = rest.partition(" ")
        assert set(re.findall(r"(?<=\s)--(\w+)", arguments)) <= options_of(script), line
        assert set(re.findall(r"(?<=\s)--(\w+)", launcher)) <= LAUNCHER_OPTIONS, line


def options_of(script: str) -> set[str]:
    source = read(f"scripts/{script}")
    if "ToolParser" in source:
        return set(re.findall(r'"--(\w+)"', source)) | {name for name in FORMATS if "FORMATS" in source}
    if script.startswith("finetune"):
        return {field.name for group in finetuning.GROUPS for field in dataclasses.fields(group)}
    extra = re.findall(r"extra=\{(.*?)\}", source)
    return (FIELDS.keys() - REFUSED.keys()) | {name for keys in extra for name in re.findall(r'"(\w+)":', keys)}


@pytest.mark.parametrize("name", [*READMES, TUTORIAL, "docs/data.md", "docs/training.md", "docs/reliability.md"])
def test_every_option_told_of_in_passing_is_a_key(name):
    options = set(re.findall(r"`--(\w+)", read(name)))
    assert options <= FIELDS.keys() | LAUNCHER_OPTIONS | {"estimate", "help", "space"}
    assert not options & REFUSED.keys()


# ---- paths and links


@pytest.mark.parametrize("name", TEXTS)
def test_every_path_exists(name):
    paths = re.findall(rf"(?<![\w/.-]){FOLDERS}/[\w./-]+\.\w+", read(name))
    assert [path for path in paths if not (ROOT / path).is_file()] == []


@pytest.mark.parametrize("name", TEXTS)
def test_every_link_leads_somewhere(name):
    for target in set(re.findall(r"\]\(([^)\s]+)\)", read(name))):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        linked = ((ROOT / name).parent / path).resolve() if path else ROOT / name
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked.read_text("utf-8")), target


def anchors(text: str) -> set[str]:
    """As GitHub makes them of titles."""
    titles = re.findall(r"^#+ (.*)", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("name", READMES)
def test_pictures_are_there_and_are_told_in_words(name):
    pictures = re.findall(r"!\[([^\]]*)\]\(([^)]+)\)", read(name))
    demo = "demo_fill_en" if name == README else "demo_fill_tr"
    assert {Path(path).stem for _, path in pictures} >= {"report", "small_losses", demo}
    assert all(len(words) > 10 for words, _ in pictures)


# ---- settings


@pytest.mark.parametrize("name", READMES)
def test_every_key_of_the_settings_table_exists_with_its_default(name):
    rows = [row for row in table_rows(section(name, "Recipes")) if not row[0].startswith("`configs/")]
    told = {}
    for row in rows:
        keys, values = re.findall(r"`(\w+)`", row[0]), [value.strip("` ") for value in row[1].split(",")]
        told |= dict(zip(keys, values, strict=False))
    assert len(told) > 10
    for key, value in told.items():
        default = FIELDS[key].default
        default = FIELDS[key].default_factory() if default is dataclasses.MISSING else default
        shown = " ".join(map(str, default)) if isinstance(default, list) else str(default).lower()
        same = value in (shown, json.dumps(default)) or (isinstance(default, float) and float(value) == default)
        assert same or key in ("corpus", "corpus_config", "sample_texts"), key


@pytest.mark.parametrize("name", READMES)
def test_all_configs_are_in_the_table_of_recipes(name):
    told = [row[0].strip("`") for row in table_rows(section(name, "Recipes"))]
    told = {path.removeprefix("configs/") for path in told if path.startswith("configs/")}
    assert told == {path.name for path in (ROOT / "configs").glob("*.json")}


@pytest.mark.parametrize("name", READMES)
def test_the_figures_of_the_recipes_are_those_of_the_configs_page(name):
    """Of each row the numbers, in the language's own writing, stand in the row of configs/README.md too."""
    rows = {row[0].split("`")[1]: " ".join(row).replace(",", "") for row in table_rows(read("configs/README.md"))}
    measured = 0
    for row in table_rows(section(name, "Recipes")):
        config = row[0].removeprefix("`configs/").rstrip("`")
        figures = re.findall(r"\d+[.,]\d\d", row[2]) if row[0].startswith("`configs/") else []
        assert all(figure.replace(",", ".") in rows[config] + LEARNED_NOTHING for figure in figures), row
        measured += len(figures)
    assert measured == 4


@pytest.mark.parametrize("name", READMES)
def test_the_settings_of_the_original_project_and_what_became_of_them(name):
    told = {}
    for there, defaults, here in table_rows(section(name, "From the original project")):
        keys, values = re.findall(r"`(\w+)`", there), [value.strip() for value in defaults.split(",")]
        told |= dict(zip(keys, values + [None] * len(keys), strict=False)) if values != [""] else {}
        ours = set(re.findall(r"`(\w+)`", here))
        assert ours <= FIELDS.keys(), there
        assert ours or here in SAME or here.startswith(("gone", "kalktı", "`scripts/")), there
        if here in SAME:
            assert set(keys) <= FIELDS.keys()
            assert [str(FIELDS[key].default) for key in keys] == values
    assert told == ORIGINAL


@pytest.mark.parametrize("name", READMES)
def test_where_only_a_name_stands_the_default_is_the_same(name):
    for there, defaults, here in table_rows(section(name, "From the original project")):
        if not re.fullmatch(r"(`\w+`(, )?)+", here) or not there.startswith("`"):
            continue
        for key, value in zip(re.findall(r"`(\w+)`", here), defaults.split(","), strict=True):
            default = FIELDS[key].default
            assert str(default) == value.strip() or float(default) == float(value), key


# ---- errors


@pytest.mark.parametrize("name", READMES)
def test_exit_codes_are_the_codes_of_the_package(name):
    told = {int(row[0]) for row in table_rows(section(name, "Errors and exit codes"))}
    assert told == {
        errors.BAD_INPUT, errors.BAD_CONFIG, errors.ENVIRONMENT, errors.CORRUPT_ARTIFACT, errors.PREEMPTED,
        errors.INTERRUPTED,
    }  # fmt: skip
