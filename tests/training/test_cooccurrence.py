"""Words that stand in the same places get the same vectors, and the model begins with them."""

import numpy as np
import pytest
import torch
from scipy import sparse

from turkbert.model import TurkBertConfig, TurkBertForPreTraining
from turkbert.model.initialization import init_word_embeddings
from turkbert.training.cooccurrence import NEIGHBOURS, _count_neighbours, _mutual_information, token_vectors

SPECIAL = [0, 1]
VOCAB_SIZE = 30


@pytest.fixture
def ids() -> np.ndarray:
    """Rows `0 a x b 1 c y d 1`: x is 10 or 11 between letters of one kind, y is 20 or 21 between those of another."""
    rng = np.random.default_rng(0)
    rows = np.zeros((400, 9), dtype=np.int32)
    rows[:, [1, 3]] = rng.integers(2, 6, (400, 2))
    rows[:, [5, 7]] = rng.integers(6, 10, (400, 2))
    rows[:, 2] = rng.integers(10, 12, 400)
    rows[:, 6] = rng.integers(20, 22, 400)
    rows[:, [4, 8]] = 1
    return rows


def cosine(first: np.ndarray, second: np.ndarray) -> float:
    return float(first @ second / np.linalg.norm(first) / np.linalg.norm(second))


def test_words_in_the_same_places_are_alike(ids):
    vectors = token_vectors(ids, VOCAB_SIZE, SPECIAL, size=8)
    assert vectors.shape == (VOCAB_SIZE, 8) and vectors.dtype == np.float32
    assert cosine(vectors[10], vectors[11]) > 0.8 > 0.1 > cosine(vectors[10], vectors[20])
    assert not vectors[SPECIAL].any() and not vectors[22:].any()
    known = vectors[np.unique(ids)[2:]]
    assert np.abs(known.mean(axis=0)).max() < 1e-6
    np.testing.assert_array_equal(vectors, token_vectors(ids, VOCAB_SIZE, SPECIAL, size=8))


def test_more_units_than_directions(ids):
    """What a small vocabulary cannot fill stays 0."""
    vectors = token_vectors(ids, VOCAB_SIZE, SPECIAL, size=64)
    assert vectors.shape == (VOCAB_SIZE, 64) and not vectors[:, VOCAB_SIZE:].any()


def test_counts_by_hand():
    ids = np.array([[2, 3, 4, 3]])
    known, contexts = np.array([False, False, True, True, True]), np.array([-1, -1, -1, 0, 1])
    right, left, far = (_count_neighbours(ids, known, contexts, 2, kind).toarray()[2:] for kind in NEIGHBOURS)
    np.testing.assert_array_equal(right, [[1, 0], [0, 1], [1, 0]])
    np.testing.assert_array_equal(left, [[0, 0], [0, 1], [1, 0]])
    np.testing.assert_allclose(far, [[1 / 3, 1 / 2], [1, 0], [0, 0]])


def test_mutual_information_by_hand():

    information = _mutual_information(sparse.csr_matrix(np.array([[3.0, 1.0], [0.0, 4.0]]))).toarray()
    share = np.array([3.0, 5.0]) ** 0.75
    share /= share.sum()
    expected = np.array([[np.log(3 / 4 / share[0]), 0], [0, np.log(1 / share[1])]])
    np.testing.assert_allclose(information, expected, rtol=1e-6)


def test_embeddings_keep_angles_and_the_rest():
    torch.manual_seed(0)
    config = TurkBertConfig(
        vocab_size=VOCAB_SIZE, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    model = TurkBertForPreTraining(config)
    weight = model.bert.embeddings.word_embeddings.weight
    before = weight.detach().clone()
    vectors = torch.randn(VOCAB_SIZE, 16)
    vectors[SPECIAL] = 0
    init_word_embeddings(model, vectors)
    assert model.cls.predictions.decoder.weight is weight
    torch.testing.assert_close(weight[SPECIAL], before[SPECIAL])
    new = weight.detach()[2:]
    torch.testing.assert_close(new.square().sum(1).mean().sqrt(), torch.tensor(1.6))
    ratio = 1.6**2 / vectors[2:].square().sum(1).mean()
    torch.testing.assert_close(new @ new.T, vectors[2:] @ vectors[2:].T * ratio, rtol=1e-4, atol=1e-5)
