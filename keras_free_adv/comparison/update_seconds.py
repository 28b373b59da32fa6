"""How long an update of each method takes, measured in turns."""

import time
import warnings
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

TURNS = 3
WARM = 3  # updates that are not counted: the first one is compiled
COUNTED = 8  # updates of a turn


def update_seconds(
    models: Mapping[str, keras.Model], data: Mapping[str, Any]
) -> dict[str, float]:
    """Each method's name to the median of its updates, reading the data included.

    They are measured in turns, so that what disturbs the machine for a while disturbs
    all of them.

    Args:
        models: compiled; they are trained a little.
        data: the arguments of `fit` that hold the data.
    """
    found: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(TURNS):
        for name, model in models.items():
            found[name] += _turn(model, data)
    return {name: float(np.median(seconds)) for name, seconds in found.items()}


def _turn(model: keras.Model, data: Mapping[str, Any]) -> list[float]:
    ends = _Ends()
    with warnings.catch_warnings():
        # Of so short a training none of them is news.
        warnings.simplefilter("ignore")
        model.fit(
            **data,
            epochs=1,
            steps_per_epoch=WARM + COUNTED,
            callbacks=[ends],
            verbose=0,
        )
    return np.diff(ends.seconds)[WARM - 1 :].tolist()


class _Ends(keras.callbacks.Callback):
    """When each update ended."""

    def on_train_begin(self, logs: Any = None) -> None:
        self.seconds: list[float] = []

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.seconds.append(time.perf_counter())
