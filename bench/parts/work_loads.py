"""Operations that compute until they are cancelled; in a module, so that other processes can import them."""

import numpy as np


def compute(context):
    """Compute in pure Python."""
    while not context.cancelled.is_set():
        sum(number * number for number in range(10_000))


def compute_arrays(context):
    """Compute with NumPy."""
    values = np.random.default_rng(0).normal(size=100_000)
    while not context.cancelled.is_set():
        np.sort(values)
