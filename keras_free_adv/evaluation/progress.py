"""The progress bar of an evaluation."""

from typing import Any

import keras


class Progress:
    """A Keras progress bar over (example, attack) pairs.

    Args:
        examples: number of examples, or None if that is not known.
        attacks: number of attacks that each of them goes through.
        verbose: 0 for silence.
    """

    def __init__(self, examples: int | None, attacks: int, verbose: Any) -> None:
        self._done = 0
        self._bar = None
        if verbose != 0:
            target = None if examples is None else examples * attacks
            self._bar = keras.utils.Progbar(
                target, verbose=1, unit_name="example", interval=0.2
            )

    def add(self, count: int) -> None:
        """So many more pairs are done."""
        self._done += count
        if self._bar is not None and count:
            self._bar.update(self._done, finalize=False)

    def close(self) -> None:
        """Everything is done."""
        if self._bar is not None:
            self._bar.target = self._done
            self._bar.update(self._done, finalize=True)
