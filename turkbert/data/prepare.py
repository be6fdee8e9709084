"""Raw documents -> rows of every block size, each stage one committed folder.

    data_dir/documents/     text, one row a document                         load_corpus
    tokenizer_dir/          tokenizer.json, unless one is given              train_tokenizer
    data_dir/tokens/        input_ids and sentence_ends, one row a document  .map(DocumentTokenizer)
    data_dir/random_words/  replacements by number of tokens                 RandomWordSet.build
    data_dir/block_128/     train and validation rows                        .map(RowBuilder.build_unit)
    data_dir/report/        report.html and stats.json                       write_report

A folder that stands for the same sources and settings is reused, another one refused: artifacts.reuse_or_build.
"""

import codecs
import dataclasses
import json
import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, DatasetDict
from transformers import PreTrainedTokenizerFast

from turkbert.arguments import DataArguments, RunArguments
from turkbert.artifacts import (
    MANIFEST,
    all_or_none,
    find_damage,
    key_hash,
    read_manifest,
    refuse_foreign,
    wait_for,
    write_json,
)
from turkbert.data.arrow import flat_lists, list_lengths
from turkbert.data.collator import DataCollatorForPretraining
from turkbert.data.corpus import (
    REJECTS_FILE,
    find_corpus_files,
    hash_corpus,
    is_hub_corpus,
    load_corpus,
    split_documents,
)
from turkbert.data.documents import in_words
from turkbert.data.duplicates import drop_duplicates
from turkbert.data.masking import WholeWordMasker
from turkbert.data.pairs import RowShape
from turkbert.data.places import DocumentPlaces
from turkbert.data.progress import Progress
from turkbert.data.random_words import WORD_COUNTS, RandomWordSet, count_words
from turkbert.data.raw_text import text_bytes
from turkbert.data.report import write_report
from turkbert.data.rows import SPLITS, RowBuilder
from turkbert.data.stages import Stage, Units, run_stage
from turkbert.data.tokens import DocumentTokenizer
from turkbert.errors import CORRUPT_ARTIFACT, UserError, config_error, is_main_process
from turkbert.hub_ids import is_hub_id
from turkbert.ranks import from_main
from turkbert.tokenization import (
    letter_table,
    load_tokenizer,
    save_tokenizer,
    tokenizer_hash,
    train_tokenizer,
    word_start_table,
)

logger = logging.getLogger(__name__)

_SHARE_OF_READING = {"none": 1.0, "exact": 0.9, "near": 0.1}  # of the time of the documents stage
_MAKE_AGAIN = "remove the folder and run scripts/prepare_data.py again"
TEXT_A_UNIT = 4_000_000  # bytes
COUNTED_A_UNIT = 2_000_000  # tokens
# Of validation rows, whatever training hides, so that losses can be compared between recipes.
VALIDATION_MASKING = {"mlm_probability": 0.15, "mask_replace_prob": 0.8, "random_replace_prob": 0.1}
NSP_OFF = "one document alone needs --nsp_probability 0, which turns next-sentence prediction off"
TOKEN_FEATURES = datasets.Features(
    {"input_ids": datasets.List(datasets.Value("int32")), "sentence_ends": datasets.List(datasets.Value("int32"))}
)


class PreparedData(NamedTuple):
    """What training needs."""

    tokenizer: PreTrainedTokenizerFast
    rows: dict[int, DatasetDict]  # block size -> train and validation


def prepare_dataset(args: RunArguments) -> PreparedData:
    """Build what is missing, the tokenizer included, and load the rows of every block size.

    With `overwrite`, an error in any stage puts back the folders that the earlier ones replaced.

    Raises:
        UserError: input that cannot be used, or a folder that was made with other settings.
    """
    built = from_main(lambda: [(str(folder), read_manifest(folder)["key"]) for folder in _build_all(args)])
    for folder, key in built:
        wait_for(Path(folder), key)
    rows = {
        block_size: DatasetDict.load_from_disk(str(Path(args.data.data_dir, f"block_{block_size}")))
        for block_size in args.data.block_sizes
    }
    tokenizer = load_tokenizer(args.tokenizer.tokenizer_dir)
    if is_main_process():  # nothing depends on the report: the other processes need not wait for it
        prepare_report(args, tokenizer)
    return PreparedData(tokenizer, rows)


def _build_all(args: RunArguments) -> list[Path]:
    """Everything that training reads; the tokenizer's folder is not among it where it is not ours."""
    if _is_given(args.tokenizer.tokenizer_dir):
        load_tokenizer(args.tokenizer.tokenizer_dir)  # one that is no good is refused before any work
    with all_or_none():
        documents_dir = prepare_documents(args)
        tokenizer = prepare_tokenizer(args, documents_dir)
        tokens_dir = prepare_tokens(args, documents_dir, tokenizer)
        words_dir = prepare_random_words(args, tokens_dir, tokenizer)
        rows = [prepare_rows(args, size, tokens_dir, words_dir, tokenizer) for size in args.data.block_sizes]
    own = [] if _is_given(args.tokenizer.tokenizer_dir) else [Path(args.tokenizer.tokenizer_dir)]
    return [*own, words_dir, *rows]


def prepare_documents(args: RunArguments) -> Path:
    """Read the corpus into data_dir/documents."""
    _refuse_foreign_folders(args)
    corpus = args.corpus
    if is_hub_corpus(corpus.corpus, corpus.corpus_config):
        source = {"corpus": corpus.corpus[0], "config": corpus.corpus_config, "revision": corpus.corpus_revision}
        num_bytes = None
    else:
        files = find_corpus_files(corpus.corpus)
        source = {"corpus": hash_corpus(files)}
        num_bytes = sum(text_bytes(path, path.stat().st_size) for path in files)
    names = ("text_column", "encoding", "drop_short_lines", "max_document_chars", "bad_bytes", "bad_lines")
    settings = {name: getattr(corpus, name) for name in names}
    settings["encoding"] = codecs.lookup(corpus.encoding).name  # one of its many names

    def build(stage: Stage) -> str:
        reading = _SHARE_OF_READING[corpus.dedup] if num_bytes else 1.0
        documents, ledger = load_corpus(
            corpus.corpus,
            corpus_config=corpus.corpus_config,
            revision=corpus.corpus_revision,
            cache_dir=stage.cache,
            num_proc=stage.num_workers,
            on_read=lambda read: stage.progress.advance(round(reading * read)),
            **settings,
        )
        rejects = stage.folder / REJECTS_FILE
        shutil.move(stage.cache / REJECTS_FILE, rejects)
        if corpus.dedup != "none":
            a_document = (1 - reading) * (num_bytes or 0) / len(documents)
            documents = drop_duplicates(
                documents,
                corpus.dedup == "near",
                DocumentPlaces.load(stage.cache),
                ledger,
                rejects,
                on_read=lambda number: stage.progress.advance(round(a_document * number)),
            )
        _choose_validation(args, len(documents))  # are there enough?
        stage.save(documents, "text")
        kept_bytes = pc.sum(_text_sizes(Dataset.load_from_disk(str(stage.folder / "text")))).as_py()
        write_json(stage.folder / "ledger.json", {**dataclasses.asdict(ledger), "bytes": kept_bytes})
        found = f"{len(documents):,} documents, {kept_bytes / 1e6:,.1f} MB"
        return f"{found}; rejected: {in_words(ledger.rejected)}; cleaned: {in_words(ledger.cleaned)}"

    key = {**source, **settings, "dedup": corpus.dedup}
    folder = Path(args.data.data_dir, "documents")
    return run_stage(args, folder, key, num_bytes, build, need_bytes=2 * (num_bytes or 0))


def prepare_tokenizer(args: RunArguments, documents_dir: Path) -> PreTrainedTokenizerFast:
    """The tokenizer of tokenizer_dir: one that is there or on the Hub, or trained there on the documents."""
    folder = Path(args.tokenizer.tokenizer_dir)
    if _is_given(args.tokenizer.tokenizer_dir):
        return load_tokenizer(args.tokenizer.tokenizer_dir)
    settings = dataclasses.asdict(args.tokenizer)
    del settings["tokenizer_dir"]

    def build(stage: Stage) -> str:
        save_tokenizer(train_tokenizer(_texts(documents_dir, stage.progress), **settings), stage.folder)
        return f"{settings['vocab_size']:,} tokens"

    key = {"documents": _id(documents_dir), **settings}
    run_stage(args, folder, key, _num_bytes(documents_dir), build)
    return load_tokenizer(str(folder))


def prepare_tokens(args: RunArguments, documents_dir: Path, tokenizer: PreTrainedTokenizerFast) -> Path:
    """Tokenize data_dir/documents into data_dir/tokens."""

    def build(stage: Stage) -> str:
        documents = Dataset.load_from_disk(str(documents_dir / "text"))
        units = Units(documents, _text_sizes(documents).to_numpy(), TEXT_A_UNIT)
        tokenize = DocumentTokenizer(tokenizer)
        tokens = stage.map(lambda unit: tokenize(units[unit]), units.sizes, TOKEN_FEATURES, "tokens")
        stage.save(tokens, "documents")
        return f"{list_lengths(tokens, 'input_ids').sum(dtype=np.int64):,} tokens"

    key = {"documents": _id(documents_dir), "tokenizer": tokenizer_hash(tokenizer)}
    num_bytes = _num_bytes(documents_dir)
    return run_stage(args, Path(args.data.data_dir, "tokens"), key, num_bytes, build, need_bytes=num_bytes)


def prepare_random_words(args: RunArguments, tokens_dir: Path, tokenizer: PreTrainedTokenizerFast) -> Path:
    """Count the words of data_dir/tokens into data_dir/random_words."""
    settings = dataclasses.asdict(args.random_words)
    seed = args.data.preprocessing_seed

    def build(stage: Stage) -> str:
        counting = dict(settings)
        tokens = _first_lines(Dataset.load_from_disk(str(tokens_dir / "documents")), counting.pop("max_lines"))
        units = Units(tokens, list_lengths(tokens, "input_ids"), COUNTED_A_UNIT)
        tables = (word_start_table(tokenizer), letter_table(tokenizer), counting.pop("max_tokens_per_word"))
        counted = stage.map(
            lambda unit: count_words(flat_lists(units[unit]["input_ids"])[0], *tables),
            units.sizes,
            datasets.Features.from_arrow_schema(WORD_COUNTS),
            "words",
        )
        batches = map(pa.Table.from_batches, ([batch] for batch in counted.data.to_batches()))
        words = RandomWordSet.build(batches, seed=seed, **counting)
        words.save(stage.folder)
        counts = ", ".join(f"{count:,} of {length}" for length, count in words.counts().items())
        return f"words by number of tokens: {counts or 'none; lower min_word_frequency'}"

    key = {"tokens": _id(tokens_dir), **settings, "preprocessing_seed": seed}
    num_bytes = _num_bytes(tokens_dir.with_name("documents"))
    return run_stage(args, Path(args.data.data_dir, "random_words"), key, num_bytes, build)


def prepare_rows(
    args: RunArguments, block_size: int, tokens_dir: Path, words_dir: Path, tokenizer: PreTrainedTokenizerFast
) -> Path:
    """Make the training and validation rows of one block size: data_dir/block_<size>."""
    settings = dataclasses.asdict(args.data)
    for name in ("data_dir", "block_sizes", "preprocessing_num_workers", "max_shard_size"):
        del settings[name]
    settings["validation_fraction"] = args.corpus.validation_fraction
    if args.data.masking == "dynamic":  # then words are hidden in the batches
        for name in VALIDATION_MASKING:
            del settings[name]

    def build(stage: Stage) -> str:
        tokens = Dataset.load_from_disk(str(tokens_dir / "documents")).with_format("arrow")
        in_validation = _choose_validation(args, len(tokens))
        random_words = RandomWordSet.load(words_dir)
        maskers = {
            "train": build_masker(args.data, tokenizer, random_words),
            "validation": build_masker(dataclasses.replace(args.data, **VALIDATION_MASKING), tokenizer, random_words),
        }
        shape = RowShape(block_size, args.data.overlap, args.data.edge_buffer)
        shares = {"train": 1 - args.corpus.validation_fraction, "validation": args.corpus.validation_fraction}
        stats = {}
        for split in SPLITS:
            numbers = np.flatnonzero(in_validation == (split == "validation"))
            builder = RowBuilder(tokens, numbers, split, shape, args.data, tokenizer, maskers[split])
            counts = builder.count()
            if not any(count.num_free + count.forced_lengths.sum() for count in counts):
                raise UserError(split, "no document gives a row", f"add documents, or lower edge_buffer; {NSP_OFF}")
            rows = stage.map(builder.build_unit, builder.unit_sizes, builder.features(), split, shares[split])
            stats[split] = builder.describe(rows, counts)
            stage.save(rows, split)
        write_json(stage.folder / "dataset_dict.json", {"splits": list(SPLITS)})
        write_json(stage.folder / "stats.json", stats)
        return "; ".join(f"{split} {describe_split(stats[split])}" for split in SPLITS)

    key = {"tokens": _id(tokens_dir), "random_words": _id(words_dir), "block_size": block_size, **settings}
    num_bytes = _num_bytes(tokens_dir.with_name("documents"))
    folder = Path(args.data.data_dir, f"block_{block_size}")
    return run_stage(args, folder, key, num_bytes, build, need_bytes=2 * num_bytes)


def describe_split(stats: dict[str, Any]) -> str:
    """One split's stats.json in a few words."""
    is_next, padding = stats["is_next_share"], stats["padding_share"]
    return f"{stats['rows']:,} rows, B follows A in {is_next:.1%}, padding {padding:.2%}"


def prepare_report(args: RunArguments, tokenizer: PreTrainedTokenizerFast) -> Path:
    """Describe the other stages for people: data_dir/report. Made anew, without a question, when one of them is."""
    data_dir = Path(args.data.data_dir)
    names = ["documents", "tokens", *(f"block_{block_size}" for block_size in args.data.block_sizes)]
    key = {name: _id(data_dir / name) for name in names}

    def build(stage: Stage) -> str:
        write_report(data_dir, args.data.block_sizes, tokenizer, stage.folder, stage.count)
        return "report.html and stats.json"

    num_bytes = _num_bytes(data_dir / "documents")
    return run_stage(args, data_dir / "report", key, num_bytes, build, overwrite=True)


def load_prepared(data_dir: str | os.PathLike, block_sizes: list[int] | None = None) -> dict[int, DatasetDict]:
    """The committed rows of a data folder: {block size: DatasetDict(train, validation)}, memory-mapped.

    Raises:
        UserError: no rows there, damaged ones, or rows of other tokens or random words than those beside them.
    """
    sizes = [path.name.removeprefix("block_") for path in Path(data_dir).glob("block_*")]
    found = sorted(int(size) for size in sizes if size.isdigit())
    if not found:
        raise UserError(data_dir, "no prepared rows here", "make them with scripts/prepare_data.py")
    loaded = {}
    for block_size in found if block_sizes is None else block_sizes:
        folder = Path(data_dir, f"block_{block_size}")
        _require_whole(folder)
        made_from = read_manifest(folder)["key"]
        for name in ("tokens", "random_words"):
            if made_from[name] != _id(Path(data_dir, name)):
                what = f"made from other {name.replace('_', ' ')} than those of {data_dir}"
                raise config_error(folder, what, "run scripts/prepare_data.py with --overwrite true")
        loaded[block_size] = DatasetDict.load_from_disk(str(folder))
    _require_whole(Path(data_dir, "random_words"))
    return loaded


def check_tokenizer(data_dir: str | os.PathLike, tokenizer: PreTrainedTokenizerFast) -> None:
    """Raise UserError if the rows that load_prepared gives were made with another tokenizer."""
    _id(Path(data_dir, "tokens"))
    if read_manifest(Path(data_dir, "tokens"))["key"]["tokenizer"] != tokenizer_hash(tokenizer):
        raise config_error(data_dir, "made with another tokenizer", "name that one in tokenizer_dir")


def load_stats(data_dir: str | os.PathLike, block_size: int) -> dict[str, dict[str, Any]]:
    """stats.json of one block size: {split: counts}."""
    return json.loads(Path(data_dir, f"block_{block_size}", "stats.json").read_text("utf-8"))


def build_masker(
    data: DataArguments, tokenizer: PreTrainedTokenizerFast, random_words: RandomWordSet
) -> WholeWordMasker:
    """The one object that masks, in the rows (static) or in the collator (dynamic)."""
    return WholeWordMasker(
        word_start_table(tokenizer),
        tokenizer.all_special_ids,
        tokenizer.mask_token_id,
        random_words,
        data.mlm_probability,
        data.mask_replace_prob,
        data.random_replace_prob,
    )


def build_collator(
    args: RunArguments, tokenizer: PreTrainedTokenizerFast, seed: int, fixed_shapes: bool = False
) -> DataCollatorForPretraining:
    """The collator for the rows of data_dir; it masks those that are not masked yet."""
    words = RandomWordSet.load(Path(args.data.data_dir, "random_words"))
    share = args.data.mlm_probability if fixed_shapes else None
    return DataCollatorForPretraining(build_masker(args.data, tokenizer, words), seed, share)


def _id(folder: Path) -> str:
    manifest = read_manifest(folder)
    if manifest is None:
        raise UserError(folder, f"no valid {MANIFEST}", _MAKE_AGAIN, CORRUPT_ARTIFACT)
    return key_hash(manifest["key"])


def _require_whole(folder: Path) -> None:
    damage = find_damage(folder)
    if damage:
        raise UserError(folder, damage, _MAKE_AGAIN, CORRUPT_ARTIFACT)


def _refuse_foreign_folders(args: RunArguments) -> None:
    """Refuse what is in the way of any stage before the first one begins."""
    names = ["documents", "tokens", "random_words", *(f"block_{size}" for size in args.data.block_sizes), "report"]
    for name in names:
        refuse_foreign(Path(args.data.data_dir, name))
    if not _is_given(args.tokenizer.tokenizer_dir):
        refuse_foreign(Path(args.tokenizer.tokenizer_dir))


def _choose_validation(args: RunArguments, num_documents: int) -> np.ndarray:
    """`(D,)` bool; pairs need two documents in either split, for a B of another document."""
    least = 2 if args.data.nsp_probability else 1
    return split_documents(num_documents, args.corpus.validation_fraction, args.data.preprocessing_seed, least)


def _num_bytes(documents_dir: Path) -> int:
    return json.loads((documents_dir / "ledger.json").read_text("utf-8"))["bytes"]


def _is_given(tokenizer_dir: str) -> bool:
    """True for a tokenizer that is not ours to train: on the Hub, of a model, or in a folder without our manifest."""
    folder = Path(tokenizer_dir)
    manifest = read_manifest(folder)
    is_foreign = manifest is None or "limit_alphabet" not in manifest["key"]
    return (is_foreign and (folder / "tokenizer_config.json").exists()) or is_hub_id(tokenizer_dir)


def _text_sizes(documents: Dataset) -> pa.ChunkedArray:
    """The length of each document in bytes."""
    return pc.binary_length(documents.data.column("text"))


def _texts(documents_dir: Path, progress: Progress) -> Iterator[str]:
    documents = Dataset.load_from_disk(str(documents_dir / "text"))
    units = Units(documents, _text_sizes(documents).to_numpy(), TEXT_A_UNIT)
    for number in range(len(units)):
        yield from units[number]["text"].to_pylist()
        progress.advance(int(units.sizes[number]))


def _first_lines(tokens: Dataset, max_lines: int | None) -> Dataset:
    """The documents with the first so many sentences, the last one whole; all of them without a number."""
    if max_lines is None:
        return tokens
    lines = np.cumsum(list_lengths(tokens, "sentence_ends"), dtype=np.int64)
    return tokens.select(range(min(int(np.searchsorted(lines, max_lines)) + 1, len(tokens))))
