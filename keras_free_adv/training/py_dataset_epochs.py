"""The epochs of a PyDataset without end."""

from typing import Any

import keras


class PyDatasetEpochs(keras.callbacks.Callback):
    """Tells a PyDataset of unknown length where `fit`'s epochs begin and end.

    It has no passes, around which those of known length are told.
    """

    def __init__(self, dataset: keras.utils.PyDataset) -> None:
        super().__init__()
        self._dataset = dataset

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Begins one of the dataset's."""
        self._dataset.on_epoch_begin()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Ends it."""
        self._dataset.on_epoch_end()
