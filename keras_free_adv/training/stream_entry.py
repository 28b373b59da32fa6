"""Where an epoch begins in the stream."""

from typing import Any

import keras

from keras_free_adv.training.stream_position import StreamPosition


class StreamEntry(keras.callbacks.Callback):
    """Enters the stream at the model's position, which a restored backup may move."""

    def __init__(self, position: StreamPosition) -> None:
        super().__init__()
        self._position = position

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Tells the compiled training step the number of its next update."""
        self._position.enter()
