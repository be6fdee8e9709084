"""CITATION.cff, CHANGELOG.md, CONTRIBUTING.md and SECURITY.md are valid and agree with the code."""

import configparser
import re

import yaml

from tests.pages import ROOT, read, sections, table_rows
from turkbert import __version__

# Of the schema of the Citation File Format 1.2.0.
REQUIRED = {"authors", "cff-version", "message", "title"}
ALLOWED = REQUIRED | {
    "abstract", "commit", "contact", "date-released", "doi", "identifiers", "keywords", "license", "license-url",
    "preferred-citation", "references", "repository", "repository-artifact", "repository-code", "type", "url",
    "version",
}  # fmt: skip
DATE = r"\d{4}-\d{2}-\d{2}"


def test_the_citation_is_valid():
    citation = yaml.safe_load(read("CITATION.cff"))
    assert REQUIRED <= citation.keys() <= ALLOWED
    assert citation["cff-version"] == "1.2.0" and citation["type"] in ("software", "dataset")
    assert re.fullmatch(DATE, str(citation["date-released"]))
    assert all(isinstance(citation[name], str) and citation[name] for name in ("message", "title", "abstract"))
    assert citation["authors"] and all({"name"} <= author.keys() for author in citation["authors"])
    assert len(citation["keywords"]) == len(set(citation["keywords"])) > 0


def test_the_citation_names_this_version_and_licence():
    citation, setup = yaml.safe_load(read("CITATION.cff")), configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", "utf-8")
    assert citation["license"] == setup["metadata"]["license"]
    assert str(citation["version"]) == __version__


def test_the_change_log_has_this_version_at_its_top():
    titles = list(sections("CHANGELOG.md"))
    assert titles[0] == "[Unreleased]"
    released = [re.fullmatch(rf"\[(\d+\.\d+\.\d+)\] - ({DATE})", title) for title in titles[1:]]
    assert all(released)
    versions = [tuple(map(int, match[1].split("."))) for match in released]
    assert versions == sorted(set(versions), reverse=True)
    assert released[0][1] == __version__
    assert released[0][2] == str(yaml.safe_load(read("CITATION.cff"))["date-released"])


def test_the_change_log_keeps_its_form():
    kinds = set(re.findall(r"^### (.*)$", read("CHANGELOG.md"), re.MULTILINE))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    for title, text in sections("CHANGELOG.md").items():
        assert re.match(r"\s*(### |$)", text), title
        assert all(re.search(r"^- ", part, re.MULTILINE) for part in text.split("### ")[1:]), title


def test_contributing_names_all_markers_and_extras_that_there_are():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", "utf-8")
    markers = {line.split(":")[0] for line in setup["tool:pytest"]["markers"].split("\n") if line}
    rows = table_rows(read("CONTRIBUTING.md").split("## Tests")[1].split("## Style")[0])
    assert {row[0].strip("`") for row in rows} == markers | {"(none)"}
    extras = re.findall(r'-e "\.\[([\w,-]+)\]"', read("CONTRIBUTING.md"))[0].split(",")
    assert set(extras) <= set(setup["options.extras_require"])


def test_every_promise_of_security_names_its_test():
    rows = table_rows(read("SECURITY.md"))
    assert len(rows) > 5
    for promise, _, shown_by in rows:
        (path,) = re.findall(r"`([\w./]+)`", shown_by)
        assert (ROOT / path).is_file(), promise
