"""What the README and the docs say is there: files, links, keys, and the two lines that .ci/run takes from it."""

import dataclasses
import re
import shlex
from pathlib import Path

import pytest

from turkbert import errors
from turkbert.arguments import GROUPS, REFUSED, PretrainingArguments

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")
KEYS = {field.name for group in (*GROUPS, PretrainingArguments) for field in dataclasses.fields(group)}
LAUNCHER_OPTIONS = {"config_file", "num_processes", "num_cpu_threads_per_process"}
FOLDERS = r"(?:scripts|configs|docs|turkbert|tests|benchmarks|\.ci)"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def ci_line(number: int) -> str:
    lines = re.findall(rf"^<!-- ci:{number} -->\n```bash\n(.*)\n```$", README, re.MULTILINE)
    assert len(lines) == 1
    return lines[0]


def section(title: str) -> str:
    return README.split(f"\n## {title}\n")[1].split("\n## ")[0]


def test_the_two_ci_lines():
    first, second = ci_line(1), ci_line(2)
    assert first.endswith("accelerate launch scripts/pretrain.py configs/scratch.json")
    assert second.endswith("pytest") and "[test]" in second
    assert all("venv" in line and "-c constraints.txt" in line for line in (first, second))
    assert README.index("ci:1") < README.index("ci:2") < README.index("\n## ")


def test_ci_finds_the_same_lines():
    script = (ROOT / ".ci" / "run").read_text("utf-8")
    assert "<!-- ci:$1 -->" in script and "run_line 1" in script and "run_line 2" in script


@pytest.mark.parametrize("path", sorted(set(re.findall(rf"(?<![\w/.]){FOLDERS}/[\w./-]+\.\w+", README))))
def test_every_path_exists(path):
    assert (ROOT / path).is_file()


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda page: page.name)
def test_every_path_in_the_docs_exists(page):
    paths = re.findall(rf"(?<![\w/.]){FOLDERS}/[\w./-]+\.\w+", page.read_text("utf-8"))
    assert [path for path in paths if not (ROOT / path).is_file()] == []


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\(([^)]+)\)", README))))
def test_every_link_leads_somewhere(target):
    name, _, anchor = target.partition("#")
    assert (ROOT / name).exists()
    text = (ROOT / name).read_text("utf-8") if name.endswith(".md") else README
    titles = {re.sub(r"[^\w -]", "", line.lstrip("# ")).lower().replace(" ", "-") for line in text.splitlines()}
    assert not anchor or anchor in titles


def test_every_option_in_the_commands_is_a_key():
    options = {o for block in blocks("bash") for o in re.findall(r"(?<=\s)--(\w+)", block)}
    options |= set(re.findall(r"`--(\w+)", README))
    assert len(options) > 8
    assert options <= KEYS | LAUNCHER_OPTIONS | {"num_rows", "estimate"}  # inspect_data's and pretrain's own
    assert not options & REFUSED.keys()


def test_commands_are_single_lines_that_a_shell_can_read():
    for block in blocks("bash"):
        for line in block.splitlines():
            assert shlex.split(line) and not line.endswith("\\")


@pytest.mark.parametrize("title", ["Configs and settings", "Coming from the original project"])
def test_every_key_of_the_settings_tables_exists(title):
    column = -1 if title.startswith("Coming") else 0
    rows = [line.strip("|").split("|") for line in section(title).splitlines() if line.startswith("| ")]
    keys = {name for row in rows for name in re.findall(r"`([a-z_0-9]+)`", row[column])}
    assert len(keys) > 10
    assert keys - {"dynamic"} <= KEYS


def test_the_settings_of_the_original_project_are_all_in_the_table():
    originals = " ".join(
        line.strip("|").split("|")[0] for line in section("Coming from the original project").splitlines() if line
    )
    for name in (
        "vocab_size", "limit_alphabet", "min_frequency", "cased", "block_size", "num_tokens_per_shard", "overlap",
        "edge_buffer", "seed", "rate_of_untouched_words", "tokenizer_type", "limit_for_token_group", "random_sample",
        "do_train_custom", "do_eval_from_huggingface", "resume", "stage1_ratio", "val_block_size", "val_batch_size",
        "max_ckpt", "grad_accum_steps", "lr_scheduler", "num_warmup_steps", "device", "mlflow_tracking",
    ):  # fmt: skip
        assert name in originals, name


def test_exit_codes_are_the_codes_of_the_package():
    told = {int(code) for code in re.findall(r"^\| (\d+) \|", section("Errors and exit codes"), re.MULTILINE)}
    assert told == {
        errors.BAD_INPUT, errors.BAD_CONFIG, errors.ENVIRONMENT, errors.CORRUPT_ARTIFACT, errors.PREEMPTED,
        errors.INTERRUPTED,
    }  # fmt: skip


def test_defaults_in_the_settings_table_are_the_defaults():
    table = section("Configs and settings")
    assert "| `validation_fraction` | 0.05 |" in table and "| `masking` | static |" in table
    defaults = {f.name: f.default for group in (*GROUPS, PretrainingArguments) for f in dataclasses.fields(group)}
    assert (defaults["validation_fraction"], defaults["masking"]) == (0.05, "static")
