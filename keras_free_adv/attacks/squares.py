"""The points that the Square attack asks for.

Images are `[B, height, width, channels]`; every example has its own key, and draws
its own square. What is proposed may leave the ball or the pixel range: the attack
projects it.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from keras_free_adv import geometry, random_numbers

START_TILES = 5  # the L2 attack begins with 5 x 5 of them


class LInfSquares:
    """Stripes, then squares at the edge of the ball (Algorithm 2 of the paper).

    Args:
        images: clean images, `[B, height, width, channels]`.
        epsilon: radius of the ball.
        sides: the side of the square at each query, in pixels, int32.
    """

    def __init__(self, images: Any, epsilon: float, sides: np.ndarray) -> None:
        self._images = images
        self._epsilon = epsilon
        self._sides = sides

    def first(self, keys: Any) -> Any:
        """Vertical stripes, each channel of each at + or - epsilon."""
        batch, _, width, channels = self._images.shape
        batch = ops.shape(self._images)[0]
        signs = _signs(keys, (batch, 1, width, channels))
        return self._images + self._epsilon * signs

    def proposal(self, keys: Any, best: Any, query: Any) -> Any:
        """A square of `best` at + or - epsilon, one sign a channel."""
        batch, channels = ops.shape(best)[0], best.shape[-1]
        side = ops.take(ops.convert_to_tensor(self._sides), query)
        window = _Window(random_numbers.fold(keys, 1), best.shape, side)
        signs = _signs(random_numbers.fold(keys, 2), (batch, 1, 1, channels))
        # Twice epsilon from anywhere in the ball is, projected, its edge.
        return best + 2.0 * self._epsilon * signs * window.inside


class L2Squares:
    """Bumps of few pixels, which take the length of other windows (Algorithm 3).

    Args:
        images: clean images, `[B, height, width, channels]`.
        epsilon: radius of the ball.
        sides: the side of the square at each query, in pixels, int32.
    """

    def __init__(self, images: Any, epsilon: float, sides: np.ndarray) -> None:
        self._images = images
        self._epsilon = epsilon
        self._sides = sides
        self._distinct, self._number_of_side = np.unique(sides, return_inverse=True)

    def first(self, keys: Any) -> Any:
        """5 x 5 bumps, each with a sign a channel, of length epsilon together."""
        batch = ops.shape(self._images)[0]
        _, height, width, channels = self._images.shape
        rows, row_tiles = _tiles(height)
        columns, column_tiles = _tiles(width)
        bumps = np.zeros((height, width), "float32")
        pattern = _bump_pair(rows.max() + 1, columns.max() + 1)
        covered = (rows >= 0)[:, None] & (columns >= 0)
        bumps = np.where(
            covered, pattern[rows.clip(0)[:, None], columns.clip(0)], bumps
        )
        signs = _signs(keys, (batch, START_TILES, START_TILES, channels))
        signs = ops.take(ops.take(signs, row_tiles, axis=1), column_tiles, axis=2)
        return self._images + self._to_length(
            ops.convert_to_tensor(bumps[None, :, :, None]) * signs
        )

    def proposal(self, keys: Any, best: Any, query: Any) -> Any:
        """A new bump in one window, with the length that another one gives up.

        In each channel i, for windows W1 and W2 of the perturbation v,

            v_W1 = bump + v_W1 / ||v_W1||, of length
                   sqrt(||v_(W1 or W2)||^2 + (epsilon^2 - ||v||^2) / channels)
            v_W2 = 0.
        """
        batch, channels = ops.shape(best)[0], best.shape[-1]
        side = ops.take(ops.convert_to_tensor(self._sides), query)
        one = _Window(random_numbers.fold(keys, 1), best.shape, side)
        other = _Window(random_numbers.fold(keys, 2), best.shape, side)
        signs = _signs(random_numbers.fold(keys, 3), (batch, 1, 1, channels))
        delta = best - self._images

        both = ops.maximum(one.inside, other.inside)
        unused = ops.maximum(self._epsilon**2 - _squared(delta, (1, 2, 3)), 0.0)
        length = ops.sqrt(_squared(delta * both, (1, 2)) + unused / channels)
        bump = one.cut(self._bumps(), ops.take(self._number_of_side, query)) * signs
        old = delta * one.inside
        new = bump + old / (ops.sqrt(_squared(old, (1, 2))) + _TINY)
        new = new * length / (ops.sqrt(_squared(new, (1, 2))) + _TINY)
        moved = ops.where(one.inside > 0, new, delta * (1.0 - other.inside))
        return self._images + self._to_length(moved)

    def _bumps(self) -> np.ndarray:
        """A pair of bumps for each side, `[sides, largest, largest]`."""
        largest = int(self._distinct.max())
        table = np.zeros((len(self._distinct), largest, largest), "float32")
        for number, side in enumerate(self._distinct):
            table[number, :side, :side] = _bump_pair(side, side)
        return table

    def _to_length(self, delta: Any) -> Any:
        length = geometry.get_norm("l2").length(delta)
        return delta * self._epsilon / (length + _TINY)


class _Window:
    """A random square of each example.

    Attributes:
        inside: 1 in the square, else 0, `[B, height, width, 1]`.
    """

    def __init__(self, keys: Any, shape: Sequence[Any], side: Any) -> None:
        batch = ops.shape(keys)[0]
        self._keys = keys
        where = random_numbers.uniform(keys, (batch, 2), "float32")
        rows = _offsets(where[:, :1], shape[1], side)
        columns = _offsets(where[:, 1:], shape[2], side)
        side = ops.reshape(side, (-1, 1))
        self._rows = ops.expand_dims(rows, 2)
        self._columns = ops.expand_dims(columns, 1)
        inside = ops.logical_and(
            ops.expand_dims(ops.logical_and(rows >= 0, rows < side), 2),
            ops.expand_dims(ops.logical_and(columns >= 0, columns < side), 1),
        )
        self.inside = ops.cast(ops.expand_dims(inside, -1), "float32")

    def cut(self, patterns: np.ndarray, number: Any) -> Any:
        """Pattern `number` `[B]` in the square, upright or lying, `[B, h, w, 1]`."""
        size = patterns.shape[1]
        rows = ops.clip(self._rows, 0, size - 1)
        columns = ops.clip(self._columns, 0, size - 1)
        upright, lying = rows * size + columns, columns * size + rows
        coin = random_numbers.uniform(
            random_numbers.fold(self._keys, 1), (ops.shape(rows)[0], 1, 1), "float32"
        )
        index = ops.where(coin < 0.5, upright, lying)
        index = index + ops.reshape(ops.cast(number, "int32"), (-1, 1, 1)) * size**2
        values = ops.take(ops.convert_to_tensor(patterns.reshape(-1)), index)
        return ops.expand_dims(values, -1) * self.inside


_TINY = 1e-12


def _offsets(share: Any, size: int, side: Any) -> Any:
    """Each pixel's place in the window that begins at a random one, `[B, size]`."""
    places = ops.cast(size - side + 1, "float32")
    begin = ops.floor(share * ops.reshape(places, (-1, 1)))
    return ops.arange(size, dtype="int32") - ops.cast(begin, "int32")


def _signs(keys: Any, shape: Sequence[Any]) -> Any:
    heads = random_numbers.uniform(keys, shape, "float32") < 0.5
    return ops.cast(ops.where(heads, -1, 1), "float32")


def _squared(values: Any, axes: tuple[int, ...]) -> Any:
    return ops.sum(ops.square(values), axis=axes, keepdims=True)


def _tiles(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Each pixel's place in its tile (-1 outside all), and the number of the tile."""
    side = max(size // START_TILES, 1)
    place = np.arange(size) - (size - side * START_TILES) // 2
    covered = (place >= 0) & (place < side * START_TILES)
    tile = (place // side).clip(0, START_TILES - 1)
    return np.where(covered, place % side, -1), tile.astype("int32")


def _bump_pair(height: int, width: int) -> np.ndarray:
    """Two bumps of opposite sign, one above the other, of length 1."""
    upper = height // 2
    pair = np.concatenate([_bump(upper, width), -_bump(height - upper, width)])
    return (pair / np.sqrt((pair**2).sum())).astype("float32")


def _bump(height: int, width: int) -> np.ndarray:
    """A sum of concentric rectangles, each a pixel wider and 1/k^2 as high."""
    if not height:
        return np.zeros((0, width))
    rows = np.abs(np.arange(height) - height // 2)
    columns = np.abs(np.arange(width) - width // 2)
    ring = np.maximum(rows[:, None], columns)
    rectangles = max(height, width) // 2 + 1
    heights = np.cumsum(1.0 / np.arange(rectangles, 0, -1) ** 2)[::-1]
    bump = heights[ring]
    return bump / np.sqrt((bump**2).sum())
