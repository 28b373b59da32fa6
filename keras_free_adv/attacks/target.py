"""The model under attack, as an attack's graph sees it."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from keras import ops

from keras_free_adv import backends
from keras_free_adv.attacks.overflow import Overflow
from keras_free_adv.backends.final_operation import ModelOutputs
from keras_free_adv.geometry import Ball
from keras_free_adv.predictions import Predictions


@dataclass(frozen=True)
class Target:
    """The model under attack, and the labels of B examples.

    Attributes:
        outputs: maps images `[B, ...]` to the model's outputs, in inference mode.
        view: maps the outputs to logits `[B, C]`, float32.
        labels: the class of each example, `[B]`, int32; of a model that predicts
            several labels, which are there, `[B, L]`.
        given_labels: the labels as the user gave them.
        loss_scale: what to multiply a loss with before taking its gradient, so
            that small ones do not vanish in a float16 model.
        ball: what the adversarial images may be.
        data_format: "channels_last" or "channels_first".
        without_gradient: "refuse" a model whose outputs do not depend on its images
            differentiably, or go on with a gradient of "zero".
        keep_masked: maps points `[B, ...]` to the same points, with what the model
            masks as it is in the clean images.
        hurdle: of a search in half precision, what the margin of each example has to
            exceed before its point is shown to the model itself, `[B]`; else None.
        of_the_model: of such a search, makes of clean images and labels as given the
            target that computes as the model itself; else None.
        overflow: of such a search, notes what is not finite; else None.
    """

    outputs: Callable[[Any], ModelOutputs]
    view: Predictions
    labels: Any
    given_labels: Any
    loss_scale: float
    ball: Ball
    data_format: str
    without_gradient: str
    keep_masked: Callable[[Any], Any] = lambda points: points
    hurdle: Any = None
    of_the_model: Callable[[Any, Any], "Target"] | None = None
    overflow: Overflow | None = None

    def logits(self, images: Any) -> Any:
        """The model's logits, `[B, C]`."""
        logits = self.view(self.outputs(images))
        self._note(logits)
        return logits

    def _note(self, values: Any) -> None:
        if self.overflow is not None:
            self.overflow.note(values)

    def _differentiating(self) -> contextlib.AbstractContextManager[None]:
        """What is noted within could not be taken out of it on JAX."""
        if self.overflow is None:
            return contextlib.nullcontext()
        return self.overflow.paused()

    @property
    def losses(self) -> ModuleType:
        """The losses that belong to what the model predicts."""
        return self.view.losses

    def random_start(self, keys: Any, images: Any) -> Any:
        """A random point of the ball around each clean image, `[B, ...]`."""
        return self.keep_masked(self.ball.random_start(keys, images))

    def errs(self, logits: Any) -> Any:
        """Whether each example is misclassified, `[B]`; each of its labels, `[B, L]`.

        So it is, too, if a logit is NaN. In a search in half precision: whether it may
        be, which the model itself decides (`evaluation/verdicts.py`).
        """
        if self.hurdle is None:
            return self.losses.are_wrong(self.labels, logits)
        return ops.greater(self.losses.margin(self.labels, logits), self.hurdle)

    def in_full_precision(self, images: Any) -> "Target":
        """The target that computes as the model itself; `images` are clean."""
        if self.of_the_model is None:
            return self
        return self.of_the_model(images, self.given_labels)

    def corrected(
        self, where: Any, function: Callable[..., Any], arguments: Any, results: Any
    ) -> Any:
        """Results of a search, taken again in full precision in some rows.

        Args:
            where: which rows, `[B]`, bool.
            function: maps a target and arguments of some rows to their results.
            arguments: any nest of `[B, ...]`, the clean images first.
            results: any nest of `[B, ...]`.

        Returns:
            The results; as they are, unless the search is in half precision.
        """
        if self.of_the_model is None:
            return results
        of_the_model = self.of_the_model

        def of_rows(labels: Any, images: Any, *rest: Any) -> Any:
            return function(of_the_model(images, labels), images, *rest)

        return backends.on_rows(
            where, of_rows, (self.given_labels, *arguments), results
        )

    def is_alternative(self, number: Any) -> Any:
        """Whether class or label `number` can be attacked in each example, `[B]`."""
        if self.view.several_labels:
            return self.each(1, "bool")
        return ops.not_equal(self.labels, number)

    def each(self, number: float, dtype: str = "float32") -> Any:
        """The same number for each example, `[B]`."""
        return ops.full((ops.shape(self.labels)[0],), number, dtype=dtype)

    def likeliest_other(self, images: Any, runs: Any, targets: int) -> Any:
        """The class or label that each example's run aims at, `[B]`.

        One forward pass, in full precision. Run r aims at class number r of the
        `targets` likeliest after the true one; of several labels, at that nearest to
        being wrong.
        """
        count = min(targets, self.view.alternatives)
        logits = self.in_full_precision(images).logits(images)
        ranked = self.losses.likeliest_others(self.labels, logits, count)
        rank = ops.expand_dims(ops.mod(runs, count), -1)
        return ops.squeeze(ops.take_along_axis(ranked, rank, axis=-1), -1)

    def gradient(
        self, objective: Callable[[Any], tuple[Any, ...]], images: Any
    ) -> tuple[tuple[Any, ...], Any]:
        """One forward and one backward pass.

        Args:
            objective: maps images `[B, ...]` to a tuple whose first entry is the
                loss, `[B]`.
            images: `[B, ...]`.

        Returns:
            The objective's tuple, and the gradient of each example's loss, `[B, ...]`.
        """

        def scaled(images: Any) -> tuple[Any, ...]:
            loss, *rest = objective(images)
            return loss * self.loss_scale, loss, *rest

        with self._differentiating():
            (_, *values), gradient = backends.value_and_gradient(scaled, images)
        gradient = self._usable(gradient, images)
        for computed in (values[0], gradient):
            self._note(computed)
        return tuple(values), gradient

    def for_each_class(
        self, images: Any, visit: Callable[[Any, Any, Any, Any], Any], state: Any
    ) -> Any:
        """One forward pass, and one backward pass a class, in a loop of the graph.

        Args:
            images: `[B, ...]`.
            visit: maps (class, lead, gradient, state) to the new state. The lead
                z_s - z_y `[B]` says how far class s is ahead of the true one, the
                gradient `[B, ...]` is the lead's. At the true class both are zero. Of
                several labels, see `label_losses.leads`.
            state: the first state, any nest of tensors.

        Returns:
            The last state.
        """

        def scaled_leads(images: Any) -> tuple[Any, Any]:
            leads = self.losses.leads(self.labels, self.logits(images))
            return leads * self.loss_scale, leads

        with self._differentiating():
            (scaled, leads), back = backends.pullback(scaled_leads, images)
        self._note(leads)
        classes = leads.shape[-1]

        def visit_class(number: Any, state: Any) -> Any:
            only = ops.broadcast_to(
                ops.one_hot(number, classes, dtype="float32"), ops.shape(scaled)
            )
            lead = ops.take(leads, number, axis=-1)
            return visit(number, lead, self._usable(back(only), images), state)

        return ops.fori_loop(0, classes, visit_class, state)

    def _usable(self, gradient: Any, images: Any) -> Any:
        if gradient is not None:
            return gradient / self.loss_scale
        if self.without_gradient == "zero":
            return ops.zeros_like(images)
        raise ValueError(
            "Argument `model` must depend on its input differentiably: its loss has no "
            "gradient with respect to the images (None). A gradient attack says "
            "nothing about such a model; attack it with SquareAttack, which needs "
            "none."
        )
