import numpy as np
import pytest

from keras_free_adv.evaluation.intervals import (
    binomial_interval,
    mcnemar,
    paired_difference,
)


def test_the_textbooks_example_of_wilsons_interval():
    """15 of 148: (Newcombe 1998, table I, method 3) 0.0624 to 0.1605 for 81 of 263."""
    low, high = binomial_interval(81, 263)
    assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)
    low, high = binomial_interval(0, 20)
    assert (round(low, 4), round(high, 4)) == (0.0, 0.1611)
    low, high = binomial_interval(1, 29)
    assert (round(low, 4), round(high, 4)) == (0.0061, 0.1718)


def test_the_ends_solve_the_score_equation():
    """|share - p| = 1.96 sqrt(p (1 - p) / n) at both ends, which defines them."""
    for successes, examples in ((3, 10), (455, 1000), (99, 100)):
        share = successes / examples
        for p in binomial_interval(successes, examples):
            spread = 1.959963984540054 * np.sqrt(p * (1 - p) / examples)
            assert abs(share - p) == pytest.approx(spread, rel=1e-9)


@pytest.mark.parametrize("share", [0.02, 0.45, 0.9])
def test_it_covers_the_truth_about_95_times_in_100(share):
    generator = np.random.default_rng(0)
    draws = generator.binomial(300, share, 4000)
    covered = [
        low <= share <= high
        for low, high in (binomial_interval(int(draw), 300) for draw in draws)
    ]
    assert 0.93 < np.mean(covered) < 0.975


def test_a_paired_difference_by_hand():
    """40 examples: 8 right in one only, 2 in the other only."""
    one = np.array([1] * 20 + [1] * 8 + [0] * 2 + [0] * 10, bool)
    other = np.array([1] * 20 + [0] * 8 + [1] * 2 + [0] * 10, bool)
    found, low, high = paired_difference(one, other)
    assert found == pytest.approx(6 / 40)
    # Agresti and Min: (8.5 - 2.5) / 42 +- 1.96 sqrt(11 - 36 / 42) / 42.
    assert low == pytest.approx(0.142857 - 0.148613, abs=1e-5)
    assert high == pytest.approx(0.142857 + 0.148613, abs=1e-5)


def test_equal_models_do_not_differ():
    same = np.arange(100) % 3 == 0
    found, low, high = paired_difference(same, same)
    assert found == 0
    assert low < 0 < high


@pytest.mark.parametrize(("b", "c"), [(0, 0), (5, 5), (0, 8), (12, 3), (400, 330)])
def test_mcnemar_is_the_exact_binomial_test(b, c):
    stats = pytest.importorskip("scipy.stats", reason="needs scipy")
    one = np.array([True] * b + [False] * c + [True] * 7 + [False] * 4)
    other = np.array([False] * b + [True] * c + [True] * 7 + [False] * 4)
    expected = stats.binomtest(b, b + c).pvalue if b + c else 1.0
    assert mcnemar(one, other) == pytest.approx(expected)
