"""Threefry-2x32 with 20 rounds, against Python's integers and the published words."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from keras_free_adv import random_numbers

WORDS = st.integers(0, 2**32 - 1)
DRAW, FOLD = 0, 1  # the second word of a counter


def threefry(key, counter):
    """Threefry-2x32-20 of Salmon et al. (2011), in Python's integers."""
    words = (*key, key[0] ^ key[1] ^ 0x1BD11BDA)
    x = [(counter[0] + words[0]) % 2**32, (counter[1] + words[1]) % 2**32]
    rotations = (13, 15, 26, 6, 17, 29, 16, 24)
    for number in range(20):
        x[0] = (x[0] + x[1]) % 2**32
        by = rotations[number % 8]
        x[1] = ((x[1] << by) | (x[1] >> (32 - by))) % 2**32 ^ x[0]
        if number % 4 == 3:
            injected = number // 4 + 1
            x[0] = (x[0] + words[injected % 3]) % 2**32
            x[1] = (x[1] + words[(injected + 1) % 3] + injected) % 2**32
    return tuple(x)


def key_of_seed(seed):
    return (seed % 2**32, (seed >> 32) % 2**32)


def folded(key, number):
    return threefry(key, (number % 2**32, FOLD))


def key_of_example(seed, example, restart):
    return folded(folded(key_of_seed(seed), example), restart)


def drawn(key, count):
    """Pairs of words, one for each counter, `[count, 2]`."""
    pairs = [threefry(key, (number, DRAW)) for number in range(count)]
    return np.array(pairs, "int64")


def keys(seed, ids, restarts=0):
    return random_numbers.keys_of_examples(seed, np.asarray(ids, "int32"), restarts)


def uniform(seed, ids, restarts=0, count=5):
    made = random_numbers.uniform(
        keys(seed, ids, restarts), (len(ids), count), "float32"
    )
    return np.asarray(made)


def unsigned(tensor):
    """Words `[..., 2]` as pairs of Python's integers."""
    words = np.asarray(tensor).astype("int64") % 2**32
    return [tuple(pair) for pair in words.reshape(-1, 2).tolist()]


def words_of(numbers):
    """Unsigned numbers of 32 bits as the words of a tensor."""
    return ops.convert_to_tensor(np.array(numbers, "uint32").astype("int32"))


# The known answers of Random123, the library of the paper's authors.
KNOWN = [
    ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
    ((0xFFFFFFFF,) * 2, (0xFFFFFFFF,) * 2, (0x1CB996FC, 0xBB002BE7)),
    ((0x243F6A88, 0x85A308D3), (0x13198A2E, 0x03707344), (0xC4923A9C, 0x483DF7A0)),
]


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN)
def test_known_answers(counter, key, expected):
    assert threefry(key, counter) == expected
    made = random_numbers.threefry2x32(
        words_of(key), (words_of(counter[0]), words_of(counter[1]))
    )
    assert unsigned(ops.stack(made, -1)) == [expected]


@settings(max_examples=50, deadline=None)
@given(pairs=st.lists(st.tuples(WORDS, WORDS, WORDS, WORDS), min_size=1, max_size=4))
def test_any_words_are_encrypted_as_by_pythons_integers(pairs):
    words = words_of(pairs)
    made = random_numbers.threefry2x32(words[:, :2], (words[:, 2], words[:, 3]))
    expected = [threefry(pair[:2], pair[2:]) for pair in pairs]
    assert unsigned(ops.stack(made, -1)) == expected


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(-(2**63), 2**64 - 1),
    ids=st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=4),
    restart=st.integers(0, 10_000),
    number=st.integers(-(2**31), 2**31 - 1),
)
def test_keys_are_words_of_the_seed_with_example_and_restart_folded_in(
    seed, ids, restart, number
):
    expected = [key_of_example(seed, example, restart) for example in ids]
    made = keys(seed, ids, restart)
    assert tuple(made.shape) == (len(ids), 2)
    assert unsigned(made) == expected
    again = random_numbers.fold(made, number)
    assert unsigned(again) == [folded(key, number) for key in expected]
    one = random_numbers.key(seed, restart, number)
    assert tuple(one.shape) == (2,)
    assert unsigned(one) == [folded(folded(key_of_seed(seed), restart), number)]


def test_all_64_bits_of_a_seed_count():
    made = [unsigned(random_numbers.key(seed))[0] for seed in (1, 1 + 2**32, -1)]
    assert made == [(1, 0), (1, 1), (2**32 - 1, 2**32 - 1)]
    of = words_of([key_of_seed(1 << bit) for bit in range(64)])
    draws = np.asarray(random_numbers.uniform(of, (64, 5), "float32"))
    assert len(np.unique(draws)) == draws.size


def test_each_example_may_have_a_restart_and_a_fold_of_its_own():
    made = keys(7, [4, 4, 9], [0, 2, 1])
    expected = [key_of_example(7, *pair) for pair in ((4, 0), (4, 2), (9, 1))]
    assert unsigned(made) == expected
    again = random_numbers.fold(made, np.array([5, 0, 3]))
    assert unsigned(again) == [
        folded(key, number) for key, number in zip(expected, (5, 0, 3), strict=True)
    ]


@pytest.mark.parametrize("shape", [(2, 2, 3), (2, 7), (2, 1)])
def test_uniform_numbers_are_the_upper_24_bits(shape):
    """The first words of all counters, then the second ones."""
    count = math.prod(shape[1:])
    made = random_numbers.uniform(keys(3, [0, 11]), shape, "float32")
    expected = [
        drawn(key_of_example(3, example, 0), -(-count // 2)).T.ravel()[:count] >> 8
        for example in (0, 11)
    ]
    np.testing.assert_array_equal(
        made, np.reshape(expected, shape) / 2.0**24
    )  # exactly: a float32 holds 24 bits


def test_normal_numbers_are_those_of_box_and_muller():
    made = random_numbers.normal(keys(3, [0, 11]), (2, 2, 3), "float32")
    words = np.array([drawn(key_of_example(3, example, 0), 6) for example in (0, 11)])
    radius, angle = np.moveaxis((words >> 8) / 2.0**24, -1, 0)
    expected = np.sqrt(-2 * np.log(1 - radius)) * np.cos(2 * np.pi * angle)
    np.testing.assert_allclose(made, expected.reshape(2, 2, 3), rtol=1e-4, atol=1e-5)


def test_numbers_follow_from_seed_example_and_restart_whatever_the_batch():
    ids = np.arange(50)
    whole = uniform(1, ids)
    np.testing.assert_array_equal(uniform(1, ids[::-1]), whole[::-1])
    np.testing.assert_array_equal(uniform(1, [7]), whole[[7]])
    np.testing.assert_array_equal(
        uniform(1, [7, 8], [3, 0]), [uniform(1, [7], 3)[0], whole[8]]
    )


def test_neighbours_share_no_number():
    """A generator that only shifted its counter would give one example the numbers
    of the next. Of 2^64 pairs of words none comes twice among 40 x 5 x 5 x 20.
    """
    restarts = np.repeat(np.arange(5), 40)
    of = [keys(seed, np.tile(np.arange(40), 5), restarts) for seed in range(-2, 3)]
    words = random_numbers._words(ops.concatenate(of), 20)
    pairs = np.asarray(ops.stack(words, -1)).reshape(-1, 2)
    assert len(np.unique(pairs, axis=0)) == len(pairs) == 40 * 5 * 5 * 20


def test_a_folded_key_shares_no_number_with_what_the_key_draws():
    made = keys(5, range(40))
    words = random_numbers._words(made, 20)
    pairs = [np.asarray(ops.stack(words, -1)).reshape(-1, 2)]
    pairs += [np.asarray(random_numbers.fold(made, number)) for number in range(20)]
    pairs = np.concatenate(pairs)
    assert len(np.unique(pairs, axis=0)) == len(pairs) == 40 * 40


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
        of = words_of([key_of_seed(seed) for seed in range(count)])
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
    for numbers in (flat, bell):
        assert abs(np.corrcoef(numbers[1:], numbers[:-1])[0, 1]) < error


def test_one_key_draws_for_a_whole_batch():
    one = random_numbers.key(1, 2)
    made = np.asarray(random_numbers.uniform(one, (3, 5), "float32"))
    words = drawn(folded(key_of_seed(1), 2), 8).T.ravel()[:15]
    np.testing.assert_array_equal(made, (words >> 8).reshape(3, 5) / 2.0**24)
    for other in ((2, 2), (1, 3)):
        different = random_numbers.uniform(
            random_numbers.key(*other), (3, 5), "float32"
        )
        assert not np.isin(made, different).any()
    bell = random_numbers.normal(one, (3, 4), "float32")
    pairs = (drawn(folded(key_of_seed(1), 2), 12) >> 8) / 2.0**24
    expected = np.sqrt(-2 * np.log(1 - pairs[:, 0])) * np.cos(2 * np.pi * pairs[:, 1])
    np.testing.assert_allclose(bell, expected.reshape(3, 4), rtol=1e-4, atol=1e-5)
