import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_free_adv import random_numbers

WORD = 2**64
GOLDEN = 0x9E3779B97F4A7C15


def mix(bits):
    """The finalizer of SplitMix64, in Python's integers."""
    bits = ((bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9) % WORD
    bits = ((bits ^ (bits >> 27)) * 0x94D049BB133111EB) % WORD
    return bits ^ (bits >> 31)


def split_mix(state, number):
    """Output `number` (from 1) of the generator that begins at `state`."""
    return mix((state + number * GOLDEN) % WORD)


def key_of_example(seed, example, restart):
    return split_mix(split_mix(mix(seed % WORD), example + 1), restart + 1)


def keys(seed, ids, restarts=0):
    return random_numbers.keys_of_examples(seed, np.asarray(ids, "int32"), restarts)


def uniform(seed, ids, restarts=0, count=5):
    drawn = random_numbers.uniform(
        keys(seed, ids, restarts), (len(ids), count), "float32"
    )
    return np.asarray(drawn)


def unsigned(tensor):
    return [int(number) % WORD for number in np.asarray(tensor).ravel()]


def test_split_mix_of_this_test_is_the_published_one():
    """The first outputs from the state 1234567, as the reference program prints."""
    assert [split_mix(1234567, number) for number in (1, 2, 3)] == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
    ]


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(-(2**63), 2**63 - 1),
    ids=st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=4),
    restart=st.integers(0, 10_000),
    number=st.integers(0, 10_000),
)
def test_keys_are_those_of_split_mix(seed, ids, restart, number):
    expected = [key_of_example(seed, example, restart) for example in ids]
    made = keys(seed, ids, restart)
    assert made.shape == (len(ids), 1)
    assert unsigned(made) == expected
    folded = random_numbers.fold(made, number)
    assert unsigned(folded) == [split_mix(key, number + 1) for key in expected]


def test_each_example_may_have_a_restart_and_a_fold_of_its_own():
    made = keys(7, [4, 4, 9], [0, 2, 1])
    expected = [key_of_example(7, *pair) for pair in ((4, 0), (4, 2), (9, 1))]
    assert unsigned(made) == expected
    folded = random_numbers.fold(made, np.array([[5], [0], [3]]))
    assert unsigned(folded) == [
        split_mix(key, number + 1)
        for key, number in zip(expected, (5, 0, 3), strict=True)
    ]


def test_uniform_numbers_are_the_upper_24_bits():
    drawn = random_numbers.uniform(keys(3, [0, 11]), (2, 2, 3), "float32")
    expected = [
        [split_mix(key_of_example(3, example, 0), n) >> 40 for n in range(1, 7)]
        for example in (0, 11)
    ]
    np.testing.assert_array_equal(
        drawn, np.reshape(expected, (2, 2, 3)) / 2.0**24
    )  # exactly: a float32 holds 24 bits


def test_normal_numbers_are_those_of_box_and_muller():
    drawn = random_numbers.normal(keys(3, [0, 11]), (2, 2, 3), "float32")
    bits = np.array(
        [
            [split_mix(key_of_example(3, example, 0), n) for n in range(1, 7)]
            for example in (0, 11)
        ],
        dtype=object,
    )
    upper = (bits >> 40).astype(float) / 2.0**24
    lower = ((bits % 2**32) >> 8).astype(float) / 2.0**24
    expected = np.sqrt(-2 * np.log(1 - upper)) * np.cos(2 * np.pi * lower)
    np.testing.assert_allclose(drawn, expected.reshape(2, 2, 3), rtol=1e-4, atol=1e-5)


def test_numbers_follow_from_seed_example_and_restart_whatever_the_batch():
    ids = np.arange(50)
    whole = uniform(1, ids)
    np.testing.assert_array_equal(uniform(1, ids[::-1]), whole[::-1])
    np.testing.assert_array_equal(uniform(1, [7]), whole[[7]])
    np.testing.assert_array_equal(uniform(1, [7], count=2), whole[[7], :2])
    np.testing.assert_array_equal(
        uniform(1, [7, 8], [3, 0]), [uniform(1, [7], 3)[0], whole[8]]
    )


def test_neighbours_share_no_number():
    """Of 2^64 words none comes twice among 40 x 5 x 5 x 20 neighbours.

    A generator that only shifted its counter would give one example the numbers of
    the next.
    """
    words = [
        np.asarray(random_numbers._bits(keys(seed, range(40), restart), (40, 20)))
        for seed in range(-2, 3)
        for restart in range(5)
    ]
    assert len(np.unique(words)) == np.size(words)


@pytest.mark.parametrize("across", ["numbers", "examples", "restarts", "seeds"])
def test_moments_of_uniform_and_normal_numbers(across):
    """Means and variances within 5 standard errors, and no correlation in a row."""
    count = 20_000 if across in ("numbers", "examples") else 1000
    if across == "numbers":
        of, shape = keys(5, [0]), (1, count)
    elif across == "examples":
        of, shape = keys(5, np.arange(count)), (count, 1)
    elif across == "restarts":
        of, shape = keys(5, np.zeros(count), np.arange(count)), (count, 1)
    else:
        of = np.concatenate([keys(seed, [0]) for seed in range(count)])
        of, shape = random_numbers.fold(of, 0), (count, 1)
    flat = np.asarray(random_numbers.uniform(of, shape, "float32"), "float64").ravel()
    bell = np.asarray(random_numbers.normal(of, shape, "float32"), "float64").ravel()
    error = 5 / np.sqrt(count)
    assert flat.min() >= 0
    assert flat.max() < 1
    assert abs(flat.mean() - 1 / 2) < error * np.sqrt(1 / 12)
    assert abs(flat.var() - 1 / 12) < error * np.sqrt(1 / 180)
    assert abs(bell.mean()) < error
    assert abs(bell.var() - 1) < error * np.sqrt(2)
    assert abs((bell**4).mean() - 3) < error * np.sqrt(96)
    for drawn in (flat, bell):
        assert abs(np.corrcoef(drawn[1:], drawn[:-1])[0, 1]) < error


def test_keys_of_two_numbers_draw_for_a_whole_batch():
    one = random_numbers.key(1, random_numbers.SHUFFLE)
    assert one.shape == (2,)
    drawn = np.asarray(random_numbers.uniform(one, (3, 4), "float32"))
    np.testing.assert_array_equal(random_numbers.uniform(one, (3, 4), "float32"), drawn)
    assert len(np.unique(drawn)) == 12
    for other in ((2, random_numbers.SHUFFLE), (1, random_numbers.AUGMENT)):
        different = random_numbers.uniform(
            random_numbers.key(*other), (3, 4), "float32"
        )
        assert not np.isin(drawn, different).any()
    assert random_numbers.normal(one, (3, 4), "float32").shape == (3, 4)
