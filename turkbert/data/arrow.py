"""Arrow list columns <-> flat numpy arrays, without a Python object for each token."""

from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset


def list_array(values: pa.Array, lengths: np.ndarray) -> pa.ListArray:
    """Values end to end and the length of each list -> a list column."""
    return pa.ListArray.from_arrays(pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32()), values)


def flat_lists(column: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """A list column -> (its values end to end, where each list starts, and the end of the last)."""
    lists = column.combine_chunks()
    offsets = lists.offsets.to_numpy().astype(np.int64)
    return lists.flatten().to_numpy(), offsets - offsets[0]


def list_lengths(rows: Dataset, name: str) -> np.ndarray:
    """The length of each list of a data set's column, chunk by chunk."""
    return np.concatenate([np.diff(chunk.offsets.to_numpy()) for chunk in rows.data.column(name).chunks])


def read_columns(rows: Dataset, numbers: np.ndarray) -> dict[str, Any]:
    """Rows by number -> {column: array}, for a data set formatted as arrow; `row` holds the numbers.

    Lists of one length come as `(B, T)`, others as a list of arrays.
    """
    table = rows[numbers.tolist()]
    columns: dict[str, Any] = {"row": numbers}
    for name in table.column_names:
        column = table[name]
        if pa.types.is_fixed_size_list(column.type):
            columns[name] = column.combine_chunks().flatten().to_numpy().reshape(len(column), -1)
        elif pa.types.is_list(column.type):
            values, starts = flat_lists(column)
            columns[name] = [values[start:end] for start, end in pairwise(starts.tolist())]
        else:
            columns[name] = column.to_numpy()
    return columns
