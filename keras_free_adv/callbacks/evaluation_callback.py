"""The base of callbacks that evaluate a model under attack at the end of an epoch."""

import copy
from collections.abc import Collection
from typing import Any

import keras

from keras_free_adv import keras_internals
from keras_free_adv.user_warnings import warn_user


class EvaluationCallback(keras.callbacks.Callback):
    """A callback that holds `data` to evaluate on, and adds entries to the logs.

    `copy.deepcopy` does not copy `data`: KerasTuner copies the callbacks for each
    trial, a `tf.data.Dataset` cannot be copied, and arrays need not be. The model, if
    there is one, is shared too, because the next `fit` replaces it.
    """

    data: Any

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        """Makes the callback from `get_config()`, serialized or not."""
        deserialize = keras.saving.deserialize_keras_object
        return cls(**{name: deserialize(value) for name, value in config.items()})

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        for shared in (self.data, self.model):
            memo[id(shared)] = shared
        copied = memo[id(self)] = type(self).__new__(type(self))
        copied.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return copied

    def _warn_of_early_monitors(self, names: Collection[str]) -> None:
        """Warns, in `on_train_begin`, of callbacks that monitor `names` too early."""
        adder = type(self).__name__
        for other in keras_internals.callbacks_of_this_fit():
            if other is self:
                break
            monitored = getattr(other, "monitor", None)
            if monitored in names:
                warn_user(
                    f"{type(other).__name__} monitors {monitored!r}, but comes before "
                    f"{adder} in the list of callbacks and will not see it. Put "
                    f"{adder} first."
                )
