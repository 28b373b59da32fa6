"""Confidence intervals of shares of examples, and a test of their difference."""

import math

import numpy as np

# The 97.5% point of the normal distribution: two sides make 95%.
Z_95 = 1.959963984540054


def binomial_interval(successes: int, examples: int) -> tuple[float, float]:
    """The 95% confidence interval of a share, by Wilson's score (1927).

    Unlike the textbook's p +- 1.96 sqrt(p (1 - p) / n) it also holds near 0 and 1.

    Args:
        successes: number of successes.
        examples: number of examples, 1 or more.

    Returns:
        The ends of the interval.

    Example:
    >>> low, high = binomial_interval(450, 1000)
    >>> round(low, 3), round(high, 3)
    (0.419, 0.481)
    """
    share, z2 = successes / examples, Z_95**2
    center = (share + z2 / (2 * examples)) / (1 + z2 / examples)
    spread = math.sqrt(share * (1 - share) / examples + z2 / (4 * examples**2))
    half = Z_95 * spread / (1 + z2 / examples)
    low = 0.0 if successes == 0 else center - half
    high = 1.0 if successes == examples else center + half
    return low, high


def paired_difference(one: np.ndarray, other: np.ndarray) -> tuple[float, float, float]:
    """The difference of two shares on the same examples, with its 95% interval.

    Only the examples on which they differ count: with b right in `one` only and c in
    `other` only, the difference is (b - c) / n and its variance
    (b + c - (b - c)^2 / n) / n^2. Half an example is added to each cell of the 2x2
    table (Agresti and Min 2005), which makes the interval valid for few examples.

    Args:
        one: whether each example is right, `[N]`, bool.
        other: the same, of the other.

    Returns:
        The difference of the shares, one - other, and the ends of its interval.
    """
    n = len(one)
    b, c = int((one & ~other).sum()), int((other & ~one).sum())
    n_plus, b_plus, c_plus = n + 2, b + 0.5, c + 0.5
    center = (b_plus - c_plus) / n_plus
    spread = math.sqrt(b_plus + c_plus - (b_plus - c_plus) ** 2 / n_plus) / n_plus
    return (b - c) / n, center - Z_95 * spread, center + Z_95 * spread


def mcnemar(one: np.ndarray, other: np.ndarray) -> float:
    """The p-value of "both are right equally often", on the same examples.

    McNemar's test (1947), exact and two-sided. Its null hypothesis: an example on which
    they differ is as likely to be right in `one` as in `other`.

    Args:
        one: whether each example is right, `[N]`, bool.
        other: the same, of the other.

    Example:
    >>> right = np.array([True] * 8 + [False] * 2)
    >>> mcnemar(right, np.zeros(10, bool))
    0.0078125
    """
    b, c = int((one & ~other).sum()), int((other & ~one).sum())
    differ = b + c
    tail = sum(math.comb(differ, k) for k in range(min(b, c) + 1))
    # A quotient of integers: floats would overflow from about a thousand examples on.
    return min(1.0, 2 * tail / 2**differ)
