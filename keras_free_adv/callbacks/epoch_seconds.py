"""Logs how long the updates of an epoch took."""

import time
from typing import Any

import keras


class EpochSeconds(keras.callbacks.Callback):
    """Logs how long each epoch's updates took, by the clock and in processor time.

    It comes before callbacks that evaluate, whose time it leaves out.
    """

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Starts both clocks."""
        self._begin = time.perf_counter(), time.process_time()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Stops them."""
        clock, cpu = self._begin
        logs["seconds"] = time.perf_counter() - clock
        logs["cpu_seconds"] = time.process_time() - cpu
