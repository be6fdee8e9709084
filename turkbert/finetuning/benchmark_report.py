"""The tables of a benchmark: Markdown, HTML with a plot, and entries for the model card.

    write_reports(compare(records), Path("benchmark"))    # benchmark.md, benchmark.html, model_index.yaml
"""

import base64
import html
import io
import logging
from pathlib import Path

import matplotlib
from huggingface_hub import EvalResult, ModelCardData

from turkbert.finetuning.comparison import CONFIDENCE, Row

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402  the backend first

logger = logging.getLogger(__name__)

HEADER = ("task", "score", "rows train / test", "model", "mean ± sd", "first is ahead by", "rate", "s a run")
NOTE = (
    "Means and standard deviations over seeds, in percent. The difference is the first model's score less this "
    f"one's, paired by seed, with its {CONFIDENCE:.0%} interval (Student's t, over seeds, on the same rows). Learning "
    "rates were chosen on validation rows at the first seed."
)


def write_reports(rows: list[Row], folder: Path) -> list[Path]:
    """Write benchmark.md, benchmark.html and model_index.yaml of the first model; give back their paths."""
    paths = {
        "benchmark.md": f"{markdown_table(rows)}\n{NOTE}\n",
        "benchmark.html": html_page(rows),
        "model_index.yaml": model_index(rows),
    }
    for name, text in paths.items():
        (folder / name).write_text(text, "utf-8")
    return [folder / name for name in paths]


def table_cells(rows: list[Row]) -> list[list[str]]:
    """The table as text, a line a task and model."""
    lines = []
    for row in rows:
        for number, (arm, cell) in enumerate(row.cells.items()):
            d = cell.difference
            others = ", ".join(f"{name} {value:.2f}" for name, value in cell.others.items())
            lines.append(
                [
                    row.task if number == 0 else "",
                    row.metric if number == 0 else "",
                    f"{row.rows['train']:,} / {row.rows[row.split]:,}" if number == 0 else "",
                    arm,
                    f"{cell.mean:.2f} ± {cell.deviation:.2f}" + (f" ({others})" if others else ""),
                    "" if d is None else f"{d.mean:+.2f} [{d.low:+.2f}, {d.high:+.2f}]",
                    f"{cell.learning_rate:g}",
                    f"{cell.seconds:.0f}",
                ]
            )
    return lines


def markdown_table(rows: list[Row]) -> str:
    """The table for a README."""
    lines = [HEADER, ["---"] * 4 + ["---:"] * 4, *table_cells(rows)]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def html_page(rows: list[Row]) -> str:
    """One file with the table and the plot in it."""
    head = "".join(f"<th>{html.escape(name)}</th>" for name in HEADER)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(text)}</td>" for text in line) + "</tr>\n" for line in table_cells(rows)
    )
    picture = base64.b64encode(plot(rows)).decode()
    return (
        '<!DOCTYPE html>\n<html lang="en"><meta charset="utf-8"><title>Benchmark</title>\n'
        "<style>body{font-family:sans-serif;max-width:75rem;margin:2rem auto;padding:0 1rem}"
        "table{border-collapse:collapse;width:100%;font-size:.9rem}td,th{padding:.3rem .6rem;text-align:left;"
        "border-bottom:1px solid #ddd}img{max-width:100%}</style>\n<h1>Benchmark</h1>\n"
        f'<img alt="scores of each model and task" src="data:image/png;base64,{picture}">\n'
        f"<table><tr>{head}</tr>\n{body}</table>\n<p>{html.escape(NOTE)}</p></html>\n"
    )


def plot(rows: list[Row]) -> bytes:
    """A PNG: one panel a task, a point a seed and a bar for the mean of each model."""
    arms = list(dict.fromkeys(arm for row in rows for arm in row.cells))
    columns = min(4, len(rows))
    lines = -(-len(rows) // columns)
    size = (3 * columns, 2.6 * lines)
    figure, panels = plt.subplots(lines, columns, figsize=size, squeeze=False, layout="constrained")
    for panel in panels.flat[len(rows) :]:
        panel.axis("off")
    for row, panel in zip(rows, panels.flat, strict=False):
        for place, arm in enumerate(arms):
            if arm in row.cells:
                cell = row.cells[arm]
                panel.plot([place] * len(cell.scores), cell.scores, "o", color=f"C{place}", alpha=0.5, markersize=4)
                panel.plot([place - 0.25, place + 0.25], [cell.mean] * 2, color=f"C{place}", linewidth=2.5)
        panel.set(title=f"{row.task}\n{row.metric}", xlim=(-0.6, len(arms) - 0.4), xticks=[])
        panel.title.set_fontsize(9)
        panel.tick_params(labelsize=8)
        panel.grid(axis="y", alpha=0.3)
    marks = [plt.Line2D([], [], color=f"C{place}", linewidth=2.5) for place in range(len(arms))]
    figure.legend(marks, arms, loc="outside lower center", ncols=min(columns, len(arms)), fontsize=9, frameon=False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    plt.close(figure)
    return buffer.getvalue()


def model_index(rows: list[Row]) -> str:
    """YAML for the head of the first model's card: the mean scores."""
    results, name = [], ""
    for row in rows:
        name, cell = next(iter(row.cells.items()))
        for metric, value in {row.metric: cell.mean, **cell.others}.items():
            result = EvalResult(
                task_type=row.kind.replace("_", "-"),
                dataset_type=row.task,
                dataset_name=row.task,
                dataset_split=row.split,
                metric_type=metric,
                metric_value=round(value, 2),
            )
            results.append(result)
    return ModelCardData(model_name=name, eval_results=results).to_yaml() + "\n"
