"""The callbacks that training on a stream brings along."""

from typing import Any

import keras
from keras import tree

from keras_free_adv.data.bad_minibatches import BadMinibatches
from keras_free_adv.data.minibatches import Minibatches
from keras_free_adv.data.structures import first_array
from keras_free_adv.training.chance_warner import ChanceWarner, chance_of
from keras_free_adv.training.not_finite_warner import NotFiniteWarner
from keras_free_adv.training.passes_logger import PassesLogger
from keras_free_adv.training.py_dataset_epochs import PyDatasetEpochs
from keras_free_adv.training.stream_position import StreamPosition


def with_own_callbacks(
    callbacks: Any, model: Any, source: Minibatches, bad: BadMinibatches, x: Any
) -> Any:
    """The user's callbacks, and before them those of this package.

    Args:
        callbacks: what the user passed to `fit`.
        model: the model that is trained.
        source: the minibatches.
        bad: those of them that are not finite.
        x: the data as the user passed it.
    """
    count, position = source.count, model.stream_position
    own: list[keras.callbacks.Callback] = [
        UpdateNumberSetter(position),
        NotFiniteWarner(position, bad, model.replays, count),
    ]
    if count is not None:
        own.append(PassesLogger(position, count * model.replays))
        own += _chance_warner(model, source, count)
    elif isinstance(x, keras.utils.PyDataset):
        own.append(PyDatasetEpochs(x))
    if isinstance(callbacks, keras.callbacks.CallbackList):
        callbacks.callbacks[:0] = own
        for callback in own:
            callback.set_model(model)
        return callbacks
    return own + (tree.flatten(callbacks) if callbacks else [])


def _chance_warner(model: Any, source: Minibatches, count: int) -> list[ChanceWarner]:
    """One, if the labels are of one class each."""
    labels = source.sample[1]
    # The sample of arrays is all of them.
    are_all = len(first_array(source.sample)) > source.rows * (count - 1)
    chance = chance_of(labels, model, are_all=are_all)
    if chance is None:
        return []
    updates, examples = count * model.replays, source.rows / model.replays
    return [ChanceWarner(model.stream_position, updates, examples, chance)]


class UpdateNumberSetter(keras.callbacks.Callback):
    """Numbers an epoch's updates from the model's position, which a backup may move."""

    def __init__(self, position: StreamPosition) -> None:
        super().__init__()
        self._position = position

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Tells the compiled training step the number of its next update."""
        self._position.set_number()
