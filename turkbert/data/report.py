"""Statistics -> one report.html for people: plots inside, nothing fetched, light and dark.

    write_report(Path("data"), [128, 512], tokenizer, folder)     # folder/report.html, folder/stats.json
"""

import io
import logging
import re
from importlib import resources
from pathlib import Path
from typing import Any

from datasets import DatasetDict
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from transformers import PreTrainedTokenizerFast

from turkbert.artifacts import write_json
from turkbert.data.examples import Example, read_examples
from turkbert.data.stages import CountRows, count_here
from turkbert.data.stats import HIDDEN, describe_data

logger = logging.getLogger(__name__)

NUM_EXAMPLES = 10
# Colours that matplotlib writes and the page's style sheet then gives their light or dark value.
_COLORS = {"ink": "#0000f1", "line": "#0000f2", "first": "#0000f3", "second": "#0000f4"}
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text, in the page's font
    "svg.hashsalt": "turkbert",  # the same numbers give the same file
    "font.size": 9,
    "text.color": _COLORS["ink"],
    "axes.edgecolor": _COLORS["line"],
    "axes.labelcolor": _COLORS["ink"],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": _COLORS["ink"],
    "ytick.color": _COLORS["ink"],
    "legend.frameon": False,
}


def write_report(
    data_dir: Path,
    block_sizes: list[int],
    tokenizer: PreTrainedTokenizerFast,
    output_dir: Path,
    count: CountRows = count_here,
) -> None:
    """Describe the committed stages of a data folder: stats.json and report.html in `output_dir`."""
    stats = describe_data(data_dir, block_sizes, tokenizer, count)
    # Validation rows always have their masks; those of the shortest block are the quickest to read.
    rows = DatasetDict.load_from_disk(str(data_dir / f"block_{block_sizes[0]}"))["validation"]
    examples = read_examples(rows, NUM_EXAMPLES, tokenizer)
    for warning in stats["warnings"]:
        logger.warning("%s", warning)
    write_json(output_dir / "stats.json", {**stats, "examples": [example.text() for example in examples]})
    (output_dir / "report.html").write_text(render_report(stats, examples), "utf-8")


def render_report(stats: dict[str, Any], examples: list[Example]) -> str:
    """The page as text; everything that comes from the corpus is escaped."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(count="{:,}".format, percent=percent, words=lambda name: name.replace("_", " "))
    template = resources.files("turkbert.data").joinpath("report.html.jinja").read_text("utf-8")
    return environment.from_string(template).render(
        **stats, examples=examples, plots=draw_plots(stats), hidden=HIDDEN, masked_splits=_masked_splits(stats)
    )


def percent(share: float) -> str:
    """0.1 -> 10.0 %, 0.0125 -> 1.25 %, 0.00002 -> 0.002 %"""
    value = 100 * share
    decimals = 0 if value == 0 else 1 if value >= 9.995 else 2 if value >= 0.9995 else 3
    text = "< 0.001" if 0 < value < 0.001 else f"{value:.{decimals}f}"
    return f"{text}\N{NO-BREAK SPACE}%"


def draw_plots(stats: dict[str, Any]) -> dict[str, Markup]:
    """Each plot as an <svg> in the page's own colours."""
    # Here, not above: every training imports this module, and few of them draw.
    import matplotlib

    tokens = stats["tokens"]
    blocks = [int(block_size) for block_size in stats["rows"]]
    with matplotlib.rc_context(_STYLE):
        plots = {
            "documents": _draw_lengths(tokens["document_lengths"]["histogram"], "tokens in a document", blocks),
            "sentences": _draw_lengths(tokens["sentence_lengths"]["histogram"], "tokens in a sentence", []),
        }
        for block_size, splits in stats["rows"].items():
            plots[block_size] = _draw_cuts(splits["train"]["length_a"])
    return plots


def _draw_lengths(histogram: dict[str, list[int]], label: str, blocks: list[int]) -> Markup:
    """Bars; where `blocks` are given, on a logarithmic axis with a line at each of them."""
    figure, axes = _new_figure()
    edges, numbers = histogram["edges"], histogram["numbers"]
    axes.stairs(numbers, edges, fill=True, color=_COLORS["first"])
    first = next((i for i, number in enumerate(numbers) if number), 0)
    axes.set(xlabel=label, xlim=(edges[first], edges[-1]))
    if blocks:
        axes.set_xscale("log", subs=[])
        axes.set_xlim(min(edges[first], blocks[0] / 1.2), max(edges[-1], blocks[-1] * 1.2))
        axes.xaxis.get_major_locator().set_params(subs=(1, 2, 5))
        axes.xaxis.set_major_formatter("{x:,.0f}")
    for block in blocks:
        axes.axvline(block, color=_COLORS["second"], linestyle="--", linewidth=1)
        axes.annotate(f"block {block}", (block, 1), xycoords=("data", "axes fraction"), va="bottom", ha="center")
    return _to_svg(figure, f"Histogram: {label}")


def _draw_cuts(length_a: dict[str, list[int]]) -> Markup:
    """The lengths of A under either label: two outlines that should lie on each other."""
    figure, axes = _new_figure(height=1.9)
    for name, color, label in (("is_next", "first", "B follows A"), ("not_next", "second", "B is random")):
        number = max(sum(length_a[name]), 1)
        shares = [100 * count / number for count in length_a[name]]
        axes.stairs(shares, length_a["edges"], color=_COLORS[color], linewidth=1.6, label=label)
    axes.set(xlabel="tokens in A", xlim=(0, length_a["edges"][-1]))
    axes.yaxis.set_major_formatter("{x:g} %")
    axes.legend(loc="upper right")
    return _to_svg(figure, "Lengths of A by label")


def _new_figure(height: float = 2.3) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.4, height), layout="constrained")
    axes = figure.subplots()
    axes.grid(axis="y", color=_COLORS["line"], linewidth=0.6)
    axes.set_axisbelow(True)
    axes.yaxis.set_major_formatter("{x:,.0f}")
    return figure, axes


def _to_svg(figure: Any, title: str) -> Markup:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*">', "<g>", svg)  # ids that nothing refers to, the same in every plot
    for name, color in _COLORS.items():
        svg = svg.replace(color, f"var(--{name})")
    return Markup(svg.replace("<svg ", f'<svg role="img" aria-label="{title}" ', 1))


def _masked_splits(stats: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    """(block size, split, masks): of each size the training rows, or where they get theirs later the others."""
    found = []
    for block_size, splits in stats["rows"].items():
        split = "train" if splits["train"]["masks"] else "validation"
        found.append((block_size, split, splits[split]["masks"]))
    return found
