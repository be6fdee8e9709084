"""The pictures of a run show what metrics.jsonl holds, and never cost a run anything but a little time."""

import json
import logging
import math
from pathlib import Path

import pytest

from tests.training.tiny import tiny_arguments
from turkbert.artifacts import find_damage, read_manifest
from turkbert.training import callbacks, plots
from turkbert.training.metrics_file import METRICS_FILE, training_totals
from turkbert.training.plots import NAMES, read_curves, write_plots
from turkbert.training.run import pretrain

BASELINES = {"unigram_loss": 8.2, "majority_accuracy": 0.05}
SHORT = {"max_steps": 4, "eval_steps": 2, "save_steps": 4, "stage_fractions": [0.5, 0.5]}
PNG = b"\x89PNG\r\n\x1a\n"


def write_metrics(folder: Path, num_logs: int = 60, with_nsp: bool = True, **changes) -> Path:
    """A metrics.jsonl of two stages, nine tenths and a tenth, with a validation every tenth log."""
    lines = []
    for step in range(1, num_logs + 1):
        second = step > 0.9 * num_logs
        losses = {"mlm_loss": 7 + 3 / step, "nsp_loss": 0.69 * with_nsp}
        speed = {"tokens_per_second": 1000.0, "learning_rate": 1e-4, "grad_norm": 1.0}
        speed["block_size"] = 64 if second else 32
        line = {"step": step, "time": 1.0, "tokens_seen": 100 * step}
        lines.append({**line, **losses, **speed, "loss": sum(losses.values()), **changes})
        if step % 10 == 0:
            found = {"eval_mlm_loss": 7.1, "eval_mlm_accuracy": 0.1, "eval_mlm_perplexity": math.exp(7.1)}
            nsp = {"eval_nsp_loss": 0.69, "eval_nsp_accuracy": 0.52} if with_nsp else {}
            lines.append({**line, **found, **nsp})
    lines.append({**line, "eval_mlm_loss": 5.0, "final": True})
    path = folder / METRICS_FILE
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture
def drawn(monkeypatch) -> list:
    """The figures as they were when they were saved."""
    figures = []
    as_png = plots._as_png
    monkeypatch.setattr(plots, "_as_png", lambda figure: figures.append(figure) or as_png(figure))
    return figures


def line_of(axes, label: str):
    return next(line for line in axes.get_lines() if line.get_label() == label)


def test_the_curves_are_those_of_the_file(tmp_path):
    curves = read_curves(write_metrics(tmp_path))
    assert [log["step"] for log in curves.train] == list(range(1, 61))
    assert [log["step"] for log in curves.validation] == [10, 20, 30, 40, 50, 60]
    assert 5.0 not in [log["eval_mlm_loss"] for log in curves.validation]  # the final model's belongs to another step
    assert [(log["step"], log["tokens_seen"]) for log in curves.switches()] == [(54, 5400)]
    assert curves.block_sizes() == [32, 64]


def test_the_final_evaluation_counts_where_there_is_no_other(tmp_path):
    path = write_metrics(tmp_path)
    path.write_text("".join(line for line in path.open() if "eval" not in line or "final" in line))
    assert [log["eval_mlm_loss"] for log in read_curves(path).validation] == [5.0]


def test_every_curve_is_drawn_with_its_names(tmp_path, drawn):
    assert write_plots(write_metrics(tmp_path), tmp_path / "plots", BASELINES) == list(NAMES)
    assert sorted(path.name for path in (tmp_path / "plots").iterdir()) == sorted(NAMES)
    assert all((tmp_path / "plots" / name).read_bytes().startswith(PNG) for name in NAMES)
    titles = [[axes.get_title(loc="left") for axes in figure.axes] for figure in drawn]
    assert titles == [
        ["masked words: loss (nats)"] * 2 + ["next sentence: loss (nats)"] * 2,
        ["masked words: perplexity", "masked words: accuracy", "next sentence: accuracy"],
        ["learning rate (in 0.0001)", "gradient norm", "tokens/s"],
    ]
    losses = drawn[0]
    assert [axes.get_xlabel() for axes in losses.axes] == ["step", "tokens seen"] * 2
    assert [text.get_text() for text in losses.legends[0].get_texts()] == [
        "training", "validation", "guessing: word frequencies, a coin", "stages: 32 → 64 tokens a row"
    ]  # fmt: skip
    over_steps, over_tokens = losses.axes[:2]
    assert list(line_of(over_steps, "validation").get_xdata()) == [10, 20, 30, 40, 50, 60]
    assert list(line_of(over_tokens, "validation").get_ydata()) == [7.1] * 6
    assert line_of(over_tokens, "validation").get_xdata()[-1] == over_tokens.get_xlim()[1] == 6000
    stage = "stages: 32 → 64 tokens a row"
    assert {axes.get_xlabel(): line_of(axes, stage).get_xdata()[0] for axes in losses.axes} == {
        "step": 54, "tokens seen": 5400
    }  # fmt: skip
    assert line_of(over_steps, "guessing: word frequencies, a coin").get_ydata()[0] == 8.2
    assert all(figure.axes[0].get_xlim()[0] == 0 for figure in drawn)


def test_the_first_moments_do_not_flatten_the_rest(tmp_path, drawn):
    write_plots(write_metrics(tmp_path, 100), tmp_path / "plots", {})
    low, high = drawn[0].axes[0].get_ylim()
    assert low < 7.03 and 7.2 < high < 9.5  # the loss begins at 10


def test_what_is_not_finite_is_a_gap(tmp_path, drawn):
    path = write_metrics(tmp_path)
    lines = [json.loads(line) for line in path.open()]
    lines[5] |= {"mlm_loss": "nan", "grad_norm": "inf"}
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    write_plots(path, tmp_path / "plots", BASELINES)
    values = drawn[0].axes[0].get_lines()[0].get_ydata()
    assert math.isnan(values[5]) and sum(map(math.isnan, values)) == 1


@pytest.mark.parametrize("changes", [{"mlm_loss": "nan", "grad_norm": "nan"}, {"tokens_per_second": 0.0}])
def test_odd_files_are_drawn_too(tmp_path, changes):
    assert write_plots(write_metrics(tmp_path, 3, **changes), tmp_path / "plots", {}) == list(NAMES)


def test_without_next_sentences_there_is_no_panel_for_them(tmp_path, drawn):
    write_plots(write_metrics(tmp_path, with_nsp=False), tmp_path / "plots", BASELINES)
    assert [len(figure.axes) for figure in drawn] == [2, 2, 3]


def test_nothing_logged_is_nothing_drawn(tmp_path):
    assert write_plots(tmp_path / METRICS_FILE, tmp_path / "plots", {}) == []
    assert list(tmp_path.iterdir()) == []


def test_totals_are_of_the_whole_run(tmp_path):
    totals = training_totals(write_metrics(tmp_path))
    assert (totals["steps"], totals["tokens"]) == (60, 6000)
    assert (totals["seconds"], totals["tokens_per_second"]) == pytest.approx((6.0, 1000.0))
    assert totals["mlm_loss"] == 7.05
    assert training_totals(tmp_path / "none") == {}


# ---- in a run


pytestmark = pytest.mark.usefixtures("draws")


def train(tiny_dir, prepared, output_dir, **changes):
    args = tiny_arguments(tiny_dir, output_dir, **{**SHORT, **changes})
    return pretrain(args, args.training(), prepared.tokenizer, prepared.rows)


def test_a_run_leaves_its_plots_in_its_manifest_and_card(tiny_dir, prepared, tmp_path):
    result = train(tiny_dir, prepared, tmp_path / "out")
    names = {f"plots/{name}" for name in NAMES}
    assert names <= read_manifest(tmp_path / "out")["files"].keys()
    assert find_damage(tmp_path / "out") is None
    card = (tmp_path / "out" / "README.md").read_text("utf-8")
    assert all(f"]({name})" in card for name in names)
    assert 3 < result.baselines["unigram_loss"] < 6.9
    results = json.loads((tmp_path / "out" / "eval_results.json").read_text())
    assert results["unigram_loss"] == result.baselines["unigram_loss"]


def test_plots_are_drawn_at_evaluations(tiny_dir, prepared, tmp_path, monkeypatch):
    seen = []

    def watched(metrics_file, folder, baselines):
        seen.append((read_curves(metrics_file).train[-1]["step"], folder.parent.name))
        return []

    monkeypatch.setattr(callbacks, "write_plots", watched)
    monkeypatch.setattr(callbacks, "PLOTS_SHARE", math.inf)
    train(tiny_dir, prepared, tmp_path / "out")
    assert seen == [(2, "out"), (4, "out"), (4, "_staging-model")]
    seen.clear()
    train(tiny_dir, prepared, tmp_path / "out", overwrite=True)  # the old result stays whole meanwhile
    assert seen == [(4, "_staging-model")]


def test_drawing_takes_its_share_and_no_more(tmp_path, monkeypatch):
    """Of a hundred seconds between evaluations, drawing for two leaves out the next one."""
    from types import SimpleNamespace

    now = [0.0]
    steps = []

    def slow(*args):
        steps.append(now[0])
        now[0] += 2.0
        return []

    monkeypatch.setattr(callbacks, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    monkeypatch.setattr(callbacks, "draw_plots", slow)
    meter = SimpleNamespace(aside=0.0)
    callback = callbacks.PlotsCallback(meter, dict)
    args, state = SimpleNamespace(output_dir=str(tmp_path)), SimpleNamespace(is_world_process_zero=True)
    for number in range(1, 8):
        now[0] = 101.0 * number
        callback.on_evaluate(args, state, None)
    assert steps == [101.0, 303.0, 505.0, 707.0] and meter.aside == 8.0


def test_an_error_of_drawing_costs_no_run(tiny_dir, prepared, tmp_path, monkeypatch, caplog):
    def broken(*args):
        raise RuntimeError("no font")

    monkeypatch.setattr(callbacks, "write_plots", broken)
    with caplog.at_level(logging.WARNING, "turkbert"):
        train(tiny_dir, prepared, tmp_path / "out")
    assert caplog.text.count("the plots were not drawn (RuntimeError: no font)") == 1
    assert "![" not in (tmp_path / "out" / "README.md").read_text("utf-8")
    assert find_damage(tmp_path / "out") is None


def test_a_picture_is_whole_or_not_there(tmp_path, monkeypatch):
    def full(self, content):
        Path.open(self, "wb").write(content[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space"):
        write_plots(write_metrics(tmp_path), tmp_path / "plots", {})
    assert list((tmp_path / "plots").iterdir()) == []
