"""K-PGD adversarial training, the baseline Free training is compared with."""

from typing import Any

import keras

from keras_free_adv import input_mask, keras_internals, validation
from keras_free_adv.distribution import padded_batch
from keras_free_adv.training.crafting_model import CraftingModel


@keras.saving.register_keras_serializable("keras_free_adv")
class PGDAdversarialModel(CraftingModel):
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
        value_range: tuple[float, float] | None = None,
        perturbed_input: str | None = None,
        epsilon_warmup_steps: int = 0,
        **kwargs: Any,
    ) -> None:
        random_start = validation.boolean("random_start", random_start)
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
        self.random_start = random_start

    def update(self, data: Any) -> dict[str, Any]:
        """K ascent steps on the images, then one update of the weights."""
        x, y, sample_weight = padded_batch.unpacked(data)
        images = self._images_of(x)

        def crafting_loss_at(iterate: Any) -> Any:
            y_pred = self._outputs_at(x, iterate, training=False)
            with keras_internals.without_losses_of_outputs(self):
                return self.compute_loss(x, y, y_pred, sample_weight, training=False)

        perturbed = self._climb(images, self._start(images), crafting_loss_at)

        def loss_at(_: None) -> tuple[Any, Any]:
            y_pred = self._outputs_at(x, perturbed, training=True)
            return self._loss(data, y_pred), y_pred

        loss, y_pred, gradients, _ = self._gradients(loss_at)
        self._update_weights(gradients)
        return self._logs(data, y_pred, loss)

    def _start(self, images: Any) -> Any:
        """Where the ascent begins: at the images, or at random in the ball."""
        if not self.random_start:
            return images
        start = self._ball().random_start(self._update_key(), images)
        return input_mask.keep_masked(start, images, self._visible(images))

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "random_start": self.random_start}
