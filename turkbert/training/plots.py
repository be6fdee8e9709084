"""metrics.jsonl -> pictures of a run: losses.png, accuracy.png and training.png.

    write_plots(Path("out/metrics.jsonl"), Path("out/plots"), {"unigram_loss": 8.25, "majority_accuracy": 0.051})

All that a resumed run ever logged is in that one file, so its curves are whole.
"""

import io
import math
import os
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from turkbert.training.metrics_file import read_metrics

NAMES = ("losses.png", "accuracy.png", "training.png")
_INK, _FAINT, _LINE, _FIRST, _SECOND = "#23262b", "#6a6f78", "#dcdcd6", "#2f6f9f", "#c0632b"
_STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib and has the Turkish letters
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.titlecolor": _INK,
    "axes.edgecolor": _LINE,
    "axes.labelcolor": _FAINT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": _LINE,
    "grid.linewidth": 0.6,
    "xtick.color": _FAINT,
    "ytick.color": _FAINT,
    "text.color": _INK,
    "legend.frameon": False,
    "lines.solid_capstyle": "round",
}
_DPI = 150
_SMOOTH_FROM, _SMOOTH_SHARE = 40, 0.025  # points of the longest stage, and the share of them in a running mean
_OUTLIERS = 0.02  # share of the training points that may lie above the picture: a loss falls fast at first
_LOG_RATIO = 8.0  # largest over smallest value from which an axis is logarithmic


class Curves(NamedTuple):
    """What was logged: each list in the order of the steps."""

    train: list[dict[str, float]]
    validation: list[dict[str, float]]

    def switches(self) -> list[dict[str, float]]:
        """The last training log before each change of the block size."""
        return [log for log, after in pairwise(self.train) if log["block_size"] != after["block_size"]]

    def block_sizes(self) -> list[int]:
        """In the order of the stages."""
        return list(dict.fromkeys(int(log["block_size"]) for log in self.train))


def read_curves(path: Path) -> Curves:
    """The training and validation logs of metrics.jsonl.

    The validation of the final model belongs to the step of its checkpoint; it counts only where there is no other.
    """
    lines = [{name: float(value) for name, value in line.items()} for _, line in read_metrics(path)]
    evaluations = [line for line in lines if "eval_mlm_loss" in line]
    on_the_way = [line for line in evaluations if "final" not in line]
    return Curves([line for line in lines if "mlm_loss" in line], on_the_way or evaluations)


def write_plots(metrics_file: Path, folder: Path, baselines: Mapping[str, float]) -> list[str]:
    """Draw what was logged so far into `folder`, each file whole or not at all.

    Args:
        baselines: unigram_loss and majority_accuracy, as far as they are known.

    Returns:
        The names of the files; none where nothing was logged yet.
    """
    curves = read_curves(metrics_file)
    if not curves.train:
        return []
    # Here, not above: it takes most of a second, and no process but the main one draws.
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # a user's own matplotlibrc may ask for LaTeX
        matplotlib.rcParams.update(_STYLE)
        figures = [draw(curves, baselines) for draw in (_draw_losses, _draw_accuracy, _draw_training)]
        pictures = dict(zip(NAMES, map(_as_png, figures), strict=True))
    folder.mkdir(parents=True, exist_ok=True)
    for name, picture in pictures.items():
        beside = folder / f"_{name}"
        try:
            beside.write_bytes(picture)
            os.replace(beside, folder / name)
        finally:
            beside.unlink(missing_ok=True)
    return list(NAMES)


def _as_png(figure: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI)
    return buffer.getvalue()


# ---- figures


def _draw_losses(curves: Curves, baselines: Mapping[str, float]) -> Any:
    """MLM and NSP, each over the steps and over the tokens seen."""
    guesses = {"mlm_loss": baselines.get("unigram_loss"), "nsp_loss": math.log(2)}
    titles = {"mlm_loss": "masked words: loss (nats)", "nsp_loss": "next sentence: loss (nats)"}
    names = [name for name in titles if any(log[name] for log in curves.train)]  # without NSP its loss is 0
    figure, panels = _new_figure(len(names), 2)
    for row, name in zip(panels, names, strict=True):
        for axes, x in zip(row, ("step", "tokens_seen"), strict=True):
            _plot_losses(axes, curves, name, x, guesses[name])
            axes.set_title(titles[name])
    return _finish(figure, curves, panels)


def _draw_accuracy(curves: Curves, baselines: Mapping[str, float]) -> Any:
    """Perplexity, and the accuracies of both tasks on the validation rows."""
    with_nsp = _has(curves.validation, "eval_nsp_accuracy")
    figure, panels = _new_figure(1, 2 + with_nsp)
    perplexity, words, *sentences = panels[0]
    unigram_loss = baselines.get("unigram_loss")
    _plot_perplexity(perplexity, curves, None if unigram_loss is None else math.exp(unigram_loss))
    perplexity.set_title("masked words: perplexity")
    _plot_share(words, curves, "eval_mlm_accuracy", baselines.get("majority_accuracy"))
    words.set_title("masked words: accuracy")
    for axes in sentences:
        _plot_share(axes, curves, "eval_nsp_accuracy", 0.5)
        axes.set_title("next sentence: accuracy")
    return _finish(figure, curves, panels)


def _draw_training(curves: Curves, baselines: Mapping[str, float]) -> Any:
    """Learning rate, gradient norm and speed."""
    figure, panels = _new_figure(1, 3)
    rate, norm, speed = panels[0]
    _plot_rate(rate, curves)
    for axes, name, title in ((norm, "grad_norm", "gradient norm"), (speed, "tokens_per_second", "tokens/s")):
        _plot_noisy(axes, curves, "step", name)
        axes.set_title(title)
        _set_limits(axes, _points(curves.train, "step", name)[1], from_zero=True)
    speed.yaxis.set_major_formatter(_engineering())
    return _finish(figure, curves, panels)


def _new_figure(rows: int, columns: int) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 0.5 + 2.7 * rows), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.08)
    return figure, figure.subplots(rows, columns, squeeze=False)


def _finish(figure: Any, curves: Curves, panels: Any) -> Any:
    """Mark the stages, name the lines once above all panels."""
    for axes in panels.flat:
        x = "tokens_seen" if axes.get_xlabel() == "tokens seen" else "step"
        _mark_stages(axes, curves, x, nbins=6 if panels.shape[1] < 3 else 4)
    lines = {line.get_label(): line for axes in panels.flat for line in axes.get_lines()}
    named = {label: line for label, line in lines.items() if not label.startswith("_")}
    if named:
        figure.legend(named.values(), named, loc="outside upper left", ncols=len(named), handlelength=1.8)
    return figure


def _mark_stages(axes: Any, curves: Curves, x: str, nbins: int) -> None:
    """A dashed line where each stage ends, and the axis they all share."""
    label = f"stages: {' → '.join(map(str, curves.block_sizes()))} tokens a row"
    for switch in curves.switches():
        axes.axvline(switch[x], color=_INK, linestyle=(0, (4, 3)), linewidth=0.9, label=label)
    last = max(log[x] for log in (*curves.train, *curves.validation))
    axes.set_xlim(0, max(last, 1))
    axes.set_xlabel("tokens seen" if x == "tokens_seen" else "step")
    axes.xaxis.get_major_locator().set_params(nbins=nbins, integer=True)
    axes.xaxis.set_major_formatter(_engineering() if x == "tokens_seen" else "{x:,.0f}")


# ---- panels


def _plot_losses(axes: Any, curves: Curves, name: str, x: str, guess: float | None) -> None:
    _plot_noisy(axes, curves, x, name, label="training")
    found, validation = _points(curves.validation, x, f"eval_{name}")
    _plot_validation(axes, found, validation)
    _plot_guess(axes, guess)
    axes.set_xlabel("tokens seen" if x == "tokens_seen" else "step")
    train = _points(curves.train, x, name)[1]
    _set_limits(axes, train, [*validation, *([] if guess is None else [guess])], least_span=0.1)


def _plot_perplexity(axes: Any, curves: Curves, guess: float | None) -> None:
    exact = [{**log, "perplexity": math.exp(min(log["mlm_loss"], 700))} for log in curves.train]
    _plot_noisy(axes, Curves(exact, []), "step", "perplexity", label="training")
    found, validation = _points(curves.validation, "step", "eval_mlm_perplexity")
    _plot_validation(axes, found, validation)
    _plot_guess(axes, guess)
    train, others = _points(exact, "step", "perplexity")[1], [*validation, *([] if guess is None else [guess])]
    _set_limits(axes, train, others, may_be_log=True)
    if axes.get_yscale() == "linear":
        axes.yaxis.set_major_formatter("{x:,.0f}")


def _plot_rate(axes: Any, curves: Curves) -> None:
    """In units of the power of ten just below the peak, so that the ticks are plain numbers."""
    x, values = _points(curves.train, "step", "learning_rate")
    axes.plot(x, values, color=_FIRST, linewidth=1.6)
    peak = np.nanmax([*values, 0.0])
    unit = 10.0 ** math.floor(math.log10(peak) + 0.01) if peak else 1.0  # the peak itself is seldom logged
    axes.yaxis.set_major_formatter(lambda value, _: f"{value / unit:.3g}")
    axes.set_title(f"learning rate (in {unit:g})" if peak else "learning rate")
    _set_limits(axes, values, from_zero=True)


def _plot_share(axes: Any, curves: Curves, name: str, guess: float | None) -> None:
    found, values = _points(curves.validation, "step", name)
    _plot_validation(axes, found, values)
    _plot_guess(axes, guess)
    _set_limits(axes, values, [] if guess is None else [guess], least_span=0.04)
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.3g} %")


def _plot_noisy(axes: Any, curves: Curves, x: str, name: str, label: str | None = None) -> None:
    """Training logs as a thin line, and a running mean within each stage where there are many."""
    stages = [[log for log in curves.train if log["block_size"] == size] for size in curves.block_sizes()]
    most = max(map(len, stages))
    smooth, width = most >= _SMOOTH_FROM, 2 * round(_SMOOTH_SHARE * most / 2) + 1
    found, values = _points(curves.train, x, name)
    look = {"linewidth": 0.8, "alpha": 0.35} if smooth else {"linewidth": 1.4, "label": label}
    axes.plot(found, values, color=_FIRST, **look)
    for number, logs in enumerate(stages if smooth else []):
        found, values = _points(logs, x, name)
        mean = _running_mean(values, max(width, 3))
        axes.plot(found, mean, color=_FIRST, linewidth=1.6, label=None if number else label)


def _plot_validation(axes: Any, x: np.ndarray, values: np.ndarray) -> None:
    """Points where they can be told apart, and a line."""
    marker = "o" if 0 < len(x) <= _SMOOTH_FROM else None
    look = {"color": _SECOND, "linewidth": 1.6, "marker": marker, "markersize": 3.5, "clip_on": False}
    axes.plot(x, values, label="validation", **look)


def _plot_guess(axes: Any, value: float | None) -> None:
    if value is not None:
        label = "guessing: word frequencies, a coin"
        axes.axhline(value, color=_FAINT, linestyle=(0, (1, 1.6)), linewidth=1.3, label=label)


def _set_limits(
    axes: Any,
    train: np.ndarray,
    others: Any = (),
    least_span: float = 0.0,
    from_zero: bool = False,
    may_be_log: bool = False,
) -> None:
    """Show all of `others`, and of the noisy `train` all but its highest outliers."""
    train, others = (np.asarray(values, dtype=float) for values in (train, others))
    train, others = train[np.isfinite(train)], others[np.isfinite(others)]
    if not train.size + others.size:
        return
    ordinary = np.quantile(train, [1 - _OUTLIERS]) if train.size >= _SMOOTH_FROM else train
    high = max([*ordinary, *others])
    low = min([*train, *others])
    if may_be_log and 0 < low < high / _LOG_RATIO:
        axes.set_yscale("log", subs=[])
        axes.yaxis.get_major_locator().set_params(subs=(1, 2, 5))
        axes.yaxis.set_major_formatter("{x:,.0f}")
        axes.set_ylim(low / 1.15, high * 1.15)
        return
    low = 0 if from_zero else low
    missing = max(least_span - (high - low), 0) / 2
    margin = 0.06 * (high - low + 2 * missing) or 0.5
    axes.set_ylim(low if from_zero else low - missing - margin, high + missing + margin)


# ---- numbers


def _points(logs: list[dict[str, float]], x: str, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Where and what, of the logs that have it; what is not finite is a gap."""
    found = [(log[x], log[name] if math.isfinite(log[name]) else math.nan) for log in logs if name in log]
    points = np.array(found, dtype=float).reshape(-1, 2)
    return points[:, 0], points[:, 1]


def _running_mean(values: np.ndarray, width: int) -> np.ndarray:
    """Centred, over fewer points towards the ends, gaps left out."""
    known = np.isfinite(values)
    window = np.ones(min(width, len(values)))
    sums = np.convolve(np.where(known, values, 0), window, "same")
    numbers = np.convolve(known, window, "same")
    return np.divide(sums, numbers, out=np.full(len(values), math.nan), where=numbers > 0)


def _has(logs: list[dict[str, float]], name: str) -> bool:
    return any(name in log for log in logs)


def _engineering() -> Any:
    from matplotlib.ticker import EngFormatter

    return EngFormatter(sep=" ")
