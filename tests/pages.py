"""The READMEs and the tutorial taken apart: sections, tables, commands, files to write, and outputs."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
README, TUTORIAL = "README.md", "docs/tutorial.tr.md"


def read(name: str) -> str:
    """The text of a file of the project."""
    return (ROOT / name).read_text("utf-8")


def sections(name: str) -> dict[str, str]:
    """{title: text} of a page's sections of the second level."""
    parts = re.split(r"^## (.*)\n", read(name), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def table_rows(text: str) -> list[list[str]]:
    """The cells of all tables in a text, without their headings."""
    told = [line.strip().strip("|") for line in text.splitlines() if line.strip().startswith("|")]
    lines = [[cell.strip() for cell in line.split("|")] for line in told]
    rules = {number for number, cells in enumerate(lines) if all(re.fullmatch(r":?-+:?", cell) for cell in cells)}
    return [cells for number, cells in enumerate(lines) if number not in rules and number + 1 not in rules]


def bash_lines(name: str) -> list[str]:
    """All commands of a page, in order."""
    return [line for kind, line in steps(name) if kind == "bash"]


def steps(name: str) -> list[tuple[str, str]]:
    """What a reader does, in order: ("bash", a command), ("python", a script), or (a path, what to write there).

    A block below `<!-- file: PATH -->` is a file.
    """
    found: list[tuple[str, str]] = []
    for path, language, body in re.findall(
        r"(?:^ *<!-- file: (\S+) -->\n)?^ *```(\w+)\n(.*?)^ *```", read(name), re.MULTILINE | re.DOTALL
    ):
        if path:
            found.append((path, body))
        elif language == "bash":
            found += [("bash", line.strip()) for line in body.splitlines()]
        elif language == "python":
            found.append(("python", body))
    return found


def output_block(name: str, label: str) -> str:
    """What stands in the block below `<!-- output: LABEL -->`."""
    (body,) = re.findall(rf"^<!-- output: {label} -->\n```\n(.*?)^```", read(name), re.MULTILINE | re.DOTALL)
    return body
