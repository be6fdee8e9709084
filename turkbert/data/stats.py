"""Committed stage folders -> what is in them, as the numbers of data_dir/report.

    describe_data(Path("data"), [128], tokenizer)
        -> {"documents": {"number": 120, "bytes": 138600, ...}, "tokens": {...}, "rows": {"128": {...}}, ...}

Counted unit by unit in worker processes: memory is bounded by a unit, 16 bytes a document, and the different words.
"""

import json
import unicodedata
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash
from datasets import Dataset, DatasetDict
from transformers import PreTrainedTokenizerFast

from turkbert.data.arrow import flat_lists, list_lengths
from turkbert.data.counts import WORDS, Counts, LengthCounts, most_common, once, pack_words, tally, total
from turkbert.data.stages import CountRows, count_here
from turkbert.tokenization import letter_table, maskable_table, word_start_table

# What find_warnings() lets pass.
MAX_UNKNOWN_SHARE = 0.001
MAX_UNEVEN = 0.05  # of the share of label 0, from what nsp_probability asks for
MAX_PADDING = 0.2
BYTES_A_UNIT = 4_000_000
TOKENS_A_UNIT = 1_000_000
ENOUGH_WORDS = 200  # of a length, to say that none of them is ever replaced
HIDDEN = ("masked", "replaced", "kept")

_TURKISH = set("abcçdefgğhıijklmnoöprsştuüvyzâîû" "ABCÇDEFGĞHIİJKLMNOÖPRSŞTUÜVYZÂÎÛ")
_SCRIPTS = {"LATIN": "other_latin", "CYRILLIC": "cyrillic", "ARABIC": "arabic", "GREEK": "greek"}
_CATEGORIES = {"M": "combining_marks", "N": "digits", "P": "punctuation", "S": "symbols", "Z": "white_space"}
_IS_SPACE = np.array([chr(point).isspace() for point in range(0x3002)])  # none beyond; the last one is no space


def describe_data(
    data_dir: Path, block_sizes: list[int], tokenizer: PreTrainedTokenizerFast, count: CountRows = count_here
) -> dict[str, Any]:
    """Statistics of documents/, tokens/ and the block_<size>/ folders of a data folder."""
    ledger = json.loads((data_dir / "documents" / "ledger.json").read_text("utf-8"))
    texts = Dataset.load_from_disk(str(data_dir / "documents" / "text"))
    tokens = Dataset.load_from_disk(str(data_dir / "tokens" / "documents"))
    rows: dict[str, Any] = {str(block_size): {} for block_size in block_sizes}
    for block_size in block_sizes:
        folder = data_dir / f"block_{block_size}"
        splits = DatasetDict.load_from_disk(str(folder))
        counts = json.loads((folder / "stats.json").read_text("utf-8"))
        num_rows = sum(split["rows"] for split in counts.values()) * len(block_sizes)
        for split in counts:
            name, share = f"{block_size}_{split}", 0.3 * counts[split]["rows"] / num_rows
            rows[str(block_size)][split] = describe_rows(
                splits[split], block_size, counts[split], tokenizer, partial(count, name=name, share=share)
            )
    stats = {
        "documents": {**describe_texts(texts, partial(count, name="texts", share=0.3)), **ledger},
        "tokens": describe_tokens(tokens, tokenizer, block_sizes, partial(count, name="tokens", share=0.4)),
        "rows": rows,
    }
    stats["tokens"]["fertility"] = stats["tokens"]["number"] / max(stats["documents"]["white_space_words"], 1)
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
    for block_size, splits in stats["rows"].items():
        warnings += _find_row_warnings(block_size, splits["train"])
    return warnings


def _find_row_warnings(block_size: str, rows: dict[str, Any]) -> list[str]:
    warnings = []
    wanted = 1 - rows["nsp_probability"]
    if abs(rows["is_next_share"] - wanted) > MAX_UNEVEN and rows["nsp_probability"]:
        warnings.append(
            f"block {block_size}: B follows A in {rows['is_next_share']:.1%} of the training rows instead of "
            f"{wanted:.1%}: smaller block_sizes, a larger max_padding or longer documents bring it nearer"
        )
    if rows["padding_share"] > MAX_PADDING:
        warnings.append(
            f"block {block_size}: {rows['padding_share']:.1%} of the training rows is padding: most documents are "
            "shorter than a row; smaller block_sizes waste less"
        )
    return warnings


def describe_texts(texts: Dataset, count: CountRows = count_here) -> dict[str, Any]:
    """Documents, their copies, bytes and characters; a word is what stands between white space here."""
    counts = count(_count_texts, texts, pc.binary_length(texts.data.column("text")).to_numpy(), BYTES_A_UNIT)
    characters: Counter[str] = Counter()
    for point, number in zip(*counts["characters"], strict=True):
        characters[character_class(chr(point))] += int(number)
    return {
        "number": len(texts),
        "bytes": total(counts["bytes"]),
        "white_space_words": total(counts["white_space_words"]),
        "duplicates": len(texts) - counts["digests"][0].size,
        "characters": dict(characters.most_common()),
    }


def _count_texts(table: pa.Table) -> Counts:
    documents = table["text"].cast(pa.binary()).to_pylist()
    digests = np.array([xxhash.xxh64_intdigest(document) for document in documents], dtype=np.uint64)
    joined = b"\n".join(documents)
    num_joints = len(documents) - 1
    text = np.frombuffer(joined.decode().encode("utf-32-le"), dtype=np.uint32)
    points, numbers = tally(text)
    is_space = _IS_SPACE.take(text, mode="clip")
    num_words = int(np.count_nonzero(is_space[:-1] & ~is_space[1:])) + int(not is_space[0])
    return {
        "characters": (points, numbers - num_joints * (points == ord("\n"))),
        "digests": tally(digests.view(np.int64)),
        "bytes": once(len(joined) - num_joints),
        "white_space_words": once(num_words),
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
    tokens: Dataset, tokenizer: PreTrainedTokenizerFast, block_sizes: list[int], count: CountRows = count_here
) -> dict[str, Any]:
    """Tokens, words (what the tokenizer splits at white space, marks and digits) and lengths."""
    count_tokens = partial(_count_tokens, word_starts=word_start_table(tokenizer), is_letter=letter_table(tokenizer))
    counts = count(count_tokens, tokens, list_lengths(tokens, "input_ids"), TOKENS_A_UNIT)
    documents, sentences, words, letter_words = (
        LengthCounts(counts[name]) for name in ("documents", "sentences", "words", "letter_words")
    )
    used, numbers = counts["tokens"]
    number = int(numbers.sum())
    unknown = int(numbers[used == tokenizer.unk_token_id].sum())
    return {
        "number": number,
        "vocabulary": len(tokenizer),
        "vocabulary_used": used.size,
        "unknown": unknown,
        "unknown_share": unknown / max(number, 1),
        "words": words.summary(),
        "letter_words": letter_words.summary(),
        "document_lengths": {**documents.summary(), "histogram": documents.histogram(_log_edges(documents.longest))},
        "documents_below_block": {str(size): int(documents.counts[: size - 3].sum()) for size in block_sizes},
        "sentence_lengths": {**sentences.summary(), "histogram": sentences.histogram([*range(1, 101, 3)])},
        "word_lengths": {str(length): number for length, number in letter_words.items()},
        "most_common_words": [[tokenizer.decode(word), number] for word, number in most_common(counts[WORDS], 20)],
    }


def _count_tokens(table: pa.Table, word_starts: np.ndarray, is_letter: np.ndarray) -> Counts:
    ids, document_starts = flat_lists(table["input_ids"])
    starts = np.flatnonzero(word_starts[ids])
    lengths = np.diff(starts, append=ids.size)
    of_letters = is_letter[ids[starts]]
    return {
        "tokens": tally(ids),
        "documents": tally(np.diff(document_starts)),
        "sentences": tally(_sentence_lengths(table["sentence_ends"])),
        "words": tally(lengths),
        "letter_words": tally(lengths[of_letters]),
        WORDS: tally(pack_words(ids, starts[of_letters], lengths[of_letters])),
    }


def describe_rows(
    rows: Dataset,
    block_size: int,
    counts: dict[str, Any],
    tokenizer: PreTrainedTokenizerFast,
    count: CountRows = count_here,
) -> dict[str, Any]:
    """One split's labels, padding, lengths of A and masks; `counts` are those of its stats.json."""
    is_static = "masked_lm_positions" in rows.column_names
    count_rows = partial(_count_rows, kinds=_TokenKinds.of(tokenizer) if is_static else None)
    found = count(count_rows, rows, np.full(len(rows), block_size), TOKENS_A_UNIT)
    edges = np.unique(np.linspace(0, block_size, 33).astype(int)).tolist()
    return {
        **counts,
        "length_a": {
            "edges": edges,
            "is_next": LengthCounts(found["length_a_0"]).histogram(edges)["numbers"],
            "not_next": LengthCounts(found["length_a_1"]).histogram(edges)["numbers"],
        },
        "masks": _describe_masks(found) if is_static else None,
    }


class _TokenKinds(NamedTuple):
    """What masks are read with."""

    word_starts: np.ndarray
    maskable: np.ndarray
    mask_id: int

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerFast) -> "_TokenKinds":
        word_starts = word_start_table(tokenizer)
        maskable = maskable_table(word_starts, tokenizer.all_special_ids)
        return cls(word_starts, maskable, tokenizer.mask_token_id)


def _count_rows(table: pa.Table, kinds: _TokenKinds | None) -> Counts:
    length_a, labels = table["length_a"].to_numpy(), table["next_sentence_label"].to_numpy()
    lengths = {f"length_a_{label}": tally(length_a[labels == label]) for label in (0, 1)}
    return {**lengths, **(_count_masks(table, kinds) if kinds else {})}


def _count_masks(table: pa.Table, kinds: _TokenKinds) -> Counts:
    """How many words of static rows are hidden and how, by their number of tokens.

    Read from the rows alone: a word that was replaced by itself counts as kept.
    """
    ids = table["input_ids"].combine_chunks().flatten().to_numpy()
    block_size = ids.size // len(table)
    positions, first = flat_lists(table["masked_lm_positions"])
    was, _ = flat_lists(table["masked_lm_ids"])
    place = positions + np.repeat(np.arange(len(table)) * block_size, np.diff(first))
    shown = ids[place]
    starts = np.flatnonzero(kinds.word_starts[was] | (np.diff(place, prepend=-2) != 1))
    word_lengths = np.diff(starts, append=place.size)
    is_masked = np.logical_and.reduceat(shown == kinds.mask_id, starts)
    is_kept = np.logical_and.reduceat(shown == was, starts)
    hidden = zip(HIDDEN, (is_masked, ~is_masked & ~is_kept, is_kept), strict=True)
    # A replacement begins one word as the word before it did; what [MASK] hides is added.
    num_words = int(np.count_nonzero(kinds.maskable[ids])) + int(np.count_nonzero(is_masked))
    return {**{name: tally(word_lengths[chosen]) for name, chosen in hidden}, "maskable_words": once(num_words)}


def _describe_masks(counts: Counts) -> dict[str, Any]:
    lengths = {name: LengthCounts(counts[name]) for name in HIDDEN}
    all_lengths = sorted({length for counts in lengths.values() for length, _ in counts.items()})
    by_tokens = {str(length): {name: lengths[name][length] for name in HIDDEN} for length in all_lengths}
    return {
        "words": total(counts["maskable_words"]),
        **{name: counts.number for name, counts in lengths.items()},
        "by_tokens": by_tokens,
        "never_replaced": [
            int(length)
            for length, kinds in by_tokens.items()
            if sum(kinds.values()) >= ENOUGH_WORDS and not kinds["replaced"] and lengths["replaced"].number
        ],
    }


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
