"""The corpus: raw files or a Hub data set become one Arrow data set of documents, {"text": str}.

    dataset, ledger = load_corpus(["haber/*.txt.xz", "blog.jsonl"], cache_dir="staging")
    dataset[0]                                          # {"text": "Ankara, Türkiye'nin başkentidir. ..."}
    validation = split_documents(len(dataset), 0.01, seed=42)

How a file is read is in documents.py, how its bytes become text in raw_text.py.
"""

import errno
import glob
import hashlib
import json
import logging
import os
import tempfile
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from functools import partial
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import Any

import datasets
import numpy as np

from turkbert.artifacts import MANIFEST
from turkbert.data.documents import (
    MAX_DOCUMENT_CHARS,
    CorpusLedger,
    clean_documents,
    document_format,
    in_words,
    no_field,
    read_documents,
)
from turkbert.data.places import DocumentPlaces
from turkbert.data.raw_text import BadInput, ignore
from turkbert.errors import BAD_INPUT, ENVIRONMENT, UserError, config_error
from turkbert.hub_ids import is_hub_id

logger = logging.getLogger(__name__)

REJECTS_FILE = "rejects.jsonl"
_ENDINGS = ".txt, .jsonl (these also with .gz, .xz or .zst) and .parquet"
_ARCHIVES = (".zip", ".tar", ".tgz", ".tar.gz", ".tar.xz", ".tar.zst", ".tar.bz2", ".7z", ".rar")
# Documents in a record batch. The writer holds a batch in memory several times over, and a document may have a million
# characters; smaller batches make a data set of millions of documents slower to open.
_WRITER_BATCH_SIZE = 32


def find_corpus_files(corpus: list[str]) -> list[Path]:
    """List the files of a corpus: each once by its real path, all of them seen to be readable.

    Args:
        corpus: files, globs (`**` too) and folders (searched to any depth), listed in this order; within a glob or
            folder the files are sorted by name. Names with a leading `.` or `_` in folders, and in globs and folders
            all files without a known ending and all that turkbert wrote, are passed over. Empty: the bundled sample.

    Returns:
        Absolute paths under the names that led to them, for a link's name has the ending and its target may not.

    Raises:
        UserError: nothing found, unreadable, or a named file has no known ending.
    """
    found: dict[str, Path] = {}
    for pattern in corpus or [str(resources.files("turkbert") / "sample")]:
        paths = list(_expand(pattern))
        if not paths:
            mend = f"name files ending in {_ENDINGS}; relative paths start from {os.getcwd()}"
            raise UserError(f"corpus '{pattern}'", "no corpus file there", mend)
        for path in paths:
            try:
                with open(path, "rb"):
                    found.setdefault(os.path.realpath(path), Path(os.path.abspath(path)))
            except OSError as error:
                what = f"'{path}' cannot be read ({error.strerror}), seen from {os.getcwd()}"
                raise UserError(f"corpus '{pattern}'", what, "grant access or take it out of the corpus") from error
    return list(found.values())


def _expand(pattern: str) -> Iterator[Path]:
    path = Path(pattern).expanduser()
    if os.path.isdir(path):
        yield from _walk(path, set())
    elif os.path.isfile(path):
        if path.name.lower().endswith(_ARCHIVES):
            raise UserError(path, "archives are not read", f"unpack it into files ending in {_ENDINGS}")
        if document_format(path) is None:
            raise UserError(path, "not a known kind of corpus file", f"its name must end in {_ENDINGS}")
        yield path
    else:
        names = [name for name in glob.glob(str(path), recursive=True) if document_format(Path(name))]
        names = [name for name in names if not (Path(name).parent / MANIFEST).exists()]
        # A loop of symbolic links gives a file many names: the shortest comes last here and stays.
        by_file = {os.path.realpath(name): name for name in sorted(names, key=lambda name: (-len(name), name))}
        yield from (Path(name) for name in sorted(by_file.values()) if os.path.isfile(name))


def _walk(folder: Path, visited: set[str]) -> Iterator[Path]:
    real_folder = os.path.realpath(folder)
    if real_folder in visited:  # a loop of symbolic links
        return
    visited.add(real_folder)
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise UserError(folder, f"cannot be read ({error.strerror})", "grant access or name other files") from error
    if MANIFEST in names:  # what turkbert itself made of a corpus, rejects.jsonl among it
        return
    for path in (folder / name for name in names if not name.startswith((".", "_"))):
        if os.path.isdir(path):
            yield from _walk(path, visited)
        elif document_format(path) and (os.path.isfile(path) or not os.path.exists(path)):
            yield path  # a dead link too: opening it tells the user


def hash_corpus(files: Iterable[str | Path]) -> str:
    """SHA-256 over the files' formats and contents in their order, as hex; names, places and times do not matter."""
    digest = hashlib.sha256()
    for path in map(Path, files):
        with open(path, "rb") as file:
            digest.update(f"{document_format(path)} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()


def is_hub_corpus(corpus: list[str], corpus_config: str | None = None) -> bool:
    """True if `corpus` names a Hub data set: one `owner/name`, or one `name` together with a `corpus_config`."""
    if len(corpus) != 1 or document_format(Path(corpus[0])) or corpus[0].lower().endswith(_ARCHIVES):
        return False
    return is_hub_id(corpus[0], bare=corpus_config is not None)


def load_corpus(
    corpus: list[str],
    *,
    cache_dir: str | Path,
    corpus_config: str | None = None,
    text_column: str = "text",
    encoding: str = "utf-8",
    revision: str | None = None,
    drop_short_lines: int = 0,
    max_document_chars: int = MAX_DOCUMENT_CHARS,
    bad_bytes: BadInput = "error",
    bad_lines: BadInput = "error",
    num_proc: int | None = None,
    on_read: Callable[[int], None] = ignore,
) -> tuple[datasets.Dataset, CorpusLedger]:
    """Read a corpus into an Arrow data set with the one column `text`, the same for any `num_proc`.

    Args:
        corpus: files, globs and folders (see `find_corpus_files`), or one Hub id (see `is_hub_corpus`).
        cache_dir: a folder of the caller's; the data set's files, REJECTS_FILE (a line for each rejected document),
            and what DocumentPlaces loads, are written there anew. The data set is memory-mapped: it lives as long as
            the folder.
        corpus_config, revision: the Hub data set's configuration and commit, tag or branch.
        num_proc: processes, at most one for each file.
        on_read: called, in any of the processes, with the number of bytes of text that were read since the last call.
        text_column, encoding, drop_short_lines, max_document_chars, bad_bytes, bad_lines: see `read_documents`.

    Raises:
        UserError: a source is missing, unreadable or damaged, or there is no document at all.
    """
    if max_document_chars < 1:
        raise config_error("max_document_chars", f"{max_document_chars} is no size", "give at least 1")
    cleaning: dict[str, Any] = {"drop_short_lines": drop_short_lines, "max_document_chars": max_document_chars}
    cleaning["on_read"] = on_read
    sources: list[str] | list[range]
    if is_hub_corpus(corpus, corpus_config):
        hub_dataset = _load_from_hub(corpus[0], corpus_config, revision, text_column)
        sources = [range(*ends) for ends in pairwise(np.linspace(0, len(hub_dataset), (num_proc or 1) + 1, dtype=int))]
        read = partial(_read_rows, dataset=hub_dataset, name=corpus[0], **cleaning)
    else:
        if corpus_config or revision:
            what = f"only Hub data sets have one, and {corpus} is none"
            raise config_error("corpus_config, revision", what, "leave it out, or give one Hub id as corpus")
        sources = [str(path) for path in find_corpus_files(corpus) if _has_content(path)]
        forms = {"text_column": text_column, "encoding": encoding, "bad_bytes": bad_bytes, "bad_lines": bad_lines}
        read = partial(read_documents, **forms, **cleaning)
    dataset, ledger = None, CorpusLedger()
    if sources:
        names = [source if isinstance(source, str) else corpus[0] for source in sources]
        dataset, ledger = _build_dataset(sources, names, read, Path(cache_dir), num_proc)
    if not dataset:
        why = f"rejected: {in_words(ledger.rejected)}" if ledger.rejected else "all files are empty"
        raise UserError(f"corpus {corpus}", f"no documents ({why})", "name files or a data set with text")
    return dataset, ledger


def _has_content(path: Path) -> bool:
    empty = path.stat().st_size == 0
    if empty:
        logger.warning("%s: an empty file (0 bytes)", path)
    return not empty


def _load_from_hub(name: str, config: str | None, revision: str | None, column: str) -> datasets.Dataset:
    try:
        # Downloads go where the user's other data sets are: fetching them again at every run would help nobody.
        dataset = datasets.load_dataset(name, config, split="train", revision=revision)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        if getattr(error, "errno", None):  # the disk, not the Hub
            raise
        offline = isinstance(error, ConnectionError)
        mend = "check the network" if offline else "check the id, corpus_config and revision, and `hf auth login`"
        what = f"no such file or folder in {os.getcwd()}, and as a Hub data set: {error}"
        raise UserError(f"corpus '{name}'", what, mend, ENVIRONMENT if offline else BAD_INPUT) from error
    if column not in dataset.column_names:
        raise no_field(f"Hub data set {name}", column, dataset.column_names)
    return dataset.select_columns([column])


def _read_rows(
    rows: range,
    ledger: CorpusLedger,
    *,
    dataset: datasets.Dataset,
    name: str,
    on_read: Callable[[int], None],
    **cleaning: Any,
) -> Iterator[str]:
    def read_values() -> Iterator[object]:
        for batch in dataset.select(rows).iter(batch_size=_WRITER_BATCH_SIZE):
            values = batch[dataset.column_names[0]]
            yield from values
            on_read(sum(len(value.encode("utf-8", "replace")) for value in values if isinstance(value, str)))

    return clean_documents(enumerate(read_values(), rows.start + 1), name, ledger, **cleaning)


def _build_dataset(
    sources: list[str] | list[range],
    names: list[str],
    read: Callable[..., Iterator[str]],
    cache_dir: Path,
    num_proc: int | None,
) -> tuple[datasets.Dataset | None, CorpusLedger]:
    """The data set (None if no document was kept) and the ledger of all sources."""
    cache_dir.mkdir(parents=True, exist_ok=True)
    # A fresh folder each time: reading is quick, and a cached result could be stale.
    work_dir = Path(tempfile.mkdtemp(prefix="corpus-", dir=cache_dir))
    num_jobs = min(num_proc or 1, len(sources))
    try:
        dataset = datasets.Dataset.from_generator(
            _generate,
            features=datasets.Features({"text": datasets.Value("string")}),
            cache_dir=str(work_dir),
            gen_kwargs={"sources": sources, "numbers": list(range(len(sources))), "read": read, "work_dir": work_dir},
            num_proc=num_jobs if num_jobs > 1 else None,
            fingerprint=work_dir.name,
            writer_batch_size=_WRITER_BATCH_SIZE,
        )
    except datasets.exceptions.DatasetGenerationError as error:
        # From a worker process the cause arrives as the text of its traceback.
        if f"[Errno {errno.ENOSPC}]" in str(error.__cause__):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(cache_dir)) from error
        raise
    except ValueError:  # datasets will not open what has no rows
        if _merge_ledgers(work_dir, cache_dir).documents_kept:
            raise
        dataset = None
    ledger = _merge_ledgers(work_dir, cache_dir)
    DocumentPlaces.merge(names, sorted(work_dir.glob("*.kept")), cache_dir)
    return dataset, ledger


def _merge_ledgers(work_dir: Path, cache_dir: Path) -> CorpusLedger:
    """Add up what `_generate` left in `work_dir`, in the order of the sources, or raise the first error it left."""
    for path in sorted(work_dir.glob("*.error.json")):
        raise UserError(**json.loads(path.read_text()))
    ledger = CorpusLedger()
    for path in sorted(work_dir.glob("*.ledger.json")):
        ledger.merge(CorpusLedger(**json.loads(path.read_text())))
    with open(cache_dir / REJECTS_FILE, "wb") as rejects:
        for path in sorted(work_dir.glob(f"*.{REJECTS_FILE}")):
            rejects.write(path.read_bytes())
    return ledger


def _generate(
    sources: Iterable[str | range], numbers: Iterable[int], read: Callable[..., Iterator[str]], work_dir: Path
) -> Iterator[dict[str, str]]:
    """Yield the rows of some sources; leave each one's ledger and rejects, or its error, as files in `work_dir`.

    Files, because this runs in worker processes, and there an exception would lose its type and fields.
    """
    for source, number in zip(sources, numbers, strict=True):
        if any(work_dir.glob("*.error.json")):
            return
        ledger, kept = CorpusLedger(), array("q")
        # File names need not be UTF-8; what backslashreplace writes for them is JSON's own escape.
        rejects_path = work_dir / f"{number:06d}.{REJECTS_FILE}"
        with open(rejects_path, "w", encoding="utf-8", errors="backslashreplace") as rejects:
            try:
                for text in read(source, ledger, rejects=rejects, kept=kept):
                    yield {"text": text}
            except UserError as error:
                fields = {"where": error.where, "what": error.what, "mend": error.mend, "exit_code": error.exit_code}
                (work_dir / f"{number:06d}.error.json").write_text(json.dumps(fields))
                return
        (work_dir / f"{number:06d}.kept").write_bytes(kept)
        (work_dir / f"{number:06d}.ledger.json").write_text(json.dumps(asdict(ledger)))


def split_documents(num_documents: int, validation_fraction: float, seed: int, least: int = 2) -> np.ndarray:
    """Choose the validation documents: a pure function of its arguments, on every machine and numpy version.

    Args:
        num_documents: documents in the corpus.
        validation_fraction: of n documents round(fraction * n) are chosen.
        seed: from 0 to 2**128 - 1.
        least: documents that either part has; 2, so that a B can come from another document.

    Returns:
        (num_documents,) bool, True for validation.

    Raises:
        UserError: fewer than twice `least` documents.
    """
    if num_documents < 2 * least:
        what = f"{num_documents} documents are too few: training and validation need one each"
        mend = "add documents, separated by blank lines"
        if least > 1:
            what = f"{num_documents} documents are too few: a pair needs >= 2 documents, in training and in validation"
            mend += ", or turn next-sentence prediction off with --nsp_probability 0"
        raise UserError("corpus", what, mend)
    num_validation = min(max(round(validation_fraction * num_documents), least), num_documents - least)
    # Raw Philox output and a stable sort: numpy does not promise that permutation() stays the same.
    keys = np.random.Philox(key=seed).random_raw(num_documents)
    is_validation = np.zeros(num_documents, dtype=bool)
    is_validation[np.argsort(keys, kind="stable")[:num_validation]] = True
    return is_validation
