"""How long an evaluation still takes.

What falls, falls early; what stands costs all steps of all runs. So the estimate
counts passes through the network, not examples: those that the examples which stand
so far will have cost at the end of each attack.
"""

from collections.abc import Sequence

# A backward pass to the images takes about so many times as long as a forward pass:
# no gradient of a weight is made.
BACKWARD = 1.6


def in_forward_passes(forward: int, backward: int) -> float:
    """How many forward passes take as long.

    Example:
    >>> in_forward_passes(10, 5)
    18.0
    """
    return forward + BACKWARD * backward


class TimeLeft:
    """Estimates of the rest of an attack, or a part of one, and of what follows it.

    Args:
        examples: how many it is to attack.
        to_withstand: what an example costs that withstands it, in forward passes.
        later: the same of each part after it.

    Example:
    >>> left = TimeLeft(10, 10.0, [100.0])
    >>> left.after(10, 0, passes=1.0, seconds=60.0)  # making a graph, above all
    >>> # Five have fallen, for nothing: the others are half through their 10 passes,
    >>> # and have 100 before them, a second each.
    >>> left.after(10, 5, passes=25.0, seconds=84.0)
    (25.0, 525.0)
    """

    def __init__(
        self, examples: int, to_withstand: float, later: Sequence[float]
    ) -> None:
        self._examples = examples
        self._to_withstand = to_withstand
        self._later = sum(later)
        self._first: tuple[float, float] | None = None

    def after(
        self, begun: int, fell: int, *, passes: float, seconds: float
    ) -> tuple[float, float] | None:
        """Seconds that the part still takes, and that all parts do.

        None the first time: those seconds say nothing of the pace.

        Args:
            begun: how many examples it has begun with.
            fell: of those, how many have fallen.
            passes: made of all of them, in forward passes.
            seconds: that they took.
        """
        if self._first is None:
            self._first = passes, seconds
        if passes <= self._first[0]:
            return None
        pace = (seconds - self._first[1]) / (passes - self._first[0])
        standing = self._examples * (1 - fell / begun)
        # What those cost that have fallen: what the others cannot have cost.
        for_fallen = max(passes - (begun - fell) * self._to_withstand, 0.0)
        total = standing * self._to_withstand + for_fallen
        if fell:
            still_to_fall = self._examples - standing - fell
            total += still_to_fall * for_fallen / fell
        rest = max(total - passes, 0.0)
        return rest * pace, (rest + standing * self._later) * pace
