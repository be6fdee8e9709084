"""Looks for task texts in a pretraining corpus: 13 words in a row that both have. Ends with code 1 if it finds any.

    python scripts/check_overlap.py --corpus "texts/*.txt" --task_data tasks/ner_wikiann_tr tasks/qa_tquad
"""

import sys
from collections import Counter
from dataclasses import dataclass
from dataclasses import fields as fields_of
from pathlib import Path

try:
    from turkbert.arguments import CorpusArguments
    from turkbert.console import set_up_script, show
    from turkbert.data.corpus import find_corpus_files
    from turkbert.data.documents import CorpusLedger, read_documents
    from turkbert.data.overlap import NUM_WORDS, SequenceIndex, row_texts
    from turkbert.errors import config_error, user_errors
    from turkbert.finetuning.examples import find_task_files, read_file
    from turkbert.parsing import key, parse_keys
except KeyboardInterrupt:  # the libraries take seconds to load
    sys.stderr.write("turkbert: error: interrupted; run the same command again\n")
    sys.exit(130)


@dataclass
class OverlapArguments:
    """What is looked for."""

    task_data: list[str] = key([], "files, or folders with jsonl, csv or parquet files")
    num_words: int = key(NUM_WORDS, "length of a sequence")


def main() -> None:
    with user_errors():
        given = parse_keys((CorpusArguments, OverlapArguments), {}, description=__doc__)
        if not given.get("corpus") or not given.get("task_data") or given.get("num_words", NUM_WORDS) < 2:
            raise config_error("command line", "give --corpus files and --task_data", "num_words is 2 or more")
        set_up_script()
        index, found, num_texts = SequenceIndex(given.get("num_words", NUM_WORDS)), Counter(), Counter()
        for path in find_task_files(given["task_data"]):
            split = read_file(path)
            for place, row in enumerate(split.rows):
                added = [index.add(split.place(place), text) for text in set(row_texts(row))]
                num_texts[str(path)] += any(added)
        num_documents = sum(report(document, path, index, found) for path, document in documents(given))
        tasks = Counter(place.rpartition(":")[0] for place in found)
        show(f"{path}: {tasks[path]:,} of {num:,} long rows are in the corpus\n" for path, num in num_texts.items())
        show([f"{num_documents:,} documents share a sequence of {index.num_words} words with a task\n"])
    sys.exit(1 if found else 0)


def documents(given):
    """(file, document) of the corpus, one at a time."""
    keys = {f.name for f in fields_of(CorpusArguments)} & {"text_column", "encoding", "bad_bytes", "bad_lines"}
    forms = {name: value for name, value in given.items() if name in keys}
    for path in find_corpus_files(given["corpus"]):
        for document in read_documents(Path(path), CorpusLedger(), **forms):
            yield path, document


def report(document: str, path: Path, index: SequenceIndex, found: Counter) -> bool:
    """Say which rows a document overlaps with; True if there is one."""
    places = list(index.find(document))
    if places:
        beginning = " ".join(document[:60].split())
        show([f"{path}: \"{beginning}...\" overlaps with {', '.join(places[:3])}\n"])
    found.update(places)
    return bool(places)


if __name__ == "__main__":
    main()
