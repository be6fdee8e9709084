"""A run on the console: a bar for a terminal, plain lines for a log file, a table at the end."""

import io
import logging
import re
import sys

import pytest
from transformers import PrinterCallback, ProgressCallback, TrainerCallback

from tests.training.tiny import tiny_arguments
from turkbert.training import progress as module
from turkbert.training.metrics_file import METRICS_FILE
from turkbert.training.progress import shown_progress
from turkbert.training.result import RunResult
from turkbert.training.run import build_trainer

SHORT = {"max_steps": 6, "eval_steps": 3, "save_strategy": "no", "stage_fractions": [0.5, 0.5], "logging_steps": 2}


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


def train(tiny_dir, prepared, tmp_path, **changes):
    args = tiny_arguments(tiny_dir, tmp_path / "out", **{**SHORT, **changes})
    trainer = build_trainer(args, args.training(), prepared.tokenizer, prepared.rows, checkpoint=None)
    with shown_progress(trainer):
        trainer.train()
    return trainer


def on_terminal(monkeypatch) -> Terminal:
    """From here on stderr is a terminal. No fixture: between those and the test pytest sets a stderr of its own."""
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    return stream


def plain_lines(caplog) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == module.__name__]


def test_a_log_file_gets_a_plain_line_a_log(tiny_dir, prepared, tmp_path, caplog, capfd):
    with caplog.at_level(logging.INFO, "turkbert"):
        train(tiny_dir, prepared, tmp_path, disable_tqdm=False)
    lines = plain_lines(caplog)
    number = r"\d+\.\d{3}"
    speed = r"[\d,]+ tokens/s(, .* left)?"
    for line, step in zip([line for line in lines if "validation" not in line], (2, 3, 4, 6), strict=True):
        assert re.fullmatch(rf"step {step} of 6: MLM loss {number}, NSP loss {number}, {speed}", line), line
    evaluated = rf"validation MLM loss {number}, accuracy [\d.]+%; NSP loss {number}, accuracy [\d.]+%"
    for line, step in zip([line for line in lines if "validation" in line], (3, 6), strict=True):
        assert re.fullmatch(f"step {step}: {evaluated}", line), line
    out, err = capfd.readouterr()
    assert out == "" and "\r" not in err and "{" not in err


def test_a_terminal_gets_one_bar(tiny_dir, prepared, tmp_path, monkeypatch, caplog, capfd):
    terminal = on_terminal(monkeypatch)
    with caplog.at_level(logging.INFO, "turkbert"):
        train(tiny_dir, prepared, tmp_path, disable_tqdm=False)
    shown = terminal.getvalue()
    assert "\rstage 1/2, step 0/6   0%|" in shown
    last = shown.replace("\r", "\n").split("\n")[-2].rstrip()
    rest = r"[\d:]+<[\d:]+, .* tok/s, MLM \d+\.\d\d, NSP \d\.\d\d"
    assert re.fullmatch(rf"stage 2/2, step 6/6 100%\|[█#]+\| {rest}", last), last
    assert all("validation" in line for line in plain_lines(caplog))  # the others are in the bar
    assert capfd.readouterr().out == ""


def test_the_bar_counts_tokens_and_goes_on_where_it_was(tiny_dir, prepared, tmp_path, monkeypatch):
    """Three steps of 8 x 32 tokens, then three of 8 x 64: half the steps are a third of the work."""
    on_terminal(monkeypatch)
    from types import SimpleNamespace

    args = tiny_arguments(tiny_dir, tmp_path / "out", **{**SHORT, "stage_batch_sizes": [8, 8]})
    trainer = build_trainer(args, args.training(), prepared.tokenizer, prepared.rows, checkpoint=None)
    bar = module.BarCallback(trainer.sampler)
    bar.on_train_begin(args, SimpleNamespace(global_step=3, max_steps=6), None)
    assert (bar.bar.n, bar.bar.total) == (768, 768 + 3 * 8 * 64)
    bar.on_step_end(args, SimpleNamespace(global_step=4, max_steps=6), None)
    bar.close()
    assert bar.bar.n == 768 + 512
    assert bar.bar.desc == "stage 2/2, step 4/6"


def test_disable_tqdm_is_honoured_on_a_terminal(tiny_dir, prepared, tmp_path, monkeypatch, caplog):
    terminal = on_terminal(monkeypatch)
    with caplog.at_level(logging.INFO, "turkbert"):
        train(tiny_dir, prepared, tmp_path, disable_tqdm=True)
    assert "%|" not in terminal.getvalue() and any(line.startswith("step 2 of 6:") for line in plain_lines(caplog))


def test_an_error_leaves_no_bar_and_no_handler_behind(tiny_dir, prepared, tmp_path, monkeypatch):
    terminal = on_terminal(monkeypatch)

    class Fails(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            raise RuntimeError("boom")

    args = tiny_arguments(tiny_dir, tmp_path / "out", **{**SHORT, "disable_tqdm": False})
    trainer = build_trainer(args, args.training(), prepared.tokenizer, prepared.rows, checkpoint=None)
    trainer.add_callback(Fails())
    handlers = list(logging.getLogger().handlers)
    with pytest.raises(RuntimeError, match="boom"), shown_progress(trainer):
        trainer.train()
    assert logging.getLogger().handlers == handlers
    kinds = {type(callback) for callback in trainer.callback_handler.callbacks}
    assert not kinds & {module.BarCallback, module.LinesCallback, ProgressCallback, PrinterCallback}
    assert terminal.getvalue().endswith("\n")


def test_log_lines_go_above_the_bar(tiny_dir, prepared, tmp_path, monkeypatch):
    terminal = on_terminal(monkeypatch)
    handler = logging.StreamHandler(terminal)
    logging.getLogger().addHandler(handler)
    level = logging.getLogger("turkbert").level
    logging.getLogger("turkbert").setLevel(logging.INFO)
    try:
        train(tiny_dir, prepared, tmp_path, disable_tqdm=False)
    finally:
        logging.getLogger().removeHandler(handler)
        logging.getLogger("turkbert").setLevel(level)
    lines = [line for line in re.split(r"[\r\n]", terminal.getvalue()) if "validation MLM loss" in line]
    assert len(lines) == 2 and all(line.startswith("step ") for line in lines), lines


def test_without_next_sentences_nothing_is_said_of_them(caplog):
    with caplog.at_level(logging.INFO, "turkbert"):
        module.tell_evaluation(7, {"eval_mlm_loss": 7.1234, "eval_mlm_accuracy": 0.125})
        module.tell_evaluation(7, {"train_runtime": 3.0})
    assert plain_lines(caplog) == ["step 7: validation MLM loss 7.123, accuracy 12.5%"]


def test_the_table_at_the_end(tmp_path):
    for name in ("README.md", METRICS_FILE):
        (tmp_path / name).touch()
    found = {"loss": 7.75, "mlm_loss": 7.0556, "mlm_accuracy": 0.0819, "mlm_perplexity": 1159.3803}
    found |= {"nsp_loss": 0.6927, "nsp_accuracy": 0.56, "nsp_f1": 0.0833}
    speed = {"seconds": 52.04, "tokens_per_second": 23613}
    result = RunResult(
        tmp_path,
        {f"eval_{name}": value for name, value in found.items()},
        "",
        "the best weights by validation loss, of step 540",
        {"unigram_loss": 7.42, "majority_accuracy": 0.051},
        {"mlm_loss": 7.01, "nsp_loss": 0.69, "steps": 600, "tokens": 1_228_800, **speed},
    )
    assert result.summary().splitlines() == [
        "                    training  validation    guessing",
        "mlm_loss              7.0100      7.0556      7.4200",
        "mlm_accuracy                      0.0819      0.0510",
        "mlm_perplexity                 1159.3803   1669.0335",
        "nsp_loss              0.6900      0.6927      0.6931",
        "nsp_accuracy                      0.5600      0.5000",
        "nsp_f1                            0.0833",
        "",
        "steps           600",
        "tokens          1,228,800",
        "time of steps   52.0 s",
        "tokens/s        23,613",
        "",
        f"model           {tmp_path} (the best weights by validation loss, of step 540)",
        f"card            {tmp_path}/README.md",
        f"all logs        {tmp_path}/{METRICS_FILE}",
    ]
