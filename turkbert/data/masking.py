"""Whole words are hidden: token rows -> rows with [MASK], other words or the same words, and what to predict.

    [CLS] Ankara ' nın baş ##kenti [SEP]  ->  [CLS] Ankara ' nın [MASK] [MASK] [SEP],  labels at the two [MASK]s

Google's whole-word masking (github.com/google-research/bert, 2019) with the 80/10/10 rule of Devlin et al. 2019,
section 3.1, applied to words instead of tokens.
"""

from typing import NamedTuple

import numpy as np

from turkbert.data.counter_rng import below, mix, random_key
from turkbert.data.random_words import RandomWordSet
from turkbert.tokenization import maskable_table


class Masked(NamedTuple):
    """What a masker made of `(R, T)` token rows."""

    input_ids: np.ndarray  # (R, T), as given but for the chosen words
    chosen: np.ndarray  # (R, T) bool: the tokens to predict
    num_without_group: int  # words that were masked because no corpus word has as many tokens


class WholeWordMasker:
    """Chooses words and hides them, as a pure function of (seed, epoch, row).

    Args:
        word_starts: `(V,)` bool, True for tokens that begin a word.
        special_ids: tokens that are never chosen; [UNK] is one of them.
        mask_id: id of [MASK].
        random_words: replacements by number of tokens.
        mlm_probability: share of the words to predict.
        mask_replace_prob: share of those that become [MASK].
        random_replace_prob: share of those that become another word; the rest stays as it is.
    """

    def __init__(
        self,
        word_starts: np.ndarray,
        special_ids: list[int],
        mask_id: int,
        random_words: RandomWordSet,
        mlm_probability: float = 0.15,
        mask_replace_prob: float = 0.8,
        random_replace_prob: float = 0.1,
    ):
        self.word_starts = word_starts.copy()
        self.word_starts[special_ids] = True  # a special token ends the word before it
        self.maskable = maskable_table(word_starts, special_ids)
        self.mask_id = mask_id
        self.random_words = random_words
        self.mlm_probability = mlm_probability
        self.mask_replace_prob = mask_replace_prob
        self.random_replace_prob = random_replace_prob

    def __call__(self, input_ids: np.ndarray, seed: int, epoch: int | np.ndarray, rows: np.ndarray) -> Masked:
        """Mask `(R, T)` ids; `rows` `(R,)` are the rows' numbers and `epoch` one number or one a row."""
        num_rows, num_tokens = input_ids.shape
        flat = input_ids.reshape(-1)
        starts = np.flatnonzero(self.word_starts[flat])  # every word and special token, in order
        lengths = np.diff(starts, append=flat.size)
        row_of_word, column = np.divmod(starts, num_tokens)
        bits = mix(np.broadcast_to(random_key(seed, epoch, rows), num_rows)[row_of_word] + column.astype(np.uint64))

        maskable = self.maskable[flat[starts]]
        chosen = maskable & below(bits, self.mlm_probability)
        chosen |= _least_of_rows(bits, row_of_word, maskable, empty_rows=_rows_without(chosen, row_of_word, num_rows))

        chosen_tokens = np.repeat(chosen, lengths).reshape(num_rows, num_tokens)
        masked = flat.copy()
        num_without_group = self._hide(masked, starts[chosen], lengths[chosen], mix(~bits[chosen]))
        return Masked(masked.reshape(num_rows, num_tokens), chosen_tokens, num_without_group)

    def _hide(self, flat: np.ndarray, starts: np.ndarray, lengths: np.ndarray, bits: np.ndarray) -> int:
        """Write [MASK]s and replacements over the chosen words of `flat`, in place."""
        to_mask = below(bits, self.mask_replace_prob)
        to_replace = ~to_mask & below(bits, self.mask_replace_prob + self.random_replace_prob)
        num_without_group = 0
        for length in np.unique(lengths[to_replace]):
            of_length = np.flatnonzero(to_replace & (lengths == length))
            words = self.random_words.groups.get(int(length))
            if words is None:
                to_mask[of_length] = True
                num_without_group += of_length.size
                continue
            picks = (mix(bits[of_length]) % np.uint64(len(words))).astype(np.int64)
            flat[starts[of_length][:, None] + np.arange(length)] = words[picks]
        inside = np.repeat(starts[to_mask], lengths[to_mask])
        ends = np.cumsum(lengths[to_mask])
        offset = np.arange(inside.size) - np.repeat(ends - lengths[to_mask], lengths[to_mask])
        flat[inside + offset] = self.mask_id
        return num_without_group


def _rows_without(chosen: np.ndarray, row_of_word: np.ndarray, num_rows: int) -> np.ndarray:
    return np.flatnonzero(np.bincount(row_of_word, weights=chosen, minlength=num_rows) == 0)


def _least_of_rows(
    bits: np.ndarray, row_of_word: np.ndarray, maskable: np.ndarray, empty_rows: np.ndarray
) -> np.ndarray:
    """One word of each of `empty_rows`, the one with the least bits: a row without a label teaches nothing."""
    found = np.zeros(bits.size, dtype=bool)
    if not empty_rows.size:
        return found
    candidates = np.flatnonzero(maskable & np.isin(row_of_word, empty_rows))
    order = candidates[np.lexsort((bits[candidates], row_of_word[candidates]))]
    found[order[np.unique(row_of_word[order], return_index=True)[1]]] = True
    return found
