"""The report opens, is whole in itself, escapes what it shows and agrees with stats.json."""

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

from turkbert.artifacts import find_damage, read_manifest
from turkbert.data import prepare_dataset
from turkbert.data.examples import Example, Word
from turkbert.data.report import NUM_EXAMPLES, percent, render_report

VOID = {"meta", "br", "img", "link", "input", "hr"}


class Page(HTMLParser):
    """Every tag and text of a page; fails where a tag is not closed."""

    def __init__(self, html: str):
        super().__init__()
        self.open, self.tags, self.attributes, self.text = [], [], [], ""
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data + " "


def read_report(data_dir: Path) -> tuple[Page, dict]:
    html = (data_dir / "report" / "report.html").read_text("utf-8")
    return Page(html), json.loads((data_dir / "report" / "stats.json").read_text("utf-8"))


def read_keys(data_dir: Path) -> dict[str, dict]:
    """What each stage's folder stands for."""
    return {path.parent.name: read_manifest(path.parent)["key"] for path in data_dir.glob("*/MANIFEST.json")}


def test_page_is_whole_in_itself(sample_prepared, sample_dir):
    page, _ = read_report(sample_dir / "data")
    assert {"h1", "table", "svg", "mark"} <= set(page.tags)
    assert not {"script", "link", "img", "iframe", "object", "image"} & set(page.tags)
    assert page.tags.count("svg") == 2 + len(sample_prepared.rows)
    loaded = [value for name, value in page.attributes if name in ("src", "href", "xlink:href", "data", "action")]
    assert all(value.startswith("#") for value in loaded)
    css = (sample_dir / "data" / "report" / "report.html").read_text("utf-8").split("<body>")[0]
    assert "url(" not in css and "@import" not in css
    assert "prefers-color-scheme: dark" in css
    assert ("charset", "utf-8") in page.attributes


def test_numbers_agree(sample_prepared, sample_dir):
    page, stats = read_report(sample_dir / "data")
    text = " ".join(page.text.split())
    for number in (
        stats["documents"]["number"],
        stats["documents"]["white_space_words"],
        stats["tokens"]["number"],
        *stats["documents"]["characters"].values(),
        *(facts["rows"] for splits in stats["rows"].values() for facts in splits.values()),
        *(splits["validation"]["masks"][kind] for splits in stats["rows"].values() for kind in ("masked", "kept")),
    ):
        assert re.search(rf"(?<![\d,]){number:,}(?![\d,])", text), number
    for word, _ in stats["tokens"]["most_common_words"]:
        assert word in text
    for block_size, splits in stats["rows"].items():
        assert len(sample_prepared.rows[int(block_size)]["train"]) == splits["train"]["rows"]
    assert len(stats["examples"]) == NUM_EXAMPLES == page.tags.count("article")
    assert "için" in text


def test_hostile_text_is_escaped(sample_prepared, sample_dir):
    _, stats = read_report(sample_dir / "data")
    hostile = '<script src="http://x.invalid/">alert(1)</script>"><img onerror=x>'
    kinds = ("plain", "masked", "replaced", "kept")
    example = Example(0, [Word(hostile, hostile, kind, True) for kind in kinds], [], True, 5, 0)
    del stats["examples"]
    stats["tokens"]["most_common_words"] = [[hostile, 5]]
    stats["documents"] |= {"rejected": {hostile: 3}, "cleaned": {hostile: 2}}
    stats["warnings"] = [hostile]
    page = Page(render_report(stats, [example]))
    assert not {"script", "img"} & set(page.tags)
    assert page.text.count("alert(1)") == 1 + 1 + 1 + 1 + 4 + 1  # the replaced word shows both its sides
    assert page.text.count("http://x.invalid/") == page.text.count("alert(1)")


def test_same_data_same_page(sample_prepared, sample_dir):
    stats = read_report(sample_dir / "data")[1]
    del stats["examples"]
    assert render_report(stats, []) == render_report(stats, [])


def test_a_stage_of_its_own(sample_prepared, sample_dir, sample_arguments, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(sample_dir, folder)
    report = folder / "data" / "report"
    assert find_damage(report) is None
    keys = read_keys(folder / "data")
    assert {"documents", "tokens", "block_32", "block_64"} < keys["report"].keys()

    fewer = {"block_sizes": [32], "stage_fractions": [1.0], "stage_batch_sizes": [8]}
    prepare_dataset(sample_arguments(folder, **fewer))  # another report takes its place, without a question
    assert list(read_report(folder / "data")[1]["rows"]) == ["32"]
    prepare_dataset(sample_arguments(folder))
    assert read_keys(folder / "data") == keys

    (report / "report.html").write_text("half")
    prepare_dataset(sample_arguments(folder))
    assert find_damage(report) is None


def test_only_the_main_process_writes_it(sample_dir, sample_prepared, sample_arguments, tmp_path, monkeypatch):
    folder = tmp_path / "copy"
    shutil.copytree(sample_dir, folder)
    shutil.rmtree(folder / "data" / "report")
    monkeypatch.setenv("RANK", "1")
    prepare_dataset(sample_arguments(folder))
    assert not (folder / "data" / "report").exists()


@pytest.mark.parametrize(
    ("share", "text"),
    [(0, "0"), (1, "100.0"), (0.15, "15.0"), (0.0999, "9.99"), (0.00999, "0.999"), (0.0125, "1.25"), (2e-5, "0.002"),
     (1e-6, "< 0.001")],
)  # fmt: skip
def test_percent(share, text):
    assert percent(share) == f"{text}\N{NO-BREAK SPACE}%"
