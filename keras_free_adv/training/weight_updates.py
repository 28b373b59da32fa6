"""What every update is made of: the loss, one step of the optimizer, the logs."""

from typing import Any

from keras_free_adv import backends, keras_internals
from keras_free_adv.distribution import padded_batch
from keras_free_adv.training.stream_training import StreamTraining
from keras_free_adv.training.training_logs import logs_of_update
from keras_free_adv.user_warnings import warn_user


class WeightUpdates(backends.Trainer, StreamTraining):
    """Base of the models that say themselves, in `update`, what one update is.

    `StreamTraining` gives them the minibatches, and the backend's `Trainer`, which
    comes before it in the order of the methods, the gradients.
    """

    @property
    def passes_of_an_update(self) -> int:
        """How often an example goes forward and backward through the network."""
        return 1

    def update(self, data: Any) -> dict[str, Any]:
        """One update of the weights, in a compiled step of training.

        Args:
            data: (x, y, sample_weight), as a minibatch of Keras; under a strategy a
                replica's `PaddedBatch` of them.

        Returns:
            The logs.
        """
        raise NotImplementedError(f"{type(self).__name__} must define `update`.")

    def _kept_variables(self) -> list[backends.ReplicaVariable]:
        """What training keeps beside the weights."""
        number = self._position.number.variable
        return [] if number is None else [number]

    def _update_weights(self, gradients: list[Any]) -> None:
        """One step of the compiled optimizer; as in Keras, a frozen model stays.

        It advances the number of the update: read what depends on it before.
        """
        self._position.number.advance()
        if self.trainable_weights:
            self._apply(gradients, self.trainable_weights)
        else:
            warn_user("The model does not have any trainable weights.")

    def _loss(self, data: Any, y_pred: Any) -> Any:
        """The compiled loss; the sum over replicas is that of one device."""
        x, y, sample_weight = padded_batch.unpacked(data)
        loss = self.compute_loss(x, y, y_pred, sample_weight, training=True)
        return padded_batch.scaled_for_replicas(loss, data, self.loss)

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """As Keras'; but in training `_logs` logs the losses of single outputs."""
        if not training:
            return super().compute_loss(x, y, y_pred, sample_weight, training=False)
        with keras_internals.without_losses_of_outputs(self):
            return super().compute_loss(x, y, y_pred, sample_weight, training=True)

    def _logs(self, data: Any, y_pred: Any, loss: Any) -> dict[str, Any]:
        """Updates the metrics with a minibatch, and returns their values."""
        return logs_of_update(self, data, y_pred, loss)
