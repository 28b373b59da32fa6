"""K-PGD adversarial training, the baseline Free training is compared with."""

from typing import Any

import keras
import tensorflow as tf
from keras import ops

from keras_free_adv import geometry, random_numbers, validation
from keras_free_adv.attacks.projected_ascent import projected_ascent
from keras_free_adv.attacks.target import input_gradient
from keras_free_adv.training.adversarial_model import AdversarialModel


@keras.saving.register_keras_serializable("keras_free_adv")
class PGDAdversarialModel(AdversarialModel):
    """Trains a Keras classifier on K-step PGD examples: K + 1 passes an update.

        x_adv = x + uniform(-epsilon, epsilon)
        K times: x_adv <- clip(x_adv + step_size * sign(grad_x loss), x +- epsilon)
        one update of the weights at x_adv

    Examples are crafted with the model in inference mode and the compiled loss; the
    update is made in training mode. One step from a random start with
    `step_size=1.25 * epsilon` is the "fast" FGSM training of Wong et al. (2020).

    Reference: Madry et al., "Towards Deep Learning Models Resistant to Adversarial
    Attacks", ICLR 2018; the 7-PGD rows of Shafahi et al. (2019).

    Args:
        model: the classifier, any `keras.Model` that trains with plain `fit`.
        epsilon: radius of the ball, on the pixel scale.
        steps: K, the ascent steps for each update.
        step_size: length of a step, on the pixel scale; 2.5 * epsilon / steps by
            default.
        random_start: whether to start at a random point of the ball.
        norm: "linf", or "l2" (of each example).
        value_range: lowest and highest pixel value.
        perturb: name of the input to perturb, when the model takes a dict of inputs.
        **kwargs: of `keras.Model`.

    Raises:
        TypeError, ValueError: an argument is out of its range, or `model` cannot be
            trained through a wrapper.

    Example:
    >>> network = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(),
    ...                             keras.layers.Dense(10, activation="softmax")])
    >>> model = PGDAdversarialModel(network, epsilon=0.1, steps=2)
    >>> model.compile("sgd", "sparse_categorical_crossentropy")
    >>> images, labels = np.random.rand(64, 8, 8, 1), np.random.randint(0, 10, 64)
    >>> history = model.fit(images, labels, epochs=1, verbose=0)
    """

    def __init__(
        self,
        model: keras.Model,
        epsilon: float,
        *,
        steps: int = 7,
        step_size: float | None = None,
        random_start: bool = True,
        norm: str = "linf",
        value_range: tuple[float, float] = (0.0, 1.0),
        perturb: str | None = None,
        **kwargs: Any,
    ) -> None:
        steps = validation.positive_integer("steps", steps)
        random_start = validation.boolean("random_start", random_start)
        if step_size is None:
            step_size = 2.5 * validation.positive_number("epsilon", epsilon) / steps
        super().__init__(
            model,
            epsilon,
            replays=1,
            step_size=step_size,
            norm=norm,
            value_range=value_range,
            perturb=perturb,
            **kwargs,
        )
        self.steps = steps
        self.random_start = random_start

    def train_step(self, data: Any) -> dict[str, Any]:
        """K ascent steps on the images, then one update of the weights."""
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        images = self._images_of(x)
        perturbed = self._craft(x, images, y, sample_weight)

        with tf.GradientTape() as tape:
            y_pred = self(self._with_images(x, perturbed), training=True)
            loss = self.compute_loss(x, y, y_pred, sample_weight, training=True)
            scaled_loss = self.optimizer.scale_loss(loss)
        weights = self.trainable_weights
        gradients = tape.gradient(scaled_loss, weights)
        self._update_weights(gradients, weights)

        self._update_loss_metric(loss, images)
        return self.compute_metrics(x, y, y_pred, sample_weight=sample_weight)

    def _craft(self, x: Any, images: Any, y: Any, sample_weight: Any) -> Any:
        """The adversarial images of this update, `[B, ...]`."""
        start = images
        if self.random_start:
            noise = geometry.get_norm(self.norm).random_start(
                self._keys_of_update(), images, self.epsilon
            )
            start = ops.clip(images + noise, *self.value_range)

        def loss_at(iterate: Any) -> tuple[Any]:
            y_pred = self(self._with_images(x, iterate), training=False)
            loss = self.compute_loss(x, y, y_pred, sample_weight, training=False)
            # Scaled as in the update: under float16 small gradients would vanish.
            return (self.optimizer.scale_loss(loss),)

        last = projected_ascent(
            lambda iterate: self._require_gradient(input_gradient(loss_at, iterate)[1]),
            images,
            start,
            steps=self.steps,
            step_size=self.step_size,
            epsilon=self.epsilon,
            norm=self.norm,
            value_range=self.value_range,
        )
        return tf.stop_gradient(last)

    def _keys_of_update(self) -> tf.Tensor:
        """One random key for this update and replica, from the model's seed."""
        context = tf.distribute.get_replica_context()
        replica = 0 if context is None else context.replica_id_in_sync_group
        return random_numbers.key(
            random_numbers.RANDOM_START,
            self._place.seed,
            self.optimizer.iterations,
            replica,
        )

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "steps": self.steps,
            "random_start": self.random_start,
        }
