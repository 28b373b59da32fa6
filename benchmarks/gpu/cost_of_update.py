"""The seconds of an update within `fit`, without what a call of `fit` costs anyway."""

import time
import warnings
from collections.abc import Mapping
from typing import Any

import keras


def seconds_of_fit(model: keras.Model, data: Any, updates: int) -> float:
    """A call of `fit`, to the end of its last update."""
    begin = time.perf_counter()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="This run ends after")
        # The loss of the epoch is a number of Python: all that was asked of the device
        # is done when `fit` returns.
        model.fit(data, steps_per_epoch=updates, epochs=1, shuffle=False, verbose=0)
    return time.perf_counter() - begin


def in_turns(
    models: Mapping[str, keras.Model],
    data: Mapping[str, Any],
    updates: tuple[int, int],
    rounds: int,
) -> dict[str, list[float]]:
    """Seconds of an update of each model in each round.

    `fit` is called for a few and for many updates; the difference of the times is that
    of the updates alone. No callback looks at each update, so that the device need not
    wait for Python.
    """
    few, many = updates
    for name, model in models.items():  # compiles
        seconds_of_fit(model, data[name], few)
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(rounds):
        for name, model in models.items():
            short = seconds_of_fit(model, data[name], few)
            long = seconds_of_fit(model, data[name], many)
            # In a rehearsal noise can be larger than the difference.
            seconds[name].append(max((long - short) / (many - few), 1e-9))
    return seconds
