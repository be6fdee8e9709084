"""Raw documents -> rows of every block size, each stage one committed folder.

    data_dir/documents/     text, one row a document                         load_corpus
    tokenizer_dir/          tokenizer.json, unless one is given              train_tokenizer
    data_dir/tokens/        input_ids and sentence_ends, one row a document  .map(DocumentTokenizer)
    data_dir/random_words/  replacements by number of tokens                 RandomWordSet.build
    data_dir/block_128/     train and validation rows                        .map(RowBuilder.build_unit)
    data_dir/report/        report.html and stats.json                       write_report

A folder that stands for the same sources and settings is reused, another one refused: artifacts.reuse_or_build.
"""

import dataclasses
import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import datasets
import numpy as np
from datasets import Dataset, DatasetDict
from transformers import PreTrainedTokenizerFast

import turkbert
from turkbert.arguments import DataArguments, RunArguments
from turkbert.artifacts import find_damage, key_hash, read_manifest, reuse_or_build, write_json
from turkbert.data.arrow import flat_lists, list_lengths
from turkbert.data.collator import DataCollatorForPretraining
from turkbert.data.corpus import REJECTS_FILE, find_corpus_files, hash_corpus, is_hub_id, load_corpus, split_documents
from turkbert.data.duplicates import drop_duplicates
from turkbert.data.masking import WholeWordMasker
from turkbert.data.pairs import RowShape
from turkbert.data.random_words import RandomWordSet
from turkbert.data.report import write_report
from turkbert.data.rows import SPLITS, RowBuilder
from turkbert.data.tokens import DocumentTokenizer
from turkbert.errors import CORRUPT_ARTIFACT, ENVIRONMENT, UserError, is_main_process
from turkbert.tokenization import load_tokenizer, save_tokenizer, tokenizer_hash, train_tokenizer, word_start_table

logger = logging.getLogger(__name__)

DOCUMENTS_A_BATCH = 256
COUNTED_AT_ONCE = 4_000_000  # tokens
TOKEN_FEATURES = datasets.Features(
    {"input_ids": datasets.List(datasets.Value("int32")), "sentence_ends": datasets.List(datasets.Value("int32"))}
)


class PreparedData(NamedTuple):
    """What training needs."""

    tokenizer: PreTrainedTokenizerFast
    rows: dict[int, DatasetDict]  # block size -> train and validation


def prepare_dataset(args: RunArguments) -> PreparedData:
    """Build what is missing, the tokenizer included, and load the rows of every block size.

    Raises:
        UserError: input that cannot be used, or a folder that was made with other settings.
    """
    documents_dir = prepare_documents(args)
    tokenizer = prepare_tokenizer(args, documents_dir)
    tokens_dir = prepare_tokens(args, documents_dir, tokenizer)
    words_dir = prepare_random_words(args, tokens_dir, tokenizer)
    rows = {
        block_size: DatasetDict.load_from_disk(str(prepare_rows(args, block_size, tokens_dir, words_dir, tokenizer)))
        for block_size in args.data.block_sizes
    }
    if is_main_process():  # nothing depends on the report: the other processes need not wait for it
        prepare_report(args, tokenizer)
    return PreparedData(tokenizer, rows)


def prepare_documents(args: RunArguments) -> Path:
    """Read the corpus into data_dir/documents."""
    corpus = args.corpus
    if is_hub_id(corpus.corpus, corpus.corpus_config):
        source = {"corpus": corpus.corpus[0], "config": corpus.corpus_config, "revision": corpus.corpus_revision}
    else:
        source = {"corpus": hash_corpus(find_corpus_files(corpus.corpus))}
    names = ("text_column", "drop_short_lines", "max_document_chars", "bad_bytes", "bad_lines")
    settings = {name: getattr(corpus, name) for name in names}

    def build(folder: Path) -> None:
        documents, ledger = load_corpus(
            corpus.corpus,
            corpus_config=corpus.corpus_config,
            revision=corpus.corpus_revision,
            cache_dir=folder / "_cache",
            num_proc=num_workers(args),
            **settings,
        )
        shutil.move(folder / "_cache" / REJECTS_FILE, folder / REJECTS_FILE)
        if corpus.dedup != "none":
            documents = drop_duplicates(documents, corpus.dedup == "near", ledger, folder / REJECTS_FILE)
        _save(documents, folder / "text", args)
        write_json(folder / "ledger.json", dataclasses.asdict(ledger))

    key = {**source, **settings, "dedup": corpus.dedup}
    return _stage(args, Path(args.data.data_dir, "documents"), key, build)


def prepare_tokenizer(args: RunArguments, documents_dir: Path) -> PreTrainedTokenizerFast:
    """The tokenizer of tokenizer_dir: one that is there or on the Hub, or trained there on the documents."""
    folder = Path(args.tokenizer.tokenizer_dir)
    is_foreign = read_manifest(folder) is None and (folder / "tokenizer_config.json").exists()
    if is_foreign or _is_hub_id(args.tokenizer.tokenizer_dir):
        return load_tokenizer(args.tokenizer.tokenizer_dir)
    settings = dataclasses.asdict(args.tokenizer)
    del settings["tokenizer_dir"]

    def build(folder: Path) -> None:
        save_tokenizer(train_tokenizer(_texts(documents_dir), **settings), folder)

    _stage(args, folder, {"documents": _id(documents_dir), **settings}, build)
    return load_tokenizer(str(folder))


def prepare_tokens(args: RunArguments, documents_dir: Path, tokenizer: PreTrainedTokenizerFast) -> Path:
    """Tokenize data_dir/documents into data_dir/tokens."""

    def build(folder: Path) -> None:
        documents = Dataset.load_from_disk(str(documents_dir / "text"))
        tokens = documents.with_format("arrow").map(
            DocumentTokenizer(tokenizer),
            batched=True,
            batch_size=DOCUMENTS_A_BATCH,
            remove_columns=["text"],
            features=TOKEN_FEATURES,
            desc="tokenizing",
            **_map_options(args, folder / "_cache" / "tokens.arrow", len(documents)),
        )
        _save(tokens, folder / "documents", args)

    key = {"documents": _id(documents_dir), "tokenizer": tokenizer_hash(tokenizer)}
    return _stage(args, Path(args.data.data_dir, "tokens"), key, build)


def prepare_random_words(args: RunArguments, tokens_dir: Path, tokenizer: PreTrainedTokenizerFast) -> Path:
    """Count the words of data_dir/tokens into data_dir/random_words."""
    settings = dataclasses.asdict(args.random_words)
    max_lines = settings.pop("max_lines")
    seed = args.data.preprocessing_seed

    def build(folder: Path) -> None:
        chunks = _token_chunks(Dataset.load_from_disk(str(tokens_dir / "documents")), max_lines)
        usable = usable_first_tokens(tokenizer)
        words = RandomWordSet.build(chunks, word_start_table(tokenizer), usable, seed=seed, **settings)
        words.save(folder)
        counts = ", ".join(f"{count} of {length}" for length, count in words.counts().items())
        logger.info("random words by number of tokens: %s", counts or "none; lower min_word_frequency")

    key = {"tokens": _id(tokens_dir), **settings, "max_lines": max_lines, "preprocessing_seed": seed}
    return _stage(args, Path(args.data.data_dir, "random_words"), key, build)


def prepare_rows(
    args: RunArguments, block_size: int, tokens_dir: Path, words_dir: Path, tokenizer: PreTrainedTokenizerFast
) -> Path:
    """Make the training and validation rows of one block size: data_dir/block_<size>."""
    settings = dataclasses.asdict(args.data)
    for name in ("data_dir", "block_sizes", "preprocessing_num_workers", "max_shard_size"):
        del settings[name]
    settings["validation_fraction"] = args.corpus.validation_fraction

    def build(folder: Path) -> None:
        tokens = Dataset.load_from_disk(str(tokens_dir / "documents")).with_format("arrow")
        in_validation = split_documents(len(tokens), args.corpus.validation_fraction, args.data.preprocessing_seed)
        masker = build_masker(args.data, tokenizer, RandomWordSet.load(words_dir))
        shape = RowShape(block_size, args.data.overlap, args.data.edge_buffer)
        stats = {}
        for split in SPLITS:
            numbers = np.flatnonzero(in_validation == (split == "validation"))
            builder = RowBuilder(tokens, numbers, split, shape, args.data, tokenizer, masker)
            counts = builder.count()
            if not any(count.num_free + count.forced_lengths.sum() for count in counts):
                mend = "every split needs two documents: add some, raise validation_fraction, or lower edge_buffer"
                raise UserError(split, "no document gives a row", mend)
            rows = (
                Dataset.from_dict({"unit": np.arange(builder.num_units)})
                .with_format("arrow")
                .map(
                    builder.build_unit,
                    batched=True,
                    batch_size=1,
                    remove_columns=["unit"],
                    features=builder.features(),
                    desc=f"block {block_size}, {split}",
                    **_map_options(args, folder / "_cache" / f"{split}.arrow", builder.num_units),
                )
            )
            stats[split] = builder.describe(rows, counts)
            _save(rows, folder / split, args)
        write_json(folder / "dataset_dict.json", {"splits": list(SPLITS)})
        write_json(folder / "stats.json", stats)

    key = {"tokens": _id(tokens_dir), "random_words": _id(words_dir), "block_size": block_size, **settings}
    return _stage(args, Path(args.data.data_dir, f"block_{block_size}"), key, build)


def prepare_report(args: RunArguments, tokenizer: PreTrainedTokenizerFast) -> Path:
    """Describe the other stages for people: data_dir/report. Made anew, without a question, when one of them is."""
    data_dir = Path(args.data.data_dir)
    names = ["documents", "tokens", *(f"block_{block_size}" for block_size in args.data.block_sizes)]
    key = {name: _id(data_dir / name) for name in names}
    build = partial(write_report, data_dir, args.data.block_sizes, tokenizer)
    return _stage(args, data_dir / "report", key, build, overwrite=True)


def load_prepared(data_dir: str | os.PathLike, block_sizes: list[int] | None = None) -> dict[int, DatasetDict]:
    """The committed rows of a data folder: {block size: DatasetDict(train, validation)}, memory-mapped.

    Raises:
        UserError: no rows there, or damaged ones.
    """
    sizes = [path.name.removeprefix("block_") for path in Path(data_dir).glob("block_*")]
    found = sorted(int(size) for size in sizes if size.isdigit())
    if not found:
        raise UserError(data_dir, "no prepared rows here", "make them with scripts/prepare_data.py")
    loaded = {}
    for block_size in found if block_sizes is None else block_sizes:
        folder = Path(data_dir, f"block_{block_size}")
        damage = find_damage(folder)
        if damage:
            mend = "remove the folder and run scripts/prepare_data.py again"
            raise UserError(folder, damage, mend, CORRUPT_ARTIFACT)
        loaded[block_size] = DatasetDict.load_from_disk(str(folder))
    return loaded


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


def build_collator(args: RunArguments, tokenizer: PreTrainedTokenizerFast, seed: int) -> DataCollatorForPretraining:
    """The collator for the rows of data_dir; it masks those that are not masked yet."""
    words = RandomWordSet.load(Path(args.data.data_dir, "random_words"))
    return DataCollatorForPretraining(build_masker(args.data, tokenizer, words), seed)


def usable_first_tokens(tokenizer: PreTrainedTokenizerFast) -> np.ndarray:
    """`(V,)` bool: tokens a replacement word may begin with, i.e. letters, not marks or digits."""
    usable = np.array([token[0].isalpha() for token in tokenizer.convert_ids_to_tokens(range(len(tokenizer)))])
    usable[tokenizer.all_special_ids] = False
    return usable


def num_workers(args: RunArguments) -> int:
    """Processes of the data stages."""
    return args.data.preprocessing_num_workers or len(os.sched_getaffinity(0))


def _stage(
    args: RunArguments, folder: Path, key: dict[str, Any], build: Callable[[Path], None], overwrite: bool = False
) -> Path:
    def build_and_describe(staging: Path) -> None:
        logger.info("building %s", folder)
        (staging / "_cache").mkdir()
        # A fast tokenizer that was used before a fork hangs the children, unless told to be single-threaded.
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
        started = time.perf_counter()
        with _worker_errors(folder):
            build(staging)
        shutil.rmtree(staging / "_cache")
        write_json(staging / "recipe.json", args.resolved())
        logger.info("%s took %.1f s", folder, time.perf_counter() - started)

    key = {**key, "turkbert": turkbert.__version__}
    return reuse_or_build(folder, key, build_and_describe, overwrite or args.setting("overwrite"))


@contextmanager
def _worker_errors(folder: Path) -> Iterator[None]:
    """What became of a worker process, in the user's terms."""
    try:
        yield
    except RuntimeError as error:
        if "abruptly died" not in str(error):
            raise
        what = "a worker process was killed, most likely for want of memory"
        raise UserError(folder, what, "run again with fewer --preprocessing_num_workers", ENVIRONMENT) from error
    except TimeoutError as error:
        # How a Ctrl-C comes out of datasets.map: its pool does not end in time.
        if isinstance(error.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from error
        raise


def _map_options(args: RunArguments, cache_file: Path, num_items: int) -> dict[str, Any]:
    workers = min(num_workers(args), num_items)
    return {
        "num_proc": workers if workers > 1 else None,
        "cache_file_name": str(cache_file),
        "new_fingerprint": cache_file.stem,  # the committed folder is the cache; this file is thrown away
        "load_from_cache_file": False,
    }


def _save(rows: Dataset, folder: Path, args: RunArguments) -> None:
    # Made anew without the history of its fingerprint and sizes, which would tell the number of processes.
    plain = Dataset(rows.data, fingerprint=folder.name)
    plain.save_to_disk(str(folder), max_shard_size=args.data.max_shard_size)


def _id(folder: Path) -> str:
    return key_hash(read_manifest(folder)["key"])


def _is_hub_id(name: str) -> bool:
    return name.count("/") == 1 and name[0] not in "./~" and not Path(name).parent.exists()


def _texts(documents_dir: Path) -> Iterator[str]:
    documents = Dataset.load_from_disk(str(documents_dir / "text")).with_format("arrow")
    for start in range(0, len(documents), DOCUMENTS_A_BATCH):
        yield from documents[start : start + DOCUMENTS_A_BATCH]["text"].to_pylist()


def _token_chunks(tokens: Dataset, max_lines: int | None) -> Iterator[np.ndarray]:
    """Flat tokens of documents, some million at a time; of the first `max_lines` sentences only, where that is set."""
    arrow = tokens.with_format("arrow")
    chunk = np.cumsum(list_lengths(tokens, "input_ids")) // COUNTED_AT_ONCE
    bounds = np.append(np.unique(chunk, return_index=True)[1], len(tokens))
    for start, stop in pairwise(bounds.tolist()):
        table = arrow[start:stop]
        flat, starts = flat_lists(table["input_ids"])
        if max_lines is not None:
            ends, first_end = flat_lists(table["sentence_ends"])
            ends = ends + np.repeat(starts[:-1], np.diff(first_end))
            flat = flat[: ends[max_lines - 1]] if max_lines < ends.size else flat
            max_lines = max(0, max_lines - ends.size)
        yield flat
        if max_lines == 0:
            return
