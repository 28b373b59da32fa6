"""Averaged weights, and averaged batch norm statistics, for evaluation."""

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_free_adv.training.stream_training import StreamTraining


@keras.saving.register_keras_serializable("keras_free_adv")
class AveragedWeights(keras.callbacks.Callback):
    """Evaluates a model, and leaves it, with the moving average of its weights.

    The optimizer averages the trainable weights (`use_ema=True`, `ema_momentum`). Keras
    averages nothing else, so that averaged weights would be used with batch norm
    statistics of the last ones; this callback averages the statistics with the same
    momentum. Averages of adversarially trained weights are often more robust than the
    last weights.

    The averages are in the model while `fit` validates, from the end of an epoch to
    the beginning of the next, and after training. Put it first in the list of
    callbacks: those after it (RobustnessEvaluation, ModelCheckpoint, CollapseGuard)
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
        # Variables, so that training need not wait for copies to the host.
        self._averages: list[keras.Variable] | None = None
        # The weights of training, while the averages are in the model.
        self._training_weights: list[np.ndarray] | None = None
        self._updates_seen = 0

    # BackupAndRestore saves this attribute by its name.
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
                f"{type(optimizer).__name__} with use_ema=False. Pass use_ema=True, "
                "and for example ema_momentum=0.999, to the optimizer."
            )
        if optimizer.ema_overwrite_frequency is not None:
            raise ValueError(
                "AveragedWeights needs weights that are not overwritten by their "
                "averages while they are trained. Received: an optimizer with "
                f"ema_overwrite_frequency={optimizer.ema_overwrite_frequency}. Pass "
                "None."
            )
        self._averages = None
        self._training_weights = None

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Takes the averages out of the model."""
        self._updates_seen = self._updates_made(-1)
        self._restore_training_weights()

    def on_train_batch_end(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Averages the statistics over the updates since the last call."""
        made = self._updates_made(batch)
        updates, self._updates_seen = made - self._updates_seen, made
        if updates == 0:
            return  # skipped: made before the run was interrupted
        statistics = self._statistics()
        if self._averages is None:
            # On PyTorch a variable made from another one would be the same one.
            self.averaged_statistics = list(map(ops.convert_to_numpy, statistics))
            return
        momentum = self._optimizer().ema_momentum ** updates
        for average, value in zip(self._averages, statistics, strict=True):
            average.assign(momentum * average + (1.0 - momentum) * value)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Puts the averages into the model."""
        self._swap_in_averages()

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Puts the averages into the model, for example before `fit` validates."""
        self._swap_in_averages()

    def on_test_end(self, logs: dict[str, Any] | None = None) -> None:
        """Takes the averages out of the model."""
        self._restore_training_weights()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Leaves the averages in the model, as Keras leaves those of the weights."""
        self._training_weights = None
        self._assign_statistics()
        self._make_weights_copies()

    @contextlib.contextmanager
    def training_weights(self) -> Iterator[None]:
        """Takes the averages out of the model for the duration of the block."""
        swapped = self._training_weights is not None
        self._restore_training_weights()
        try:
            yield
        finally:
            if swapped:
                self._swap_in_averages()

    def _swap_in_averages(self) -> None:
        if self._training_weights is not None or self._averages is None:
            return
        self._training_weights = self.model.get_weights()
        # As Keras does when training ends.
        self._optimizer().finalize_variable_values(self.model.trainable_variables)
        self._assign_statistics()
        self._make_weights_copies()

    def _restore_training_weights(self) -> None:
        if self._training_weights is not None:
            weights, self._training_weights = self._training_weights, None
            self.model.set_weights(weights)

    def _assign_statistics(self) -> None:
        if self._averages is not None:
            pairs = zip(self._statistics(), self._averages, strict=True)
            for statistic, average in pairs:
                statistic.assign(average)

    def _make_weights_copies(self) -> None:
        """Gives the model arrays of its own.

        On JAX a variable shares the array that it is assigned, and each step deletes
        the arrays that it is given: the averages would be gone with the weights.
        """
        self.model.set_weights(self.model.get_weights())

    def _updates_made(self, batch: int) -> int:
        """How many updates; of a plain Keras model, those of this epoch."""
        if isinstance(self.model, StreamTraining):
            return self.model.stream_position.update
        return batch + 1

    def _statistics(self) -> list[Any]:
        """The variables that training moves without a gradient."""
        return [
            v
            for v in self.model.non_trainable_weights
            if keras.backend.is_float_dtype(keras.backend.standardize_dtype(v.dtype))
        ]

    def _optimizer(self) -> Any:
        """The optimizer that averages, inside any LossScaleOptimizer."""
        optimizer = self.model.optimizer
        return getattr(optimizer, "inner_optimizer", optimizer)
