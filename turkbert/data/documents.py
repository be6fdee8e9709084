r"""One corpus file (txt, trwiki, jsonl or parquet) becomes clean documents, and a ledger that adds up.

    ledger = CorpusLedger()
    list(read_documents("haber.txt", ledger))      # ["Ankara'da bugün ...\nİkinci satır ...", ...]
    ledger.documents_in == ledger.documents_kept + sum(ledger.rejected.values())

A document is non-empty lines joined by "\n", of at most `max_document_chars` characters. In a txt file documents are
separated by blank lines; in one that begins with a line `== Title ==` (the form of the Turkish Wikipedia dumps) each
such line begins a document, sub-headings have more `=`, and blank lines separate nothing.
"""

import json
import os
import re
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import pyarrow as pa
import pyarrow.parquet as pq

from turkbert.data.raw_text import COMPRESSIONS, BadInput, decode_chunks, ignore, read_chunks, text_bytes
from turkbert.errors import UserError

FORMATS = ("txt", "jsonl", "parquet")
MAX_DOCUMENT_CHARS = 1_000_000
MAX_JSON_LINE_CHARS = 1 << 27  # a line of JSON must be in memory whole before it can be parsed
# Rows after which a field that none of them had counts as absent everywhere.
_ROWS_TO_FIND_FIELD = 1000

_BLANK_LINES = re.compile(r"\n\s*\n")
_TITLE_CHARS = 300
# Matches before the title and takes nothing. The length is limited so that a title can be waited for.
_TITLE = re.compile(rf"^(?===(?!=)[^\n]{{0,{_TITLE_CHARS - 8}}}[^=\n]==[ \t]{{0,4}}\n)", re.MULTILINE)
_SPACE = re.compile(r"\s*")
# One cheap search tells whether a document needs any of the cleaners below; hardly any does.
_UNUSUAL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ufeff\ud800-\udfff]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_CLEANERS = (
    ("carriage_returns", re.compile("\r\n?"), "\n"),
    ("line_separators", re.compile("[\x0b\x0c\x85\u2028\u2029]"), " "),
    ("byte_order_marks", re.compile("\ufeff"), ""),
    ("control_characters", re.compile("[\x00-\x08\x0e-\x1f\x7f-\x9f]"), ""),
)


@dataclass
class CorpusLedger:
    """What became of every document; documents_in == documents_kept + the sum of `rejected`, always.

    Attributes:
        documents_in: documents met; a document cut at `max_document_chars` counts once a piece.
        documents_kept: documents that came out.
        rejected: number of documents by reason: missing, not_a_string, undecodable (bad bytes, lone surrogates),
            broken_line, empty.
        cleaned: number of changes by kind: carriage_returns (lines that ended in one), line_separators and
            control_characters and byte_order_marks (characters), short_lines (lines), cuts.
    """

    documents_in: int = 0
    documents_kept: int = 0
    rejected: dict[str, int] = field(default_factory=dict)
    cleaned: dict[str, int] = field(default_factory=dict)

    def count_cleaned(self, what: str, number: int = 1) -> None:
        """Add `number` changes of the kind `what`."""
        if number:
            self.cleaned[what] = self.cleaned.get(what, 0) + number

    def count_rejected(self, reason: str, number: int = 1) -> None:
        """Add `number` documents that came in and were rejected for `reason`."""
        self.documents_in += number
        self.rejected[reason] = self.rejected.get(reason, 0) + number

    def merge(self, other: "CorpusLedger") -> None:
        """Add another ledger's counts to this one's."""
        self.documents_in += other.documents_kept
        self.documents_kept += other.documents_kept
        for reason, number in other.rejected.items():
            self.count_rejected(reason, number)
        for what, number in other.cleaned.items():
            self.count_cleaned(what, number)


def in_words(numbers: dict[str, int]) -> str:
    """Counts of a ledger as people read them.

    >>> in_words({"empty": 1200, "not_a_string": 1})
    'empty 1,200, not a string 1'
    """
    return ", ".join(f"{name.replace('_', ' ')} {number:,}" for name, number in numbers.items()) or "none"


class Rejected(NamedTuple):
    """Stands in a reader's output for a document that it could not read."""

    reason: str


def document_format(path: Path) -> str | None:
    """'txt', 'jsonl' or 'parquet' by the ending, which may be followed by .gz, .xz or .zst; None for any other."""
    stem, ending = os.path.splitext(path.name.lower())
    if ending in COMPRESSIONS:
        ending = os.path.splitext(stem)[1]
        return ending[1:] if ending in (".txt", ".jsonl") else None
    return ending[1:] if ending[1:] in FORMATS else None


def place_unit(source: str | Path) -> str:
    """What the numbers of a source's documents count: documents of a txt file, lines of jsonl, rows of all others."""
    return {"txt": "document", "jsonl": "line"}.get(document_format(Path(source)) or "", "row")


def read_documents(
    path: str | Path,
    ledger: CorpusLedger,
    *,
    text_column: str = "text",
    encoding: str = "utf-8",
    drop_short_lines: int = 0,
    max_document_chars: int = MAX_DOCUMENT_CHARS,
    bad_bytes: BadInput = "error",
    bad_lines: BadInput = "error",
    rejects: TextIO | None = None,
    kept: array | None = None,
    on_read: Callable[[int], None] = ignore,
) -> Iterator[str]:
    """Yield the documents of one file in their order, in memory bounded by the largest of them.

    Args:
        path: a file with one of the known endings (see `document_format`).
        ledger: counts what comes in, is kept, rejected and cleaned.
        text_column: the field (jsonl) or column (parquet) with the text.
        encoding: of txt and jsonl files, by any name that Python knows.
        drop_short_lines: lines of at most so many words are dropped from every document; 5 drops what is a title in
            the trwiki files.
        max_document_chars: longer documents are cut at the end of a line, of a sentence or of a word.
        bad_bytes: "reject" rejects the document with bytes that `encoding` does not have; "error" ends the reading.
        bad_lines: the same for a jsonl line that is not a JSON object.
        rejects: gets one line of JSON for each rejected document: reason, file, place.
        kept: gets the number of each document that is kept, in `place_unit`s.
        on_read: called with the number of bytes of text that were read since the last call: of a compressed file by
            `text_bytes`.

    Raises:
        UserError: the file is not what its ending says, not in `encoding`, or damaged; no row has the field
            `text_column`.
    """
    path = Path(path)
    kind = document_format(path)
    tell = partial(_tell, path, on_read)
    chunks = read_chunks(path, tell)
    texts = decode_chunks(chunks, path, ledger.count_cleaned, bad_bytes, encoding)
    values: Iterable[tuple[int, object]]
    if kind == "parquet":
        values = _read_parquet(path, text_column, tell)
    elif kind == "jsonl":
        values = _read_jsonl(texts, path, text_column, bad_lines)
    else:
        values = enumerate(_read_blocks(texts, ledger, max_document_chars), start=1)
    cleaning: dict[str, Any] = {"drop_short_lines": drop_short_lines, "max_document_chars": max_document_chars}
    try:
        yield from clean_documents(values, path, ledger, rejects=rejects, kept=kept, **cleaning)
    except UserError as error:
        if isinstance(error.__cause__, ValueError) and path.suffix.lower() in COMPRESSIONS:
            # Bad bytes or a broken line may come from damaged compressed data, whose checksum stands at the end:
            # reading on raises the truer error.
            for _ in chunks:
                pass
        raise


def _tell(path: Path, on_read: Callable[[int], None], num_bytes: int) -> None:
    on_read(text_bytes(path, num_bytes))


def clean_documents(
    values: Iterable[tuple[int, object]],
    source: str | Path,
    ledger: CorpusLedger,
    *,
    drop_short_lines: int = 0,
    max_document_chars: int = MAX_DOCUMENT_CHARS,
    rejects: TextIO | None = None,
    kept: array | None = None,
) -> Iterator[str]:
    """Turn numbered raw values into documents: the last part of `read_documents`, for any source.

    Args:
        values: (number, text); what is no str is rejected.
        source: the file or data set that rejected documents are said to come from.
        rejects, kept: as for `read_documents`.
    """

    unit = place_unit(source)

    def reject(number: int, reason: str) -> None:
        ledger.count_rejected(reason)
        if rejects is not None:
            record = {"reason": reason, "file": os.fspath(source), "place": f"{unit} {number}"}
            rejects.write(json.dumps(record, ensure_ascii=False) + "\n")

    for number, value in values:
        if not isinstance(value, str):
            reject(number, value.reason if isinstance(value, Rejected) else "not_a_string")
            continue
        if _UNUSUAL.search(value):
            if _SURROGATE.search(value):
                reject(number, "undecodable")
                continue
            value = _clean_characters(value, ledger)
        for piece in _cut(_BLANK_LINES.sub("\n", value), max_document_chars, ledger):
            piece = piece.strip()
            if drop_short_lines:
                piece = _drop_short_lines(piece, drop_short_lines, ledger).strip()
            if not piece:
                reject(number, "empty")
                continue
            ledger.documents_in += 1
            ledger.documents_kept += 1
            if kept is not None:
                kept.append(number)
            yield piece


def _clean_characters(text: str, ledger: CorpusLedger) -> str:
    for what, pattern, replacement in _CLEANERS:
        text, number = pattern.subn(replacement, text)
        ledger.count_cleaned(what, number)
    return text


def _drop_short_lines(text: str, max_words: int, ledger: CorpusLedger) -> str:
    lines = text.split("\n")
    kept = [line for line in lines if len(line.split(None, max_words)) > max_words]
    ledger.count_cleaned("short_lines", len(lines) - len(kept))
    return "\n".join(kept)


def _cut(text: str, max_chars: int, ledger: CorpusLedger) -> Iterator[str]:
    """Cut `text` into pieces of at most `max_chars`; where a cut falls depends on nothing later in the text."""
    start, stop = _skip_space(text, 0), len(text.rstrip())
    while stop - start > max_chars:
        end = _find_cut(text, start, start + max_chars)
        yield text[start:end]
        start = _skip_space(text, end)
        ledger.count_cleaned("cuts")
    yield text[start:]


def _skip_space(text: str, position: int) -> int:
    match = _SPACE.match(text, position)
    return match.end() if match else position


def _find_cut(text: str, start: int, end: int) -> int:
    middle = (start + end) // 2  # pieces of at least half the size
    cut = text.rfind("\n", middle, end + 1)
    if cut < 0:
        cut = max(text.rfind(mark, middle, end + 1) for mark in (". ", "! ", "? ", "… ")) + 1
    if cut <= 0:
        cut = text.rfind(" ", middle, end + 1)
    return cut if cut > start else end


def _read_blocks(texts: Iterator[str], ledger: CorpusLedger, max_chars: int) -> Iterator[str]:
    """Cut a txt file's text at blank lines or titles; an unfinished block is cut as well when it grows too long."""
    rest = ""
    while len(rest) < _TITLE_CHARS and (text := next(texts, None)) is not None:
        rest = (rest + text).lstrip()
    boundary = _TITLE if _TITLE.match(rest + "\n") else _BLANK_LINES
    for text in chain([""], texts, ["\n"]):
        *blocks, rest = boundary.split((rest + text).lstrip())
        for block in blocks:
            yield from filter(None, _cut(block, max_chars, ledger))
        last_line = rest.rfind("\n") + 1
        if not "==".startswith(rest[last_line : last_line + 2]) or len(rest) - last_line > _TITLE_CHARS:
            last_line = len(rest)  # it can be no title that is still to be completed
        *pieces, unfinished = _cut(rest[:last_line], max_chars, ledger)
        yield from pieces
        if len(unfinished) > 2 * max_chars:  # nearly all of it white space, without end so far
            unfinished = unfinished.rstrip() + "\n"
        rest = unfinished + rest[last_line:]
    if rest:
        yield rest


def _read_jsonl(texts: Iterable[str], path: Path, column: str, bad_lines: BadInput) -> Iterator[tuple[int, object]]:
    num_rows, found = 0, False
    fields: list[str] = []
    for number, line in enumerate(_read_lines(texts, path), start=1):
        if not line or line.isspace():
            continue
        row = _parse_row(line, f"{path}:{number}", bad_lines)
        if isinstance(row, Rejected):
            yield number, row
            continue
        num_rows += 1
        found = found or column in row
        fields = fields or list(row)
        if not found and num_rows >= _ROWS_TO_FIND_FIELD:
            raise no_field(path, column, fields)
        yield number, row.get(column, Rejected("missing"))
    if num_rows and not found:
        raise no_field(path, column, fields)


def _read_lines(texts: Iterable[str], path: Path) -> Iterator[str]:
    parts: list[str] = []  # of a line that is not at its end: joined once, not at every chunk
    num_lines = 0
    for text in chain(texts, ["\n"]):
        if "\n" in text:
            *lines, text = "".join([*parts, text]).split("\n")
            num_lines += len(lines)
            parts.clear()
            yield from lines
        parts.append(text)
        if sum(map(len, parts)) > MAX_JSON_LINE_CHARS:
            what = f"a line of more than {MAX_JSON_LINE_CHARS} characters"
            raise UserError(f"{path}:{num_lines + 1}", what, "split it into several objects")


def _parse_row(line: str, where: str, bad_lines: BadInput) -> dict | Rejected:
    try:
        row = json.loads(line)
        if isinstance(row, dict):
            return row
        raise ValueError(f"not an object but {line.strip()[:20]!r}")
    except (ValueError, RecursionError) as error:
        if bad_lines == "reject":
            return Rejected("broken_line")
        mend = "mend or remove the line, or reject such lines with --bad_lines reject"
        raise UserError(where, f"not a JSON object ({error})", mend) from error


def _read_parquet(path: Path, column: str, on_read: Callable[[int], None]) -> Iterator[tuple[int, object]]:
    number = 0
    try:
        with pq.ParquetFile(path) as file:
            if column not in file.schema_arrow.names:
                raise no_field(path, column, file.schema_arrow.names)
            kind = file.schema_arrow.field(column).type
            kind = kind.value_type if pa.types.is_dictionary(kind) else kind
            if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
                raise UserError(path, f"column '{column}' holds {kind}, not strings", "name another text_column")
            for batch in file.iter_batches(batch_size=100, columns=[column]):
                # As bytes: arrow does not check that strings are UTF-8, and one bad row must not end the reading.
                for value in batch.column(0).cast(pa.large_binary()).to_pylist():
                    number += 1
                    yield number, None if value is None else value.decode("utf-8", "surrogateescape")
                on_read(path.stat().st_size * len(batch) // file.metadata.num_rows)
    except (pa.ArrowException, OSError) as error:
        what = f"not a whole parquet file, after row {number} ({error})"
        raise UserError(path, what, "fetch or write the file again") from error


def no_field(source: str | Path, column: str, fields: Iterable[str]) -> UserError:
    """The error for a source whose rows lack the field that should hold the text."""
    what = f"no field '{column}'; fields are: {', '.join(map(str, fields))}"
    return UserError(source, what, "name the field with the text by --text_column")
