"""What the loss that a model is compiled with says of its outputs."""

import inspect
from dataclasses import dataclass
from typing import Any

import keras
from keras import tree

# What a loss is made for.
ONE_CLASS = "class"
INDEPENDENT = "independent"
NUMBERS = "numbers"

_CLASSES = {
    ONE_CLASS: (
        keras.losses.CategoricalCrossentropy,
        keras.losses.CategoricalFocalCrossentropy,
        keras.losses.CategoricalGeneralizedCrossEntropy,
        keras.losses.CategoricalHinge,
        keras.losses.KLDivergence,
        keras.losses.SparseCategoricalCrossentropy,
    ),
    INDEPENDENT: (
        keras.losses.BinaryCrossentropy,
        keras.losses.BinaryFocalCrossentropy,
    ),
    NUMBERS: (
        keras.losses.CosineSimilarity,
        keras.losses.Huber,
        keras.losses.LogCosh,
        keras.losses.MeanAbsoluteError,
        keras.losses.MeanAbsolutePercentageError,
        keras.losses.MeanSquaredError,
        keras.losses.MeanSquaredLogarithmicError,
        keras.losses.Poisson,
    ),
}
_FUNCTIONS = {
    ONE_CLASS: (
        keras.losses.categorical_crossentropy,
        keras.losses.categorical_focal_crossentropy,
        keras.losses.categorical_generalized_cross_entropy,
        keras.losses.categorical_hinge,
        keras.losses.kl_divergence,
        keras.losses.sparse_categorical_crossentropy,
    ),
    INDEPENDENT: (
        keras.losses.binary_crossentropy,
        keras.losses.binary_focal_crossentropy,
    ),
    NUMBERS: (
        keras.losses.cosine_similarity,
        keras.losses.huber,
        keras.losses.log_cosh,
        keras.losses.mean_absolute_error,
        keras.losses.mean_absolute_percentage_error,
        keras.losses.mean_squared_error,
        keras.losses.mean_squared_logarithmic_error,
        keras.losses.poisson,
    ),
}


@dataclass(frozen=True)
class CompiledLoss:
    """What a compiled loss says.

    Attributes:
        name: of the loss, for messages.
        made_for: "class" (one of C classes), "independent" (probabilities of events
            that do not exclude each other), "numbers" (regression), or None where it
            does not say, or nothing is compiled.
        from_logits: whether it takes logits; None where it does not say.
    """

    name: str | None = None
    made_for: str | None = None
    from_logits: bool | None = None

    @property
    def is_for_classes(self) -> bool:
        """Whether it is made for one of C classes."""
        return self.made_for == ONE_CLASS

    @property
    def is_for_independent_outputs(self) -> bool:
        """Whether it is made for probabilities that do not exclude each other."""
        return self.made_for == INDEPENDENT

    @property
    def is_for_numbers(self) -> bool:
        """Whether it is made for regression."""
        return self.made_for == NUMBERS


def compiled_loss(model: keras.Model) -> CompiledLoss:
    """What the loss says that `model` is compiled with.

    Args:
        model: a model of one output; of an adversarial model, the wrapper.
    """
    given = tree.flatten(getattr(model, "loss", None))
    if len(given) != 1 or given[0] is None:
        return CompiledLoss()
    loss = given[0]
    if isinstance(loss, str):
        try:
            loss = keras.losses.get(loss)
        except ValueError:
            return CompiledLoss(name=loss)
    from_logits = getattr(loss, "from_logits", None)
    if _made_for(loss) is not None and not isinstance(loss, keras.losses.Loss):
        # A function of Keras, which is called with its defaults.
        parameter = inspect.signature(loss).parameters.get("from_logits")
        from_logits = None if parameter is None else parameter.default
    name = getattr(loss, "name", None) or getattr(loss, "__name__", None)
    return CompiledLoss(
        str(name or type(loss).__name__),
        _made_for(loss),
        None if from_logits is None else bool(from_logits),
    )


def _made_for(loss: Any) -> str | None:
    function = getattr(loss, "fn", loss)
    for purpose, classes in _CLASSES.items():
        if isinstance(loss, classes) or function in _FUNCTIONS[purpose]:
            return purpose
    return None
