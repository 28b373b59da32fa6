"""An attack on one model, compiled."""

import dataclasses
import weakref
from collections.abc import Callable
from typing import Any, Protocol

import keras
from keras import ops

from keras_free_adv import backends, image_axes, input_mask, random_numbers
from keras_free_adv.attacks.half_precision import FLOAT32, computing_in, inner_layers
from keras_free_adv.attacks.loss_scale import loss_scale
from keras_free_adv.attacks.outcome import Outcome
from keras_free_adv.attacks.overflow import Overflow
from keras_free_adv.attacks.runs import ActiveRuns, Steps, advance, begin_runs
from keras_free_adv.attacks.target import Target
from keras_free_adv.backends.final_operation import ModelOutputs
from keras_free_adv.geometry import Ball
from keras_free_adv.logits import outputs_in_inference_mode
from keras_free_adv.predictions import Predictions


class Settings(Steps, Protocol):
    """What is compiled of an attack; see `keras_free_adv.attacks.attack.Attack`."""

    data_format: str | None
    norm: str
    epsilon: float
    seed_in_use: int
    stops_when_fooled: bool
    targeted: bool

    def judge(self, target: Target, outputs: Any, logits: Any) -> tuple[Any, Any]:
        """Whether each example is fooled, and the loss, `[B]`."""

    def value_range_for(self, model: keras.Model) -> tuple[float, float]:
        """The pixel range of an attack on `model`."""


class CompiledAttack:
    """The compiled functions of an attack on a model, for any number of examples.

    Args:
        attack: the attack.
        model: the model, of which it keeps a weak reference only.
        view: what the model predicts.
        without_gradient: see `Target`.
        search_dtype: what the model's inner layers compute in while the attack
            searches: "float32" leaves them as they are.
    """

    def __init__(
        self,
        attack: Settings,
        model: keras.Model,
        view: Predictions,
        without_gradient: str = "refuse",
        search_dtype: str = FLOAT32,
    ) -> None:
        self.view = view
        self._attack = attack
        self._model_of: Callable[[], Any] = weakref.ref(model)
        self._without_gradient = without_gradient
        self._scale = loss_scale(model, search_dtype)
        self._search_dtype = search_dtype
        if search_dtype != FLOAT32:
            inner_layers(model)  # raises
        self._ball = Ball(attack.epsilon, attack.norm, attack.value_range_for(model))
        self._data_format = image_axes.resolve(attack.data_format, model)
        self.clean = backends.compiled(self._clean, self._model_of)
        self.run = backends.compiled(self._run, self._model_of)
        self.begin = backends.compiled(self._begin, self._model_of)
        self.advance = backends.compiled(self._advance, self._model_of)
        self.difference = backends.compiled(self._difference, self._model_of)
        self.shown = backends.compiled(self._shown, self._model_of)

    def _clean(self, images: Any, labels: Any) -> tuple[Outcome, Any]:
        """No attack: the candidate every attack must beat, and the logits."""
        target = self._target(images, labels)
        outputs = target.outputs(images)
        logits = target.view(outputs)
        fooled, loss = self._attack.judge(target, outputs.values, logits)
        return Outcome(images, fooled, loss), logits

    def _run(self, images: Any, labels: Any, ids: Any, runs: Any) -> Outcome:
        """One run from its beginning to its end."""
        active = self._begin(images, labels, ids, runs)
        everything = ops.shape(images)[0]
        active, _ = advance(
            self._attack,
            self._target(images, labels),
            images,
            active,
            stop_after=everything,
            until_fooled=self._attack.stops_when_fooled,
        )
        return active.best

    def _begin(self, images: Any, labels: Any, ids: Any, runs: Any) -> ActiveRuns:
        """Examples at the beginning of their runs."""
        keys = random_numbers.keys_of_examples(self._attack.seed_in_use, ids, runs)
        target = self._search(images, labels)
        return begin_runs(self._attack, target, images, keys, runs, self._label_count)

    def _advance(
        self, images: Any, labels: Any, hurdle: Any, active: ActiveRuns, stop_after: Any
    ) -> tuple[ActiveRuns, Any]:
        """Steps until `stop_after` examples are fooled or at the end of their runs."""
        return advance(
            self._attack,
            self._search(images, labels, hurdle),
            images,
            active,
            stop_after=stop_after,
            until_fooled=True,
        )

    def _difference(self, images: Any, labels: Any, ids: Any) -> Any:
        """How far the margins of the search are from the model's, `[B]`.

        At a random point around each image, where half precision rounds as at others.
        """
        keys = random_numbers.keys_of_examples(
            self._attack.seed_in_use, ids, ops.zeros_like(ids)
        )
        points = self._target(images, labels).random_start(keys, images)
        return self._shown(points, labels)[1]

    def _shown(self, points: Any, labels: Any) -> tuple[Any, Any]:
        """What the model itself says of points, and how far the search's margins are.

        Returns:
            Whether each is misclassified, and the difference, `[B]`.
        """
        target, search = self._target(points, labels), self._search(points, labels)
        logits = target.logits(points)
        margin, of_the_search = (
            target.losses.margin(target.labels, found)
            for found in (logits, search.logits(points))
        )
        return target.errs(logits), ops.abs(margin - of_the_search)

    @property
    def _label_count(self) -> int | None:
        """How many labels an outcome tells apart; a target is reached as a whole."""
        apart = self.view.several_labels and not self._attack.targeted
        return self.view.classes if apart else None

    def _search(self, images: Any, labels: Any, hurdle: Any = None) -> Target:
        """The target of the search; see `Target.hurdle`."""
        target = self._target(images, labels)
        if self._search_dtype == FLOAT32:
            return target

        def outputs(points: Any) -> ModelOutputs:
            layers = inner_layers(self._model_of())
            with computing_in(layers, self._search_dtype):
                try:
                    return target.outputs(points)
                except Exception as error:  # of Keras, its backend or a user's layer
                    failed = error
            target.outputs(points)  # what fails in float32 too is another mistake
            raise ValueError(
                "Argument `search_dtype` must be 'float32' for this model: one of its "
                f"layers cannot compute in {self._search_dtype}. It may combine its "
                f"inputs with float32 constants. Received: {self._search_dtype!r}; "
                f"{failed}"
            ) from failed

        return dataclasses.replace(
            target,
            outputs=outputs,
            hurdle=hurdle,
            of_the_model=self._target,
            overflow=Overflow(),
        )

    def _target(self, images: Any, labels: Any) -> Target:
        # Decided on the clean images: padding that is perturbed is no longer masked.
        visible = input_mask.visible_pixels(self._model_of(), images)

        def keep_masked(points: Any) -> Any:
            return input_mask.keep_masked(points, images, visible)

        return Target(
            outputs=lambda points: outputs_in_inference_mode(
                self._model_of(), keep_masked(points)
            ),
            view=self.view,
            labels=self.view.encoded(labels),
            given_labels=labels,
            loss_scale=self._scale,
            ball=self._ball,
            data_format=self._data_format,
            without_gradient=self._without_gradient,
            keep_masked=keep_masked,
        )
