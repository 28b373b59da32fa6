"""An attack on one model, compiled."""

import functools
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf
from keras import ops

from keras_free_adv import image_axes, input_mask, random_numbers
from keras_free_adv.attacks.half_precision import gradient_scale
from keras_free_adv.attacks.outcome import Outcome
from keras_free_adv.attacks.runs import ActiveRuns, advance, begin_runs
from keras_free_adv.attacks.target import Target
from keras_free_adv.logits import call_in_inference_mode
from keras_free_adv.predictions import Predictions

if TYPE_CHECKING:
    from keras_free_adv.attacks.attack import Attack


class CompiledAttack:
    """The graphs of an attack on a model: one each, for any number of examples.

    Args:
        attack: the attack.
        model: the model, of which it keeps a weak reference only.
        view: what the model predicts.
        images: anything of the images' shape, `[B, ...]`.
        labels: anything of the labels' shape and dtype.
        without_gradient: see `Target`.
    """

    def __init__(
        self,
        attack: "Attack",
        model: keras.Model,
        view: Predictions,
        images: Any,
        labels: Any,
        without_gradient: str = "refuse",
    ) -> None:
        self.view = view
        self._attack = attack
        self._model_of: Callable[[], Any] = weakref.ref(model)
        self._without_gradient = without_gradient
        self._scale = gradient_scale(model)
        self._value_range = attack.value_range_for(model)
        self._data_format = image_axes.resolve(attack.data_format, model)
        numbers = tf.TensorSpec((None,), tf.int32)
        given = (
            tf.TensorSpec((None,) + tuple(images.shape[1:]), tf.float32),
            tf.TensorSpec((None,) + tuple(labels.shape[1:]), labels.dtype),
        )
        self.clean = _graph(self._clean, *given)
        self.run = _graph(self._run, *given, numbers, numbers)
        self.begin = _graph(self._begin, *given, numbers, numbers)
        self._given = given

    @property
    def advance(self) -> Callable[..., Any]:
        """`_advance` as a graph; its signature is what `begin` returns."""
        if not hasattr(self, "_going_on"):
            slots = tf.nest.map_structure(
                lambda tensor: tf.TensorSpec((None,) + tensor.shape[1:], tensor.dtype),
                self.begin.get_concrete_function().structured_outputs,
            )
            stop_after = tf.TensorSpec((), tf.int32)
            self._going_on = _graph(self._advance, *self._given, slots, stop_after)
        return self._going_on

    def _clean(self, images: Any, labels: Any) -> tuple[Outcome, Any]:
        """No attack: the candidate every attack must beat, and the logits."""
        target = self._target(images, labels)
        outputs = target.outputs(images)
        logits = target.view(outputs)
        fooled, loss = self._attack.judge(target, outputs, logits)
        return Outcome(images, fooled, loss), logits

    def _run(self, images: Any, labels: Any, ids: Any, runs: Any) -> Outcome:
        """One run from its beginning to its end."""
        slots = self._begin(images, labels, ids, runs)
        everything = ops.shape(images)[0]
        slots, _ = advance(
            self._attack,
            self._target(images, labels),
            images,
            slots,
            stop_after=everything,
            until_fooled=self._attack.stops_when_fooled,
        )
        return slots.best

    def _begin(self, images: Any, labels: Any, ids: Any, runs: Any) -> ActiveRuns:
        """ActiveRuns at the beginning of their runs."""
        keys = random_numbers.keys_of_examples(self._attack.seed_in_use, ids, runs)
        target = self._target(images, labels)
        return begin_runs(self._attack, target, images, keys, runs, self._labels)

    def _advance(
        self, images: Any, labels: Any, slots: ActiveRuns, stop_after: Any
    ) -> tuple[ActiveRuns, Any]:
        """Steps until `stop_after` examples are fooled or at the end of their runs."""
        return advance(
            self._attack,
            self._target(images, labels),
            images,
            slots,
            stop_after=stop_after,
            until_fooled=True,
        )

    @property
    def _labels(self) -> int | None:
        """How many labels an outcome tells apart; a target is reached as a whole."""
        apart = self.view.several_labels and not self._attack.targeted
        return self.view.classes if apart else None

    def _target(self, images: Any, labels: Any) -> Target:
        # Decided on the clean images: padding that is perturbed is no longer masked.
        visible = input_mask.visible_pixels(self._model_of(), images)

        def keep_masked(points: Any) -> Any:
            return input_mask.keep_masked(points, images, visible)

        return Target(
            outputs=lambda points: call_in_inference_mode(
                self._model_of(), keep_masked(points)
            ),
            view=self.view,
            labels=self.view.encoded(labels),
            given_labels=labels,
            gradient_scale=self._scale,
            value_range=self._value_range,
            data_format=self._data_format,
            without_gradient=self._without_gradient,
            keep_masked=keep_masked,
        )


def _graph(function: Callable, *signature: Any) -> Any:
    # A partial is a function of its own to TensorFlow, which otherwise takes the
    # graphs of several attacks for one that is traced again and again.
    return tf.function(
        functools.partial(function), input_signature=signature, autograph=False
    )
