"""TRADES: natural accuracy traded against the stability of the prediction."""

from typing import Any

import keras
import numpy as np
from keras import ops, tree

from keras_free_adv import backends, input_mask, random_numbers, validation
from keras_free_adv.compiled_loss import CompiledLoss, compiled_loss
from keras_free_adv.distribution import padded_batch
from keras_free_adv.predictions import AUTO, Predictions, predictions_of
from keras_free_adv.training.crafting_model import CraftingModel

# The first iterate is this far from the image, as a share of the pixel range; at the
# image itself the divergence is at its minimum and has no gradient.
_START = 1e-3


@keras.saving.register_keras_serializable("keras_free_adv")
class TRADESModel(CraftingModel):
    """Trains a Keras classifier on a trade-off of accuracy and robustness.

        x_adv = x + 0.001 * normal
        K times: x_adv <- clip(x_adv + step_size * sign(grad_x KL(f(x), f(x_adv))),
                               x +- epsilon)
        one update of the weights on loss(f(x), y) + beta * mean KL(f(x), f(x_adv))

    KL is the divergence of the predicted probabilities: of a softmax, that of one
    distribution over the classes; of several sigmoids, the sum of one for each.
    Examples are crafted with the model in inference mode; the update is made in
    training mode. The metrics are of the clean images.

    Reference: Zhang et al., "Theoretically Principled Trade-off between Robustness and
    Accuracy", ICML 2019, Algorithm 1.

    Args:
        model: the classifier, with one output `[B, classes]`: logits, or probabilities
            by a final softmax or sigmoid. The compiled loss says whether logits are of
            one class or of several labels.
        epsilon: radius of the ball, on the pixel scale.
        steps: K, the ascent steps for each update.
        step_size: length of a step, on the pixel scale; 2.5 * epsilon / steps by
            default.
        beta: weight of the divergence, 1 / lambda in the paper: the larger, the more
            robust and the less accurate.
        norm: "linf", or "l2" (of each example).
        value_range: lowest and highest pixel value; None for the model's own, see
            `keras_free_adv.pixel_scale`.
        perturbed_input: name of the input to perturb, when the model takes a dict of
            inputs.
        epsilon_warmup_steps: updates over which epsilon, and the steps with it, grow
            linearly to their size; 0 for none.
        **kwargs: of `keras.Model`.

    Raises:
        TypeError, ValueError: an argument is out of its range, or `model` cannot be
            trained through a wrapper.

    Example:
    >>> network = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(),
    ...                             keras.layers.Dense(10, activation="softmax")])
    >>> model = TRADESModel(network, epsilon=0.1, steps=2)
    >>> model.compile("sgd", "sparse_categorical_crossentropy")
    >>> images, labels = np.random.rand(64, 8, 8, 1), np.random.randint(0, 10, 64)
    >>> history = model.fit(images, labels, epochs=1, verbose=0)
    """

    def __init__(
        self,
        model: keras.Model,
        epsilon: float,
        *,
        steps: int = 10,
        step_size: float | None = None,
        beta: float = 6.0,
        norm: str = "linf",
        value_range: tuple[float, float] | None = None,
        perturbed_input: str | None = None,
        epsilon_warmup_steps: int = 0,
        **kwargs: Any,
    ) -> None:
        beta = validation.positive_number("beta", beta)
        super().__init__(
            model,
            epsilon,
            steps=steps,
            step_size=step_size,
            norm=norm,
            value_range=value_range,
            perturbed_input=perturbed_input,
            epsilon_warmup_steps=epsilon_warmup_steps,
            **kwargs,
        )
        self.beta = beta
        self._predictions: Predictions | None = None
        self._decided_with: CompiledLoss | None = None

    def update(self, data: Any) -> dict[str, Any]:
        """K ascent steps on the divergence, then one update of the weights."""
        x, _, sample_weight = padded_batch.unpacked(data)
        images = self._images_of(x)
        clean, _ = self._logits_at(x, images, training=False)
        clean = ops.stop_gradient(clean)

        def divergence_at(iterate: Any) -> Any:
            logits, _ = self._logits_at(x, iterate, training=False)
            return ops.mean(self._divergence(clean, logits))

        perturbed = self._climb(images, self._start(images), divergence_at)

        def loss_at(_: None) -> tuple[Any, Any]:
            logits, y_pred = self._logits_at(x, images, training=True)
            loss = self._loss(data, y_pred)
            perturbed_logits, _ = self._logits_at(x, perturbed, training=True)
            divergence = self._divergence(logits, perturbed_logits)
            mean = self._mean_for_replica(divergence, sample_weight, data)
            return loss + self.beta * mean, y_pred

        loss, y_pred, gradients, _ = self._gradients(loss_at)
        self._update_weights(gradients)
        return self._logs(data, y_pred, loss)

    def _start(self, images: Any) -> Any:
        """Where the ascent begins: a little beside the images."""
        low, high = self.value_range
        noise = random_numbers.normal(
            self._update_key(), ops.shape(images), images.dtype
        )
        noise = input_mask.zero_where_masked(noise, self._visible(images))
        start = images + _START * (high - low) * noise
        return self._ball().keep_inside(start, images)

    def _logits_at(self, x: Any, images: Any, *, training: bool) -> tuple[Any, Any]:
        """Logits `[B, classes]` in float32, and the model's outputs."""
        if self._predictions is None:
            raise RuntimeError("TRADESModel trains in `fit` and `train_on_batch` only.")
        outputs = backends.look_through(
            self, lambda: self._outputs_at(x, images, training=training)
        )
        return self._predictions(outputs), outputs.values

    def _divergence(self, logits: Any, other: Any) -> Any:
        """KL of each example's predictions, `[B]`."""
        return self._predictions.divergence(logits, other)  # type: ignore[union-attr]

    def _mean_for_replica(self, values: Any, sample_weight: Any, data: Any) -> Any:
        """The mean as Keras' losses take it; under a strategy, this replica's part."""
        if sample_weight is not None:
            (weights,) = tree.flatten(sample_weight)
            values = values * ops.reshape(ops.cast(weights, values.dtype), (-1,))
        share = padded_batch.proportion(data, summed=False) / self._replicas
        return share * ops.mean(values)

    def _prepare(self, sample: tuple[Any, ...], rows: int) -> None:
        super()._prepare(sample, rows)
        loss = compiled_loss(self)
        if self._predictions is not None and self._decided_with == loss:
            return
        few = tree.map_structure(lambda a: np.asarray(a[:8]), sample[0])
        self._decided_with = loss
        self._predictions = predictions_of(
            self,
            ops.convert_to_numpy(self._images_of(few)),
            from_logits=AUTO if loss.from_logits is None else loss.from_logits,
            call=lambda model, images: model(
                self._with_images(few, images), training=False
            ),
            loss=loss,
        )

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "beta": self.beta}
