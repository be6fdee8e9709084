"""Which tokens stand near which, as vectors: where the word embeddings of a new model begin.

    vectors = token_vectors(sample_ids(rows), len(tokenizer), tokenizer.all_special_ids, size=256)     # (V, 256)

The positive pointwise mutual information of each token with the frequent tokens left of it, right of it and farther
away, cut down to its largest singular vectors: what word2vec approximates (Levy and Goldberg 2014, sections 3 and 4;
context smoothing and the root of the singular values from Levy, Goldberg and Dagan 2015, section 3).
"""

from collections.abc import Iterable

import numpy as np
from scipy import sparse

NUM_CONTEXTS = 8192  # the most frequent tokens, as neighbours
NEIGHBOURS = ([1], [-1], [2, 3, 4, 5, -2, -3, -4, -5])  # of each kind: distances, whose counts weigh 1 / distance
CONTEXT_SMOOTHING = 0.75
MAX_RANK = 256  # what was tried; the time grows with it


def token_vectors(ids: np.ndarray, vocab_size: int, special_ids: Iterable[int], size: int) -> np.ndarray:
    """`(vocab_size, size)` float32 with mean 0; that of a token which never comes, or is special, is 0.

    ids: (R, T) rows of tokens.
    """
    from sklearn.utils.extmath import randomized_svd  # a second of imports, which a resumed run need not wait for

    counts = np.bincount(ids.reshape(-1), minlength=vocab_size)
    counts[list(special_ids)] = 0
    contexts = np.full(vocab_size, -1)
    frequent = np.argsort(-counts, kind="stable")[: min(NUM_CONTEXTS, np.count_nonzero(counts))]
    contexts[frequent] = np.arange(frequent.size)
    kinds = [
        _mutual_information(_count_neighbours(ids, counts > 0, contexts, frequent.size, kind)) for kind in NEIGHBOURS
    ]
    table = sparse.hstack(kinds, format="csr")
    rank = min(size, MAX_RANK, *table.shape)
    left, values, _ = randomized_svd(table, rank, n_iter=2, random_state=0)
    found = left[counts > 0] * np.sqrt(values)
    vectors = np.zeros((vocab_size, size), dtype=np.float32)
    vectors[counts > 0, :rank] = found - found.mean(axis=0)
    return vectors


def _count_neighbours(
    ids: np.ndarray, known: np.ndarray, contexts: np.ndarray, num_contexts: int, distances: list[int]
) -> sparse.csr_matrix:
    """(V, C) how often each context token stands at these distances from each token; negative is left of it."""
    total = sparse.csr_matrix((known.size, num_contexts), dtype=np.float32)
    for distance in distances:
        far = abs(distance)
        tokens, others = (ids[:, :-far], ids[:, far:]) if distance > 0 else (ids[:, far:], ids[:, :-far])
        tokens, columns = tokens.reshape(-1), contexts[others.reshape(-1)]
        counted = known[tokens] & (columns >= 0)
        weights = np.full(np.count_nonzero(counted), 1 / far, dtype=np.float32)
        places = (tokens[counted], columns[counted])
        total += sparse.coo_matrix((weights, places), shape=total.shape).tocsr()
    return total


def _mutual_information(counts: sparse.csr_matrix) -> sparse.csr_matrix:
    """log P(token, context) / P(token) P(context), where it is positive."""
    entries = counts.tocoo()
    by_token = np.asarray(counts.sum(axis=1)).reshape(-1)
    by_context = np.asarray(counts.sum(axis=0)).reshape(-1) ** CONTEXT_SMOOTHING
    by_context /= by_context.sum()
    values = np.log(entries.data / (by_token[entries.row] * by_context[entries.col]))
    positive = values > 0
    places = (entries.row[positive], entries.col[positive])
    return sparse.csr_matrix((values[positive].astype(np.float32), places), shape=counts.shape)
