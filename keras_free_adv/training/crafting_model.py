"""What the methods share that craft adversarial images by several ascent steps."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_free_adv import backends, input_mask, random_numbers, validation
from keras_free_adv.geometry import projected_ascent
from keras_free_adv.training.adversarial_model import AdversarialModel


class CraftingModel(AdversarialModel):
    """Base of the models that climb `steps` steps before each update of the weights.

    Args:
        model: the user's classifier.
        epsilon: radius of the ball, on the pixel scale.
        steps: K, the ascent steps for each update.
        step_size: length of a step, on the pixel scale; 2.5 * epsilon / steps if None.
        **arguments: of `AdversarialModel`, but for `replays`: each minibatch is used
            once.
    """

    def __init__(
        self,
        model: keras.Model,
        epsilon: float,
        *,
        steps: int,
        step_size: float | None,
        **arguments: Any,
    ) -> None:
        steps = validation.positive_integer("steps", steps)
        if step_size is None:
            step_size = 2.5 * validation.positive_number("epsilon", epsilon) / steps
        super().__init__(model, epsilon, replays=1, step_size=step_size, **arguments)
        self.steps = steps

    @property
    def passes_of_an_update(self) -> int:
        """K ascent steps, and the update of the weights."""
        return self.steps + 1

    def _climb(self, images: Any, start: Any, loss_at: Callable[[Any], Any]) -> Any:
        """The last iterate of K ascent steps on a loss, `[B, ...]`, as a constant.

        Args:
            images: the clean images, `[B, ...]`.
            start: the first iterate, `[B, ...]`.
            loss_at: maps an iterate to the loss, a scalar.
        """
        visible = self._visible(images)

        def gradient_at(iterate: Any) -> Any:
            # Scaled as in the update: under float16 small gradients would vanish.
            _, gradient = backends.value_and_gradient(
                lambda point: (self.optimizer.scale_loss(loss_at(point)),), iterate
            )
            gradient = self._require_gradient(gradient)
            return input_mask.zero_where_masked(gradient, visible)

        last = projected_ascent(
            gradient_at,
            images,
            start,
            steps=self.steps,
            step_size=self._step_size(),
            ball=self._ball(),
        )
        return ops.stop_gradient(last)

    def _update_key(self) -> Any:
        """One random key for this update and replica, from the model's seed.

        By its number in the stream: after another `compile` or within accumulated
        gradients no start comes twice.
        """
        number = self._position.number.read()
        return random_numbers.key(
            self._position.seed, number, backends.replica_number()
        )

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "steps": self.steps}
