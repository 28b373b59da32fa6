"""How often the data was passed through, in `fit`'s logs."""

from typing import Any

import keras

from keras_free_adv.training.stream_position import StreamPosition


class PassesLogger(keras.callbacks.Callback):
    """Logs how many passes through the data have been made."""

    def __init__(self, position: StreamPosition, updates_a_pass: int) -> None:
        super().__init__()
        self._position = position
        self._updates_a_pass = updates_a_pass

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Adds them to the logs."""
        if logs is not None:
            logs["passes"] = self._position.update / self._updates_a_pass
