"""Finds minibatches with values that are not finite."""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from keras import tree

_PARTS = ("x", "y", "sample_weight")


class BadMinibatches:
    """The minibatches that are not finite, by number, found as they are read."""

    def __init__(self) -> None:
        self._found: dict[int, str] = {}

    def watching(
        self,
        stream: tf.data.Dataset,
        first: Any,
        minibatch_of: Callable[[Any], Any] = lambda element: element,
    ) -> tf.data.Dataset:
        """Returns the same stream, and records its bad minibatches.

        Args:
            stream: minibatches (x, y[, sample_weight]), or elements that hold them.
            first: the number of its first minibatch.
            minibatch_of: maps an element to its minibatch.
        """

        def check(number: Any, element: Any) -> Any:
            parts = [
                (name, value)
                for name, part in zip(_PARTS, minibatch_of(element), strict=False)
                for value in tree.flatten(part)
                if value is not None and value.dtype.is_floating
            ]
            if not parts:
                return element
            names, values = zip(*parts, strict=True)

            def record() -> Any:
                self._record(names, number, values)
                return tf.constant(True)

            # A sum is fast, and finite only if each value is. It may also overflow:
            # `record` looks at each value.
            sums = [tf.reduce_sum(tf.cast(value, tf.float32)) for value in values]
            suspect = tf.logical_not(tf.math.is_finite(tf.add_n(sums)))
            recorded = tf.cond(suspect, record, lambda: tf.constant(False))
            with tf.control_dependencies([recorded]):
                return tree.map_structure(tf.identity, element, none_is_leaf=False)

        return stream.enumerate(tf.cast(first, tf.int64)).map(check)

    def up_to(self, number: int) -> list[tuple[int, str]]:
        """Removes and returns those found up to a number, in order."""
        numbers = sorted(found for found in list(self._found) if found <= number)
        return [(found, self._found.pop(found)) for found in numbers]

    def _record(
        self, names: tuple[str, ...], number: Any, values: tuple[Any, ...]
    ) -> None:
        def find(number: np.int64, *arrays: np.ndarray) -> np.int64:
            found = {}
            for name, array in zip(names, arrays, strict=True):
                rows = array.reshape(len(array), -1).astype("float32")
                bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
                if bad.size:
                    found[name] = (
                        f"`{name}` of {bad.size} of its {len(array)} examples, the "
                        f"first at place {bad[0]}"
                    )
            if found:
                self._found[int(number)] = "; ".join(found.values())
            return number

        tf.numpy_function(find, [number, *values], tf.int64)
