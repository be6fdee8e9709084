"""Counter-based random numbers: known values, uniform, and a pure function of where they are used."""

import numpy as np

from turkbert.data.counter_rng import below, mix, random_key


def test_mix_is_splitmix64():
    # The first numbers of the generator seeded with 1234567, as published with its reference implementation.
    golden, seed = 0x9E3779B97F4A7C15, 1234567
    states = np.array([(seed + n * golden) % 2**64 for n in range(3)], dtype=np.uint64)
    assert mix(states).tolist() == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_keys_broadcast_and_do_not_depend_on_company():
    rows = np.arange(1000)
    together = random_key(7, 3, rows)
    assert together.shape == (1000,)
    assert together[417] == random_key(7, 3, 417)[0] == random_key(7, np.full(5, 3), rows[415:420])[2]


def test_every_part_of_a_key_matters():
    keys = [int(random_key(*parts)[0]) for parts in [(1, 2, 3), (1, 3, 2), (2, 1, 3), (1, 2), (1, 2, 4), (-1, 2, 3)]]
    assert len(set(keys)) == len(keys)
    assert np.unique(random_key(1, np.arange(300)[:, None], np.arange(300))).size == 300 * 300


def test_bits_are_uniform():
    bits = random_key(5, np.arange(200_000))
    ones = [(bits >> np.uint64(bit) & np.uint64(1)).mean() for bit in range(64)]
    assert np.abs(np.array(ones) - 0.5).max() < 0.006  # 5 standard deviations


def test_below_has_the_probability():
    bits = random_key(6, np.arange(200_000))
    assert abs(below(bits, 0.15).mean() - 0.15) < 0.004
    assert not below(bits, 0.0).any()
    assert below(np.array([0, 2**64 - 1], dtype=np.uint64), 1.0).all()
    half = np.array([2**63 - 1, 2**63], dtype=np.uint64)
    assert below(half, 0.5).tolist() == [True, False]
