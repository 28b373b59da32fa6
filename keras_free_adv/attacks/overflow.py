"""Where a search in half precision leaves the range of its numbers."""

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

from keras import ops


class Overflow:
    """Notes, while a step of an attack is made, of which examples something is lost.

    What is not finite must not guide a search: an infinite logit looks like a success,
    and of an infinite gradient no direction is left.

    Example:
    >>> overflow = Overflow()
    >>> overflow.note(np.array([[0.0, 1.0], [0.0, np.inf]]))
    >>> np.asarray(overflow.taken()).tolist()
    [False, True]
    """

    def __init__(self) -> None:
        self._noted: list[Any] = []
        self._paused = False

    def note(self, values: Any) -> None:
        """Notes rows `[B, ...]` that are not finite."""
        if not self._paused:
            rows = ops.reshape(ops.isfinite(values), (ops.shape(values)[0], -1))
            self._noted.append(ops.logical_not(ops.all(rows, axis=-1)))

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Notes nothing within, as in a function that is being differentiated."""
        before, self._paused = self._paused, True
        try:
            yield
        finally:
            self._paused = before

    def taken(self) -> Any:
        """Of which examples something was lost, `[B]`, or None; and forgets it."""
        noted, self._noted = self._noted, []
        return functools.reduce(ops.logical_or, noted) if noted else None
