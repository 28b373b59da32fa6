"""How far delta has climbed, in units of epsilon."""

import dataclasses

import numpy as np
from keras import ops

from keras_free_adv import geometry

# Room for the rounding of a projection.
_AT_THE_EDGE = 1 - 1e-5


@dataclasses.dataclass(frozen=True)
class DeltaStatistics:
    """What a delta is made of, in units of epsilon.

    Attributes:
        what: "value" in "linf", where the ball bounds each pixel; "length" in "l2",
            where it bounds each example.
        sizes: the values, or the lengths, as one row.
        ends: the smallest and the largest that fit into the ball.
    """

    what: str
    sizes: np.ndarray
    ends: tuple[float, float]

    @property
    def at_the_edge(self) -> float:
        """The share that has climbed as far as the ball allows."""
        return float((np.abs(self.sizes) >= _AT_THE_EDGE).mean())

    @property
    def zero(self) -> float:
        """The share that has not moved, or came back."""
        return float((self.sizes == 0).mean())

    @property
    def mean_size(self) -> float:
        """The mean of the absolute values, or of the lengths."""
        return float(np.abs(self.sizes).mean())


def delta_statistics(delta: np.ndarray, epsilon: float, norm: str) -> DeltaStatistics:
    """Measures deltas.

    Args:
        delta: `[replicas, B, ...]`, as of `FreeAdversarialModel.delta`.
        epsilon: radius of the ball, on the same pixel scale.
        norm: "linf" or "l2".
    """
    if norm == "linf":
        what, ends, sizes = "value", (-1.0, 1.0), delta
    else:
        what, ends = "length", (0.0, 1.0)
        each = delta.reshape(-1, *delta.shape[2:])
        sizes = ops.convert_to_numpy(geometry.get_norm(norm).length(each))
    return DeltaStatistics(what, sizes.ravel().astype("float64") / epsilon, ends)
