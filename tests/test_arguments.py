"""Settings: JSON gives the defaults, the command line wins, and nothing that is not understood gets through."""

import dataclasses
import json
from pathlib import Path

import pytest
from transformers import TrainingArguments

from turkbert.arguments import GROUPS, REFUSED, PretrainingArguments, parse_args
from turkbert.errors import BAD_CONFIG, UserError
from turkbert.parsing import field_default

# Every key of stock TrainingArguments that a run follows. A key that a new transformers brings is in neither this set
# nor REFUSED: look at what it does, then put it into one of them.
HONOURED = set(
    """
    activation_checkpointing activation_checkpointing_kwargs adam_beta1 adam_beta2 adam_epsilon bf16 data_seed
    dataloader_in_order dataloader_multiprocessing_context dataloader_num_workers dataloader_persistent_workers
    dataloader_pin_memory dataloader_prefetch_factor ddp_backend ddp_broadcast_buffers ddp_bucket_cap_mb
    ddp_find_unused_parameters ddp_static_graph ddp_timeout debug disable_tqdm eval_delay eval_on_start eval_steps
    eval_strategy fp16 fsdp fsdp_config full_determinism gradient_accumulation_steps gradient_checkpointing
    gradient_checkpointing_kwargs greater_is_better hub_model_id hub_private_repo hub_revision hub_strategy
    learning_rate log_level log_level_replica log_on_each_node logging_first_step logging_steps logging_strategy
    lr_scheduler_type max_grad_norm max_steps metric_for_best_model optim optim_args optim_target_modules output_dir
    per_device_eval_batch_size project push_to_hub report_to resume_from_checkpoint run_name save_on_each_node
    save_steps save_strategy save_total_limit seed skip_memory_metrics tf32 torch_compile torch_compile_backend
    torch_compile_mode torch_empty_cache_steps trackio_bucket_id trackio_space_id trackio_static_space_id use_cpu
    warmup_steps weight_decay
    """.split()
)


def config_file(folder: Path, **settings) -> str:
    path = folder / "config.json"
    path.write_text(json.dumps(settings), "utf-8")
    return str(path)


def refusal(*argv: str) -> UserError:
    with pytest.raises(UserError) as error:
        parse_args(list(argv))
    assert error.value.exit_code == BAD_CONFIG
    assert "\n" not in str(error.value)
    return error.value


# ---- where values come from


def test_defaults_config_and_command_line(tmp_path):
    config = config_file(tmp_path, hidden_size=384, num_attention_heads=6, block_sizes=[64, 256], learning_rate=3e-4)
    assert parse_args([]).model.hidden_size == 768
    args = parse_args([config])
    assert (args.model.hidden_size, args.data.block_sizes, args.setting("learning_rate")) == (384, [64, 256], 3e-4)
    assert (args.model.num_hidden_layers, args.setting("weight_decay")) == (12, 0.01)
    for argv in ([config, "--hidden_size", "96"], ["--hidden_size=96", config]):
        args = parse_args([*argv, "--learning_rate", "1e-5", "--block_sizes", "32", "64"])
        assert (args.model.hidden_size, args.model.num_attention_heads) == (96, 6)
        assert (args.data.block_sizes, args.setting("learning_rate")) == ([32, 64], 1e-5)
    assert args.resolved()["hidden_size"] == 96 and args.resolved()["text_column"] == "text"


def test_lists_do_not_leak_from_run_to_run():
    parse_args([]).data.block_sizes.append(7)
    assert parse_args([]).data.block_sizes == [128, 512]


def test_null_means_empty_where_empty_is_a_value(tmp_path):
    args = parse_args([config_file(tmp_path, save_total_limit=None, overlap=None, max_lines=None)])
    assert args.setting("save_total_limit") is None  # the default is 5
    assert args.data.overlap is None
    assert "hidden_size is null" in str(refusal(config_file(tmp_path, hidden_size=None)))
    assert parse_args([config_file(tmp_path, corpus=[])]).corpus.corpus == []
    assert refusal(config_file(tmp_path, block_sizes=[])).where == "block_sizes"


@pytest.mark.parametrize("place", ["before", "after"])
@pytest.mark.parametrize(("words", "expected"), [(["--debug"], True), (["--debug", "true"], True),
                                                 (["--debug", "false"], False), (["--debug=true"], True)])  # fmt: skip
def test_debug_with_and_without_a_value(tmp_path, place, words, expected):
    config = config_file(tmp_path, max_steps=7)
    args = parse_args([*words, config] if place == "before" else [config, *words])
    assert args.debug is expected and args.setting("max_steps") == 7


# ---- what is refused


# R14 row 31
@pytest.mark.parametrize(
    ("wrong", "right"), [("hiden_size", "hidden_size"), ("max_step", "max_steps"), ("blocksizes", "block_sizes"),
                         ("warmup_ratio", "warmup_steps"), ("masking_prob", "mask_replace_prob")]
)  # fmt: skip
def test_unknown_key_names_the_nearest(tmp_path, wrong, right):
    for error in (refusal(config_file(tmp_path, **{wrong: 1})), refusal(f"--{wrong}", "1"), refusal(f"--{wrong}=1")):
        assert f"unknown key '{wrong}'" in error.what
        assert right in error.mend or wrong == "masking_prob" and "did you mean" in error.mend


def test_no_abbreviations():
    assert "unknown key 'hidden_siz'" in str(refusal("--hidden_siz", "64"))


# R14 row 32
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("hidden_size", "256"), ("hidden_size", 256.0), ("hidden_size", True), ("hidden_size", [256]),
        ("learning_rate", "1e-4"), ("cased", "true"), ("cased", 1), ("cased", 0), ("overwrite", 1),
        ("text_column", 5), ("text_column", True), ("data_dir", ["data"]), ("corpus", ["a.txt", 5]),
        ("block_sizes", ["128", "512"]), ("block_sizes", [128.5]), ("masking", "sometimes"), ("masking", None),
        ("max_steps", {"a": 1}), ("warmup_steps", True),
    ],
)  # fmt: skip
def test_types_are_strict(tmp_path, name, value):
    error = refusal(config_file(tmp_path, **{name: value}))
    assert name in str(error)
    assert "config.json" in error.where


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [("learning_rate", 1, 1.0), ("warmup_steps", 0.06, 0.06), ("corpus", "a.txt", ["a.txt"]),
     ("corpus", ["a", "b"], None), ("data_dir", "-odd name-", None), ("fsdp_config", {"min_num_params": 5}, None)],
)  # fmt: skip
def test_values_that_are_right(tmp_path, name, value, expected):
    args = parse_args([config_file(tmp_path, **{name: value})])
    found = args.resolved()[name] if name in args.resolved() else args.setting(name)
    found = json.loads(found) if isinstance(value, dict) and isinstance(found, str) else found
    assert found == (value if expected is None else expected)


@pytest.mark.parametrize(
    ("content", "part"),
    [("{", "not readable as JSON"), ("[]", "not a JSON object"), ("", "not readable"), ("\ufeff{", "not readable")],
)
def test_broken_config_files(tmp_path, content, part):
    path = tmp_path / "broken.json"
    path.write_text(content, "utf-8")
    assert part in str(refusal(str(path)))
    assert "no such file" in str(refusal(str(tmp_path / "absent.json")))
    assert "flat .json" in str(refusal(str(tmp_path / "config.yaml")))


# R14 rows 33 to 36 and 38
@pytest.mark.parametrize(
    ("settings", "where"),
    [
        ({"block_sizes": [512, 128]}, "block_sizes"), ({"block_sizes": [128, 128]}, "block_sizes"),
        ({"block_sizes": [7, 512]}, "block_sizes"), ({"block_sizes": [128, 40_000]}, "block_sizes"),
        ({"block_sizes": [24, 512]}, "block_sizes"),  # too short for edge_buffer 10
        ({"block_sizes": [128, 1024]}, "block_sizes"),  # over max_position_embeddings
        ({"overlap": 125}, "overlap"), ({"overlap": -1}, "overlap"), ({"edge_buffer": 0}, "edge_buffer"),
        ({"mask_replace_prob": 0.8, "random_replace_prob": 0.3}, "mask_replace_prob"),
        ({"mask_replace_prob": 1.1}, "mask_replace_prob"), ({"random_replace_prob": -0.1}, "random_replace_prob"),
        ({"mlm_probability": 0}, "mlm_probability"), ({"mlm_probability": 1}, "mlm_probability"),
        ({"validation_fraction": 0}, "validation_fraction"), ({"validation_fraction": 0.6}, "validation_fraction"),
        ({"nsp_probability": 1}, "nsp_probability"), ({"max_padding": 1.5}, "max_padding"),
        ({"dupe_factor": 0}, "dupe_factor"), ({"preprocessing_num_workers": 0}, "preprocessing_num_workers"),
        ({"preprocessing_seed": -1}, "preprocessing_seed"), ({"seed": -1}, "seed"), ({"seed": 2**32}, "seed"),
        ({"stage_fractions": [0.9, 0.2]}, "stage_fractions"), ({"stage_fractions": [1.0]}, "stage_fractions"),
        ({"stage_fractions": [1.0, 0.0]}, "stage_fractions"), ({"stage_batch_sizes": [64]}, "stage_fractions"),
        ({"stage_batch_sizes": [64, 0]}, "stage_batch_sizes"), ({"max_steps": 0}, "max_steps"),
        ({"max_steps": -1}, "max_steps"), ({"gradient_accumulation_steps": 0}, "gradient_accumulation_steps"),
        ({"learning_rate": 0}, "learning_rate"), ({"warmup_steps": -1}, "warmup_steps"),
        ({"vocab_size": 5}, "vocab_size"), ({"hidden_size": 100, "num_attention_heads": 12}, "hidden_size"),
        ({"eval_block_size": 256}, "eval_block_size"), ({"lr_scheduler_type": "constant"}, "lr_scheduler_type"),
        ({"eval_strategy": "epoch"}, "eval_strategy"), ({"save_strategy": "epoch"}, "save_strategy"),
        ({"save_total_limit": 0}, "save_total_limit"), ({"hidden_dropout_prob": 1}, "hidden_dropout_prob"),
    ],
)  # fmt: skip
def test_ranges_and_rules(tmp_path, settings, where):
    error = refusal(config_file(tmp_path, **settings))
    assert error.where == where
    assert error.mend


@pytest.mark.parametrize(
    "settings",
    [
        {"overlap": 0}, {"overlap": 124}, {"edge_buffer": 1}, {"nsp_probability": 0}, {"validation_fraction": 0.5},
        {"block_sizes": [64], "stage_fractions": [1.0], "stage_batch_sizes": [4]},
        {"block_sizes": [16, 32, 64], "stage_fractions": [0.2, 0.3, 0.5], "stage_batch_sizes": [4, 4, 4],
         "edge_buffer": 3},
        {"mask_replace_prob": 0.9, "random_replace_prob": 0.1}, {"warmup_steps": 0}, {"eval_block_size": 128},
    ],
)  # fmt: skip
def test_limits_themselves_are_right(tmp_path, settings):
    parse_args([config_file(tmp_path, **settings)])


@pytest.mark.parametrize(
    ("settings", "where"),
    [
        ({"tokenizer_dir": "data/tokens"}, "tokenizer_dir"), ({"tokenizer_dir": "data/block_64"}, "tokenizer_dir"),
        ({"tokenizer_dir": "data/report/x"}, "tokenizer_dir"), ({"output_dir": "data/block_64"}, "output_dir"),
        ({"output_dir": "data/../data/documents"}, "output_dir"), ({"output_dir": "data/random_words/"}, "output_dir"),
        ({"output_dir": "tokenizer"}, "output_dir"), ({"output_dir": "tokenizer/out"}, "output_dir"),
        ({"output_dir": "."}, "output_dir"), ({"output_dir": "out/.."}, "output_dir"),
        ({"data_dir": "tokenizer"}, "data_dir"), ({"data_dir": "tokenizer/data"}, "data_dir"),
        ({"data_dir": "file"}, "data_dir"), ({"output_dir": "file/x"}, "output_dir"),
        ({"tokenizer_dir": "link/tokens"}, "tokenizer_dir"),
    ],
)  # fmt: skip
def test_folders_that_would_overwrite_each_other(tmp_path, monkeypatch, settings, where):
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    Path("data").mkdir()
    Path("link").symlink_to("data")
    assert refusal(config_file(tmp_path, **settings)).where == where


@pytest.mark.parametrize(
    "settings",
    [
        {"tokenizer_dir": "data/tokenizer"}, {"output_dir": "data/out"}, {"data_dir": "out/data"},
        {"tokenizer_dir": "out/tokenizer"}, {"output_dir": "data"}, {"output_dir": "tokens"},
        {"tokenizer_dir": "model", "output_dir": "model"},  # evaluation of a model with its own tokenizer
    ],
)  # fmt: skip
def test_folders_side_by_side(tmp_path, monkeypatch, settings):
    monkeypatch.chdir(tmp_path)
    Path("model").mkdir()
    Path("model/config.json").touch()
    parse_args([config_file(tmp_path, **settings)])


# ---- TrainingArguments


def test_every_training_argument_is_honoured_or_refused():
    known = {field.name for field in dataclasses.fields(TrainingArguments)}
    assert not HONOURED & REFUSED.keys()
    assert known - HONOURED - REFUSED.keys() == set(), "new in transformers: honour or refuse them"
    assert (HONOURED | REFUSED.keys()) - known == set(), "gone from transformers"


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_refused_with_the_reason_whatever_the_value(name, tmp_path):
    configs = [config_file(tmp_path, **{name: value}) for value in ("x", None)]
    for argv in ([f"--{name}=x"], [f"--{name}", "1"], [f"--{name}"], *([config] for config in configs)):
        error = refusal(*argv)
        assert (error.where, error.mend) == (name, REFUSED[name]) and REFUSED[name]


def test_the_negative_form_is_refused_too():
    assert refusal("--no_remove_unused_columns").where == "remove_unused_columns"
    assert parse_args(["--data_dir", "deepspeed"]).data.data_dir == "deepspeed"  # a value, no key


@pytest.mark.parametrize("name", sorted(HONOURED - {"debug", "output_dir"}))
def test_honoured_keys_reach_the_training_arguments(name):
    """Its own default, said on the command line, is taken and kept for the run."""
    default = field_default(PretrainingArguments, name)
    if default is None or isinstance(default, dict | list):
        default = {"bf16": False, "fp16": False, "tf32": False, "data_seed": 5}.get(name)
        if default is None:
            return
    text = str(default).lower() if isinstance(default, bool) else str(getattr(default, "value", default))
    args = parse_args([f"--{name}={text}"])
    assert args.given[name] == default


def test_training_arguments_of_a_run(tmp_path):
    args = parse_args([config_file(tmp_path, lr_scheduler_type="linear", min_learning_rate=1e-6, data_seed=5,
                                   use_cpu=True, output_dir=str(tmp_path / "out"), debug=True,
                                   weight_decay=0.1)])  # fmt: skip
    training = args.training()
    assert (training.lr_scheduler_type, training.lr_scheduler_kwargs) == ("polynomial", {"lr_end": 1e-6, "power": 1.0})
    assert (training.data_seed, training.weight_decay, args.debug) == (5, 0.1, True)
    assert not training.debug  # stock Trainer's option of that name is another thing
    assert args.output_dir == training.output_dir == str(tmp_path / "out")


def test_what_transformers_refuses_is_one_line(tmp_path):
    args = parse_args([config_file(tmp_path, use_cpu=True, bf16=True, fp16=True, output_dir=str(tmp_path))])
    with pytest.raises(UserError) as error:
        args.training()
    assert error.value.exit_code == BAD_CONFIG and "\n" not in str(error.value)


def test_keys_are_unique_over_the_groups():
    names = [field.name for group in (*GROUPS, PretrainingArguments) for field in dataclasses.fields(group)]
    assert len(names) == len(set(names))
    assert all(field.metadata.get("help") for group in GROUPS for field in dataclasses.fields(group))


@pytest.mark.parametrize("path", sorted((Path(__file__).parents[1] / "configs").glob("*.json")), ids=lambda p: p.name)
def test_the_configs_of_the_repository_parse(path):
    parse_args([str(path)])


@pytest.mark.parametrize("value", ["tensorboard", ["tensorboard"], ["mlflow", "tensorboard"]])
def test_one_tracker_or_several(tmp_path, value):
    config = tmp_path / "c.json"
    config.write_text(json.dumps({"report_to": value}))
    names = [value] if isinstance(value, str) else value
    assert parse_args([str(config)]).setting("report_to") == names
    assert parse_args(["--report_to", *names]).training().report_to == names


def test_help_says_what_for_before_the_keys_and_their_defaults_without_refused_ones(capsys):
    with pytest.raises(SystemExit):
        parse_args(["--help"], description="Reads texts.\n\n    python scripts/x.py configs/small.json\n")
    said = " ".join(capsys.readouterr().out.split("\n")[0:5])
    assert said.index("[CONFIG.json] [--key value ...]") < said.index("Reads texts.") < said.index("    python scri")
    with pytest.raises(SystemExit):
        parse_args(["--help"])
    said = " ".join(capsys.readouterr().out.split())
    for words in ("peak learning rate (0.0001)", "(I -> ı, İ -> i) (true)", "in their order (0.9 0.1)", "(cosine)"):
        assert words in said
    assert "--hub_model_id" in said and not any(f"--{name} " in said for name in REFUSED)
