"""Random numbers as a pure function of where they are used: (seed, epoch, row, token) -> 64 bits.

Nothing is drawn in sequence, so results depend on no order of workers, processes or restarts. The mixing function
is SplitMix64's (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014, figure 16).
"""

import numpy as np

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_SHIFTS_AND_FACTORS = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))


def mix(values: np.ndarray) -> np.ndarray:
    """uint64 array -> uint64 array of the same shape, each value scrambled on its own (a bijection)."""
    values = values + _GOLDEN  # unsigned arithmetic wraps
    for shift, factor in _SHIFTS_AND_FACTORS:
        values = (values ^ (values >> np.uint64(shift))) * np.uint64(factor)
    return values ^ (values >> np.uint64(31))


def random_key(*parts: int | np.ndarray) -> np.ndarray:
    """Whole numbers or arrays of them, e.g. (seed, epoch, rows) -> uint64 keys of their broadcast shape."""
    key = np.zeros(1, dtype=np.uint64)
    for part in parts:
        key = mix(key ^ np.asarray(part, dtype=np.int64).view(np.uint64))
    return key


def below(bits: np.ndarray, probability: float) -> np.ndarray:
    """True with the given probability for each uint64 of random bits."""
    return (bits >> np.uint64(11)) < np.uint64(round(probability * 2**53))
