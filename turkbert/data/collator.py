"""Prepared rows become the model's tensors, masked now if they are not masked yet.

    collator = DataCollatorForPretraining()
    batch = collator([dataset[3], dataset[7]])     # input_ids, token_type_ids, labels, next_sentence_label, ...
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from turkbert.data.masking import WholeWordMasker

IGNORED = -100  # the label of a token that is not predicted
_TOKENS_A_WORD = 1.5  # of Turkish; words are chosen, so the number of tokens spreads by so much more


class DataCollatorForPretraining:
    """Rows of one block size -> int64 tensors.

    Args:
        masker: hides words of unmasked (dynamic) rows; rows with static masks need none.
        seed: of the dynamic masks.
        labelled_share: share of the tokens that are labelled, where every batch of one size must have one shape
            (torch.compile): room is made for six standard deviations more.

    The call takes a list of rows as a data set gives them, or a dict of their columns as arrays (the fast way). Rows
    to be masked need `row`, their number, and may have `epoch`: masks are a pure function of (seed, epoch, row).
    """

    def __init__(self, masker: WholeWordMasker | None = None, seed: int = 0, labelled_share: float | None = None):
        self.masker = masker
        self.seed = seed
        self.labelled_share = labelled_share

    def __call__(self, rows: list[Mapping[str, Any]] | Mapping[str, np.ndarray]) -> dict[str, torch.Tensor]:
        """Returns:

        input_ids, token_type_ids, labels: `(B, T)`; next_sentence_label: `(B,)`; labelled_positions: flat indices
        into `(B, T)`, padded with 0 (a [CLS], never labelled) to a multiple that repeats from batch to batch;
        attention_mask `(B, T)` only where a row is padded.
        """
        columns = rows if isinstance(rows, Mapping) else _stack(rows)
        input_ids = np.asarray(columns["input_ids"])
        num_tokens = input_ids.shape[1]
        if "masked_lm_positions" in columns:
            positions, label_ids = _flat_labels(columns["masked_lm_positions"], columns["masked_lm_ids"], num_tokens)
        else:
            positions, label_ids, input_ids = self._mask(input_ids, columns)
        labels = np.full(input_ids.size, IGNORED, dtype=np.int64)
        labels[positions] = label_ids
        column = np.arange(num_tokens)
        length_a, length = np.asarray(columns["length_a"])[:, None], np.asarray(columns["length"])[:, None]
        token_type_ids = (column > length_a + 1) & (column < length)
        batch = {
            "input_ids": torch.from_numpy(input_ids.astype(np.int64)),
            "token_type_ids": torch.from_numpy(token_type_ids.astype(np.int64)),
            "labels": torch.from_numpy(labels.reshape(input_ids.shape)),
            "next_sentence_label": torch.from_numpy(np.asarray(columns["next_sentence_label"]).astype(np.int64)),
            "labelled_positions": torch.from_numpy(_pad(positions, self._room(positions.size, input_ids.size))),
        }
        if (length < num_tokens).any():
            batch["attention_mask"] = torch.from_numpy((column < length).astype(np.int64))
        return batch

    def _room(self, num_labelled: int, num_slots: int) -> int:
        """How many positions to send: as few buckets as hold them, or as hold any batch's where shapes are fixed."""
        bucket = min(64, max(8, num_slots // 32))
        if self.labelled_share is not None:
            mean = self.labelled_share * num_slots
            num_labelled = max(num_labelled, round(mean + 6 * (_TOKENS_A_WORD * mean) ** 0.5))
        return max(1, -(-num_labelled // bucket)) * bucket

    def _mask(
        self, input_ids: np.ndarray, columns: Mapping[str, np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        if self.masker is None:
            raise ValueError("these rows carry no masks: give the collator the masker of their data folder")
        if "row" not in columns:
            raise ValueError("dynamic masks depend on the row's number: add it to each row as 'row'")
        masked = self.masker(input_ids, self.seed, columns.get("epoch", 0), np.asarray(columns["row"]))
        positions = np.flatnonzero(masked.chosen)
        return positions, input_ids.reshape(-1)[positions], masked.input_ids


def _stack(rows: list[Mapping[str, Any]]) -> dict[str, Any]:
    ragged = ("masked_lm_positions", "masked_lm_ids")
    return {
        name: [row[name] for row in rows] if name in ragged else np.array([row[name] for row in rows])
        for name in rows[0]
    }


def _flat_labels(positions: list, ids: list, num_tokens: int) -> tuple[np.ndarray, np.ndarray]:
    """Ragged positions and ids of each row -> flat positions in the batch and their ids."""
    row = np.repeat(np.arange(len(positions)), [len(of_row) for of_row in positions])
    return np.concatenate([np.asarray(p, dtype=np.int64) for p in positions]) + row * num_tokens, np.concatenate(ids)


def _pad(positions: np.ndarray, room: int) -> np.ndarray:
    padded = np.zeros(room, dtype=np.int64)
    padded[: positions.size] = positions
    return padded
