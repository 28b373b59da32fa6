"""What every adversarially trained model shares: the ball, and what is visible."""

from typing import Any

import keras
from keras import ops

from keras_free_adv import (
    geometry,
    input_mask,
    pixel_scale,
    renamed_arguments,
    validation,
)
from keras_free_adv.geometry import Ball
from keras_free_adv.training.weight_updates import WeightUpdates


class AdversarialModel(WeightUpdates):
    """Base of the models that train on perturbed images.

    A subclass says in `update` what one update is, and finds here the ball, and in
    `WeightUpdates` the loss, one step of the optimizer and the logs.

    Args:
        model: the user's classifier.
        epsilon: radius of the perturbation ball, on the pixel scale.
        replays: how often each minibatch is used in a row (m in the paper).
        step_size: length of an ascent step, on the pixel scale.
        norm: "linf" or "l2".
        value_range: lowest and highest pixel value; None for what the model shows.
        perturbed_input: the input to perturb, when the model takes a dict of inputs.
        epsilon_warmup_steps: updates over which the ball grows to its size; 0 for none.
        **kwargs: of `keras.Model`.

    Example:
    >>> network = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(),
    ...                             keras.layers.Dense(10, activation="softmax")])
    >>> model = TRADESModel(network, epsilon=0.1)
    >>> isinstance(model, AdversarialModel), model.model is network, model.epsilon
    (True, True, 0.1)
    """

    def __init__(
        self,
        model: keras.Model,
        epsilon: float,
        *,
        replays: int,
        step_size: float,
        norm: str,
        value_range: tuple[float, float] | None,
        perturbed_input: str | None,
        epsilon_warmup_steps: int,
        **kwargs: Any,
    ) -> None:
        renamed_arguments.refuse_old_names(kwargs, renamed_arguments.TRAINING)
        geometry.get_norm(norm)
        if value_range is not None:
            value_range = validation.pixel_range(value_range)
        epsilon = validation.ball_radius(epsilon, value_range, norm)
        step_size = validation.positive_number("step_size", step_size)
        replays = validation.positive_integer(
            "replays", replays, "m in the paper; 8 is a good choice for CIFAR-10."
        )
        epsilon_warmup_steps = validation.whole_number(
            "epsilon_warmup_steps", epsilon_warmup_steps
        )
        super().__init__(
            model, replays=replays, perturbed_input=perturbed_input, **kwargs
        )
        # Whether the model agrees is asked in `fit`: a file of one that did not, and
        # was trained so all the same, can be loaded.
        self.value_range = value_range or pixel_scale.resolve(
            None, model, perturbed_input
        )
        self.epsilon = validation.ball_radius(epsilon, self.value_range, norm)
        self.step_size = step_size
        self.norm = norm
        self.epsilon_warmup_steps = epsilon_warmup_steps

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "epsilon": self.epsilon,
            "step_size": self.step_size,
            "norm": self.norm,
            "value_range": self.value_range,
            "perturbed_input": self._input.lasting_name,
            "epsilon_warmup_steps": self.epsilon_warmup_steps,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Any:
        """Makes the model from `get_config()`, of the first release too."""
        config = renamed_arguments.with_new_names(config, renamed_arguments.TRAINING)
        return super().from_config(config, custom_objects)

    def _visible(self, images: Any) -> Any:
        """Which pixels of the clean images the model does not mask; None for all."""
        return input_mask.visible_pixels(self.model, images, self._input.number)

    def _ball(self) -> Ball:
        """What a perturbed image may be at this update."""
        epsilon = self.epsilon * self._warmup_share()
        return Ball(epsilon, self.norm, self.value_range)

    def _step_size(self) -> Any:
        """The length of an ascent step at this update."""
        return self.step_size * self._warmup_share()

    def _warmup_share(self) -> Any:
        """The share of epsilon, and of the step, that this update has.

        Update number u of a warm-up over w has u / w of them.
        """
        if not self.epsilon_warmup_steps:
            return 1.0
        number = ops.cast(self._position.number.read(), self._pixel_dtype) + 1.0
        return ops.minimum(number / self.epsilon_warmup_steps, 1.0)

    def _require_gradient(self, gradient: Any) -> Any:
        """Returns the gradient of the images, or raises if there is none."""
        if gradient is None:
            raise ValueError(
                "Argument `model` must depend on its input differentiably. Received: "
                f"{self.model.name!r}, whose loss has no gradient with respect to its "
                "input (None). Look for casts to integers, argmax, rounding, or "
                "keras.ops.stop_gradient between the input and the output."
            )
        return gradient
