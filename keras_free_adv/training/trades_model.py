"""TRADES: natural accuracy traded against the stability of the prediction."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops, tree

from keras_free_adv import geometry, losses, random_numbers, validation
from keras_free_adv.data import shares
from keras_free_adv.logits import LogitView, logit_view
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

    KL is the divergence of the predicted probabilities. Examples are crafted with the
    model in inference mode; the update is made in training mode. The metrics are of
    the clean images.

    Reference: Zhang et al., "Theoretically Principled Trade-off between Robustness and
    Accuracy", ICML 2019, Algorithm 1.

    Args:
        model: the classifier, with one output `[B, classes]`: logits, or probabilities
            by a final softmax.
        epsilon: radius of the ball, on the pixel scale.
        steps: K, the ascent steps for each update.
        step_size: length of a step, on the pixel scale; 2.5 * epsilon / steps by
            default.
        beta: weight of the divergence, 1 / lambda in the paper: the larger, the more
            robust and the less accurate.
        norm: "linf", or "l2" (of each example).
        value_range: lowest and highest pixel value; None for the model's own, see
            `keras_free_adv.pixel_scale`.
        perturb: name of the input to perturb, when the model takes a dict of inputs.
        epsilon_warmup: updates over which epsilon, and the steps with it, grow in a
            line to their size; 0 for none.
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
        perturb: str | None = None,
        epsilon_warmup: int = 0,
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
            perturb=perturb,
            epsilon_warmup=epsilon_warmup,
            **kwargs,
        )
        self.beta = beta
        self._view: LogitView | None = None
        self._view_says: bool | None = None  # what the compiled loss said of it

    def train_step(self, data: Any) -> dict[str, Any]:
        """K ascent steps on the divergence, then one update of the weights."""
        x, y, sample_weight = shares.unpacked(data)
        images = self._images_of(x)
        clean_logits = tf.stop_gradient(self._logits(self(x, training=False)))

        def divergence_at(iterate: Any) -> Any:
            y_pred = self(self._with_images(x, iterate), training=False)
            return ops.mean(losses.divergence(clean_logits, self._logits(y_pred)))

        perturbed = self._climb(images, self._start(images), divergence_at)

        with tf.GradientTape() as tape:
            y_pred = self(self._with_images(x, images), training=True)
            loss = self.compute_loss(x, y, y_pred, sample_weight, training=True)
            loss = self._in_proportion(loss, data)
            perturbed_pred = self(self._with_images(x, perturbed), training=True)
            divergence = losses.divergence(
                self._logits(y_pred), self._logits(perturbed_pred)
            )
            loss += self.beta * self._share_of_mean(divergence, sample_weight, data)
            scaled_loss = self.optimizer.scale_loss(loss)
        weights = self.trainable_weights
        gradients = tape.gradient(scaled_loss, weights)
        self._update_weights(gradients, weights)

        return self._logs(data, y_pred, loss)

    def _start(self, images: Any) -> Any:
        """Where the ascent begins: a little beside the images."""
        low, high = self.value_range
        noise = random_numbers.normal(
            self._keys_of_update(), ops.shape(images), images.dtype
        )
        return geometry.keep_inside(
            images + _START * (high - low) * noise,
            images,
            epsilon=self._ball()["epsilon"],
            norm=self.norm,
            value_range=self.value_range,
        )

    def _logits(self, y_pred: Any) -> Any:
        """Logits `[B, classes]` in float32."""
        if self._view is None:
            raise RuntimeError("TRADESModel trains in `fit` and `train_on_batch` only.")
        return self._view(y_pred)

    def _share_of_mean(self, values: Any, sample_weight: Any, data: Any) -> Any:
        """The mean as Keras' losses take it; under a strategy, this replica's share."""
        if sample_weight is not None:
            (weights,) = tree.flatten(sample_weight)
            values = values * ops.reshape(ops.cast(weights, values.dtype), (-1,))
        share = shares.proportion(data, summed=False) / self._replicas
        return share * ops.mean(values)

    def _prepare(self, sample: tuple[Any, ...], rows: int) -> None:
        super()._prepare(sample, rows)
        said = getattr(self.loss, "from_logits", None)
        if isinstance(self.loss, str):
            said = False  # as Keras takes a loss given by its name
        if self._view is not None and self._view_says == said:
            return
        few = tree.map_structure(lambda a: np.asarray(a[:8]), sample[0])
        self._view_says = said
        self._view = logit_view(
            self,
            "auto" if said is None else bool(said),
            np.asarray(self._images_of(few)),
            call=lambda model, images: model(
                self._with_images(few, images), training=False
            ),
        )

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "beta": self.beta}
