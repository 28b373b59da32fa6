"""Random draws that follow from a key alone.

A draw is a pure function of its key: the same key gives the same numbers on any
backend and device, in any batch, in any order. The generator is Threefry-2x32 with 20
rounds (Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011). Its
words have 32 bits, which every device computes, held as int32, whose sums wrap.
"""

import math
from collections.abc import Sequence
from typing import Any

from keras import ops

from keras_free_adv import backends

GENERATOR = "threefry2x32-20"

# The second word of a counter says what it counts.
_DRAW, _FOLD = 0, 1

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = 0x1BD11BDA


def threefry2x32(keys: Any, counters: tuple[Any, Any]) -> tuple[Any, Any]:
    """Encrypts counters: 20 rounds of additions, rotations and exclusive ors.

    Args:
        keys: two words on the last axis, `[..., 2]`, int32.
        counters: two words, int32, of shapes that broadcast with `[...]`.

    Returns:
        Two words, int32.
    """
    words = [ops.convert_to_tensor(word, "int32") for word in counters]
    return _encrypted(keys[..., 0], keys[..., 1], *words)


@backends.element_by_element
def _encrypted(key: Any, other_key: Any, one: Any, other: Any) -> tuple[Any, Any]:
    """The rounds. All words are int32."""
    parity = ops.bitwise_xor(ops.bitwise_xor(key, other_key), _word(_PARITY))
    schedule = [key, other_key, parity]
    one, other = one + schedule[0], other + schedule[1]
    for group in range(5):
        for rotation in _ROTATIONS[group % 2]:
            one = one + other
            other = ops.bitwise_xor(_rotated(other, rotation), one)
        one = one + schedule[(group + 1) % 3]
        other = other + schedule[(group + 2) % 3] + _word(group + 1)
    return one, other


def key(seed: int, *numbers: Any) -> Any:
    """The key of a seed of 64 bits, `[2]`, int32, with whole numbers folded in."""
    words = [_signed(seed), _signed(seed >> 32)]
    made = ops.convert_to_tensor(words, "int32")
    for number in numbers:
        made = fold(made, number)
    return made


def keys_of_examples(seed: int, example_ids: Any, restarts: Any) -> Any:
    """One key for each example, `[B, 2]`, from (seed, example, restart).

    `restarts` is one number, or one for each example, `[B]`.
    """
    return fold(fold(key(seed)[None], example_ids), restarts)


def fold(keys: Any, numbers: Any) -> Any:
    """Folds whole numbers of 32 bits into keys, and returns new keys.

    Args:
        keys: `[2]` or `[B, 2]`.
        numbers: one number, or one for each example, `[B]`.
    """
    numbers = ops.cast(numbers, "int32")
    return ops.stack(threefry2x32(keys, (numbers, _word(_FOLD))), axis=-1)


def uniform(keys: Any, shape: Sequence[Any], dtype: Any) -> Any:
    """Uniform numbers in [0, 1), of 24 bits each.

    Args:
        keys: `[2]` for one draw over the whole batch, or `[B, 2]` for one draw an
            example.
        shape: of the result, `[B, ...]`.
        dtype: of the result.
    """
    count, rows = _count(keys, shape)
    # Each counter gives two words: the first half of the numbers, and the second.
    words = ops.concatenate(_words(keys, (count + 1) // 2), axis=-1)
    drawn = _to_unit(words[..., :count], dtype)
    return ops.reshape(drawn, (*rows, *shape[len(rows) :]))


def normal(keys: Any, shape: Sequence[Any], dtype: Any) -> Any:
    """Standard normal numbers, by the transform of Box and Muller.

    Args:
        keys: as of `uniform`.
        shape: of the result, `[B, ...]`.
        dtype: of the result.
    """
    count, rows = _count(keys, shape)
    radius, angle = (_to_unit(word, dtype) for word in _words(keys, count))
    radius = ops.sqrt(-2.0 * ops.log1p(-radius))
    drawn = radius * ops.cos(2.0 * math.pi * angle)
    return ops.reshape(drawn, (*rows, *shape[len(rows) :]))


def _count(keys: Any, shape: Sequence[Any]) -> tuple[Any, Sequence[Any]]:
    """How many numbers a key draws, and the axes that have keys of their own."""
    rows = shape[:1] if len(keys.shape) == 2 else ()
    return math.prod(shape[len(rows) :]), rows


def _words(keys: Any, count: Any) -> tuple[Any, Any]:
    """Two words for each of `count` counters, `[..., count]`."""
    counters = ops.arange(count, dtype="int32")
    return threefry2x32(keys[..., None, :], (counters, _word(_DRAW)))


def _to_unit(words: Any, dtype: Any) -> Any:
    """The upper 24 bits, which a float32 holds exactly, as a number in [0, 1)."""
    return ops.cast(_shifted_right(words, 8), dtype) * 2.0**-24


def _rotated(words: Any, count: int) -> Any:
    left = ops.left_shift(words, _word(count))
    return ops.bitwise_or(left, _shifted_right(words, 32 - count))


def _shifted_right(words: Any, count: int) -> Any:
    """A shift that fills with zeros, where that of int32 repeats the sign."""
    shifted = ops.right_shift(words, _word(count))
    return ops.bitwise_and(shifted, _word((1 << (32 - count)) - 1))


def _word(number: int) -> Any:
    return ops.convert_to_tensor(_signed(number), "int32")


def _signed(number: int) -> int:
    """The signed number of the same lower 32 bits."""
    return (int(number) + 2**31) % 2**32 - 2**31
