"""What a model predicts: one of C classes, or several labels at once.

Everything that interprets outputs or labels asks this module: attacks, evaluation,
training, pictures, exports. Outputs, compiled loss and labels decide together. Where
they leave doubt, an error names the argument that settles it.
"""

from dataclasses import dataclass
from types import ModuleType
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_free_adv import backends, label_losses, losses, validation
from keras_free_adv.backends.final_operation import (
    SIGMOID,
    SOFTMAX,
    ModelOutputs,
)
from keras_free_adv.compiled_loss import CompiledLoss, compiled_loss
from keras_free_adv.labels import (
    are_one_hot,
    are_rows,
    are_shares,
    check_classes,
    check_label_rows,
    class_numbers,
    label_rows,
)
from keras_free_adv.logits import (
    LOGITS,
    PROBABILITIES,
    SIGMOID_INPUT,
    SOFTMAX_INPUT,
    Call,
    Outputs,
    call_in_inference_mode,
    outputs_of,
)

CLASS = "class"
LABELS = "labels"
AUTO = "auto"

_TINY = 1e-30


@dataclass(frozen=True)
class Predictions:
    """What kind of thing a model predicts, and how its outputs say it; decided once.

    Not the predicted values: it is called with a model's outputs, and returns logits.

    Attributes:
        source: where the logits are: "logits" (the outputs are), "softmax_input" or
            "sigmoid_input" (the input of the final operation), or "probabilities"
            (their logarithm).
        classes: number of classes, or of labels; one sigmoid unit counts as two
            classes.
        one_unit: whether two classes share one output.
        kind: "class" (one of C classes) or "labels" (several labels at once).
        independent: whether the outputs are probabilities (or their logits) that do
            not exclude each other, as several sigmoids are.
        ignored: "Softmax" or "Sigmoid", if the model ends with one, and its outputs
            are taken for logits because the user says so; else None.
    """

    source: str
    classes: int
    one_unit: bool = False
    kind: str = CLASS
    independent: bool = False
    ignored: str | None = None

    @property
    def several_labels(self) -> bool:
        """Whether the model predicts several labels at once."""
        return self.kind == LABELS

    @property
    def losses(self) -> ModuleType:
        """What an attack on these predictions maximizes."""
        return label_losses if self.several_labels else losses

    @property
    def units(self) -> int:
        """How many outputs there are for an example."""
        return 1 if self.one_unit else self.classes

    @property
    def alternatives(self) -> int:
        """In how many ways a prediction can be wrong: other classes, or labels."""
        return self.classes if self.several_labels else self.classes - 1

    def __call__(self, outputs: ModelOutputs) -> Any:
        """Logits `[B, classes]` in float32, from a model's outputs `[B, units]`."""
        if self.source == LOGITS:
            logits = outputs.values
        elif self.source == PROBABILITIES or outputs.before is None:
            # Without a graph, as to debug, TensorFlow shows no final operation.
            logits = self._logits_of_probabilities(outputs.values)
        else:
            logits = outputs.before
        return self._two_of_one(ops.cast(logits, "float32"))

    def probabilities(self, outputs: Any) -> Any:
        """Probabilities `[B, classes]`, float32: the model's own, if it returns such.

        Those of several sigmoids need not have the sum 1.
        """
        if self.source == LOGITS:
            logits = self(ModelOutputs(outputs, None, None))
            return ops.sigmoid(logits) if self.independent else ops.softmax(logits)
        shares = ops.cast(outputs, "float32")
        if self.one_unit:
            return ops.concatenate([1.0 - shares, shares], axis=-1)
        return shares

    def divergence(self, logits: Any, other: Any) -> Any:
        """The Kullback-Leibler divergence of two predictions, `[B]`, from logits."""
        of = label_losses if self.independent else losses
        return of.divergence(logits, other)

    def encoded(self, labels: Any) -> Any:
        """Labels as the losses take them, int32: `[B]`, or `[B, L]` of several."""
        return label_rows(labels) if self.several_labels else class_numbers(labels)

    def check_labels(self, labels: Any, name: str = "labels") -> None:
        """Raises if labels are not of this kind, or not as many as the outputs."""
        check = check_label_rows if self.several_labels else check_classes
        check(validation.as_array(labels), self.classes, name)

    def _two_of_one(self, logits: Any) -> Any:
        if self.one_unit:
            return ops.concatenate([ops.zeros_like(logits), logits], axis=-1)
        return logits

    def _logits_of_probabilities(self, outputs: Any) -> Any:
        shares = ops.cast(outputs, "float32")
        logits = ops.log(ops.maximum(shares, _TINY))
        if self.independent or self.one_unit:
            return logits - ops.log(ops.maximum(1.0 - shares, _TINY))
        return logits


def predictions_of(
    model: keras.Model,
    images: Any,
    labels: Any = None,
    *,
    from_logits: bool | str = AUTO,
    predicts: str = AUTO,
    call: Call = call_in_inference_mode,
    loss: CompiledLoss | None = None,
) -> Predictions:
    """Decides what `model` predicts.

    Args:
        model: a model with one output `[B, units]`.
        images: a few images `[B, ...]`; inside a graph, a tensor without values.
        labels: their labels, if they are known; likewise.
        from_logits: True (the outputs are logits), False (they are probabilities), or
            "auto": a final softmax or sigmoid is recognized; otherwise the outputs
            for `images`, and the compiled loss, decide.
        predicts: "class", "labels", or "auto": outputs, loss and labels decide.
        call: maps the model and images to its outputs.
        loss: what the compiled loss says; None for that of `model`.

    Raises:
        ValueError: the model has several outputs, or they are not `[B, units]`, or
            what they mean is in doubt.
    """
    loss = compiled_loss(model) if loss is None else loss
    outputs = outputs_of(model, images, call)
    decision = _Decision(model.name, outputs, loss)
    if from_logits == AUTO and predicts == AUTO:
        decision.refuse_numbers()
    source = decision.source(from_logits)
    independent = predicts == LABELS or decision.independent(source)
    kind = decision.kind(predicts, source, independent, labels)
    one_unit = outputs.units == 1 and kind == CLASS
    recognized = {SOFTMAX: outputs.units > 1, SIGMOID: True}
    ignored = source == LOGITS and recognized.get(outputs.operation or "", False)
    return Predictions(
        source,
        classes=2 if one_unit else outputs.units,
        one_unit=one_unit,
        kind=kind,
        independent=kind == LABELS or independent,
        ignored=outputs.operation if ignored else None,
    )


def check_from_logits(from_logits: Any) -> bool | str:
    """Returns `from_logits`, or raises if it is none of True, False and "auto"."""
    return validation.one_of("from_logits", from_logits, (True, False, AUTO))


def check_predicts(predicts: Any) -> str:
    """Returns `predicts`, or raises if it is none of "class", "labels" and "auto"."""
    return validation.one_of("predicts", predicts, (AUTO, CLASS, LABELS))


@dataclass(frozen=True)
class _Decision:
    """The evidence: the model's name, its outputs, its compiled loss."""

    name: str
    outputs: Outputs
    loss: CompiledLoss

    def source(self, from_logits: bool | str) -> str:
        """Where the logits are."""
        outputs = self.outputs
        if from_logits is True:
            return LOGITS
        if outputs.operation == SIGMOID:
            return SIGMOID_INPUT
        if outputs.operation == SOFTMAX and outputs.units > 1:
            return SOFTMAX_INPUT
        if from_logits is False:
            return PROBABILITIES
        if outputs.values is None:
            raise ValueError(
                "Argument `from_logits` cannot be 'auto' inside a graph for a model "
                "without a final softmax or sigmoid. Received: "
                f"{self.name!r}. Pass True or False."
            )
        if outputs.units > 1 and outputs.are_shares:
            return PROBABILITIES
        if not outputs.in_unit_range or (outputs.units > 1 and outputs.are_unbounded):
            return LOGITS
        return self._source_said_by_loss()

    def _source_said_by_loss(self) -> str:
        """Numbers between 0 and 1 may be either: ask the loss, or the user."""
        if self.loss.from_logits is None:
            what = "its outputs could be probabilities or logits"
            if self.outputs.units == 1:
                what = "its one output could be a probability or a logit"
            raise ValueError(
                f"Argument `from_logits` cannot be 'auto' for this model: {what}. "
                f"Received: {self.name!r}, with "
                "outputs between 0 and 1, and no softmax or sigmoid at its end. Pass "
                "from_logits=False for probabilities, True for logits."
            )
        return LOGITS if self.loss.from_logits else PROBABILITIES

    def independent(self, source: str) -> bool:
        """Whether several outputs do not exclude each other."""
        outputs = self.outputs
        if outputs.units == 1 or source == SOFTMAX_INPUT:
            return False
        if source == SIGMOID_INPUT or self.loss.is_for_independent_outputs:
            return True
        # Probabilities without the sum 1 are none of classes that exclude each other.
        return (
            source == PROBABILITIES
            and outputs.in_unit_range
            and not (outputs.are_shares)
        )

    def kind(self, predicts: str, source: str, independent: bool, labels: Any) -> str:
        """One of C classes, or several labels at once."""
        shares = not independent and source in (SOFTMAX_INPUT, PROBABILITIES)
        if predicts == LABELS:
            self._refuse_labels_of_a_softmax()
        if predicts != AUTO:
            return predicts
        if self.outputs.units == 1 or shares or self.loss.is_for_classes:
            return CLASS
        return self._kind_said_by_labels(independent, labels)

    def _kind_said_by_labels(self, independent: bool, labels: Any) -> str:
        if labels is None:
            return LABELS if independent else CLASS
        if not are_rows(labels, self.outputs.units):
            return CLASS  # numbers; anything else is refused when labels are checked
        rows = _values(labels)
        if not independent and (rows is None or are_shares(rows)):
            return CLASS
        if rows is not None and not are_shares(rows):
            return LABELS
        what = "one-hot rows" if rows is None or are_one_hot(rows) else "shares"
        raise ValueError(
            "Argument `predicts` cannot be 'auto' for this model and these labels: "
            "its outputs do not exclude each other, and labels that are "
            f"{what} could be of one class an example, or of several labels of which "
            f"one is there. Received: {self.name!r}, with {self._outputs_in_words()}. "
            "Pass predicts='class' or predicts='labels'."
        )

    def _outputs_in_words(self) -> str:
        outputs, loss = self.outputs, self.loss
        if outputs.operation == SIGMOID:
            return f"{outputs.units} sigmoids"
        compiled = f" and the loss {loss.name!r}" if loss.name else ""
        return f"{outputs.units} outputs{compiled}"

    def _refuse_labels_of_a_softmax(self) -> None:
        if self.outputs.operation == SOFTMAX and self.outputs.units > 1:
            raise ValueError(
                "Argument `predicts` must be 'class' for a model that ends with a "
                "softmax: its probabilities exclude each other. Received: "
                f"predicts='labels', and {self.name!r}. End it with a sigmoid for each "
                "label, or pass predicts='class'."
            )

    def refuse_numbers(self) -> None:
        """A loss of regression says nothing of classes, unless the outputs do."""
        plain = self.outputs.operation not in (SOFTMAX, SIGMOID)
        if self.loss.is_for_numbers and plain and not self.outputs.are_shares:
            raise ValueError(
                "Argument `model` must be a classifier. Received: "
                f"{self.name!r}, which is compiled with the loss {self.loss.name!r} "
                "and has no softmax or sigmoid at its end: it predicts numbers. If the "
                "largest output is the class pass predicts='class'; if the sign of "
                "each is a label, predicts='labels'."
            )


def _values(labels: Any) -> np.ndarray | None:
    """The values of labels, or None inside a graph."""
    return None if backends.is_symbolic(labels) else validation.as_array(labels)
