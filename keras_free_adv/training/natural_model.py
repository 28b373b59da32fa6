"""Natural training, the control of a comparison."""

from typing import Any

import keras

from keras_free_adv import pixel_scale, validation
from keras_free_adv.distribution import padded_batch
from keras_free_adv.training.weight_updates import WeightUpdates


@keras.saving.register_keras_serializable("keras_free_adv")
class NaturalModel(WeightUpdates):
    """Trains a Keras classifier on images as they are: one pass an update.

    It learns what `model.fit` alone would teach it. But it is given its minibatches as
    the adversarial models are: in the same order for the same seed, augmented in the
    same place, and after an interruption from where it stopped. So what differs in a
    comparison is the method.

    Args:
        model: the classifier, any `keras.Model` that trains with plain `fit`.
        value_range: lowest and highest pixel value; None for the model's own, see
            `keras_free_adv.pixel_scale`.
        perturbed_input: name of the input with the images, when the model takes a
            dict of inputs.
        **kwargs: of `keras.Model`.

    Raises:
        TypeError, ValueError: an argument is out of its range, or `model` cannot be
            trained through a wrapper.

    Example:
    >>> network = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(),
    ...                             keras.layers.Dense(10, activation="softmax")])
    >>> model = NaturalModel(network)
    >>> model.compile("sgd", "sparse_categorical_crossentropy")
    >>> images, labels = np.random.rand(64, 8, 8, 1), np.random.randint(0, 10, 64)
    >>> history = model.fit(images, labels, epochs=1, verbose=0)
    """

    def __init__(
        self,
        model: keras.Model,
        *,
        value_range: tuple[float, float] | None = None,
        perturbed_input: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(model, replays=1, perturbed_input=perturbed_input, **kwargs)
        if value_range is None:
            value_range = pixel_scale.resolve(None, model, perturbed_input)
        self.value_range = validation.pixel_range(value_range)

    def update(self, data: Any) -> dict[str, Any]:
        """One update of the weights at the images."""
        x, _, _ = padded_batch.unpacked(data)
        images = self._images_of(x)

        def loss_at(_: None) -> tuple[Any, Any]:
            y_pred = self._outputs_at(x, images, training=True)
            return self._loss(data, y_pred), y_pred

        loss, y_pred, gradients, _ = self._gradients(loss_at)
        self._update_weights(gradients)
        return self._logs(data, y_pred, loss)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "value_range": self.value_range,
            "perturbed_input": self._input.lasting_name,
        }
