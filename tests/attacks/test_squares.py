import itertools

import numpy as np
import pytest
from keras import ops

from keras_free_adv import random_numbers
from keras_free_adv.attacks.squares import L2Squares, LInfSquares

EPSILON = 0.25


def keys_of(count, seed=0):
    return random_numbers.keys_of_examples(seed, np.arange(count), 0)


def grey(count, height, width, channels):
    return ops.full((count, height, width, channels), 0.5, "float32")


def queries(count, number=0):
    return ops.full((count,), number, "int32")


def box(changed):
    """First row, last row, first column and last column of what changed, `[H, W]`."""
    rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
    return rows[0], rows[-1], columns[0], columns[-1]


# L-infinity, Algorithm 2 of Andriushchenko et al. (2020).


def test_linf_begins_with_stripes_at_the_edge_of_the_ball():
    clean = grey(200, 4, 6, 3)
    squares = LInfSquares(clean, EPSILON, np.array([2], "int32"))
    first = np.asarray(squares.first(keys_of(200)) - clean)
    np.testing.assert_array_equal(np.abs(first), EPSILON)
    np.testing.assert_array_equal(first, np.broadcast_to(first[:, :1], first.shape))
    # 3600 stripes, each up or down by a coin.
    assert abs(np.sign(first[:, 0]).mean()) < 5 / np.sqrt(3600)


@pytest.mark.parametrize(("height", "width", "side"), [(4, 4, 2), (3, 5, 3), (5, 3, 1)])
def test_linf_changes_one_square_by_twice_epsilon(height, width, side):
    count = 400
    clean = grey(count, height, width, 2)
    sides = np.array([1, side], "int32")
    squares = LInfSquares(clean, EPSILON, sides)
    change = squares.proposal(keys_of(count), clean, queries(count, 1)) - clean
    change = np.asarray(change)
    seen = set()
    for example in change:
        changed = (example != 0).any(-1)
        top, bottom, left, right = box(changed)
        assert (bottom - top + 1, right - left + 1) == (side, side)
        square = example[top : bottom + 1, left : right + 1]
        np.testing.assert_array_equal(np.abs(square), 2 * EPSILON)
        assert (square == square[0, 0]).all()  # one sign a channel
        seen.add((top, left, tuple(np.sign(square[0, 0]))))
    places = (height - side + 1) * (width - side + 1)
    assert len(seen) == places * 4  # every place, with every pair of signs


def test_squares_lie_everywhere_alike():
    clean = grey(4000, 3, 3, 1)
    squares = LInfSquares(clean, EPSILON, np.array([1], "int32"))
    change = squares.proposal(keys_of(4000), clean, queries(4000)) - clean
    hits = (np.asarray(change) != 0).mean((0, 3))
    np.testing.assert_allclose(hits, 1 / 9, atol=5 * np.sqrt(8 / 81 / 4000))


# L2, Algorithm 3.


def bump(rows, columns):
    """Equation 2 of the paper, with its indices from 1; of length 1.

    eta_rs = sum_{k=0}^{M(r, s)} 1 / (n + 1 - k)^2, with n = floor(h_1 / 2) and
    M(r, s) = n - max(|r - floor(h_1 / 2) - 1|, |s - floor(h_2 / 2) - 1|); h_1 is the
    longer side.
    """
    n = max(rows, columns) // 2
    values = np.zeros((rows, columns))
    for r, s in itertools.product(range(1, rows + 1), range(1, columns + 1)):
        ring = max(abs(r - rows // 2 - 1), abs(s - columns // 2 - 1))
        for k in range(n - ring + 1):
            values[r - 1, s - 1] += 1 / (n + 1 - k) ** 2
    return values / (np.linalg.norm(values) or 1.0)


def pair(rows, columns):
    """A bump above one of the opposite sign; of length 1."""
    values = np.zeros((rows, columns))
    if rows // 2:
        values[: rows // 2] = bump(rows // 2, columns)
    values[rows // 2 :] = -bump(rows - rows // 2, columns)
    return values / np.linalg.norm(values)


@pytest.mark.parametrize("side", [1, 2, 3, 5, 7])
def test_from_the_image_itself_an_l2_proposal_is_the_bump_of_the_paper(side):
    """||v|| = 0 leaves all of epsilon, of which each channel gets its share."""
    count, size, channels = 100, 8, 2
    clean = grey(count, size, size, channels)
    squares = L2Squares(clean, EPSILON, np.array([3, side], "int32"))
    found = squares.proposal(keys_of(count), clean, queries(count, 1)) - clean
    expected = pair(side, side) * EPSILON / np.sqrt(channels)
    seen = set()
    for example in np.asarray(found):
        top, bottom, left, right = box((example != 0).any(-1))
        assert (bottom - top + 1, right - left + 1) == (side, side)
        patterns = {
            (sign, way): sign * (expected if way == "upright" else expected.T)
            for sign in (1, -1)
            for way in ("upright", "lying")
        }
        square = example[top : bottom + 1, left : right + 1]
        matches = [
            {
                k
                for k, p in patterns.items()
                if np.allclose(square[..., c], p, atol=1e-6)
            }
            for c in range(channels)
        ]
        assert all(matches)
        # All channels lie, or all stand.
        assert set.intersection(*({way for _, way in m} for m in matches))
        seen.add(tuple(min(m) for m in matches))
    if side > 1:
        assert len(seen) == 8  # two signs in each of two channels, two ways


def algorithm_3(delta, epsilon, one, other, pattern, signs, side):
    """v after one proposal, with its windows, signs and pattern given."""
    channels = delta.shape[-1]
    w1, w2 = np.zeros(delta.shape[:2], bool), np.zeros(delta.shape[:2], bool)
    for window, (top, left) in ((w1, one), (w2, other)):
        window[top : top + side, left : left + side] = True
    unused = max(epsilon**2 - (delta**2).sum(), 0.0)
    new = delta.copy()
    for c in range(channels):
        available = np.sqrt((delta[w1 | w2, c] ** 2).sum() + unused / channels)
        old = delta[w1, c]
        length = np.linalg.norm(old)
        moved = signs[c] * pattern.ravel() + (old / length if length else 0)
        new[w2, c] = 0
        new[w1, c] = moved / np.linalg.norm(moved) * available
    return new


@pytest.mark.parametrize("share", [1.0, 0.7])
def test_an_l2_proposal_is_one_of_those_of_the_paper(share):
    """All windows, signs and ways of the bump are tried; one of them must fit."""
    count, size, side, channels = 60, 4, 3, 2
    clean = grey(count, size, size, channels)
    delta = np.random.default_rng(0).normal(size=tuple(clean.shape))
    lengths = np.linalg.norm(delta.reshape(count, -1), axis=1)
    # A length below epsilon, as after a clip to the pixel range.
    delta *= share * EPSILON / lengths[:, None, None, None]
    squares = L2Squares(clean, EPSILON, np.array([side], "int32"))
    best = clean + ops.convert_to_tensor(delta, "float32")
    found = squares.proposal(keys_of(count), best, queries(count)) - clean
    corners = list(itertools.product(range(size - side + 1), repeat=2))
    chosen = set()
    for example, before in zip(np.asarray(found), delta, strict=True):
        fits = [
            (one, other, way, signs)
            for one, other in itertools.product(corners, repeat=2)
            for way, pattern in enumerate((pair(side, side), pair(side, side).T))
            for signs in itertools.product((1, -1), repeat=channels)
            if np.allclose(
                algorithm_3(before, EPSILON, one, other, pattern, signs, side),
                example,
                atol=1e-6,
            )
        ]
        assert len(fits) == 1
        chosen.update(fits)
        assert np.linalg.norm(example) == pytest.approx(EPSILON, rel=1e-5)
    assert {one for one, *_ in chosen} == set(corners)
    assert {other for _, other, *_ in chosen} == set(corners)
    # The two windows are drawn apart.
    assert len({choice[:2] for choice in chosen}) > len(corners)


@pytest.mark.parametrize(("height", "width"), [(10, 10), (12, 17), (5, 5)])
def test_l2_begins_with_five_by_five_bumps(height, width):
    count = 20
    clean = grey(count, height, width, 2)
    squares = L2Squares(clean, EPSILON, np.array([3], "int32"))
    first = np.asarray(squares.first(keys_of(count)) - clean)
    np.testing.assert_allclose(
        np.linalg.norm(first.reshape(count, -1), axis=1), EPSILON, rtol=1e-5
    )
    rows, columns = height // 5, width // 5
    top, left = (height - 5 * rows) // 2, (width - 5 * columns) // 2
    tiles = first[:, top : top + 5 * rows, left : left + 5 * columns]
    assert np.abs(first).sum() == pytest.approx(np.abs(tiles).sum())
    tiles = tiles.reshape(count, 5, rows, 5, columns, 2).transpose(0, 1, 3, 5, 2, 4)
    # 25 tiles in each of 2 channels share the length alike.
    expected = pair(rows, columns) * EPSILON / np.sqrt(50)
    signs = np.sign(tiles[..., -1, -1] * expected[-1, -1])
    np.testing.assert_allclose(
        tiles, signs[..., None, None] * expected, atol=1e-6 * EPSILON
    )
    assert abs(signs.mean()) < 5 / np.sqrt(signs.size)


@pytest.mark.parametrize("squares", [LInfSquares, L2Squares])
def test_every_key_draws_its_own_square(squares):
    clean = grey(8, 6, 6, 1)
    search = squares(clean, EPSILON, np.array([3], "int32"))
    whole = np.asarray(search.proposal(keys_of(8), clean, queries(8)))
    alone = squares(clean[:3], EPSILON, np.array([3], "int32"))
    np.testing.assert_array_equal(
        alone.proposal(keys_of(8)[2:5], clean[:3], queries(3)), whole[2:5]
    )
    assert len(np.unique(whole.reshape(8, -1), axis=0)) > 4
