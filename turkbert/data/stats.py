"""Committed stage folders -> what is in them, as the numbers of data_dir/report.

    describe_data(Path("data"), [128], tokenizer)
        -> {"documents": {"number": 120, "bytes": 138600, ...}, "tokens": {...}, "rows": {"128": {...}}, ...}

Everything streams: memory is bounded by a batch, 8 bytes a document, and the different words counted.
"""

import json
import unicodedata
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, DatasetDict
from transformers import PreTrainedTokenizerFast

from turkbert.data.arrow import flat_lists, list_lengths
from turkbert.data.counts import LengthCounts, WordCounter, add_counts
from turkbert.tokenization import word_start_table

MAX_UNKNOWN_SHARE = 0.001
BYTES_A_BATCH = 4_000_000
TOKENS_A_BATCH = 1_000_000
ENOUGH_WORDS = 200  # of a length, to say that none of them is ever replaced
HIDDEN = ("masked", "replaced", "kept")

_TURKISH = set("abcçdefgğhıijklmnoöprsştuüvyzâîû" "ABCÇDEFGĞHIİJKLMNOÖPRSŞTUÜVYZÂÎÛ")
_SCRIPTS = {"LATIN": "other_latin", "CYRILLIC": "cyrillic", "ARABIC": "arabic", "GREEK": "greek"}
_CATEGORIES = {"M": "combining_marks", "N": "digits", "P": "punctuation", "S": "symbols", "Z": "white_space"}
_IS_SPACE = np.array([chr(point).isspace() for point in range(0x3002)])  # none beyond; the last one is no space


def describe_data(data_dir: Path, block_sizes: list[int], tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    """Statistics of documents/, tokens/ and the block_<size>/ folders of a data folder."""
    texts = Dataset.load_from_disk(str(data_dir / "documents" / "text"))
    ledger = json.loads((data_dir / "documents" / "ledger.json").read_text("utf-8"))
    rows = {}
    for block_size in block_sizes:
        folder = data_dir / f"block_{block_size}"
        splits = DatasetDict.load_from_disk(str(folder))
        counts = json.loads((folder / "stats.json").read_text("utf-8"))
        rows[str(block_size)] = {
            split: describe_rows(splits[split], block_size, counts[split], tokenizer) for split in counts
        }
    stats = {
        "documents": {**describe_texts(texts), **ledger},
        "tokens": describe_tokens(
            Dataset.load_from_disk(str(data_dir / "tokens" / "documents")), tokenizer, block_sizes
        ),
        "rows": rows,
    }
    return {**stats, "warnings": find_warnings(stats)}


def find_warnings(stats: dict[str, Any]) -> list[str]:
    """What a user should know before training on this data, a sentence each."""
    documents, tokens = stats["documents"], stats["tokens"]
    warnings = []
    if tokens["unknown_share"] > MAX_UNKNOWN_SHARE:
        warnings.append(
            f"{tokens['unknown_share']:.2%} of the tokens are unknown: raise limit_alphabet, or look for words of "
            "more than 100 characters"
        )
    if documents["duplicates"]:
        share = documents["duplicates"] / documents["number"]
        warnings.append(
            f"{documents['duplicates']:,} documents ({share:.1%}) are copies of others: --dedup exact drops them"
        )
    return warnings


def describe_texts(texts: Dataset) -> dict[str, Any]:
    """Documents, their copies, bytes and characters; a word is what stands between white space here."""
    points = np.zeros(0, dtype=np.int64)  # [code point] = number
    digests, num_bytes, num_words = [], 0, 0
    for table in _batches(texts, pc.binary_length(texts.data.column("text")).to_numpy(), BYTES_A_BATCH):
        documents = table["text"].cast(pa.binary()).to_pylist()
        digests.append(np.fromiter(map(hash, documents), np.int64, len(documents)))  # 64 bits, for this process alone
        joined = b"\n".join(documents)
        num_bytes += len(joined) - (len(documents) - 1)
        text = np.frombuffer(joined.decode().encode("utf-32-le"), dtype=np.uint32)
        points = add_counts(points, np.bincount(text))
        points[ord("\n")] -= len(documents) - 1
        is_space = _IS_SPACE.take(text, mode="clip")
        num_words += int(np.count_nonzero(is_space[:-1] & ~is_space[1:])) + int(not is_space[0])
    characters: Counter[str] = Counter()
    for point in np.flatnonzero(points).tolist():
        characters[character_class(chr(point))] += int(points[point])
    return {
        "number": len(texts),
        "bytes": num_bytes,
        "white_space_words": num_words,
        "duplicates": len(texts) - np.unique(np.concatenate(digests)).size,
        "characters": dict(characters.most_common()),
    }


def character_class(character: str) -> str:
    """turkish_letters (the 29 and â î û), another script's letters, digits, punctuation, symbols, white_space ...

    >>> [character_class(c) for c in "ğwж5,"]
    ['turkish_letters', 'other_latin', 'cyrillic', 'digits', 'punctuation']
    """
    if character in _TURKISH:
        return "turkish_letters"
    if character.isspace():
        return "white_space"
    category = unicodedata.category(character)[0]
    if category == "L":
        return _SCRIPTS.get(unicodedata.name(character, "").split(" ")[0], "other_letters")
    return _CATEGORIES.get(category, "control_and_private")


def describe_tokens(
    tokens: Dataset, tokenizer: PreTrainedTokenizerFast, block_sizes: list[int]
) -> dict[str, Any]:
    """Tokens, words (what the tokenizer splits at white space, marks and digits) and lengths."""
    word_starts = word_start_table(tokenizer)
    is_letter = np.array([token[:1].isalpha() for token in tokenizer.convert_ids_to_tokens([*range(len(tokenizer))])])
    vocab = np.zeros(word_starts.size, dtype=np.int64)
    documents, sentences, words, letter_words = (LengthCounts() for _ in range(4))
    common = WordCounter()
    for table in _batches(tokens, list_lengths(tokens, "input_ids"), TOKENS_A_BATCH):
        ids, document_starts = flat_lists(table["input_ids"])
        vocab += np.bincount(ids, minlength=vocab.size)
        documents.add(np.diff(document_starts))
        sentences.add(_sentence_lengths(table["sentence_ends"]))
        starts = np.flatnonzero(word_starts[ids])
        lengths = np.diff(starts, append=ids.size)
        of_letters = is_letter[ids[starts]]
        words.add(lengths)
        letter_words.add(lengths[of_letters])
        common.add(ids, starts[of_letters], lengths[of_letters])
    number = int(vocab.sum())
    unknown = int(vocab[tokenizer.unk_token_id])
    return {
        "number": number,
        "vocabulary": len(tokenizer),
        "vocabulary_used": int(np.count_nonzero(vocab)),
        "unknown": unknown,
        "unknown_share": unknown / max(number, 1),
        "words": words.summary(),
        "letter_words": letter_words.summary(),
        "document_lengths": {**documents.summary(), "histogram": documents.histogram(_log_edges(documents.longest))},
        "documents_below_block": {str(size): int(documents.counts[: size - 3].sum()) for size in block_sizes},
        "sentence_lengths": {**sentences.summary(), "histogram": sentences.histogram([*range(1, 101, 3)])},
        "word_lengths": {str(length): number for length, number in letter_words.items()},
        "most_common_words": [[tokenizer.decode(word), number] for word, number in common.most_common(20)],
    }


def describe_rows(
    rows: Dataset, block_size: int, counts: dict[str, int], tokenizer: PreTrainedTokenizerFast
) -> dict[str, Any]:
    """One split's labels, padding, lengths of A and masks; `counts` are those of its stats.json."""
    length_a = rows.data.column("length_a").to_numpy()
    labels = rows.data.column("next_sentence_label").to_numpy()
    edges = np.unique(np.linspace(0, block_size, 33).astype(int)).tolist()
    return {
        **counts,
        "is_next_share": counts["is_next"] / counts["rows"],
        "padding_share": counts["padding_tokens"] / (counts["rows"] * block_size),
        "length_a": {
            "edges": edges,
            "is_next": np.histogram(length_a[labels == 0], edges)[0].tolist(),
            "not_next": np.histogram(length_a[labels == 1], edges)[0].tolist(),
        },
        "masks": describe_masks(rows, tokenizer) if "masked_lm_positions" in rows.column_names else None,
    }


def describe_masks(rows: Dataset, tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    """How many words of static rows are hidden and how, by their number of tokens.

    Read from the rows alone: a word that was replaced by itself counts as kept.
    """
    word_starts = word_start_table(tokenizer)
    maskable = word_starts.copy()
    maskable[tokenizer.all_special_ids] = False
    lengths = {name: LengthCounts() for name in HIDDEN}
    num_words = 0
    block_size = rows.features["input_ids"].length
    for table in _batches(rows, np.full(len(rows), block_size), TOKENS_A_BATCH):
        ids = table["input_ids"].combine_chunks().flatten().to_numpy()
        positions, first = flat_lists(table["masked_lm_positions"])
        was, _ = flat_lists(table["masked_lm_ids"])
        place = positions + np.repeat(np.arange(len(table)) * block_size, np.diff(first))
        shown = ids[place]
        starts = np.flatnonzero(word_starts[was] | (np.diff(place, prepend=-2) != 1))
        word_lengths = np.diff(starts, append=place.size)
        is_masked = np.logical_and.reduceat(shown == tokenizer.mask_token_id, starts)
        is_kept = np.logical_and.reduceat(shown == was, starts)
        for name, chosen in zip(HIDDEN, (is_masked, ~is_masked & ~is_kept, is_kept), strict=True):
            lengths[name].add(word_lengths[chosen])
        # A replacement begins one word as the word before it did; what [MASK] hides is added.
        num_words += int(np.count_nonzero(maskable[ids])) + int(np.count_nonzero(is_masked))
    all_lengths = sorted({length for counts in lengths.values() for length, _ in counts.items()})
    by_tokens = {str(length): {name: lengths[name][length] for name in HIDDEN} for length in all_lengths}
    return {
        "words": num_words,
        **{name: counts.number for name, counts in lengths.items()},
        "by_tokens": by_tokens,
        "never_replaced": [
            int(length)
            for length, kinds in by_tokens.items()
            if sum(kinds.values()) >= ENOUGH_WORDS and not kinds["replaced"] and lengths["replaced"].number
        ],
    }


def _batches(rows: Dataset, sizes: np.ndarray, batch_size: int) -> Iterator[pa.Table]:
    """Runs of rows of about `batch_size` together, by the size of each."""
    unit = (np.cumsum(sizes, dtype=np.int64) - 1) // batch_size
    bounds = np.append(np.unique(unit, return_index=True)[1], len(rows)).tolist()
    arrow = rows.with_format("arrow")
    for start, stop in zip(bounds[:-1], bounds[1:], strict=True):
        yield arrow[start:stop]


def _sentence_lengths(sentence_ends: pa.ChunkedArray) -> np.ndarray:
    ends, first = flat_lists(sentence_ends)
    lengths = np.diff(ends, prepend=0)
    first_of_document = first[:-1][np.diff(first) > 0]
    lengths[first_of_document] = ends[first_of_document]
    return lengths


def _log_edges(longest: int) -> list[int]:
    """1, 2, 3, ... growing by a tenth of a power of ten, up to beyond `longest`."""
    longest = max(longest, 9)
    steps = np.arange(10 * np.log10(longest) + 2)
    edges = np.unique(np.round(10 ** (steps / 10)).astype(int))
    return edges[: np.searchsorted(edges, longest, side="right") + 1].tolist()
