"""scripts/inspect_data.py shows the rows that training will see."""

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from turkbert.arguments import parse_args
from turkbert.data.collator import IGNORED
from turkbert.data.examples import Example, Word
from turkbert.data.prepare import build_collator
from turkbert.errors import BAD_CONFIG, CORRUPT_ARTIFACT, UserError
from turkbert.tokenization import save_tokenizer, train_tokenizer

SCRIPT = Path(__file__).parent.parent / "scripts" / "inspect_data.py"


@pytest.fixture(scope="module")
def inspect_data():
    spec = importlib.util.spec_from_file_location("inspect_data", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_masks_are_those_of_the_first_epoch(inspect_data, sample_dir, sample_prepared, sample_arguments):
    args = sample_arguments(sample_dir)
    tokenizer = sample_prepared.tokenizer
    collator = build_collator(args, tokenizer, args.training().seed)
    for block_size, examples in inspect_data.examples_of(args, 4).items():
        rows = sample_prepared.rows[block_size]["train"]
        assert [example.number for example in examples][::3] == [0, len(rows) - 1]
        for example in examples:
            batch = collator([{**rows[example.number], "row": example.number, "epoch": 0}])
            labels = batch["labels"][0]
            tokens = tokenizer.convert_ids_to_tokens(labels[labels != IGNORED].tolist())
            marked = [word for word in [*example.a, *example.b] if word.kind != "plain"]
            assert "".join(word.text for word in marked) == "".join(token.removeprefix("##") for token in tokens)
            masks = sum(int(re.search(r"×(\d+)|$", w.shown)[1] or 1) for w in marked if w.kind == "masked")
            assert masks == (batch["input_ids"] == tokenizer.mask_token_id).sum()


def test_script(sample_dir, sample_prepared, sample_arguments):
    sample_arguments(sample_dir)
    command = [sys.executable, str(SCRIPT), str(sample_dir / "config.json"), "--num_rows", "3"]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=True)
    assert re.findall(r"^Block size (\d+)", done.stdout, re.MULTILINE) == ["32", "64"]
    assert len(re.findall(r"^row \d+: B (?:follows A|is random), \d+ tokens", done.stdout, re.MULTILINE)) == 6
    assert len(re.findall(r"^  [AB]: \S", done.stdout, re.MULTILINE)) == 12
    assert re.search(r"⟦\w+→\[MASK\](×\d)?⟧", done.stdout)
    assert "##" not in done.stdout


@pytest.mark.parametrize("num_rows", [0, -1])
def test_number_of_rows_is_checked(inspect_data, sample_dir, sample_prepared, sample_arguments, num_rows):
    with pytest.raises(UserError, match="num_rows") as error:
        inspect_data.examples_of(sample_arguments(sample_dir), num_rows)
    assert error.value.exit_code == BAD_CONFIG


def test_another_tokenizer_is_refused(inspect_data, sample_dir, sample_prepared, sample_arguments, tmp_path):
    save_tokenizer(train_tokenizer(["bir iki üç dört beş altı bir iki"], vocab_size=33), tmp_path / "other")
    with pytest.raises(UserError, match="another tokenizer"):
        inspect_data.examples_of(sample_arguments(sample_dir, tokenizer_dir=str(tmp_path / "other")), 1)


@pytest.mark.parametrize("lost", ["tokens/MANIFEST.json", "random_words/random_words.npz"])
def test_lost_stages_are_one_line(inspect_data, sample_dir, sample_prepared, sample_arguments, tmp_path, lost):
    data_dir = shutil.copytree(sample_dir / "data", tmp_path / "data")
    (data_dir / lost).unlink()
    with pytest.raises(UserError, match="no valid MANIFEST.json|random_words.npz is missing") as error:
        inspect_data.examples_of(sample_arguments(sample_dir, data_dir=str(data_dir)), 1)
    assert error.value.exit_code == CORRUPT_ARTIFACT


def test_an_a_alone_is_shown_as_one(inspect_data):
    word = Word("ev", "ev", "plain", False)
    assert inspect_data.describe(Example(3, [word], [], True, 5, 7)).startswith("row 3: A alone, 5 tokens, 7 of pad")


def test_extra_keys_of_a_script():
    assert parse_args([], extra={"num_rows": 5}).given["num_rows"] == 5
    assert parse_args(["--num_rows", "7"], extra={"num_rows": 5}).given["num_rows"] == 7
    with pytest.raises(UserError, match="did you mean 'num_rows'"):
        parse_args(["--num_row", "7"], extra={"num_rows": 5})
    with pytest.raises(UserError, match="num_rows"):
        parse_args(["--num_rows", "7"])
    with pytest.raises(UserError, match="num_rows"):
        parse_args(["--num_rows", "many"], extra={"num_rows": 5})
