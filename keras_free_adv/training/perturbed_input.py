"""Which of a model's inputs is perturbed."""

from typing import Any

import keras
from keras import tree


class PerturbedInput:
    """Finds the images among what a model takes, and puts others in their place.

    Args:
        name: of the input, when the model takes a dict of inputs; else None.
        model: the user's model.

    Raises:
        TypeError, ValueError: `name` is no name, or not one of the model's inputs; or
            there are several inputs, and none is named.
    """

    def __init__(self, name: Any, model: keras.Model) -> None:
        _check_name(name, model)
        self._name = name

    def of(self, x: Any) -> Any:
        """The images in `x`: an array, a dict with the name, or a nest of one."""
        return tree.flatten(x)[0] if self._name is None else x[self._name]

    def put(self, x: Any, images: Any) -> Any:
        """`x`, with `images` in the place of its own."""
        if self._name is not None:
            return {**x, self._name: images}
        return tree.pack_sequence_as(x, [images]) if tree.is_nested(x) else images

    def check(self, x: Any, owner: str) -> None:
        """Raises if `x` does not hold the images as the model's `owner` needs it."""
        if self._name is None and len(tree.flatten(x)) != 1:
            raise ValueError(
                "Argument `perturb` of the model must name the input to perturb, "
                f"because `x` has several: {list(x) if isinstance(x, dict) else x}. "
                f"Pass a dict of inputs and {owner}(..., perturb=name)."
            )
        if self._name is not None and (not isinstance(x, dict) or self._name not in x):
            received = list(x) if isinstance(x, dict) else type(x).__name__
            raise ValueError(
                "Argument `x` must be a dict of inputs with the key "
                f"perturb={self._name!r}. Received: {received}."
            )


def _check_name(perturb: Any, model: keras.Model) -> None:
    if perturb is not None and not isinstance(perturb, str):
        raise TypeError(
            "Argument `perturb` must be the name of an input, or None. Received: "
            f"perturb={perturb!r}."
        )
    declared = getattr(model, "inputs", None)
    if declared is None:
        return
    names = [tensor.name for tensor in declared]
    if perturb is not None and perturb not in names:
        raise ValueError(
            f"Argument `perturb` must be one of the model's inputs, {names}. "
            f"Received: perturb={perturb!r}."
        )
    if perturb is None and len(names) > 1:
        raise ValueError(
            f"Argument `perturb` must name one of the model's inputs, {names}, because "
            "there are several. Received: perturb=None."
        )
