"""Evaluating, and keeping, the average of the weights, with its batch norm."""

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras import ops


@keras.saving.register_keras_serializable("keras_free_adv")
class AveragedWeights(keras.callbacks.Callback):
    """Lets a model be judged, and end, with the moving average of its weights.

    The average is the optimizer's own (`use_ema=True`, `ema_momentum`), of the
    trainable weights. Keras stops there, and the averaged weights would meet the batch
    norm statistics of others; this callback averages the statistics with the same
    momentum. Averages of adversarially trained weights are often more robust than the
    last weights.

    The averages are in the model while `fit` validates, from the end of an epoch to
    the beginning of the next, and after training. Put it first in the list of
    callbacks: those behind it (RobustnessEvaluation, ModelCheckpoint, CollapseGuard)
    see the averages; `BackupAndRestore` saves both.

    Raises:
        ValueError: when training begins, an optimizer without `use_ema=True`, or with
            an `ema_overwrite_frequency`, which trains on from the averages.

    Example:
    >>> network = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten(),
    ...                             keras.layers.Dense(3, activation="softmax")])
    >>> model = FreeAdversarialModel(network, epsilon=0.1, replays=2)
    >>> model.compile(keras.optimizers.SGD(use_ema=True, ema_momentum=0.9),
    ...               "sparse_categorical_crossentropy")
    >>> images, labels = np.random.rand(64, 4, 4, 1), np.random.randint(0, 3, 64)
    >>> history = model.fit(images, labels, epochs=2, callbacks=[AveragedWeights()],
    ...                     verbose=0)
    """

    def __init__(self) -> None:
        super().__init__()
        # On the device, so that training need not wait for them.
        self._averages: list[keras.Variable] | None = None
        self._set_aside: list[np.ndarray] | None = None
        self._updates_seen = 0

    # By this name BackupAndRestore keeps them.
    @property
    def averaged_statistics(self) -> list[np.ndarray] | None:
        """The averages of batch norm's statistics, or None before the first update."""
        if self._averages is None:
            return None
        return [ops.convert_to_numpy(average) for average in self._averages]

    @averaged_statistics.setter
    def averaged_statistics(self, values: list[np.ndarray] | None) -> None:
        self._averages = None
        if values is not None:
            self._averages = [keras.Variable(v, trainable=False) for v in values]

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments: none."""
        return {}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "AveragedWeights":
        """Makes the callback from `get_config()`."""
        return cls(**config)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Begins anew."""
        optimizer = self._optimizer()
        if not getattr(optimizer, "use_ema", False):
            raise ValueError(
                "AveragedWeights needs an optimizer that averages. Received: "
                f"{type(optimizer).__name__} with use_ema=False. Pass use_ema=True and "
                "ema_momentum=0.999, say, to the optimizer."
            )
        if optimizer.ema_overwrite_frequency is not None:
            raise ValueError(
                "AveragedWeights needs weights that are not overwritten by their "
                "averages while they are trained. Received: an optimizer with "
                f"ema_overwrite_frequency={optimizer.ema_overwrite_frequency}. Pass "
                "None."
            )
        self._averages = None
        self._set_aside = None

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Takes the averages out of the model."""
        self._updates_seen = self._updates_made(-1)
        self._take_out()

    def on_train_batch_end(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Averages the statistics over the updates since the last call."""
        made = self._updates_made(batch)
        updates, self._updates_seen = made - self._updates_seen, made
        if updates == 0:
            return  # made before the run was interrupted, and skipped now
        statistics = self._statistics()
        if self._averages is None:
            self._averages = [keras.Variable(s, trainable=False) for s in statistics]
            return
        momentum = self._optimizer().ema_momentum ** updates
        for average, value in zip(self._averages, statistics, strict=True):
            average.assign(momentum * average + (1.0 - momentum) * value)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Puts the averages into the model."""
        self._put_in()

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Puts the averages into the model; before `fit` validates, for one."""
        self._put_in()

    def on_test_end(self, logs: dict[str, Any] | None = None) -> None:
        """Takes the averages out of the model."""
        self._take_out()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Leaves the averages in the model; Keras has done so with its own."""
        self._set_aside = None
        self._assign_statistics()

    @contextlib.contextmanager
    def training_weights(self) -> Iterator[None]:
        """Within, the model has the weights that training goes on with."""
        was_in = self._set_aside is not None
        self._take_out()
        try:
            yield
        finally:
            if was_in:
                self._put_in()

    def _put_in(self) -> None:
        if self._set_aside is not None or self._averages is None:
            return
        self._set_aside = self.model.get_weights()
        # What Keras itself calls when training ends.
        self._optimizer().finalize_variable_values(self.model.trainable_variables)
        self._assign_statistics()

    def _take_out(self) -> None:
        if self._set_aside is not None:
            weights, self._set_aside = self._set_aside, None
            self.model.set_weights(weights)

    def _assign_statistics(self) -> None:
        if self._averages is not None:
            pairs = zip(self._statistics(), self._averages, strict=True)
            for statistic, average in pairs:
                statistic.assign(average)

    def _updates_made(self, batch: int) -> int:
        """How many updates; where the model does not count, those of this epoch."""
        place = getattr(self.model, "_position", None)
        return batch + 1 if place is None else place.update

    def _statistics(self) -> list[Any]:
        """The model's numbers that training moves without a gradient."""
        return [
            v
            for v in self.model.non_trainable_variables
            if keras.backend.is_float_dtype(keras.backend.standardize_dtype(v.dtype))
        ]

    def _optimizer(self) -> Any:
        """The optimizer, without the one that scales the loss around it."""
        optimizer = self.model.optimizer
        return getattr(optimizer, "inner_optimizer", optimizer)
