"""The learning rate schedule of fast training: up and down linearly."""

from typing import Any

import keras
from keras import ops

from keras_free_adv import validation


@keras.saving.register_keras_serializable("keras_free_adv")
class LinearCycle(keras.optimizers.schedules.LearningRateSchedule):
    """Rises from 0 to `peak` and falls back to 0, both linearly.

    Reference: Smith, "Cyclical Learning Rates for Training Neural Networks", WACV 2017;
    one cycle over the whole run, stepped with every update, as Wong et al. (2020) do.

    Args:
        peak: the largest learning rate.
        updates: length of the run.
        rise: share of the updates in which the rate rises; 0 to begin at the peak.

    Raises:
        TypeError, ValueError: an argument is out of its range.

    Example:
    >>> schedule = LinearCycle(0.1, updates=100, rise=0.4)
    >>> [round(float(schedule(u)), 3) for u in (0, 20, 40, 70, 100)]
    [0.0, 0.05, 0.1, 0.05, 0.0]
    """

    def __init__(self, peak: float, updates: int, rise: float = 0.5) -> None:
        super().__init__()
        self.peak = validation.positive_number("peak", peak)
        self.updates = validation.positive_integer("updates", updates)
        rise = validation.finite_number("rise", rise)
        if not 0.0 <= rise < 1.0:
            raise ValueError(
                "Argument `rise` must be a share of the updates, at least 0 and below "
                f"1. Received: rise={rise}."
            )
        self.rise = rise

    def __call__(self, step: Any) -> Any:
        """The learning rate of update number `step`, counted from 0."""
        step = ops.cast(step, "float32")
        top = self.rise * self.updates
        falling = (self.updates - step) / (self.updates - top)
        rising = step / top if top else 1.0
        return self.peak * ops.maximum(ops.minimum(rising, falling), 0.0)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"peak": self.peak, "updates": self.updates, "rise": self.rise}
