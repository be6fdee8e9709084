"""Documents become sentence pairs: flat tokens and sentence ends -> rows `[CLS] A [SEP] B [SEP]` with their label.

A window of `block_size - 3` tokens slides over a document, `overlap` tokens at a time in common. It is cut at a
sentence end into A and B; then either B stays (IS_NEXT) or it is replaced by as many tokens from a sentence start of
another document (NOT_NEXT). So both labels have the same lengths, and neither is padded.

What does not fill a window, the end of a document or a short document, can only be an A: its B is random. To keep the
length of A from telling the label, full windows are cut near lengths drawn from those of such rows (`PairPlan`).

    plan = plan_pairs([count_windows(unit, shape) for unit in units], shape, ...)
    rows = build_pairs(units[0], shape, plan, *special_ids, rng)

Without next-sentence prediction there is no label to share out: build_continuations.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

IS_NEXT, NOT_NEXT = 0, 1  # Hugging Face's labels


@dataclass(frozen=True)
class RowShape:
    """Lengths of a row, in tokens."""

    block_size: int
    overlap: int | None
    edge_buffer: int

    @property
    def window(self) -> int:
        """Tokens of A and B together: the row less [CLS] and two [SEP]."""
        return self.block_size - 3

    @property
    def stride(self) -> int:
        """Tokens from one window's start to the next one's."""
        return self.window - (self.window // 2 if self.overlap is None else self.overlap)


class Documents(NamedTuple):
    """Tokenized documents in a row."""

    tokens: np.ndarray  # (N,) int32, all documents without special tokens
    starts: np.ndarray  # (D + 1,) where each document begins in `tokens`; the last one is N
    sentence_ends: np.ndarray  # (S,) where each sentence ends in `tokens`, rising
    word_starts: np.ndarray  # (N,) bool


class Windows(NamedTuple):
    """Candidate rows. A full window may keep its B or get another; any other can only get another."""

    document: np.ndarray  # (W,)
    start: np.ndarray  # (W,) first token of A
    cut: np.ndarray  # (W,) first token after A
    end: np.ndarray  # (W,) first token after B, if B stays
    free: np.ndarray  # (W,) bool: True where B may stay


@dataclass
class PairPlan:
    """How the labels are shared out, for one block size and split."""

    random_share: float  # share of the full windows whose B is replaced
    padded_random_share: float  # the same for documents padded to a window
    padded_from: int  # documents of at least this many tokens are padded; `window` where none is
    cut_lengths: list[int]  # [n] = number of rows with an A of n tokens among those that can only be NOT_NEXT


class WindowCounts(NamedTuple):
    """What plan_pairs needs to know of one unit of documents."""

    num_free: int
    forced_lengths: np.ndarray  # (window + 1,) rows that can only be NOT_NEXT, by length of A
    paddable_lengths: np.ndarray  # (window + 1,) of those, documents that could be padded instead, by length
    num_too_short: int  # documents shorter than edge_buffer: no row


class PairRows(NamedTuple):
    """Finished rows, unmasked."""

    input_ids: np.ndarray  # (R, T) int32, padded
    length_a: np.ndarray  # (R,) tokens of A
    length: np.ndarray  # (R,) tokens of the row that are not padding
    next_sentence_label: np.ndarray  # (R,) IS_NEXT or NOT_NEXT


def count_windows(documents: Documents, shape: RowShape) -> WindowCounts:
    """Count the candidate rows of one unit before any label is given."""
    windows = _find_windows(documents, shape)
    forced = ~windows.free
    lengths = np.diff(documents.starts)
    bins = shape.window + 1
    return WindowCounts(
        num_free=int(windows.free.sum()),
        forced_lengths=np.bincount((windows.cut - windows.start)[forced], minlength=bins),
        paddable_lengths=np.bincount(lengths[_paddable(documents, shape)], minlength=bins),
        num_too_short=int((lengths < shape.edge_buffer).sum()),
    )


def plan_pairs(
    counts: list[WindowCounts], shape: RowShape, nsp_balance: str, nsp_probability: float, max_padding: float
) -> PairPlan:
    """Choose the share of random pairs so that NOT_NEXT comes out at `nsp_probability` of all rows.

    Rows that can only be NOT_NEXT count first; the full windows make up the rest. Where there are too few full
    windows, the longest short documents are padded until the labels are even or `max_padding` of all token slots is
    padding; then padding wins, and the loss weights make up for the rest.
    """
    num_free = sum(count.num_free for count in counts)
    forced = np.sum([count.forced_lengths for count in counts], axis=0)
    num_rows = num_free + int(forced.sum())
    if nsp_balance != "planned":
        return PairPlan(nsp_probability, nsp_probability, shape.window, forced.tolist())
    wanted = (1 - nsp_probability) * num_rows
    if num_free >= wanted:
        return PairPlan(1 - wanted / max(num_free, 1), nsp_probability, shape.window, forced.tolist())
    longest_first = np.arange(shape.window - 1, 0, -1)
    paddable = np.sum([count.paddable_lengths for count in counts], axis=0)
    kept = np.cumsum(paddable[longest_first]) * (1 - nsp_probability)
    padding = np.cumsum(paddable[longest_first] * (shape.window - longest_first))
    needed = int((kept < wanted - num_free).sum()) + 1
    affordable = int((padding <= max_padding * num_rows * shape.block_size).sum())
    padded_from = shape.window - min(needed, affordable)
    paddable[:padded_from] = 0
    too_many = num_free + paddable.sum() * (1 - nsp_probability) - wanted  # the shortest length padded may have many
    length_a = np.minimum(np.arange(shape.window + 1), shape.window - shape.edge_buffer)
    forced -= np.bincount(length_a, paddable, minlength=forced.size).astype(forced.dtype)
    return PairPlan(max(0.0, too_many / max(num_free, 1)), nsp_probability, padded_from, forced.clip(min=0).tolist())


def build_pairs(
    documents: Documents,
    shape: RowShape,
    plan: PairPlan,
    cls_id: int,
    sep_id: int,
    pad_id: int,
    rng: np.random.Generator,
) -> PairRows:
    """All rows of one unit of documents, in the order of the documents.

    B is drawn from the unit, so its documents must be two or more.
    """
    windows = _find_windows(documents, shape, plan, rng)
    length_a = windows.cut - windows.start
    length_b = np.where(windows.free, windows.end - windows.cut, shape.window - length_a)
    is_full = windows.end - windows.start == shape.window
    share = np.where(is_full, plan.random_share, plan.padded_random_share)
    is_random = ~windows.free | (rng.random(share.size) < share)
    start_b = windows.cut.copy()
    start_b[is_random], length_b[is_random] = _draw_sentences(
        documents, windows.document[is_random], length_b[is_random], rng
    )
    input_ids = _assemble(documents.tokens, windows.start, length_a, start_b, length_b, shape, cls_id, sep_id, pad_id)
    labels = np.where(is_random, NOT_NEXT, IS_NEXT)
    return PairRows(input_ids, length_a, length_a + length_b + 3, labels)


def build_continuations(documents: Documents, shape: RowShape, cls_id: int, sep_id: int, pad_id: int) -> PairRows:
    """All rows of one unit of documents without next-sentence prediction, in the order of the documents.

    B always follows A. The last tokens of a long document are a window once more, moved back as far as it must be; a
    document shorter than a window is padded, one that is too short for A and B is an A alone, `[CLS] A [SEP]`.
    """
    doc_start, doc_end = documents.starts[:-1], documents.starts[1:]
    words = _Words.of(documents)
    document, start = _place_windows(documents, shape, words)
    covered = doc_start.copy()
    np.maximum.at(covered, document, start + shape.window)
    rest = np.flatnonzero((covered < doc_end) & (doc_end - doc_start >= shape.edge_buffer))
    rest_start = words.next_start[np.maximum(doc_start, doc_end - shape.window)[rest]]
    has_word = rest_start <= doc_end[rest] - shape.edge_buffer  # not so inside one endless word
    rest, rest_start = rest[has_word], rest_start[has_word]

    start = np.concatenate([start, rest_start])
    end = np.concatenate([start[: document.size] + shape.window, doc_end[rest]])
    order = np.lexsort((start, np.concatenate([document, rest])))
    start, end = start[order], end[order]
    cut, _ = _cut_near(documents, shape, words, start, end, (end - start) // 2)
    cut = np.where(end - start >= 2 * shape.edge_buffer, cut, end)
    length_a, length_b = cut - start, end - cut
    input_ids = _assemble(documents.tokens, start, length_a, cut, length_b, shape, cls_id, sep_id, pad_id)
    length = length_a + np.where(length_b > 0, length_b + 3, 2)
    return PairRows(input_ids, length_a, length, np.full(start.size, IS_NEXT))


class _Words(NamedTuple):
    """Where words begin, seen from every token."""

    start: np.ndarray  # (N,) first token of the word that this token belongs to
    next_start: np.ndarray  # (N,) this token if it begins a word, else the first one after it that does

    @classmethod
    def of(cls, documents: Documents) -> "_Words":
        num_tokens = documents.tokens.size
        positions = np.arange(num_tokens)
        start = np.maximum.accumulate(np.where(documents.word_starts, positions, 0))
        following = np.where(documents.word_starts, positions, num_tokens)
        return cls(start, np.minimum.accumulate(following[::-1])[::-1])


def _find_windows(
    documents: Documents, shape: RowShape, plan: PairPlan | None = None, rng: np.random.Generator | None = None
) -> Windows:
    """Cut documents into candidate rows; without a plan nothing is padded and windows are cut near the middle."""
    words = _Words.of(documents)
    windows = _cut_windows(documents, shape, words, plan, rng)
    rests = _cut_rests(documents, shape, words, windows)
    document, start, cut, end, free = (np.concatenate(parts) for parts in zip(windows, rests, strict=True))
    order = np.lexsort((start, document))
    return Windows(document[order], start[order], cut[order], end[order], free[order])


def _place_windows(documents: Documents, shape: RowShape, words: _Words) -> tuple[np.ndarray, np.ndarray]:
    """Full windows, from each stride back to the start of the word there: (document, first token)."""
    doc_start = documents.starts[:-1]
    lengths = np.diff(documents.starts)
    num_full = np.where(lengths >= shape.window, (lengths - shape.window) // shape.stride + 1, 0)
    document = np.repeat(np.arange(lengths.size), num_full)
    number = np.arange(document.size) - np.repeat(np.cumsum(num_full) - num_full, num_full)
    start = words.start[doc_start[document] + number * shape.stride]
    is_new = np.diff(start, prepend=-1) > 0  # no second window from a word longer than the stride
    return document[is_new], start[is_new]


def _cut_windows(
    documents: Documents, shape: RowShape, words: _Words, plan: PairPlan | None, rng: np.random.Generator | None
) -> Windows:
    """Full windows and documents padded to one, cut into A and B; not free where no sentence ends within."""
    document, start = _place_windows(documents, shape, words)
    padded = _paddable(documents, shape) if plan else np.empty(0, dtype=np.int64)
    padded = padded[np.diff(documents.starts)[padded] >= plan.padded_from] if plan else padded
    document = np.concatenate([document, padded])
    end = np.concatenate([start + shape.window, documents.starts[1:][padded]])
    start = np.concatenate([start, documents.starts[:-1][padded]])
    cut, free = _cut_near(documents, shape, words, start, end, _cut_targets(end - start, shape, plan, rng))
    return Windows(document, start, cut, end, free)


def _cut_near(
    documents: Documents, shape: RowShape, words: _Words, start: np.ndarray, end: np.ndarray, target: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The sentence end nearest to `target` tokens from the start, else a word near the middle: (cut, is a sentence's).

    Either leaves `edge_buffer` tokens on both sides where there are so many.
    """
    boundaries = np.concatenate([[0], documents.sentence_ends])  # a document's end is the next one's start
    cut, at_sentence = _nearest(boundaries, start + target, start + shape.edge_buffer, end - shape.edge_buffer)
    middle = start + (end - start) // 2
    word = words.start[middle]
    return np.where(at_sentence, cut, np.where(word >= start + shape.edge_buffer, word, middle)), at_sentence


def _cut_rests(documents: Documents, shape: RowShape, words: _Words, windows: Windows) -> Windows:
    """What no window covers: the end of a document, or all of a short one, as an A whose B can only be random."""
    doc_start, doc_end = documents.starts[:-1], documents.starts[1:]
    lengths = doc_end - doc_start
    covered = doc_start.copy()  # without a sentence end to cut at, A alone is used
    np.maximum.at(covered, windows.document, np.where(windows.free, windows.end, windows.cut))

    rest = np.flatnonzero((covered < doc_end) & (lengths >= shape.edge_buffer))
    longest = np.minimum(shape.window - shape.edge_buffer, lengths[rest])
    shortest = np.minimum(np.maximum(shape.edge_buffer, (doc_end - covered)[rest]), longest)
    target = np.clip(shape.window // 2, shortest, longest)
    end = doc_end[rest]
    boundaries = np.concatenate([[0], documents.sentence_ends])
    start, at_sentence = _nearest(boundaries, end - target, end - longest, end - shortest)
    start = np.where(at_sentence, start, end - target)
    # Windows begin anywhere in a sentence. So must the ends of long documents, or the first word of A would tell the
    # label: each takes the length of the one before, which has the spread of the lengths between sentence ends.
    tail = np.flatnonzero(covered[rest] > doc_start[rest])
    swapped = np.roll((end - start)[tail], 1)
    start[tail] = end[tail] - np.clip(swapped, shortest[tail], longest[tail])
    word = words.start[start]
    start = np.where(word >= end - longest, word, words.next_start[start])
    has_word = start <= end - shape.edge_buffer  # not so inside one endless word
    rest, start, end = rest[has_word], start[has_word], end[has_word]
    return Windows(rest, start, end, end, np.zeros(rest.size, dtype=bool))


def _paddable(documents: Documents, shape: RowShape) -> np.ndarray:
    """Numbers of the documents shorter than a window that can be cut into an A and a B."""
    start, end = documents.starts[:-1], documents.starts[1:]
    middle = (start + end) // 2
    _, has_cut = _nearest(documents.sentence_ends, middle, start + shape.edge_buffer, end - shape.edge_buffer)
    return np.flatnonzero(has_cut & (end - start < shape.window))


def _cut_targets(
    length: np.ndarray, shape: RowShape, plan: PairPlan | None, rng: np.random.Generator | None
) -> np.ndarray:
    """Where to cut each window, in tokens from its start."""
    weights = np.asarray(plan.cut_lengths, dtype=np.float64) if plan else np.zeros(1)
    if weights.sum() == 0:
        return length // 2
    drawn = np.searchsorted(np.cumsum(weights) / weights.sum(), rng.random(length.size), side="right")
    drawn = np.clip(drawn, shape.edge_buffer, shape.window - shape.edge_buffer)
    return np.where(length == shape.window, drawn, length // 2)


def _nearest(
    boundaries: np.ndarray, target: np.ndarray, low: np.ndarray, high: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The boundary nearest to each target within [low, high], and whether there is one."""
    right = np.searchsorted(boundaries, target)
    candidates = np.stack([boundaries[np.maximum(right - 1, 0)], boundaries[np.minimum(right, boundaries.size - 1)]])
    allowed = (candidates >= low) & (candidates <= high)
    distance = np.where(allowed, np.abs(candidates - target), np.iinfo(np.int64).max)
    nearer = distance.argmin(axis=0)
    return candidates[nearer, np.arange(target.size)], allowed.any(axis=0)


def _draw_sentences(
    documents: Documents, document: np.ndarray, length: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """For each row a sentence start of another document with `length` tokens after it: (starts, lengths).

    Where no other document has as many tokens left, the longest piece there is; the row will be padded.
    """
    starts = np.concatenate([[0], documents.sentence_ends[:-1]])
    owner = np.searchsorted(documents.starts, starts, side="right") - 1
    left = documents.starts[owner + 1] - starts
    order = np.argsort(-left, kind="stable")
    starts, owner, left = starts[order], owner[order], left[order]
    num_fitting = np.searchsorted(-left, -length, side="right")

    pick = (rng.random(length.size) * num_fitting).astype(np.int64)
    clash = np.flatnonzero(owner[pick] == document)
    for _ in range(8):
        pick[clash] = (rng.random(clash.size) * num_fitting[clash]).astype(np.int64)
        clash = clash[owner[pick[clash]] == document[clash]]
    # Left over where one document has nearly all the sentences that fit: the longest piece of any other.
    other = int(np.argmax(owner != owner[0]))
    pick[clash] = np.where(owner[0] != document[clash], 0, other)
    return starts[pick], np.minimum(length, left[pick])


def _assemble(
    tokens: np.ndarray,
    start_a: np.ndarray,
    length_a: np.ndarray,
    start_b: np.ndarray,
    length_b: np.ndarray,
    shape: RowShape,
    cls_id: int,
    sep_id: int,
    pad_id: int,
) -> np.ndarray:
    """Gather `[CLS] A [SEP] B [SEP] [PAD]...` for all rows at once, without the second [SEP] where B is empty.

    Returns (R, T) int32.
    """
    column = np.arange(shape.block_size)  # (T,)
    first_sep = length_a[:, None] + 1  # (R, 1)
    last_sep = first_sep + np.where(length_b > 0, length_b + 1, 0)[:, None]
    source = np.where(column < first_sep, start_a[:, None] - 1, start_b[:, None] - first_sep - 1) + column
    rows = tokens.take(source, mode="clip").astype(np.int32, copy=False)
    rows[:, 0] = cls_id
    rows[column > last_sep] = pad_id
    np.put_along_axis(rows, first_sep, sep_id, axis=1)
    np.put_along_axis(rows, last_sep, sep_id, axis=1)
    return rows
