"""`steps_per_execution` during a `fit`."""

import contextlib
import math
from collections.abc import Iterator
from typing import Any

from keras_free_adv.user_warnings import warn_user


@contextlib.contextmanager
def executions_that_divide(model: Any, steps_per_epoch: int) -> Iterator[None]:
    """Within, the model's `steps_per_execution` divides the epoch.

    Of an endless stream, an execution of other steps would overrun the epoch.
    """
    compiled = model.steps_per_execution
    _set(model, _divisor(steps_per_epoch, compiled))
    try:
        yield
    finally:
        _set(model, compiled)


def _set(model: Any, steps: int) -> None:
    if steps != model.steps_per_execution:
        model.steps_per_execution = steps
        model.train_function = None
        model.test_function = None
        model.predict_function = None


def _divisor(steps_per_epoch: int, steps_per_execution: int) -> int:
    """The largest divisor of the steps that is at most `steps_per_execution`."""
    if steps_per_epoch % steps_per_execution == 0:
        return steps_per_execution
    largest = max(
        d
        for d in range(1, min(steps_per_execution, steps_per_epoch) + 1)
        if steps_per_epoch % d == 0
    )
    warn_user(
        f"steps_per_execution={steps_per_execution} does not divide the "
        f"{steps_per_epoch} steps of an epoch, and an execution would overrun it: "
        f"using {largest}. Choose steps_per_epoch as a multiple of "
        f"{steps_per_execution} for the full speed "
        f"({math.ceil(steps_per_epoch / steps_per_execution) * steps_per_execution}, "
        "say)."
    )
    return largest
