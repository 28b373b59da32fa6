"""Callbacks that hold data: their copies share it."""

import copy
from typing import Any

import keras


class CallbackWithData(keras.callbacks.Callback):
    """A callback with an attribute `data`, which `copy.deepcopy` leaves as it is.

    KerasTuner copies the callbacks for each trial. A `tf.data.Dataset` cannot be
    copied, and arrays need not be. The model, if there is one, is shared too: the next
    `fit` sets its own. All else is copied.
    """

    data: Any

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        for shared in (self.data, self.model):
            memo[id(shared)] = shared
        copied = memo[id(self)] = type(self).__new__(type(self))
        copied.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return copied
