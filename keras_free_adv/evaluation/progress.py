"""The progress bars of an evaluation, one for each part."""

from typing import Any

from keras_free_adv.keras_internals import BarWithEstimate

# The entry of a bar that says how long the parts take that follow, too.
ALL_LEFT = "left of all"


class Progress:
    """Keras progress bars over examples, with the accuracy so far.

    What a bar says is left is an estimate of its part.

    Args:
        examples: number of examples, or None if that is not known.
        verbose: 0 for silence.
    """

    def __init__(self, examples: int | None, verbose: Any) -> None:
        self.examples = examples
        self._verbose = verbose != 0
        self._bar: Any = None

    def begin(self, name: str) -> None:
        """The part of this name begins: an attack, a part of one, or "natural"."""
        self._name, self._done, self._stood, self._judged = name, 0, 0, 0
        self._has_more = False  # parts that follow, and take their time
        if self._verbose:
            self._bar = BarWithEstimate(
                self.examples,
                verbose=1,
                unit_name="example",
                interval=0.2,
                stateful_metrics=[name],
            )

    def add(
        self,
        *,
        stood: int = 0,
        fell: int = 0,
        elsewhere: int = 0,
        left: tuple[float, float] | None = None,
    ) -> None:
        """So many more examples are done.

        Args:
            stood: which the model gets right.
            fell: which it does not.
            elsewhere: which another worker attacks.
            left: seconds that the part still takes, and that all do.
        """
        self._stood += stood
        self._judged += stood + fell
        self._done += stood + fell + elsewhere
        if self._bar is None:
            return
        if left is not None:
            self._bar.seconds_left, all_of_it = left
            self._has_more = self._has_more or all_of_it > self._bar.seconds_left
            if self._has_more:
                minutes = round(all_of_it / 60)
                text = f"{minutes} minutes" if minutes > 1 else "a minute"
                self._bar.say(ALL_LEFT, text)
        if left is not None or stood + fell + elsewhere:
            self._bar.update(self._done, self._values(), finalize=False)

    def end(self) -> None:
        """The part is done, and with it the number of examples is known."""
        self.examples = self._done
        if self._bar is not None:
            self._bar.target = self._done
            self._bar.update(self._done, self._values(), finalize=True)

    def _values(self) -> list[tuple[str, float]]:
        """The accuracy so far: of all examples those that have not fallen yet."""
        if self.examples is None:
            return [(self._name, self._stood / max(self._judged, 1))]
        here = self.examples - (self._done - self._judged)
        return [(self._name, 1.0 - (self._judged - self._stood) / max(here, 1))]
